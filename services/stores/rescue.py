"""What can still be read out of a damaged archive, taken into a new one; and from when to when something is missing.

SQLite reads around a damaged page where its tree leads past it. What lies behind a damaged inner page, or in a file without its
head, is found page by page, without the tree.
"""

import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing, suppress
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Any, Final

from services.protocols import sqlite_page
from services.stores import merging
from services.stores.backup import open_beside
from services.stores.database import CEILING, FLOOR
from services.stores.merging import Merging, Rows

FIRST_STEP: Final = 1000
"""Milliseconds by which it looks behind a damaged page for the next that can be read, doubled each time."""

SIZES: Final = (1024, 4096)
"""Bytes of a page of all archives that were ever made."""

TRIED: Final = 1 << 20
"""Bytes of a file without its head that are read with each size, to see which is its own."""

_TOPIC: Final = ("id", "name", "unit", "kind")

_MOST: Final = 1 << 20
"""Topics that a house may have; a larger number on a page is none."""


Part = tuple[Callable[[Rows], None], Rows]
"""Rows, and who takes them in."""


@dataclass
class Rescued:
    """What came of it."""

    readings: int = 0
    """Raw readings that the new archive did not have."""
    gaps: list[tuple[int, int]] = field(default_factory=list)
    """Times (ms) between which SQLite could not read raw readings."""
    unreadable: bool = False
    """Whether not even its topics could be read."""


def rescue(database: Path, source: Path, renamed: dict[str, str]) -> Rescued:
    """Take into a database, which is in use, what can be read out of a damaged file. OSError or sqlite3.Error of the database."""
    found = Rescued()
    with closing(open_beside(database, "rw")) as into:
        merging_ = Merging(into, renamed)
        others: list[tuple[int, int]] = []
        for take, rows in _by_tree(source, found, merging_, others):
            take(rows)  # what fails here is the new archive's trouble, not the old one's
        if found.gaps or others or found.unreadable:
            _by_page(source, merging_, found)
        merging_.finish()
        found.readings = merging_.added
    return found


def missing(database: Path, gaps: list[tuple[int, int]], now: int) -> list[tuple[int, int]]:
    """What is still missing within gaps (ms) up to now, after all that could be found was taken in."""
    lost = []
    query = "SELECT DISTINCT time FROM readings WHERE time > ? AND time < ? ORDER BY time"
    with closing(open_beside(database, "ro")) as into:
        for since, end in gaps:
            until = min(end, max(now, since))
            times = [since, *(time for (time,) in into.execute(query, (since, until))), until]
            hole = max(pairwise(times), key=lambda hole: hole[1] - hole[0])
            if 2 * (hole[1] - hole[0]) >= until - since > 0:  # else single readings of an inner page are
                lost.append(hole)
    return lost


def _by_tree(source: Path, found: Rescued, merging_: Merging, others: list[tuple[int, int]]) -> Iterator[Part]:
    """Read as far as SQLite does; `others` takes the times that could not be read in other tables."""
    try:
        with closing(open_beside(source, "rw")) as old:  # for its log, which holds what came last
            yield merging_.topics, old.execute("SELECT id, name, unit, kind FROM topics").fetchall()
            with_hours = old.execute("SELECT 1 FROM sqlite_master WHERE name = 'hours'").fetchone()
            for topic in merging_.known:
                for table, columns, take in (
                    ("clearings", merging.CLEARINGS, merging_.clearings),
                    ("minutes", merging.COLUMNS, merging_.minutes),
                    *((("hours", merging.HOUR_COLUMNS, merging_.hours),) if with_hours else ()),
                ):
                    query = f"SELECT {', '.join(columns)} FROM {table} WHERE topic = {topic} AND "
                    for rows in _around(old, query, others, 1):
                        yield take, rows
            query = f"SELECT {', '.join(merging.READINGS)} FROM readings WHERE "
            for rows in _around(old, query, found.gaps, 1):
                yield merging_.readings, rows
    except sqlite3.Error:
        found.unreadable = True


