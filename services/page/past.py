"""What the archive knows, read beside it: read-only, in short slices, so that a commit never waits for a reader.

A connection lives as long as one question. Where the archive cannot be read (not there yet, locked, damaged, of another
format) `PastAway` says so, and the page shows the living house without it.
"""

import contextlib
import sqlite3
from collections.abc import Collection, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final, NamedTuple
from urllib.parse import quote

import msgspec

from bootstrap_lib import Value
from services.page.buckets import HOUR, MINUTE, Bucket, counted, is_fine, points_of, rows_of, single, step_of
from services.stores.heard import clearings, heard

PATIENCE: Final = 1.0
"""Seconds that a lock is waited for."""

MOST_RAW: Final = 200_000
"""Readings that one question looks at."""


class PastAway(RuntimeError):
    """The archive cannot be read now; the message says why."""


class Series(msgspec.Struct, kw_only=True):
    """A topic over a span: `t` are the beginnings of its buckets (ms), None where nothing was stored; `holes` [from, to] in ms.

    Of a counter the mean is what it counts in an hour. Of a state there are only `words`: [word, from, to].
    """

    topic: str
    unit: str
    step: int
    t: list[int]
    mean: list[float | None]
    low: list[float | None]
    high: list[float | None]
    holes: list[tuple[int, int]]
    words: list[tuple[str, int, int]] = []


class Asked(NamedTuple):
    """A topic as the archive keeps it; `stale` in ms."""

    name: str
    unit: str
    kind: str
    stale: int
    decimals: int = 3
    every: int = 10_000


