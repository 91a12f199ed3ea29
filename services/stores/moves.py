"""Moves of readings to another time, as the archive keeps them: one that was killed goes on, one that is done is not done twice."""

import sqlite3
from contextlib import suppress
from typing import Final

import msgspec

from bootstrap_lib import as_json
from services.stores.schema import MOVING

REMEMBERED: Final = 86_400_000
"""Milliseconds for which an order that is given again is known: a store that was away is asked again with the same one."""
MOST: Final = 50


class Moving(msgspec.Struct):
    """A move of what was stored of `names`; times in ms."""

    since: int
    until: int
    by: int
    names: list[str]
    topics: list[int]
    """The rows that its topics have: a name may change before it goes on."""
    left: tuple[int, int]
    """What of the span is still to be moved."""
    count: int = 0
    """Raw readings that were moved."""
    ended: int = 0
    """When it was done, 0 while it is under way."""


def read(value: bytes | None) -> list[Moving]:
    """Moves as the setting has them, the oldest first; what cannot be read is none."""
    with suppress(msgspec.MsgspecError):
        return msgspec.json.decode(value or b"[]", type=list[Moving])
    with suppress(msgspec.MsgspecError):
        return [msgspec.json.decode(value or b"", type=Moving)]  # as one was kept until it was answered, before 2026-12
    return []


def kept(connection: sqlite3.Connection) -> list[Moving]:
    """Moves that the database knows of. sqlite3.Error."""
    row = connection.execute("SELECT CAST(value AS BLOB) FROM settings WHERE name = ?", (MOVING,)).fetchone()
    return read(row[0] if row else None)


def note(connection: sqlite3.Connection, moves: list[Moving]) -> None:
    """Keep them, the newest of them. sqlite3.Error."""
    connection.execute("INSERT OR REPLACE INTO settings VALUES (?, ?)", (MOVING, as_json(moves[-MOST:]).decode()))