def _around(old: sqlite3.Connection, query: str, gaps: list[tuple[int, int]], column: int) -> Iterator[Rows]:
    """Rows in the order of time, around what cannot be read; `column` is the one that holds the time."""
    since, size = FLOOR, merging.SLICE
    while True:
        try:
            rows = old.execute(
                f"{query} time >= ? AND time < {CEILING} ORDER BY time LIMIT ?", (since, size)
            ).fetchall()
        except sqlite3.DatabaseError:
            if size > 1:
                size = max(1, size // 10)
                continue
            behind = _behind(lambda time: old.execute(f"{query} time >= ? LIMIT 1", (time,)).fetchone(), since)
            gaps.append((since, behind))
            if behind >= CEILING:
                return
            since, size = behind, merging.SLICE
            continue
        if not rows:
            return
        last = rows[-1][column]
        if len(rows) < size:
            yield rows
            return
        if rows[0][column] == last:  # all of one time: with the whole of it
            with suppress(sqlite3.DatabaseError):
                rows = old.execute(f"{query} time = ?", (last,)).fetchall()
            yield rows
            since = last + 1
        else:
            yield [row for row in rows if row[column] < last] if size > 1 else rows
            since = last


def _behind(look: Callable[[int], Any], since: int) -> int:
    """First time from one on, give or take a second, at which a file can be read again."""

    def readable(time: int) -> bool:
        try:
            look(time)
        except sqlite3.DatabaseError:
            return False
        return True

    bad, step = since, FIRST_STEP
    while not readable(bad + step):
        bad, step = bad + step, 2 * step
        if bad >= CEILING:
            return CEILING
    good = bad + step
    while good - bad > FIRST_STEP:
        middle = (good + bad) // 2
        bad, good = (bad, middle) if readable(middle) else (middle, good)
    return good


def _by_page(source: Path, merging_: Merging, found: Rescued) -> None:
    """Take rows from the pages themselves: readings of the times in gaps, and all minutes; of a file without a tree everything."""
    if found.unreadable:
        topics = [
            (number, *row[1:])
            for number, row in _page_rows(source)
            if number is not None
            and len(row) == len(_TOPIC)
            and row[0] is None
            and all(isinstance(text, str) for text in row[1:])
        ]
        merging_.topics(topics)
    waiting: dict[int, Rows] = {2: [], 4: [], len(merging.COLUMNS): [], len(merging.HOUR_COLUMNS): []}
    takers = merging_.clearings, merging_.readings, merging_.minutes, merging_.hours
    taken: list[int] = []

    def take(least: int) -> None:
        for rows, taker in zip(waiting.values(), takers, strict=True):
            if len(rows) > least:
                taker(rows)
                rows.clear()

    for number, row in _page_rows(source):
        if number is not None or len(row) not in waiting:
            continue
        reading = len(row) == len(merging.READINGS)
        time, topic = (row[0], row[1]) if reading else (row[1], row[0])
        if not (isinstance(time, int) and isinstance(topic, int) and FLOOR <= time < CEILING and topic < _MOST):
            continue
        if reading:
            if not found.unreadable and not any(since <= time <= until for since, until in found.gaps):
                continue
            taken.append(time)
            waiting[4].append((topic, time, *row[2:]))
        else:
            waiting[len(row)].append(tuple(row))
        take(merging.SLICE)
    take(0)
    if found.unreadable and taken:
        found.gaps.append((min(taken), max(taken)))


def _page_rows(source: Path) -> Iterator[sqlite_page.Row]:
    with source.open("rb") as file:
        size = _size_of(file.read(TRIED))
        file.seek(0)
        number = 0
        while page := file.read(size):
            number += 1
            yield from sqlite_page.rows(page, number)


def _size_of(begin: bytes) -> int:
    """Bytes of a page, by the file's head, or where that is damaged by what gives more rows."""
    said = int.from_bytes(begin[16:18], "big")
    if begin.startswith(b"SQLite format 3\0") and said in SIZES:
        return said

    def found(size: int) -> int:
        starts = range(0, len(begin), size)
        return sum(1 for at in starts for _ in sqlite_page.rows(begin[at : at + size], at // size + 1))

    return max(SIZES, key=found)
