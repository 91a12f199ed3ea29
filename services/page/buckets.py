"""Rows of the archive's tables gathered into buckets of time, as a picture needs them: from hours, minutes or single readings."""

import sqlite3
from collections.abc import Collection, Iterator, Sequence
from typing import Any, Final, NamedTuple

MINUTE: Final = 60_000
HOUR: Final = 3_600_000
DAY: Final = 86_400_000

RAW_SPAN: Final = 2 * HOUR
"""Spans up to this (ms) may be drawn from single readings: these lie in the order of time, all topics together."""

WIDE: Final = HOUR // 2
"""Width of a bucket (ms) from which each is asked for by itself."""

STEPS: Final = tuple(
    seconds * 1000
    for seconds in (1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 10800, 21600, 43200, 86400)
) + tuple(days * DAY for days in (2, 7, 14, 30))
"""Widths of a bucket, ms: the narrowest that is wide enough is taken."""


class Bucket(NamedTuple):
    """A stretch of a topic; `time` is its beginning, ms."""

    time: int
    mean: float | None
    low: float | None
    high: float | None


class UnitRows(NamedTuple):
    """What is stored of a topic under one number, in one unit; factor and summand lead from there to the unit that it has now."""

    number: int
    factor: float = 1.0
    summand: float = 0.0

    def value(self, stored: float) -> float:
        """A stored number in the unit of now."""
        return stored * self.factor + self.summand if self[1:] != (1.0, 0.0) else stored

    def bucket(self, time: int, *values: float | None) -> Bucket:
        """Mean, lowest and highest in the unit of now."""
        return Bucket(time, *(None if one is None else self.value(one) for one in values))


def step_of(since: int, until: int, buckets: int, least: int) -> int:
    """Width of a bucket, ms: at most `buckets` of them, none below `least`."""
    wanted = max(least, (until - since) / max(1, buckets))
    return next((step for step in STEPS if step >= wanted), STEPS[-1])


def _hours_until(db: sqlite3.Connection) -> int:
    """Up to when (ms) the table of hours is computed; 0 where an archive has none."""
    if not db.execute("SELECT 1 FROM sqlite_master WHERE name = 'hours' AND type = 'table'").fetchone():
        return 0
    row = db.execute("SELECT value FROM settings WHERE name = 'hours'").fetchone()
    return int(row[0]) if row and str(row[0]).isdigit() else 0


def is_fine(db: sqlite3.Connection, numbers: Collection[int], since: int, until: int, step: int) -> bool:
    """Whether a span is to be drawn from single readings: it is short, and they are there as far back as minutes are."""
    if step >= 2 * MINUTE or until - since > RAW_SPAN:
        return False
    first = db.execute("SELECT min(time) FROM readings").fetchone()[0]
    if first is None:
        return False
    query = "SELECT 1 FROM minutes WHERE topic = ? AND time >= ? AND time < ? LIMIT 1"
    older = (db.execute(query, (number, since, first - MINUTE)).fetchone() for number in numbers)
    return first <= since or not any(older)


_COLUMNS: Final = {
    ("gauge", "minutes"): "count(mean), avg(mean), min(low), max(high)",
    ("gauge", "hours"): "sum(minutes), sum(mean * minutes) / sum(minutes), min(low), max(high)",
    ("switch", "minutes"): "count(seconds_on), avg(seconds_on) / 60, min(last), max(high)",
    ("switch", "hours"): (
        "sum(minutes), sum(seconds_on) / sum(minutes) / 60, min(seconds_on >= 60 * minutes), max(high)"
    ),
    ("counter", "minutes"): "count(*), sum(difference), null, null",
    ("counter", "hours"): "sum(minutes), sum(difference), null, null",
}
"""Minutes of which something is known, their mean, the lowest, the highest; of a counter what it counted."""


