"""One row a minute from raw readings, always computed anew from them, so that late and repeated readings are right too.

What is to be computed stands in the table `pending`, which is written in the same transaction as the readings: no kill
makes a minute forget a reading. A minute of which the raw readings are gone is only replaced by one that knows more.
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final, NamedTuple

import sqlalchemy as sql

from services.stores import hours
from services.stores.schema import MINUTE, MINUTES

RESET: Final = 0.1
"""A counter that falls below this part of its stand began at zero again; one that falls less far was exchanged."""

DECIMALS: Final = 9
"""Digits of a sum that are not noise of its additions."""

SLICE: Final = 500
"""Minutes of topics computed in one transaction."""


class Point(NamedTuple):
    """A reading of a switch (True or False), or its clearing (None), at a time in milliseconds."""

    time: int
    on: bool | None


@dataclass(frozen=True)
class SwitchMinute:
    """A minute in which the state of a switch was known, wholly or in part."""

    time: int
    count: int
    high: float
    seconds_on: float
    starts: int
    last: float | None


def step(before: float, value: float) -> float:
    """What a counter counted from one stand to the next: a reset begins at zero, an exchanged meter counts nothing."""
    if value >= before:
        return value - before
    return value if value <= before * RESET else 0.0


def difference(before: float | None, values: Iterable[float]) -> float | None:
    """What a counter counted over its stands, from the one `before` on; None where nothing went before."""
    total = None
    for value in values:
        if before is not None:
            total = round((total or 0.0) + step(before, value), DECIMALS)
        before = value
    return total


def switch_minutes(
    before: Point | None, points: Iterable[Point], hold: int, begin: int, end: int
) -> Iterator[SwitchMinute]:
    """Minutes from `begin` to `end` (ms) of a switch: a state lasts until the next point, at most `hold` ms.

    `points` lie in that range, in order; `before` is the last one ahead of it.
    """
    minutes: dict[int, list[Any]] = {}  # [count, milliseconds on, starts, was on, last]
    known = before.on if before else None
    line = [*([before] if before else []), *points]
    for index, (time, on) in enumerate(line):
        if on is not None and time >= begin:
            minute = minutes.setdefault(time - time % MINUTE, [0, 0, 0, False, None])
            minute[0] += 1
            minute[2] += on and known is False
            minute[3] |= on
            minute[4] = float(on)
            known = on
        if on is None:
            continue
        until = min(end, time + hold, line[index + 1].time if index + 1 < len(line) else end)
        moment = max(time, begin)
        while moment < until:
            start = moment - moment % MINUTE
            minute = minutes.setdefault(start, [0, 0, 0, False, None])
            edge = min(start + MINUTE, until)
            if on:
                minute[1] += edge - moment
                minute[3] = True
            moment = edge
    for time in sorted(minutes):
        count, milliseconds, starts, was_on, last = minutes[time]
        yield SwitchMinute(time, count, float(was_on), milliseconds / 1000, starts, last)


_COLUMNS: Final = [column.name for column in MINUTES.columns if not column.primary_key]
_REPLACE: Final = (
    f"ON CONFLICT DO UPDATE SET {', '.join(f'{name} = excluded.{name}' for name in _COLUMNS)}"
    " WHERE excluded.count > minutes.count OR excluded.time >= :horizon"
)
_DUE: Final = """
    FROM (SELECT DISTINCT time FROM pending WHERE time <= :last) AS due
    CROSS JOIN readings r ON r.time >= due.time AND r.time < due.time + 60000
    JOIN pending p ON p.time = due.time AND p.topic = r.topic
    JOIN topics t ON t.id = r.topic AND t.kind ="""
_GAUGES: Final = sql.text(f"""
    INSERT INTO minutes (topic, time, count, mean, low, high)
    SELECT p.topic, p.time, count(*), avg(r.value), min(r.value), max(r.value) {_DUE} 'gauge'
    GROUP BY p.topic, p.time {_REPLACE}""")
_STATES: Final = sql.text(f"""
    INSERT INTO minutes (topic, time, count, word)
    SELECT topic, time, count, word FROM (
        SELECT p.topic, p.time, count(*) AS count, r.word, max(r.time) {_DUE} 'state' GROUP BY p.topic, p.time)
    WHERE true {_REPLACE}""")
_COUNTER: Final = sql.text(f"""
    INSERT INTO minutes (topic, time, count, last, difference)
    VALUES (:topic, :time, :count, :last, :difference) {_REPLACE}""")
_SWITCH: Final = sql.text(f"""
    INSERT INTO minutes (topic, time, count, high, seconds_on, starts, last)
    VALUES (:topic, :time, :count, :high, :seconds_on, :starts, :last) {_REPLACE}""")
_OTHERS: Final = sql.text("""
    SELECT p.time, p.topic, t.kind FROM pending p JOIN topics t ON t.id = p.topic
    WHERE p.time <= :last AND t.kind IN ('counter', 'switch') ORDER BY p.time""")
_LAST_DUE: Final = sql.text(
    "SELECT max(time) FROM (SELECT time FROM pending WHERE time < :until ORDER BY time LIMIT :slice)"
)
_VALUES: Final = sql.text(
    "SELECT time, value FROM readings WHERE time >= :begin AND time < :end AND topic = :topic ORDER BY time"
)
_CLEARINGS: Final = sql.text("SELECT time FROM clearings WHERE topic = :topic AND time >= :begin AND time < :end")
_BEFORE: Final = sql.text(
    "SELECT time, last FROM minutes WHERE topic = :topic AND time < :time AND count > 0 ORDER BY time DESC LIMIT 1"
)
_AFTER: Final = sql.text(
    "SELECT time FROM minutes WHERE topic = :topic AND time > :time AND count > 0 ORDER BY time LIMIT 1"
)


def compute(connection: sql.Connection, until: int, horizon: int, holds: Mapping[int, int]) -> int | None:
    """Compute a slice of the pending minutes that begin before `until`; returns the last of them, None when none is due.

    All raw readings are there from `horizon` on (ms); `holds` says for each switch how long its state lasts (ms).
    """
    last: int | None = connection.scalar(_LAST_DUE, {"until": until, "slice": SLICE})
    if last is None:
        return None
    common = {"last": last, "horizon": horizon}
    connection.execute(_GAUGES, common)
    connection.execute(_STATES, common)
    due = [(time, topic, kind) for time, topic, kind in connection.execute(_OTHERS, common)]
    waiting = {(time, topic) for time, topic, _ in due}
    for time, topic, kind in due:
        one = _counter if kind == "counter" else _switch
        one(connection, topic, time, horizon, holds)
        after = connection.scalar(_AFTER, {"topic": topic, "time": time})  # it was computed from another stand
        if after is not None and (after, topic) not in waiting:
            one(connection, topic, after, horizon, holds)
    connection.execute(sql.text("DELETE FROM pending WHERE time <= :last"), common)
    hours.correct(hours.below(connection))
    return last


def _counter(connection: sql.Connection, topic: int, time: int, horizon: int, _holds: Mapping[int, int]) -> None:
    values = [value for _, value in connection.execute(_VALUES, {"topic": topic, "begin": time, "end": time + MINUTE})]
    if values:
        before = connection.execute(_BEFORE, {"topic": topic, "time": time}).first()
        counted = difference(before.last if before else None, values)
        row = {"topic": topic, "time": time, "count": len(values), "last": values[-1], "difference": counted}
        connection.execute(_COUNTER, row | {"horizon": horizon})


def _switch(connection: sql.Connection, topic: int, time: int, horizon: int, holds: Mapping[int, int]) -> None:
    hold = holds.get(topic, MINUTE)
    begin, before = time, None
    earlier = connection.execute(_BEFORE, {"topic": topic, "time": time}).first()
    if earlier is not None:
        known = connection.execute(_VALUES, {"topic": topic, "begin": earlier.time, "end": earlier.time + MINUTE}).all()
        before = Point(known[-1].time if known else earlier.time, bool(earlier.last))
        begin = earlier.time + MINUTE
    span = {"topic": topic, "begin": before.time if before else begin, "end": time + MINUTE}
    points = [Point(moment, bool(value)) for moment, value in connection.execute(_VALUES, span | {"begin": begin})]
    points += [Point(moment, None) for (moment,) in connection.execute(_CLEARINGS, span)]
    points.sort(key=lambda point: point.time)
    for minute in switch_minutes(before, points, hold, begin, time + MINUTE):
        connection.execute(_SWITCH, vars(minute) | {"topic": topic, "horizon": horizon})
