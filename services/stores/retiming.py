"""Readings of a false time: counted, moved to where they belong, or dropped, in the archive while it is in use.

Raw readings move exactly; minutes of which the raw readings are gone move by whole minutes. Both go hour by hour, in the direction in
which nothing that was moved is met again. How far a move came is noted with each hour, for one that is done twice takes readings to
where they never were: after a kill the next order ends it first, and the same order is done then.
"""

import sqlite3
from collections.abc import Callable, Collection, Iterator
from contextlib import closing, suppress
from pathlib import Path
from typing import Final

import msgspec

from bootstrap_lib import Registry, Request, as_json, format_time
from services.stores import hours
from services.stores.backup import open_beside
from services.stores.database import CEILING, FLOOR
from services.stores.false_time import FalseTime, chosen
from services.stores.open_archive import OpenArchive
from services.stores.schema import MINUTE, MOVING

HOUR: Final = 3_600_000
"""Milliseconds that are dealt with in one transaction, so that readings are stored meanwhile."""


class Holding(msgspec.Struct):
    """What a span holds of a topic; `first` and `last` in ms."""

    topic: str
    readings: int
    first: int
    last: int


def listed(database: Path, names: Collection[str], since: int, until: int) -> list[Holding]:
    """What is stored of topics from a time (ms) to before another. sqlite3.Error."""
    query = (
        "SELECT t.name, count(*), min(r.time), max(r.time) FROM readings r JOIN topics t ON t.id = r.topic"
        " WHERE r.time >= ? AND r.time < ? GROUP BY t.name ORDER BY t.name"
    )
    with closing(open_beside(database, "ro")) as connection:
        return [Holding(*row) for row in connection.execute(query, (since, until)) if row[0] in names]


class Moving(msgspec.Struct):
    """A move that is under way, in the settings until its order is answered; times in ms."""

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


def change(database: Path, names: Collection[str], since: int, until: int, by: int | None) -> int:
    """Move what is stored of topics by `by` ms, or drop it (None); returns raw readings that were there. sqlite3.Error."""
    with closing(open_beside(database, "rw")) as connection:
        before = _begun(connection)
        if before is not None:
            _move(connection, before)
        same = before is not None and (before.since, before.until, before.by) == (since, until, by)
        moved = before if same else None
        done = set(moved.names) if moved else set[str]()
        found = connection.execute("SELECT id, name FROM topics").fetchall()
        topics = [topic for topic, name in found if name in names and name not in done]
        if by is None:
            work = _Change(connection, topics, None)
            for begin, end in _hours(connection, topics, since, until, backward=False):
                connection.execute("BEGIN IMMEDIATE")
                work.hour(begin, end)
                connection.execute("COMMIT")
            return work.count
        count = moved.count if moved else 0
        return _move(connection, Moving(since, until, by, sorted(done | set(names)), topics, (since, until), count))


def _move(connection: sqlite3.Connection, moving: Moving) -> int:
    """Move what is left, and note with each hour how far it came; returns raw readings that were moved in all."""
    work, counted = _Change(connection, moving.topics, moving.by), moving.count
    backward = moving.by > 0
    for begin, end in _hours(connection, moving.topics, *moving.left, backward=backward):
        connection.execute("BEGIN IMMEDIATE")
        work.hour(begin, end)
        moving.left = (moving.left[0], begin) if backward else (end, moving.left[1])
        moving.count = counted + work.count
        _note(connection, moving)
        connection.execute("COMMIT")
    moving.left = (0, 0)
    _note(connection, moving)
    return moving.count


def _begun(connection: sqlite3.Connection) -> Moving | None:
    """Return the move whose order was not answered; one that cannot be read is none."""
    row = connection.execute("SELECT CAST(value AS BLOB) FROM settings WHERE name = ?", (MOVING,)).fetchone()
    with suppress(msgspec.MsgspecError):
        return msgspec.json.decode(row[0], type=Moving) if row else None
    return None


def _note(connection: sqlite3.Connection, moving: Moving) -> None:
    connection.execute("INSERT OR REPLACE INTO settings VALUES (?, ?)", (MOVING, as_json(moving).decode()))


def _answered(database: Path) -> None:
    """Forget a move whose order was answered: who gives it again means it."""
    with suppress(sqlite3.Error), closing(open_beside(database, "rw")) as connection:
        connection.execute("DELETE FROM settings WHERE name = ?", (MOVING,))