def rows_of(  # noqa: PLR0917
    db: sqlite3.Connection,
    stored: Sequence[UnitRows],
    kind: str,
    since: int,
    until: int,
    step: int,
    offset: int,
    every: int = MINUTE,
) -> Iterator[Bucket]:
    """Buckets in the order of time: from hours where these are enough, else minutes; the newest from single readings.

    `every` (ms) is how often it is measured: what a counter says at once was counted in that time.
    """
    begin = since
    tables = [("minutes", until)]
    if step >= HOUR and (ready := _hours_until(db)):
        begin -= (begin + offset) % step  # else the hour that the span begins in would be missing
        tables = [("hours", min(ready, until)), ("minutes", until)]
    first = -(-begin // MINUTE) * MINUTE
    found: dict[int, tuple[int, Bucket]] = {}
    for table, end in tables:
        columns = _COLUMNS.get((kind, table), _COLUMNS["gauge", table])
        for one in stored:
            for time, weight, *values in _gathered(
                db, f"{columns} FROM {table} WHERE topic = ?", one.number, (begin, end), step, offset
            ):
                found[time] = _joined(found.get(time), (weight, one.bucket(time, *values)), kind)
        begin = max(begin, end)
    query = "SELECT max(time) FROM minutes WHERE topic = ? AND time < ?"
    lasts = [db.execute(query, (one.number, until)).fetchone()[0] for one in stored]
    known = max((last + MINUTE for last in lasts if last is not None), default=0)
    for time in sorted(found):
        weight, row = found[time]
        if kind == "counter" and row.mean is not None:
            width = max(weight * every, min(time + step, known) - max(time, first))
            row = row._replace(mean=row.mean * HOUR / min(width, step))
        yield row
    tail = max(since, known)
    if kind != "counter" and until - tail <= RAW_SPAN:
        for row in single(db, stored, kind, tail, until, max(step, 1000) if step <= HOUR else MINUTE):
            if row.time > (max(found) if found else 0):
                yield row


def _gathered(  # noqa: PLR0917
    db: sqlite3.Connection, query: str, number: int, span: tuple[int, int], step: int, offset: int
) -> Iterator[tuple[Any, ...]]:
    """Buckets of one table. Wide ones are asked for one by one: to group half a million rows SQLite would sort them first."""
    begin, end = span
    shift = offset if step >= HOUR else 0
    if step < WIDE:
        grouped = (
            f"SELECT time - time % {step} AS begin, {query} AND time >= ? AND time < ? GROUP BY begin ORDER BY begin"
        )
        yield from db.execute(grouped, (number, begin, end))
        return
    one = f"SELECT count(*), {query} AND time >= ? AND time < ?"
    bucket = begin - (begin + shift) % step
    while bucket < end:
        count, *values = db.execute(one, (number, max(begin, bucket), min(end, bucket + step))).fetchone()
        if count:
            yield (bucket, *values)
        bucket += step


def _joined(before: tuple[int, Bucket] | None, more: tuple[int, Bucket], kind: str) -> tuple[int, Bucket]:
    """Two parts of a bucket, each with the minutes of which something is known."""
    if before is None:
        return more
    (weight, one), (other, two) = before, more
    if one.mean is None or two.mean is None:
        return more if one.mean is None else before
    if kind == "counter":
        return weight + other, two._replace(mean=one.mean + two.mean)
    lows = [value for value in (one.low, two.low) if value is not None]
    highs = [value for value in (one.high, two.high) if value is not None]
    mean = (one.mean * weight + two.mean * other) / (weight + other)
    return weight + other, Bucket(one.time, mean, min(lows, default=None), max(highs, default=None))


def single(  # noqa: PLR0917
    db: sqlite3.Connection, stored: Sequence[UnitRows], kind: str, since: int, until: int, step: int
) -> Iterator[Bucket]:
    """Buckets from single readings, while these are kept."""
    if kind == "counter":
        query = "SELECT time, value FROM readings WHERE time >= ? AND time < ? AND topic = ?"
        before: tuple[int, float] | None = None
        rows = ((one, row) for one in stored for row in db.execute(query, (since, until, one.number)))
        for time, value in sorted((time, one.value(value)) for one, (time, value) in rows):
            if before is not None and value >= before[1] and time > before[0]:
                rate = (value - before[1]) * HOUR / (time - before[0])
                yield Bucket(time, rate, None, None)
            before = time, value
        return
    query = (
        f"SELECT count(*), time - time % {step} AS begin, avg(value), min(value), max(value) FROM readings"
        " WHERE time >= ? AND time < ? AND topic = ? AND value IS NOT NULL GROUP BY begin"
    )
    found: dict[int, tuple[int, Bucket]] = {}
    for one in stored:
        for weight, time, *values in db.execute(query, (since, until, one.number)):
            found[time] = _joined(found.get(time), (weight, one.bucket(time, *values)), kind)
    yield from (found[time][1] for time in sorted(found))


def points_of(db: sqlite3.Connection, number: int, since: int, until: int) -> Iterator[tuple[int, str]]:
    """Words of a state in the order of time: single readings of short spans, else the last of each minute."""
    begin = since
    if not is_fine(db, (number,), since, until, MINUTE):
        query = "SELECT time, word FROM minutes WHERE topic = ? AND time >= ? AND time < ? AND word IS NOT NULL ORDER BY time"
        for time, word in db.execute(query, (number, since, until)):
            yield time, word
            begin = time + MINUTE
        if until - begin > RAW_SPAN:
            return
    query = (
        "SELECT time, word FROM readings WHERE time >= ? AND time < ? AND topic = ? AND word IS NOT NULL ORDER BY time"
    )
    yield from db.execute(query, (begin, until, number))


def counted(db: sqlite3.Connection, stored: Sequence[UnitRows], since: int, until: int) -> float | None:
    """What a counter counted from one time to before another (ms), in all its units; None where nothing was stored."""
    found = ((one.factor, _counted(db, one.number, since, until)) for one in stored)
    known = [factor * amount for factor, amount in found if amount is not None]
    return sum(known) if known else None


def _counted(db: sqlite3.Connection, number: int, since: int, until: int) -> float | None:
    total, spans = None, [("minutes", since, until)]
    if until - since > DAY and (ready := _hours_until(db)):
        query = "SELECT min(time), max(time) FROM hours WHERE topic = ? AND time >= ? AND time < ?"
        first, last = db.execute(query, (number, since, min(until, ready))).fetchone()
        if first is not None:
            last += HOUR if last + HOUR <= min(until, ready) else 0
            spans = [("minutes", since, first), ("hours", first, last), ("minutes", last, until)]
    for table, begin, end in spans:
        query = f"SELECT sum(difference) FROM {table} WHERE topic = ? AND time >= ? AND time < ?"
        value = db.execute(query, (number, begin, end)).fetchone()[0]
        total = value if total is None else total if value is None else total + value
    return total
