"""A database of its own in which foreign series are put into order, so that a history of any length needs little memory."""

import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import Final, NamedTuple, Self

BUFFER: Final = 5000
"""Rows that are put in with one statement."""

TIMES: Final = 2**53
"""Milliseconds before and after 1970 that can be a time; far beyond, a database has no room for it."""

_TABLES: Final = """
PRAGMA journal_mode=OFF; PRAGMA synchronous=OFF; PRAGMA cache_size=-8000;
CREATE TABLE series (id INTEGER PRIMARY KEY, name TEXT NOT NULL, unit TEXT, on_change INTEGER NOT NULL);
CREATE TABLE rows (series INTEGER, length INTEGER, time INTEGER, value REAL, word TEXT, low REAL, high REAL, difference REAL,
                   count INTEGER, seconds_on REAL, starts INTEGER, since INTEGER, PRIMARY KEY (series, length, time)) WITHOUT ROWID;
"""
_PUT: Final = """
INSERT INTO rows VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT DO UPDATE SET
    value = coalesce(value, excluded.value), low = coalesce(low, excluded.low), high = coalesce(high, excluded.high),
    difference = coalesce(difference, excluded.difference)
"""


class Foreign(NamedTuple):
    """A series of another program; times in ms. `size` in rows; `on_change`: a value holds until the next, however late that comes."""

    id: int
    name: str
    unit: str | None
    on_change: bool
    size: int
    first: int
    last: int


class Old(NamedTuple):
    """One row: a value at a time (`length` 0), or what is known of `length` ms from a time on; times in ms.

    Without value, word and difference it says that nobody knew the value from there on. `difference` is what was counted from `since`
    on, where that is before the row's own time.
    """

    time: int
    length: int = 0
    value: float | None = None
    word: str | None = None
    low: float | None = None
    high: float | None = None
    difference: float | None = None
    readings: int | None = None
    seconds_on: float | None = None
    starts: int | None = None
    since: int | None = None


class Scratch:
    """All that was read of a foreign history."""

    def __init__(self, path: Path) -> None:
        """Begin it in a file of its own."""
        self._database = sqlite3.connect(path, isolation_level=None)
        self._database.executescript(_TABLES)
        self._ids: dict[tuple[str, str | None], int] = {}
        self._waiting: list[tuple[object, ...]] = []
        self.problems: dict[str, int] = {}
        """Lines and rows that could not be read: why, and how many."""

    def __enter__(self) -> Self:
        """Use it."""
        return self

    def __exit__(self, *_: object) -> None:
        """Close it."""
        self._database.close()

    def series(self, name: str, unit: str | None = None, *, on_change: bool = False) -> int:
        """Return the number of a series; what has one name and two units is two."""
        unit = unit or None
        found = self._ids.get((name, unit))
        if found is None:
            row = "INSERT INTO series (name, unit, on_change) VALUES (?, ?, ?) RETURNING id"
            found = self._ids[name, unit] = self._database.execute(row, (name, unit, on_change)).fetchone()[0]
        return found

    def add(self, series: int, row: Old) -> None:
        """Keep a row; of two of one time the first stays."""
        time, length, *rest = row
        if not -TIMES < time < TIMES:
            self.problem("times that are none")
            return
        self._waiting.append((series, length, time, *rest))
        if len(self._waiting) >= BUFFER:
            self.flush()

    def problem(self, why: str) -> None:
        """Count what could not be read."""
        self.problems[why] = self.problems.get(why, 0) + 1

    def flush(self) -> None:
        """Put in what waits."""
        self._database.execute("BEGIN")
        self._database.executemany(_PUT, self._waiting)
        self._database.execute("COMMIT")
        self._waiting.clear()

    def found(self) -> list[Foreign]:
        """All series, by name and unit."""
        self.flush()
        query = """
            SELECT s.id, s.name, s.unit, s.on_change, count(*), min(r.time), max(r.time + r.length)
            FROM series s JOIN rows r ON r.series = s.id GROUP BY s.id ORDER BY s.name, s.unit"""
        return [Foreign(*row) for row in self._database.execute(query)]

    def rows(self, series: int) -> Iterator[Old]:
        """Rows of a series, the shortest first, each length in the order of time."""
        query = """
            SELECT time, length, value, word, low, high, difference, count, seconds_on, starts, since
            FROM rows WHERE series = ? ORDER BY length, time"""
        for row in self._database.execute(query, (series,)):
            yield Old(*row)
