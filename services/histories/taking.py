"""Foreign minutes and hours put into an archive that may be in use: what it has already stays as it is.

As a restore does, beside the service and in slices, so that readings are stored meanwhile; hours and days are corrected in the
transaction that brings their minutes. No raw readings come in: these are what this house's own sources measured, and marks confirm.
"""

import sqlite3
from collections.abc import Iterable, Iterator
from typing import Any, Final, NamedTuple
from zoneinfo import ZoneInfo

from bootstrap_lib import StartError, Topic
from services.histories.conversion import HOUR, SHORT, Kept
from services.stores import days, hours
from services.stores.minutes import difference, step
from services.stores.schema import CALENDAR, FORMAT, MINUTE

SLICE: Final = 2000
"""Rows that are put in with one transaction."""

_COLUMNS: Final = (
    "topic",
    "time",
    "count",
    "mean",
    "low",
    "high",
    "last",
    "difference",
    "seconds_on",
    "starts",
    "word",
)
_MINUTE: Final = f"INSERT OR IGNORE INTO minutes ({', '.join(_COLUMNS)}) VALUES ({', '.join('?' * len(_COLUMNS))})"  # noqa: S608 (our own words)
_HOUR: Final = (
    f"INSERT OR IGNORE INTO hours ({', '.join(_COLUMNS)}, minutes) SELECT {', '.join(f'?{n + 1}' for n in range(len(_COLUMNS)))}, 60"  # noqa: S608
    f" WHERE NOT EXISTS (SELECT 1 FROM minutes WHERE topic = ?1 AND time >= ?2 AND time < ?2 + {HOUR})"
    f" AND NOT EXISTS (SELECT 1 FROM hours WHERE topic = ?1 AND time > ?2 - {HOUR} AND time < ?2 + {HOUR})"
)


class TakenIn(NamedTuple):
    """How much came in of a series, and how much was there already."""

    minutes: int
    hours: int
    there: int