class Past:
    """The archive's file, to be asked from any thread."""

    def __init__(self, path: Path | None) -> None:
        """`path` is where the archive keeps its database; None in a house without one."""
        self.path = path

    @contextlib.contextmanager
    def open(self) -> Iterator[sqlite3.Connection]:
        """Open the file for one question; PastAway says why it cannot be asked."""
        if self.path is None:
            raise PastAway("topics.yaml has no archive")
        if not self.path.exists():
            raise PastAway("there is no archive yet")
        beside = self.path.with_name(f"{self.path.name}-wal")
        mode = (
            "mode=ro" if beside.exists() else "mode=ro&immutable=1"
        )  # without a writer nobody makes the file it needs
        try:
            connection = sqlite3.connect(f"file:{quote(str(self.path))}?{mode}", uri=True, timeout=PATIENCE)
        except sqlite3.Error as error:
            raise PastAway(f"the archive cannot be opened: {error}") from None
        try:
            connection.execute("PRAGMA query_only=1")
            connection.execute("PRAGMA cache_size=-2000")
            yield connection
        except sqlite3.Error as error:
            raise PastAway(f"the archive cannot be read: {error}") from None
        finally:
            connection.close()

    # -- series -------------------------------------------------------------------------------------------------

    def series(self, topic: Asked, since: int, until: int, buckets: int, offset: int = 0) -> Series:
        """Buckets of a topic from `since` to before `until` (ms); `offset` (ms) is that of local time, for buckets of days."""
        step = step_of(since, until, buckets, max(1000, round(topic.every * 1.2)))
        series = Series(topic=topic.name, unit=topic.unit, step=step, t=[], mean=[], low=[], high=[], holes=[])
        with self.open() as db:
            number = _number(db, topic)
            if number is None:
                series.holes = [(since, until)]
                return series
            if topic.kind == "state":
                series.words = list(self._words(db, number, topic, since, until))
                return series
            raw = is_fine(db, number, since, until, step)
            series.step = step if raw else max(step, MINUTE)
            if raw:
                rows = list(single(db, number, topic.kind, since, until, step))
            else:
                rows = list(rows_of(db, number, topic.kind, since, until, series.step, offset, topic.every))
        _fill(series, rows, since, until, topic)
        return series

    def words(self, topic: Asked, since: int, until: int) -> list[tuple[str, int, int]]:
        """Runs of a state: word, from, to (ms); `unknown` where nothing was stored."""
        with self.open() as db:
            number = _number(db, topic)
            return [("unknown", since, until)] if number is None else list(self._words(db, number, topic, since, until))

    @staticmethod
    def _words(
        db: sqlite3.Connection, number: int, topic: Asked, since: int, until: int
    ) -> Iterator[tuple[str, int, int]]:
        points = list(points_of(db, number, since - topic.stale, until))
        first = points[0][0] if points else until
        if first > since + MINUTE:
            yield "unknown", since, min(first, until)
        run: tuple[str, int, int] | None = None
        for time, word in points:
            if run is not None and time - run[2] > topic.stale + MINUTE:
                yield from _within(run, since, until)
                yield from _within(("unknown", run[2], time), since, until)
                run = None
            if run is not None and run[0] == word:
                run = word, run[1], time
                continue
            if run is not None:
                yield from _within((run[0], run[1], time), since, until)
            run = word, time, time
        if run is not None:
            alive = run[2] + topic.stale + MINUTE >= until
            yield from _within((run[0], run[1], until if alive else run[2]), since, until)
            if not alive:
                yield from _within(("unknown", run[2], until), since, until)

    # -- single moments -----------------------------------------------------------------------------------------

    def last_times(self, topics: Sequence[Asked]) -> dict[str, int]:
        """When each topic was last stored (ms), as far as it ever was."""
        found: dict[str, int] = {}
        with self.open() as db:
            for topic in topics:
                number = _number(db, topic)
                row = db.execute("SELECT max(time) FROM minutes WHERE topic = ?", (number,)).fetchone()
                if row and row[0] is not None:
                    found[topic.name] = row[0] + MINUTE
        return found

    def moment(self, topics: Sequence[Asked], at: int) -> dict[str, tuple[Value | None, int, int]]:
        """What stood on each topic at a time (ms): value, its time, and since when it was cleared (0 if it stood)."""
        found: dict[str, tuple[Value | None, int, int]] = {}
        with self.open() as db:
            numbers = {number: one for one in topics if (number := _number(db, one)) is not None}
            longest = min(HOUR, max((one.stale for one in topics), default=MINUTE))
            query = "SELECT topic, value, word, max(time) FROM readings WHERE time > ? AND time <= ? GROUP BY topic"
            rows = {row[0]: row for row in db.execute(query, (at - longest, at))}
            for number, topic in numbers.items():
                row = rows.get(number) or _minute_at(db, number, topic, at)  # older, or no longer kept one by one
                if row is not None:
                    found[topic.name] = self._stood(db, number, topic, row, at)
        return found

    @staticmethod
    def _stood(
        db: sqlite3.Connection, number: int, topic: Asked, row: tuple[Any, ...], at: int
    ) -> tuple[Value | None, int, int]:
        _, value, word, time = row
        value = word if value is None else bool(value) if topic.kind == "switch" else value
        cleared = db.execute(
            "SELECT min(time) FROM clearings WHERE topic = ? AND time > ? AND time <= ?", (number, time, at)
        ).fetchone()[0]
        end = cleared or (time + topic.stale if time + topic.stale < at else 0)
        return value, time, end

    def counted(self, topic: Asked, spans: Sequence[tuple[int, int]]) -> list[float | None]:
        """What a counter counted in each span (ms); None where nothing was stored."""
        with self.open() as db:
            number = _number(db, topic)
            return [None if number is None else counted(db, number, since, until) for since, until in spans]

    def stand(self, topic: Asked) -> tuple[float, int] | None:
        """Last stand of a counter that stands in a minute, and the end of that minute (ms)."""
        with self.open() as db:
            query = "SELECT last, time FROM minutes WHERE topic = ? AND last IS NOT NULL ORDER BY time DESC LIMIT 1"
            row = db.execute(query, (_number(db, topic),)).fetchone()
            return (row[0], row[1] + MINUTE) if row else None

    def readings(self, names: Collection[str], since: int, until: int) -> list[tuple[str, Value, int]]:
        """Stored readings (topic, value, ms), in the order of time; means of minutes where the readings are gone."""
        with self.open() as db:
            numbers = {
                row[0]: row[1:] for row in db.execute("SELECT id, name, kind FROM topics").fetchall() if row[1] in names
            }
            first = db.execute("SELECT min(time) FROM readings").fetchone()[0]
            first = until if first is None else first
            marks = ",".join("?" * len(numbers))
            found: list[tuple[int, str, Value]] = []
            if since < first:
                query = f"SELECT time, topic, coalesce(mean, last), word FROM minutes WHERE topic IN ({marks}) AND time >= ? AND time < ?"  # noqa: S608
                rows = db.execute(query, (*numbers, since, min(until, first - MINUTE))).fetchmany(MOST_RAW)
                found += ((t, numbers[n][0], _value(numbers[n][1], v, w)) for t, n, v, w in rows)
            query = f"SELECT time, topic, value, word FROM readings WHERE time >= ? AND time < ? AND topic IN ({marks})"  # noqa: S608
            rows = db.execute(query, (max(since, first), until, *numbers)).fetchmany(MOST_RAW)
            found += ((t, numbers[n][0], _value(numbers[n][1], v, w)) for t, n, v, w in rows)
        found.sort(key=lambda one: one[0])
        return [(name, value, t) for t, name, value in found]

    def silences(self, names: Collection[str], since: int, until: int) -> list[tuple[str, None, int]]:
        """What tells a silence: each minute in which anything was stored (without a topic), and when topics were cleared (ms)."""
        with self.open() as db:

            def ask(query: str, given: tuple[Any, ...]) -> list[Any]:
                return db.execute(query, given).fetchall()

            signs = [("", None, time) for time in heard(ask, since, until)]
            return signs + [(name, None, time) for name, time in clearings(ask, names, since, until)]

    def census(self) -> Mapping[str, Any]:
        """How much is stored: the file's size and the times of the first and last reading (ms)."""
        with self.open() as db:
            query = "SELECT (SELECT min(time) FROM readings), (SELECT max(time) FROM readings)"  # each by the order of the table
            first, last = db.execute(query).fetchone()
        size = self.path.stat().st_size if self.path else 0
        return {"bytes": size, "first": first, "last": last}


