"""Print what phase or alerts would have published of recorded readings, as `mosquitto_sub -v` prints it.

Readings come as JSON lines (topic, value, unit, time) from a file or standard input; the rules are those of
topics.yaml. Nothing is sent, nothing is kept: tune the rules on a recording, then reload.

    constellation replay alerts winter.jsonl
    constellation replay phase --since 3d               # readings of this host's archive

Rules of alerts on what phase concludes are judged too: phase is replayed first where the readings hold none of its own.
"""

import argparse
import contextlib
import sys
import tempfile
import time
from collections import deque
from collections.abc import Collection, Iterable, Iterator
from operator import itemgetter
from pathlib import Path
from typing import Any

import msgspec

from bootstrap_lib import (
    DocumentError,
    Duration,
    ReadingError,
    Registry,
    StartError,
    catalog,
    format_time,
    parse_time,
)
from services.protocols.recording import recorded

SERVICES = {"alerts": "alerts", "phase": "phases"}
"""The services that can be replayed, with the section that holds their rules."""

REPEATED = 60_000
"""Milliseconds after which a phase that stands is said again to the rules."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Say what `replay` takes."""
    parser.add_argument("service", choices=SERVICES, help="whose rules are applied")
    parser.add_argument(
        "file", nargs="?", type=Path, help="readings as JSON lines, in the order of time (default: standard input)"
    )
    parser.add_argument("--since", help="take the archive's raw readings since then instead: 3d, or a time")


def main(arguments: argparse.Namespace) -> int:
    """Print line by line, as the readings come."""
    registry = Registry(Registry.locate(arguments.config))
    section = SERVICES[arguments.service]
    if not registry.document.section(section):
        raise StartError(f"{registry.path} has no rules to apply: it says nothing below {section}:")
    service: Any = catalog.find(arguments.service)
    if arguments.since and arguments.file:
        raise StartError("give a file or --since, not both")
    stored = archived(registry, registry.topics, arguments.since) if arguments.since else None
    read = _RecordedLines(arguments.file, stored)
    lines: Iterable[bytes] = read
    if arguments.service == "alerts" and registry.document.section("phases"):
        lines = _with_phases(registry, lines)
    said = 0
    try:
        for line in service.replay(registry, lines):
            sys.stdout.write(f"{line}\n")
            said += 1
    except ValueError as error:
        if isinstance(error, DocumentError):
            raise
        raise StartError(str(error)) from None
    sys.stdout.flush()
    source = arguments.file or ("the archive" if arguments.since else "the standard input")
    if not read.count:
        raise StartError(f"nothing was read: {source} is empty; give it readings as JSON lines")
    if arguments.service == "phase" and not said:  # of any reading it says at least that the phase is unknown
        raise StartError(f"no line of {source} is a reading of an input of phases:")
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
        names = {*registry.topics, *(f"{prefix}{name}" for name in registry.topics)}
        for _ in recorded(kept, names, time.time_ns() // 1_000_000):
            pass  # only here a wrong line is named by its own number
        kept.seek(0)
        if any(name.encode() in line for line in kept for name in concluded):
            kept.seek(0)
            yield from kept
            return
        kept.seek(0)
        phase: Any = catalog.find("phase")
        concluding = (_as_reading(line.removeprefix(prefix)) for line in phase.replay(registry, kept))
        phases = deque(sorted(concluding, key=itemgetter("time")))  # boilers come one after the other
        standing: dict[str, dict[str, Any]] = {}
        told = 0
        kept.seek(0)
        for line in kept:
            try:
                now = parse_time(read(line).time)
            except (msgspec.DecodeError, ReadingError):
                yield line  # it is empty, or its time names no zone
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


class _RecordedLines:
    """Lines of a file, of the archive or of the standard input, counted as they are read."""

    def __init__(self, file: Path | None, stored: Iterable[bytes] | None = None) -> None:
        self._file, self._stored = file, stored
        self.count = 0

    def __iter__(self) -> Iterator[bytes]:
        if self._stored is not None:
            for line in self._stored:
                self.count += 1
                yield line
            return
        try:
            with self._file.open("rb") if self._file else contextlib.nullcontext(sys.stdin.buffer) as stream:
                for self.count, line in enumerate(stream, 1):
                    yield line
        except OSError as error:
            raise StartError(f"{self._file or 'the standard input'} cannot be read: {error.strerror}") from None


def archived(registry: Registry, names: Collection[str], since: str) -> Iterator[bytes]:
    """Raw readings of topics from the archive of this host, as JSON lines; `since` is so long ago, or a time."""
    from services.stores import replay
    from services.stores.archive_file import open_archive

    now = time.time_ns() // 1_000_000
    try:
        begin = now - round(1000 * Duration.parse(since))
    except ValueError:
        try:
            begin = parse_time(since)
        except ReadingError as error:
            raise StartError(str(error)) from None
    with open_archive(registry) as engine:
        for batch in replay.read(engine, begin, now, list(names)):
            for row in batch:
                reading = {"topic": row.name, "value": row.value, "unit": row.unit, "time": format_time(row.time)}
                yield msgspec.json.encode(reading) + b"\n"
