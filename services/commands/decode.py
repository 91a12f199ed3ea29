"""Say what telegrams or fragments mean: hex in, one a line, and JSON out, one line for each, in order.

    constellation decode wmbus --key 000102030405060708090A0B0C0D0E0F telegrams.txt
    constellation decode jbd < notifications.txt

For people with an unknown meter or battery.
"""

import argparse
import importlib
import os
import sys
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import BinaryIO, Final, TextIO

from bootstrap_lib import catalog

_KEY_SIZE: Final = 16
_BLOCK: Final = 1 << 16
"""Bytes that are read and written at once where there is plenty."""
_LONGEST: Final = 1 << 20
"""Bytes without the end of a line that are taken for a line: no telegram comes near."""
_REPORT: Final = 0.5
"""Seconds between two reports of how far it is."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Say what `decode` takes."""
    protocols = parser.add_subparsers(dest="protocol", metavar="PROTOCOL", required=True)
    known = {name: what for service in catalog.names() for name, what in catalog.needs_of(service).decodes.items()}
    for name, what in known.items():
        protocol = protocols.add_parser(name, help=what, description=what)
        if "key" in what:
            protocol.add_argument("--key", metavar="HEX", type=_key, help="key of the meter, 32 hexadecimal digits")
        protocol.add_argument("file", nargs="?", type=Path, help="where the lines are (default: standard input)")


def _key(text: str) -> bytes:
    try:
        key = bytes.fromhex(text)
    except ValueError:
        key = b""
    if len(key) != _KEY_SIZE:
        raise argparse.ArgumentTypeError("a key has 32 hexadecimal digits")
    return key


def main(arguments: argparse.Namespace) -> int:
    """Decode line by line; what comes slowly is answered at once, what comes fast in blocks."""
    decode = importlib.import_module(f"services.protocols.{arguments.protocol}").decode_lines
    if "key" in arguments:
        decode = partial(decode, key=arguments.key)
    try:
        source: BinaryIO = sys.stdin.buffer if arguments.file is None else arguments.file.open("rb", 0)
        size = os.fstat(source.fileno()).st_size if arguments.file is not None and sys.stderr.isatty() else 0
    except OSError as error:
        print(f"constellation decode: {arguments.file} cannot be read: {error.strerror}", file=sys.stderr)
        return os.EX_NOINPUT
    lines = _InputLines(source.fileno(), sys.stdout, size)
    for answer in decode(lines):
        lines.answers.append(answer)
    lines.finish()
    return 0


class _InputLines:
    """Lines of a file descriptor; the answers to those of one reading are written before the next one can wait."""

    def __init__(self, source: int, out: TextIO, size: int) -> None:
        """`size` is that of a file whose progress is to be shown, else 0."""
        self._source, self._out, self._size = source, out, size
        self.answers: list[str] = []
        self._read = 0
        self._reported = time.monotonic()

    def __iter__(self) -> Iterator[str]:
        rest = b""
        while data := os.read(self._source, _BLOCK):
            self._read += len(data)
            *whole, rest = (rest + data).split(b"\n")
            if len(rest) > _LONGEST:
                whole, rest = [*whole, rest], b""
            for line in whole:
                yield line.decode("ascii", "replace")
            self._flush()
        if rest:
            yield rest.decode("ascii", "replace")

    def _flush(self) -> None:
        if self.answers:
            self.answers.append("")
            self._out.write("\n".join(self.answers))
            self._out.flush()
            self.answers.clear()
        if self._size and time.monotonic() - self._reported > _REPORT:
            self._reported = time.monotonic()
            print(f"\r\033[K{self._read / self._size:.0%}", end="", file=sys.stderr, flush=True)

    def finish(self) -> None:
        """Write the last answers, and take the report of progress away."""
        self._flush()
        if self._size:
            print("\r\033[K", end="", file=sys.stderr, flush=True)
