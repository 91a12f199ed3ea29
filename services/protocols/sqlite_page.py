"""Rows of a page of an SQLite file, read without the tree that it hung in (sqlite.org/fileformat2.html, 1.5 and 2).

For what `.recover` would do: Debian's sqlite3 is built without what that needs.
"""

import struct
from collections.abc import Iterator
from typing import Final

INNER_INDEX, LEAF_INDEX, LEAF_TABLE = 0x02, 0x0A, 0x0D
"""First byte of the pages that hold rows; a table WITHOUT ROWID is an index, and its inner pages hold rows too."""

FILE_HEADER: Final = 100
"""Bytes in front of the first page."""

_SIZES: Final = {0: 0, 1: 1, 2: 2, 3: 3, 4: 4, 5: 6, 6: 8, 7: 8, 8: 0, 9: 0}
"""Bytes of a value by its serial type; from 12 on it is a blob or a text."""

_RESERVED: Final = (10, 11)
"""Serial types that no file on a disk has."""

_TEXT: Final = 13

Row = tuple[int | None, list[int | float | str | bytes | None]]
"""The row's number in a table that has such, and its columns."""


def rows(page: bytes, number: int) -> Iterator[Row]:
    """Rows of the page with this number, from 1 on; a cell that cannot be read, or goes on elsewhere, is left out."""
    start = FILE_HEADER if number == 1 else 0
    if len(page) < start + 12:
        return
    kind, count = page[start], int.from_bytes(page[start + 3 : start + 5], "big")
    if kind not in (INNER_INDEX, LEAF_INDEX, LEAF_TABLE):
        return
    first = start + (12 if kind == INNER_INDEX else 8)
    for at in range(first, min(first + 2 * count, len(page) - 1), 2):
        try:
            yield _cell(page, int.from_bytes(page[at : at + 2], "big"), kind)
        except (IndexError, ValueError, struct.error):
            continue


def _cell(page: bytes, at: int, kind: int) -> Row:
    at += 4 if kind == INNER_INDEX else 0
    size, at = _varint(page, at)
    number = None
    if kind == LEAF_TABLE:
        number, at = _varint(page, at)
    if size > (len(page) - 35 if kind == LEAF_TABLE else (len(page) - 12) * 64 // 255 - 23) or at + size > len(page):
        raise ValueError("it goes on in another page")
    return number, _record(page[at : at + size])


def _record(payload: bytes) -> list[int | float | str | bytes | None]:
    header, at = _varint(payload, 0)
    kinds = []
    while at < header:
        kind, at = _varint(payload, at)
        kinds.append(kind)
    values: list[int | float | str | bytes | None] = []
    for kind in kinds:
        if kind in _RESERVED:
            raise ValueError("no record")
        size = _SIZES[kind] if kind < 12 else (kind - 12) // 2  # noqa: PLR2004 (the file format's own)
        content = payload[at : at + size]
        if len(content) < size:
            raise ValueError("no record")
        values.append(_value(kind, content))
        at += size
    return values


def _value(kind: int, content: bytes) -> int | float | str | bytes | None:
    match kind:
        case 0:
            return None
        case 7:
            return float(struct.unpack(">d", content)[0])
        case 8 | 9:
            return kind - 8
        case _ if kind < 7:  # noqa: PLR2004
            return int.from_bytes(content, "big", signed=True)
        case _:
            return content.decode() if kind % 2 == _TEXT % 2 else content


def _varint(data: bytes, at: int) -> tuple[int, int]:
    value = 0
    for index in range(9):
        byte = data[at + index]
        if index == 8:  # noqa: PLR2004
            return value << 8 | byte, at + 9
        value = value << 7 | byte & 0x7F
        if byte < 0x80:  # noqa: PLR2004
            return value, at + index + 1
    raise ValueError("no number")
