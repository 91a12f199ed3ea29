"""Readings of a false time: counted, moved to where they belong, or dropped, in the archive while it is in use.

Raw readings move exactly; minutes of which the raw readings are gone move by whole minutes. Both go hour by hour, in the direction in
which nothing that was moved is met again. How far a move came is noted with each hour, for one that is done twice takes readings to
where they never were: after a kill the next order ends it first, and the same order again moves nothing twice.
"""

import logging
import sqlite3
import time
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import closing
from pathlib import Path
from typing import Final

import msgspec

from bootstrap_lib import Registry, Request, format_time
from services.stores import hours, moves
from services.stores.backup import open_beside
from services.stores.database import CEILING, FLOOR
from services.stores.false_time import FalseTime, chosen
from services.stores.moves import Moving
from services.stores.open_archive import OpenArchive
from services.stores.schema import MINUTE

log = logging.getLogger(__name__)

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


def lost(
    database: Path, things: Collection[str], meant: Collection[str], filled: Mapping[str, str], span: tuple[int, int]
) -> list[str]:
    """Topics of things, but for those meant, of which a replay does not fill all that is stored from a time (ms) to before another.

    Minutes or hours whose raw readings are gone are not filled, nor is any topic that is not `filled` (its unit) by now. sqlite3.Error.
    """
    some = "SELECT 1 FROM {0} m WHERE topic = :topic AND time > :since - :length AND time < :until"
    counted = f"{some} AND count > 0"
    raw = "SELECT 1 FROM readings WHERE time >= m.time AND time < m.time + :length AND topic = m.topic"
    alone = f"{counted} AND NOT EXISTS ({raw})"
    computed = (("minutes", MINUTE), ("hours", HOUR))  # hours stay when their minutes go

    def loses(topic: int, *, fills: bool) -> bool:
        tables = [(alone if fills else counted, *one) for one in computed] + [(some, "readings", 1)] * (not fills)
        at = {"topic": topic, "since": span[0], "until": span[1]}
        return any(
            connection.execute(f"{query.format(table)} LIMIT 1", at | {"length": length}).fetchone()
            for query, table, length in tables
        )

    with closing(open_beside(database, "ro")) as connection:
        topics = connection.execute("SELECT id, name, unit FROM topics").fetchall()
        besides = [row for row in topics if row[1].rpartition("/")[0] in things and row[1] not in meant]
        return sorted({name for topic, name, unit in besides if loses(topic, fills=filled.get(name) == unit)})


def change(
    database: Path, names: Collection[str], since: int, until: int, by: int | None, *, again: bool = False
) -> int:
    """Move what is stored of topics by `by` ms, or drop it (None); returns raw readings that were there. sqlite3.Error.

    The same move again within a day moves nothing twice, unless it is meant (`again`); one that was killed is ended, and returned whole.
    """
    with closing(open_beside(database, "rw")) as connection:
        now = time.time_ns() // 1_000_000
        known = [one for one in moves.kept(connection) if not one.ended or abs(now - one.ended) < moves.REMEMBERED]
        unfinished = [one for one in known if not one.ended]
        for one in unfinished:
            _move(connection, known, one)
            if (one.since, one.until, one.by) != (since, until, by):
                log.warning("a move of readings by %s s that was cut short is done now: %d", one.by / 1000, one.count)
        found = connection.execute("SELECT id, name FROM topics").fetchall()
        if by is None:
            work = _Change(connection, [topic for topic, name in found if name in names], None)
            for begin, end in _hours(connection, work.topics, since, until, backward=False):
                connection.execute("BEGIN IMMEDIATE")
                work.hour(begin, end)
                connection.execute("COMMIT")
            return work.count
        same = [one for one in known if (one.since, one.until, one.by) == (since, until, by)]
        before = [] if again else [one for one in same if not set(names).isdisjoint(one.names)]
        done = {name for one in before for name in one.names}
        now_done = [one for one in before if one in unfinished]
        if rest := sorted(set(names) - done):
            moving = Moving(since, until, by, rest, [topic for topic, name in found if name in rest], (since, until))
            known.append(moving)
            _move(connection, known, moving)
            now_done.append(moving)
        return sum(one.count for one in now_done)


def _move(connection: sqlite3.Connection, known: list[Moving], moving: Moving) -> None:
    """Move what is left, and note with each hour how far it came."""
    work, counted = _Change(connection, moving.topics, moving.by), moving.count
    backward = moving.by > 0
    for begin, end in _hours(connection, moving.topics, *moving.left, backward=backward):
        connection.execute("BEGIN IMMEDIATE")
        work.hour(begin, end)
        moving.left = (moving.left[0], begin) if backward else (end, moving.left[1])
        moving.count = counted + work.count
        moves.note(connection, known)
        connection.execute("COMMIT")
    moving.ended = time.time_ns() // 1_000_000
    moves.note(connection, known)


def _hours(
    connection: sqlite3.Connection, topics: list[int], since: int, until: int, *, backward: bool
) -> Iterator[tuple[int, int]]:
    """Hours in which something is stored, cut at the span's ends."""

    def edge(which: str, order: str, begin: int, end: int) -> int | None:
        query = f"SELECT {which}(time) FROM readings WHERE time >= ? AND time < ?"
        raw = connection.execute(query, (begin, end)).fetchone()[0]
        found = [] if raw is None else [raw]
        for table in ("minutes", "clearings"):
            query = f"SELECT time FROM {table} WHERE topic = ? AND time >= ? AND time < ? ORDER BY time {order} LIMIT 1"
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
        if order.do == "lost":
            return self._lost(path, order, since, until)
        by = order.by if order.do == "move" else None
        return held.beside.begin(request, lambda: change(path, names, since, until, by, again=order.again))

    def _lost(self, database: Path, order: FalseTime, since: int, until: int) -> list[str]:
        """Topics of which a store that deletes whole things would lose what nobody meant: `influx` is the only one."""
        topics = self._registry().topics.values()
        besides = [one for one in topics if one.stored_by("influx") and order.source not in (None, one.source)]
        filled = {one.name: one.unit for one in besides if one.stored_by("archive")}
        meant = {one.name for one in topics}.difference(one.name for one in besides)
        never = {one.name for one in besides if one.name.rpartition("/")[0] in order.things}.difference(filled)
        return sorted(never.union(lost(database, order.things, meant, filled, (since, until))))


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
        raw = into.execute(f"SELECT time, topic, value, word FROM readings {where}", span).fetchall()
        computed = into.execute(f"SELECT * FROM minutes {where}", whole).fetchall()
        silent = into.execute(f"SELECT topic, time FROM clearings {where}", span).fetchall()
        touched = {(at - at % MINUTE, topic) for at, topic, *_ in raw}
        for table, cut in (("readings", span), ("minutes", whole), ("clearings", span)):
            into.execute(f"DELETE FROM {table} {where}", cut)
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
                into.executemany(f"INSERT OR IGNORE INTO minutes VALUES ({', '.join('?' * len(rows[0]))})", rows)
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
