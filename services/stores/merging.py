"""Rows of another archive taken into one that is in use: what it has already stays as it is."""

import sqlite3
from collections.abc import Iterable, Mapping
from contextlib import suppress
from typing import Any, Final
from zoneinfo import ZoneInfo

from services.stores import days, hours
from services.stores.database import CEILING, FLOOR
from services.stores.schema import CALENDAR, HOURS, MINUTE, MINUTES

SLICE: Final = 5000
"""Rows taken in with one transaction, so that readings are stored meanwhile."""

Rows = list[tuple[Any, ...]]

READINGS: Final = ("topic", "time", "value", "word")
CLEARINGS: Final = ("topic", "time")
COLUMNS: Final = tuple(column.name for column in MINUTES.columns)
HOUR_COLUMNS: Final = tuple(column.name for column in HOURS.columns)
"""Columns of the tables that are taken in; topic and time come first, and are the key."""

_INSERT: Final = (
    f"INSERT INTO minutes ({', '.join(COLUMNS)}) VALUES ({', '.join('?' * len(COLUMNS))}) ON CONFLICT DO UPDATE SET "
    f"{', '.join(f'{name} = excluded.{name}' for name in COLUMNS[2:])} WHERE excluded.count > minutes.count"
)
_INSERT_HOUR: Final = (
    f"INSERT INTO hours ({', '.join(HOUR_COLUMNS)}) SELECT {', '.join(f'?{n + 1}' for n in range(len(HOUR_COLUMNS)))}"
    f" WHERE NOT EXISTS (SELECT 1 FROM hours WHERE topic = ?1 AND time > ?2 - {hours.HOUR} AND time < ?2 + {hours.HOUR} AND time != ?2)"
    f" AND NOT EXISTS (SELECT 1 FROM minutes WHERE topic = ?1 AND time >= ?2 AND time < ?2 + {hours.HOUR})"
    f" ON CONFLICT DO UPDATE SET {', '.join(f'{name} = excluded.{name}' for name in HOUR_COLUMNS[2:])}"
    " WHERE excluded.minutes > hours.minutes"
)
"""An hour is taken in where its minutes are gone: else it is computed from them, in days of this house's zone."""


class Merging:
    """One other archive that is taken in, in slices."""

    def __init__(self, into: sqlite3.Connection, renamed: Mapping[str, str]) -> None:
        """`renamed` says which topics have another name by now."""
        self._into, self._renamed = into, renamed
        self._same: dict[int, int] = {}
        self.added = 0
        """Raw readings that were not there."""

    def topics(self, rows: Iterable[tuple[Any, ...]]) -> None:
        """Learn the other's topics (id, name, unit, kind)."""
        for theirs, name, unit, kind in rows:
            topic = self._renamed.get(name, name), unit, kind
            self._into.execute("INSERT OR IGNORE INTO topics (name, unit, kind) VALUES (?, ?, ?)", topic)
            query = "SELECT id FROM topics WHERE name = ? AND unit = ? AND kind = ?"
            self._same[theirs] = self._into.execute(query, topic).fetchone()[0]

    @property
    def known(self) -> list[int]:
        """The other's ids of its topics."""
        return list(self._same)

    def _ours(self, rows: Rows) -> Rows:
        return [
            (self._same[row[0]], *row[1:])
            for row in rows
            if row[0] in self._same and isinstance(row[1], int) and FLOOR <= row[1] < CEILING
        ]

    def clearings(self, rows: Rows) -> None:
        """Take in when topics fell silent."""
        self._add("INSERT OR IGNORE INTO clearings (topic, time) VALUES (?, ?)", self._ours(rows))

    def minutes(self, rows: Rows) -> None:
        """Take in minutes that know more than ours."""
        self._add(_INSERT, self._ours(rows))

    def hours(self, rows: Rows) -> None:
        """Take in hours that have outlived their minutes."""
        self._add(_INSERT_HOUR, self._ours(rows))

    def readings(self, rows: Rows) -> None:
        """Take in raw readings, whose minutes are computed anew then."""
        ours = self._ours(rows)
        into = self._into
        into.execute("BEGIN IMMEDIATE")
        before = into.total_changes
        into.executemany("INSERT OR IGNORE INTO readings (topic, time, value, word) VALUES (?, ?, ?, ?)", ours)
        if into.total_changes > before:
            self.added += into.total_changes - before
            touched = {(topic, time - time % MINUTE) for topic, time, *_ in ours}
            into.executemany("INSERT OR IGNORE INTO pending (topic, time) VALUES (?, ?)", touched)
        into.execute("COMMIT")

    def _add(self, statement: str, rows: Rows) -> None:
        self._into.execute("BEGIN IMMEDIATE")
        self._into.executemany(statement, rows)
        hours.correct(self._into)
        self._into.execute("COMMIT")

    def finish(self) -> None:
        """Make days and months of all that was taken in, at once."""
        zone = self._into.execute("SELECT value FROM settings WHERE name = 'timezone'").fetchone()
        first = self._into.execute("SELECT min(begin) FROM calendar").fetchone()[0]
        if zone is None or first is None:
            return
        oldest = self._into.execute(days.OLDEST).fetchone()[0]
        if oldest is None or oldest >= first:
            return
        with suppress(ValueError, OSError, KeyError):  # a zone that this machine does not know
            rows = [tuple(day) for day in days.local_days_between(oldest, first, ZoneInfo(zone[0]))]
            names = ", ".join(f'"{column.name}"' for column in CALENDAR.columns)
            self._add(f"INSERT OR IGNORE INTO calendar ({names}) VALUES (?, ?, ?, ?)", rows)
