"""Print what phase or alerts would have published of recorded readings, as `mosquitto_sub -v` prints it.

Readings come as JSON lines (topic, value, unit, time) from a file or standard input; the rules are those of
topics.yaml. Nothing is sent, nothing is kept: tune the rules on a recording, then reload.

    constellation replay alerts winter.jsonl
    constellation export --topic 'boiler/#' | constellation replay phase
"""

import argparse
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from bootstrap_lib import catalog
from bootstrap_lib.document import DocumentError, reason
from bootstrap_lib.registry import Registry, find_registry
from bootstrap_lib.service import StartError

SERVICES = ("alerts", "phase")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Say what `replay` takes."""
    parser.add_argument("service", choices=SERVICES, help="whose rules are applied")
    parser.add_argument("file", nargs="?", type=Path, help="readings as JSON lines (default: standard input)")


def main(arguments: argparse.Namespace) -> int:
    """Print line by line, as the readings come."""
    registry = Registry(find_registry(arguments.config))
    service: Any = catalog.find(arguments.service)
    try:
        for line in service.replay(registry, _lines(arguments.file)):
            sys.stdout.write(f"{line}\n")
    except ValueError as error:
        if isinstance(error, DocumentError):
            raise
        raise StartError(str(error)) from None
    sys.stdout.flush()
    return 0


def _lines(file: Path | None) -> Iterator[bytes]:
    if file is None:
        yield from sys.stdin.buffer
        return
    try:
        with file.open("rb") as stream:
            yield from stream
    except OSError as error:
        raise StartError(f"{file} cannot be read: {reason(error)}") from None