class Taking:
    """Puts series into one archive. sqlite3.Error."""

    def __init__(self, database: sqlite3.Connection) -> None:
        """StartError for an archive of another version."""
        self._database = database
        if database.execute("PRAGMA user_version").fetchone()[0] != FORMAT:
            raise StartError("the archive has the format of another version: start the archive of this version once")
        self._reached = hours.until(database)

    def reach_back(self, first: int) -> None:
        """Have days in the calendar from a time (ms) on."""
        known = self._database.execute('SELECT min("begin") FROM calendar').fetchone()[0]
        zone = self._database.execute("SELECT value FROM settings WHERE name = 'timezone'").fetchone()
        if known is None or zone is None:
            raise StartError("the archive has no days yet: let it run for a minute, then this again")
        if first < known:
            names = ", ".join(f'"{column.name}"' for column in CALENDAR.columns)
            rows = [tuple(day) for day in days.local_days_between(first, known, ZoneInfo(zone[0]))]
            self._database.execute("BEGIN IMMEDIATE")
            self._database.executemany(f"INSERT OR IGNORE INTO calendar ({names}) VALUES (?, ?, ?, ?)", rows)  # noqa: S608
            self._database.execute("COMMIT")

    def take(self, topic: Topic[Any], kept: Iterable[Kept]) -> Iterator[TakenIn]:
        """Put a series into a topic; yields after each slice how much of it was new."""
        key = topic.name, topic.unit, topic.kind
        self._database.execute("INSERT OR IGNORE INTO topics (name, unit, kind) VALUES (?, ?, ?)", key)
        query = "SELECT id FROM topics WHERE name = ? AND unit = ? AND kind = ?"
        number = self._database.execute(query, key).fetchone()[0]
        for some in _rising(kept):
            self._database.execute("BEGIN IMMEDIATE")
            try:
                minutes = self._minutes(number, topic.kind, [row for row in some if row.length == MINUTE])
                whole = self._hours(number, topic.kind, [row for row in some if row.length == HOUR])
                hours.correct(self._database)
                self._database.execute("COMMIT")
            except BaseException:
                self._database.execute("ROLLBACK")
                raise
            yield TakenIn(minutes, whole, len(some) - minutes - whole)

    def _hours(self, topic: int, kind: str, some: list[Kept]) -> int:
        before = self._database.total_changes
        wanted = [row for row in some if self._reached is None or row.time + HOUR <= self._reached]
        if kind == "counter" and wanted:
            # behind our own first minute, the next one of ours counts across the hole already
            query = "SELECT min(time) FROM minutes WHERE topic = ? AND last IS NOT NULL"
            own = self._database.execute(query, (topic,)).fetchone()[0]
            wanted = [row if own is None or row.time < own else row._replace(difference=None) for row in wanted]
        self._database.executemany(_HOUR, [_row(topic, row) for row in wanted])
        return self._database.total_changes - before

    def _minutes(self, topic: int, kind: str, some: list[Kept]) -> int:
        if not some:
            return 0
        first, last = some[0].time, max(row.time for row in some)
        query = "SELECT time, last FROM minutes WHERE topic = ? AND time >= ? AND time < ? ORDER BY time"
        there = dict(self._database.execute(query, (topic, first, last + SHORT)))
        new: dict[int, Kept] = {}
        for row in some:
            if row.time not in there:
                new.setdefault(row.time, row)
        rows = list(new.values())
        if kind == "counter":
            rows = self._counted(topic, new, there)
        self._database.executemany(_MINUTE, [_row(topic, row) for row in rows])
        return len(rows)

    def _counted(self, topic: int, new: dict[int, Kept], there: dict[int, float | None]) -> list[Kept]:
        """Say what was counted since the stand before, also of the minutes that now have another one before them."""
        before = "SELECT last FROM minutes WHERE topic = ? AND time < ? AND last IS NOT NULL ORDER BY time DESC LIMIT 1"
        after = "SELECT time, last FROM minutes WHERE topic = ? AND time > ? AND last IS NOT NULL ORDER BY time LIMIT 1"
        row = self._database.execute(before, (topic, min(new, default=0))).fetchone() if new else None
        stand, ours = (row[0] if row else None), False
        rows = []
        line = {**there, **dict.fromkeys(new)}
        if new and (following := self._database.execute(after, (topic, max(line))).fetchone()):
            line[following[0]] = there[following[0]] = following[1]
        for time in sorted(line):
            if (kept := new.get(time)) is not None:
                counted = kept.difference
                if counted is None and kept.last is not None:
                    counted = difference(stand, kept.stands or (kept.last,))
                rows.append(kept._replace(difference=counted))
                followed = None if stand is None else stand + (counted or 0.0)
                stand, ours = (kept.last if kept.last is not None else followed), True
            elif (known := there[time]) is not None:
                if ours and stand is not None:
                    self._count_anew(topic, time, stand, known)
                stand, ours = known, False
        return rows

    def _count_anew(self, topic: int, time: int, before: float, stand: float) -> None:
        """Have a minute of ours counted from another stand: by the archive, where it has its raw readings."""
        query = "SELECT 1 FROM readings WHERE time >= ? AND time < ? AND topic = ? LIMIT 1"
        if self._database.execute(query, (time, time + MINUTE, topic)).fetchone():
            self._database.execute("INSERT OR IGNORE INTO pending (time, topic) VALUES (?, ?)", (time, topic))
        else:
            update = "UPDATE minutes SET difference = ? WHERE topic = ? AND time = ?"
            self._database.execute(update, (step(before, stand), topic, time))


def _rising(kept: Iterable[Kept]) -> Iterator[list[Kept]]:
    """Rows in slices, each of which rises in time: a history of two resolutions begins again where the second one does."""
    some: list[Kept] = []
    for row in kept:
        if len(some) >= SLICE or (some and row.time < some[-1].time):
            yield some
            some = []
        some.append(row)
    if some:
        yield some


def _row(topic: int, kept: Kept) -> tuple[object, ...]:
    mean = kept.mean, kept.low, kept.high
    return topic, kept.time, kept.readings, *mean, kept.last, kept.difference, kept.seconds_on, kept.starts, kept.word
