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

from bootstrap_lib import Value, quantities
from services.page.buckets import HOUR, MINUTE, Bucket, UnitRows, counted, is_fine, points_of, rows_of, single, step_of
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
            stored = _stored(db, topic)
            if not stored:
                series.holes = [(since, until)]
                return series
            if topic.kind == "state":
                series.words = list(self._words(db, stored, topic, since, until))
                return series
            raw = is_fine(db, [one.number for one in stored], since, until, step)
            series.step = step if raw else max(step, MINUTE)
            if raw:
                rows = list(single(db, stored, topic.kind, since, until, step))
            else:
                rows = list(rows_of(db, stored, topic.kind, since, until, series.step, offset, topic.every))
        _fill(series, rows, since, until, topic)
        return series

    def words(self, topic: Asked, since: int, until: int) -> list[tuple[str, int, int]]:
        """Runs of a state: word, from, to (ms); `unknown` where nothing was stored."""
        with self.open() as db:
            stored = _stored(db, topic)
            return list(self._words(db, stored, topic, since, until)) if stored else [("unknown", since, until)]

    @staticmethod
    def _words(
        db: sqlite3.Connection, stored: Sequence[UnitRows], topic: Asked, since: int, until: int
    ) -> Iterator[tuple[str, int, int]]:
        points = sorted(point for one in stored for point in points_of(db, one.number, since - topic.stale, until))
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
                query = "SELECT max(time) FROM minutes WHERE topic = ?"
                lasts = [db.execute(query, (one.number,)).fetchone()[0] for one in _stored(db, topic)]
                if known := [last for last in lasts if last is not None]:
                    found[topic.name] = max(known) + MINUTE
        return found

    def moment(self, topics: Sequence[Asked], at: int) -> dict[str, tuple[Value | None, int, int]]:
        """What stood on each topic at a time (ms): value, its time, and since when it was cleared (0 if it stood)."""
        found: dict[str, tuple[Value | None, int, int]] = {}
        with self.open() as db:
            longest = min(HOUR, max((one.stale for one in topics), default=MINUTE))
            query = "SELECT topic, value, word, max(time) FROM readings WHERE time > ? AND time <= ? GROUP BY topic"
            rows = {row[0]: row for row in db.execute(query, (at - longest, at))}
            for topic in topics:
                stored = {one.number: one for one in _stored(db, topic)}
                each = (
                    rows.get(one) or _minute_at(db, one, topic, at) for one in stored
                )  # or no longer kept one by one
                if known := [row for row in each if row is not None]:
                    row = max(known, key=lambda row: row[3])
                    found[topic.name] = self._stood(db, stored[row[0]], topic, row, at)
        return found

    @staticmethod
    def _stood(
        db: sqlite3.Connection, stored: UnitRows, topic: Asked, row: tuple[Any, ...], at: int
    ) -> tuple[Value | None, int, int]:
        _, value, word, time = row
        value = word if value is None else bool(value) if topic.kind == "switch" else stored.value(value)
        cleared = db.execute(
            "SELECT min(time) FROM clearings WHERE topic = ? AND time > ? AND time <= ?", (stored.number, time, at)
        ).fetchone()[0]
        end = cleared or (time + topic.stale if time + topic.stale < at else 0)
        return value, time, end

    def counted(self, topic: Asked, spans: Sequence[tuple[int, int]]) -> list[float | None]:
        """What a counter counted in each span (ms); None where nothing was stored."""
        with self.open() as db:
            stored = _stored(db, topic)
            return [counted(db, stored, since, until) for since, until in spans]

    def stand(self, topic: Asked) -> tuple[float, int] | None:
        """Last stand of a counter that stands in a minute, and the end of that minute (ms)."""
        with self.open() as db:
            query = "SELECT last, time FROM minutes WHERE topic = ? AND last IS NOT NULL ORDER BY time DESC LIMIT 1"
            rows = ((one, db.execute(query, (one.number,)).fetchone()) for one in _stored(db, topic))
            known = [(one.value(row[0]), row[1] + MINUTE) for one, row in rows if row]
            return max(known, key=lambda stand: stand[1], default=None)

    def readings(
        self, topics: Sequence[Asked], since: int, until: int, low: Collection[str]
    ) -> tuple[list[tuple[str, Value, int]], int]:
        """Stored readings (topic, value, ms) in the order of time, the first MOST_RAW, and until when these are all (ms).

        Where the readings are gone, a minute is what a rule is afraid of in it: its least value of the topics in `low`.
        """
        from services.alerting.trial import KeptMinute

        with self.open() as db:
            numbers = {one.number: (topic, one) for topic in topics for one in _stored(db, topic)}
            first = db.execute("SELECT min(time) FROM readings").fetchone()[0]
            first = until if first is None else first
            marks = ",".join("?" * len(numbers))
            found: list[tuple[int, str, Value]] = []
            if since < first:
                what = f"SELECT topic, time, {', '.join(KeptMinute._fields)} FROM minutes WHERE topic IN ({marks})"
                query = f"{what} AND time >= ? AND time < ? ORDER BY time"
                rows = db.execute(query, (*numbers, since, min(until, first - MINUTE))).fetchmany(MOST_RAW)
                for number, time, *kept in rows:
                    topic, stored = numbers[number]
                    value = KeptMinute(*kept).feared(topic.kind, low=topic.name in low)
                    value = stored.value(value) if isinstance(value, float) else value
                    found += () if value is None else ((time, topic.name, value),)
                until = rows[-1][1] if len(rows) == MOST_RAW else until
            query = f"SELECT time, topic, value, word FROM readings WHERE time >= ? AND time < ? AND topic IN ({marks}) ORDER BY time"
            rows = db.execute(query, (max(since, first), until, *numbers)).fetchmany(MOST_RAW)
            found += ((t, numbers[n][0].name, _value(*numbers[n], v, w)) for t, n, v, w in rows)
            until = rows[-1][0] if len(rows) == MOST_RAW else until
        return [(name, value, t) for t, name, value in found], until

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


def _value(topic: Asked, stored: UnitRows, value: float | None, word: str | None) -> Value:
    return (word or "") if value is None else bool(value) if topic.kind == "switch" else stored.value(value)


def _stored(db: sqlite3.Connection, topic: Asked) -> list[UnitRows]:
    """What is stored of a topic in each unit that it ever had; not what does not convert, and where none was said it was that of now."""
    rows = db.execute("SELECT id, unit FROM topics WHERE name = ? AND kind = ? ORDER BY id", (topic.name, topic.kind))
    ways = [(number, quantities.between(unit or topic.unit, topic.unit or unit)) for number, unit in rows.fetchall()]
    return [UnitRows(number, *way) for number, way in ways if way is not None]


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