def _value(kind: str, value: float | None, word: str | None) -> Value:
    return (word or "") if value is None else bool(value) if kind == "switch" else value


def _number(db: sqlite3.Connection, topic: Asked) -> int | None:
    query = "SELECT id FROM topics WHERE name = ? ORDER BY unit = ? AND kind = ? DESC, id DESC LIMIT 1"
    row = db.execute(query, (topic.name, topic.unit, topic.kind)).fetchone()
    return int(row[0]) if row else None


def _within(run: tuple[str, int, int], since: int, until: int) -> Iterator[tuple[str, int, int]]:
    word, begin, end = run[0], max(run[1], since), min(run[2], until)
    if end > begin:
        yield word, begin, end


def _minute_at(db: sqlite3.Connection, number: int, topic: Asked, at: int) -> tuple[Any, ...] | None:
    query = (
        "SELECT topic, coalesce(mean, last), word, time FROM minutes"
        " WHERE topic = ? AND time <= ? AND time > ? ORDER BY time DESC LIMIT 1"
    )
    row: tuple[Any, ...] | None = db.execute(query, (number, at, at - topic.stale - MINUTE)).fetchone()
    return row


def _fill(series: Series, rows: Sequence[Bucket], since: int, until: int, topic: Asked) -> None:
    """Put rows into a series; between two that lie further apart than the topic may be silent is a hole."""
    longest = max(topic.stale, round(1.5 * series.step)) + 1
    digits = max(topic.decimals, 3 if topic.kind in ("counter", "switch") else 0)
    end = since
    for row in rows:
        if row.time - end > longest:
            series.holes.append((end, row.time))
            _put(series, Bucket(end, None, None, None), digits)
        _put(series, row, digits)
        end = row.time + series.step
    if until - end > longest + MINUTE:
        series.holes.append((end, until))
        _put(series, Bucket(end, None, None, None), digits)


def _put(series: Series, row: Bucket, digits: int) -> None:
    series.t.append(row.time)
    for values, value in ((series.mean, row.mean), (series.low, row.low), (series.high, row.high)):
        values.append(None if value is None else round(value, digits))
