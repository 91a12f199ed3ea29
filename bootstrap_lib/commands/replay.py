"""Print what phase or alerts would have published of recorded readings, as `mosquitto_sub -v` prints it.

Readings come as JSON lines (topic, value, unit, time) from a file or standard input; the rules are those of
topics.yaml. Nothing is sent, nothing is kept: tune the rules on a recording, then reload.

    constellation replay alerts winter.jsonl
    constellation export --topic 'boiler/#' | constellation replay phase

Rules of alerts on what phase concludes are judged too: phase is replayed first where the readings hold none of its own.
"""

import argparse
import sys
import tempfile
from collections import deque
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import msgspec

from bootstrap_lib import catalog
from bootstrap_lib.document import DocumentError, reason
from bootstrap_lib.reading import ReadingError, format_time, parse_time
from bootstrap_lib.registry import Registry, find_registry
from bootstrap_lib.service import StartError

SERVICES = ("alerts", "phase")

REPEATED = 60_000
"""Milliseconds after which a phase that stands is said again to the rules."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Say what `replay` takes."""
    parser.add_argument("service", choices=SERVICES, help="whose rules are applied")
    parser.add_argument("file", nargs="?", type=Path, help="readings as JSON lines (default: standard input)")


def main(arguments: argparse.Namespace) -> int:
    """Print line by line, as the readings come."""
    registry = Registry(find_registry(arguments.config))
    service: Any = catalog.find(arguments.service)
    lines = _lines(arguments.file)
    if arguments.service == "alerts" and registry.document.section("phases"):
        lines = _with_phases(registry, lines)
    try:
        for line in service.replay(registry, lines):
            sys.stdout.write(f"{line}\n")
    except ValueError as error:
        if isinstance(error, DocumentError):
            raise
        raise StartError(str(error)) from None
    sys.stdout.flush()
    return 0


class _Reading(msgspec.Struct):
    topic: str
    time: str


def _with_phases(registry: Registry, lines: Iterable[bytes]) -> Iterator[bytes]:
    """Put what phase would have published between the readings, each by its time."""
    concluded = {name for name, topic in registry.topics.items() if registry.instances[topic.source].service == "phase"}
    read = msgspec.json.Decoder(_Reading).decode
    prefix = f"{registry.root}/data/"
    with tempfile.TemporaryFile() as kept:
        kept.writelines(lines)
        kept.seek(0)
        if any(name.encode() in line for line in kept for name in concluded):
            kept.seek(0)
            yield from kept
            return
        kept.seek(0)
        phase: Any = catalog.find("phase")
        phases = deque(_as_reading(line.removeprefix(prefix)) for line in phase.replay(registry, kept))
        standing: dict[str, dict[str, Any]] = {}
        told = 0
        kept.seek(0)
        for line in kept:
            try:
                now = parse_time(read(line).time)
            except (msgspec.DecodeError, ReadingError):
                yield line  # the rules say what is wrong with it
                continue
            while phases and parse_time(phases[0]["time"]) <= now:
                reading = phases.popleft()
                if reading["topic"] in concluded:
                    standing[reading["topic"]] = reading
                    yield msgspec.json.encode(reading) + b"\n"
            if not told <= now < told + REPEATED:  # what stands is said again before it is stale, as the service does
                told = now
                for reading in standing.values():
                    yield msgspec.json.encode(reading | {"time": format_time(now)}) + b"\n"
            yield line


def _as_reading(line: str) -> dict[str, Any]:
    topic, _, payload = line.partition(" ")
    reading: dict[str, Any] = {"topic": topic, **msgspec.json.decode(payload)}
    return reading


def _lines(file: Path | None) -> Iterator[bytes]:
    if file is None:
        yield from sys.stdin.buffer
        return
    try:
        with file.open("rb") as stream:
            yield from stream
    except OSError as error:
        raise StartError(f"{file} cannot be read: {reason(error)}") from None
