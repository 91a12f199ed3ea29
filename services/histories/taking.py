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
from services.histories.counters import COLUMNS, HOUR_ROW, CounterTopic, columns
from services.histories.seams import Seams
from services.stores import days, hours
from services.stores.schema import CALENDAR, FORMAT, MINUTE

SLICE: Final = 2000
"""Rows that are put in with one transaction."""

_MINUTE: Final = f"INSERT OR IGNORE INTO minutes ({', '.join(COLUMNS)}) VALUES ({', '.join('?' * len(COLUMNS))})"


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
            self._database.executemany(f"INSERT OR IGNORE INTO calendar ({names}) VALUES (?, ?, ?, ?)", rows)
            self._database.execute("COMMIT")

    def take(self, topic: Topic[Any], kept: Iterable[Kept]) -> Iterator[TakenIn]:
        """Put a series into a topic; yields after each slice how much of it was new."""
        key = topic.name, topic.unit, topic.kind
        self._database.execute("INSERT OR IGNORE INTO topics (name, unit, kind) VALUES (?, ?, ?)", key)
        query = "SELECT id FROM topics WHERE name = ? AND unit = ? AND kind = ?"
        number = self._database.execute(query, key).fetchone()[0]
        seams = Seams(self._database, number, topic.kind)
        for some in _rising(kept):
            self._database.execute("BEGIN IMMEDIATE")
            try:
                wanted = list(seams.wanted(some))
                minutes = self._minutes(number, topic.kind, [row for row in wanted if row.length == MINUTE])
                whole = self._hours(number, topic.kind, [row for row in wanted if row.length == HOUR])
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
            return CounterTopic(self._database, topic).take_hours(wanted)
        self._database.executemany(HOUR_ROW, [columns(topic, row) for row in wanted])
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
            rows = CounterTopic(self._database, topic).count(new, there)
        self._database.executemany(_MINUTE, [columns(topic, row) for row in rows])
        return len(rows)


def _rising(kept: Iterable[Kept]) -> Iterator[list[Kept]]:
    """Rows in slices of one resolution, which rise in time; parts of one row stay together."""
    some: list[Kept] = []
    for row in kept:
        if some and not _are_of_one(some[-1], row) and (len(some) >= SLICE or _begins_anew(some[-1], row)):
            yield some
            some = []
        some.append(row)
    if some:
        yield some


def _are_of_one(before: Kept, row: Kept) -> bool:
    return row.span is not None and row.span == before.span


def _begins_anew(before: Kept, row: Kept) -> bool:
    return row.time < before.time or abs(_width(row) - _width(before)) >= MINUTE


def _width(row: Kept) -> int:
    return MINUTE if row.span is None else row.span[1] - row.span[0]
