"""State that is written many times an hour, in place: two slots in turn cost a card a tenth of a new file, its name and its folder.

Each slot is half of the file: a line `=CRC generation half length` (CRC-32 in hexadecimal, over what follows it; bytes of the slot and of
the value), then the value as JSON, then spaces; no JSON begins with `=`. The older slot is overwritten and synchronised, so that at any
moment, also of a power cut, the other one is whole.
"""

import itertools
import logging
import os
import re
import stat
import zlib
from pathlib import Path
from typing import Final, NamedTuple

log = logging.getLogger(__name__)

_FIRST_LINE: Final = re.compile(rb"=([0-9a-f]{8}) (\d{1,15}) (\d{1,15}) (\d{1,15})\n")

LEAST: Final = 4096
"""Bytes of a slot, or twice as many, and so on: a block of the file system at least, so that no write touches both."""

SPARE: Final = 2
"""How many times what it holds a new slot takes, as values grow."""

LONGEST: Final = 60
"""Bytes of a slot's first line, at the most."""


class Slot(NamedTuple):
    """What a slot of `half` bytes holds; `generation` counts writes, -1 where it holds nothing, -2 where that is damaged."""

    generation: int
    half: int = 0
    content: bytes = b""


BLANK: Final = Slot(-1)
DAMAGED: Final = Slot(-2)


def newest(content: bytes, name: str) -> bytes:
    """What was written last into a file and can be read; the content itself where it is not slots, or neither can be used.

    A slot that is damaged is said by the file's `name`: a write that a power cut has torn, or a card that forgets.
    """
    if not _are_in(content):
        return content
    slots = _both(content)
    best = max(slots)
    if best.generation < 0:
        return content
    if DAMAGED in slots or len(content) != 2 * best.half:
        log.error("%s was damaged in one of its two slots: the other one is used, which may be a save older", name)
    return best.content


def both(value: bytes) -> bytes:
    """Content of a new file that holds a value."""
    size = next(size for size in (LEAST << n for n in itertools.count()) if size >= SPARE * len(value) + LONGEST)
    return _slot(0, size, value) + b" " * size


def write(path: Path, value: bytes) -> bool:
    """Overwrite in place; False where there is no such file, or it cannot be used so."""
    try:
        file = os.open(path, os.O_RDWR | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError:
        return False
    try:
        return _overwrite(file, value)
    finally:
        os.close(file)


def _overwrite(file: int, value: bytes) -> bool:
    """Write a value into the slot of an open file that does not hold the newest; False where the file must be made anew."""
    found = os.fstat(file)
    if not stat.S_ISREG(found.st_mode) or found.st_nlink != 1:  # a second name would change with it
        return False
    content = os.pread(file, found.st_size + 1, 0)
    slots = _both(content)
    best = max(slots)
    written = _slot(best.generation + 1, best.half, value)
    if best.generation < 0 or len(content) != 2 * best.half or len(written) != best.half:
        return False
    if os.pwrite(file, written, best.half if slots[0] is best else 0) != best.half:
        return False
    os.fdatasync(file)
    return True


def _are_in(content: bytes) -> bool:
    return b"=" in (content[:1], content[len(content) // 2 :][:1])


def _both(content: bytes) -> tuple[Slot, Slot]:
    half = len(content) // 2
    return _read(content[:half]), _read(content[half:])


def _slot(generation: int, half: int, value: bytes) -> bytes:
    rest = b"%d %d %d\n%s" % (generation, half, len(value), value)
    return (b"=%08x %s" % (zlib.crc32(rest), rest)).ljust(half)


def _read(slot: bytes) -> Slot:
    if not slot.strip(b" "):
        return BLANK
    if (found := _FIRST_LINE.match(slot)) is None:
        return DAMAGED
    generation, half, length = map(int, found.groups()[1:])
    value = slot[found.end() : found.end() + length]
    whole = len(value) == length and zlib.crc32(slot[found.start(2) : found.end() + length]) == int(found[1], 16)
    return Slot(generation, half, value) if whole else DAMAGED