def _hours(
    connection: sqlite3.Connection, topics: list[int], since: int, until: int, *, backward: bool
) -> Iterator[tuple[int, int]]:
    """Hours in which something is stored, cut at the span's ends."""

    def edge(which: str, order: str, begin: int, end: int) -> int | None:
        query = f"SELECT {which}(time) FROM readings WHERE time >= ? AND time < ?"  # noqa: S608
        raw = connection.execute(query, (begin, end)).fetchone()[0]
        found = [] if raw is None else [raw]
        for table in ("minutes", "clearings"):
            query = f"SELECT time FROM {table} WHERE topic = ? AND time >= ? AND time < ? ORDER BY time {order} LIMIT 1"  # noqa: S608
            found += [row[0] for topic in topics for row in connection.execute(query, (topic, begin, end))]
        return (max if which == "max" else min)(found) if found else None

    while since < until:
        at = edge("max", "DESC", since, until) if backward else edge("min", "ASC", since, until)
        if at is None:
            return
        begin = at - at % HOUR
        yield max(begin, since), min(begin + HOUR, until)
        since, until = (since, min(begin, until)) if backward else (max(begin + HOUR, since), until)


class Retiming:
    """Answers `request/times` of the archive."""

    def __init__(self, registry: Callable[[], Registry], held: Callable[[], OpenArchive]) -> None:
        """Both may be other ones by the next request."""
        self._registry, self._held = registry, held

    def request_times(self, request: Request, order: FalseTime) -> object:
        """List readings of a false time; move or drop them, beside the loop."""
        since, until, names = chosen(order, self._registry(), "archive")
        held = self._held()
        path = held.database.path
        if order.do == "list":
            found = listed(path, names, since, until)
            return [[one.topic, one.readings, format_time(one.first), format_time(one.last)] for one in found]
        by = order.by if order.do == "move" else None
        return held.beside.begin(request, lambda: change(path, names, since, until, by), lambda: _answered(path))


class _Change:
    """Moves or drops what an hour holds, in the transaction that the caller holds."""

    def __init__(self, connection: sqlite3.Connection, topics: list[int], by: int | None) -> None:
        self.topics, self.count = topics, 0
        self._connection, self._by = connection, by
        self._chosen = f"topic IN ({', '.join(map(str, topics)) or 'NULL'})"

    def hour(self, begin: int, end: int) -> None:
        """Deal with an hour (ms), or the part of one that lies in the span."""
        into, by = self._connection, self._by
        span, whole = (begin, end), (begin + -begin % MINUTE, end - end % MINUTE)
        where = f"WHERE time >= ? AND time < ? AND {self._chosen}"
        raw = into.execute(f"SELECT time, topic, value, word FROM readings {where}", span).fetchall()  # noqa: S608
        computed = into.execute(f"SELECT * FROM minutes {where}", whole).fetchall()  # noqa: S608
        silent = into.execute(f"SELECT topic, time FROM clearings {where}", span).fetchall()  # noqa: S608
        touched = {(time - time % MINUTE, topic) for time, topic, *_ in raw}
        for table, cut in (("readings", span), ("minutes", whole), ("clearings", span)):
            into.execute(f"DELETE FROM {table} {where}", cut)  # noqa: S608
        into.executemany("DELETE FROM minutes WHERE time = ? AND topic = ?", touched)  # also those that the span cuts
        self.count += len(raw)
        alone = [row for row in computed if (row[1], row[0]) not in touched]
        pending = touched | {self._next(topic, end) for topic in {topic for _, topic in touched}}
        if by is not None:
            moved = [(time + by, *rest) for time, *rest in raw if FLOOR <= time + by < CEILING]
            into.executemany("INSERT OR IGNORE INTO readings (time, topic, value, word) VALUES (?, ?, ?, ?)", moved)
            pending |= {(time - time % MINUTE, topic) for time, topic, *_ in moved}
            minutes = round(by / MINUTE) * MINUTE
            rows = [(topic, time + minutes, *rest) for topic, time, *rest in alone if FLOOR <= time + minutes < CEILING]
            if rows:
                into.executemany(f"INSERT OR IGNORE INTO minutes VALUES ({', '.join('?' * len(rows[0]))})", rows)  # noqa: S608
            into.executemany(
                "INSERT OR IGNORE INTO clearings (topic, time) VALUES (?, ?)",
                [(topic, time + by) for topic, time in silent if FLOOR <= time + by < CEILING],
            )
        into.executemany("INSERT OR IGNORE INTO pending (time, topic) VALUES (?, ?)", [one for one in pending if one])
        known = {topic for _, topic in touched} | {row[0] for row in computed}
        hours.forget(into, self.topics if by is None else known, begin, end)  # an hour without minutes cannot be moved

    def _next(self, topic: int, end: int) -> tuple[int, int] | None:
        """The minute of a topic that was counted from a stand which is gone."""
        query = "SELECT time FROM minutes WHERE topic = ? AND time >= ? ORDER BY time LIMIT 1"
        row = self._connection.execute(query, (topic, end)).fetchone()
        return (row[0], topic) if row else None
