"""Partitions of the engine's tables by time: made ahead, and dropped by age, one at a time.

A month of minutes goes in a tenth of a second, where deleting its rows would take the night. On Galera all nodes stand still while a
table is changed, so one change is made at a time, and none twice.
"""

from datetime import UTC, datetime, timedelta
from typing import Final

from services.fleet import tables
from services.fleet.engine import Engine
from services.fleet.tables import Period, Table

AHEAD: Final[dict[Period, int]] = {"day": 4, "month": 2}
"""Periods that are made ahead: days in which nobody needs to look after it."""

DAY: Final = 86_400_000
"""Milliseconds."""


def begin(period: Period, moment: int) -> int:
    """Beginning (ms, UTC) of the day or month that a time lies in."""
    day = datetime.fromtimestamp(moment / 1000, UTC).replace(hour=0, minute=0, second=0, microsecond=0)
    return round((day.replace(day=1) if period == "month" else day).timestamp() * 1000)


def following(period: Period, start: int) -> int:
    """Beginning of the next one."""
    return begin(period, start + (32 if period == "month" else 1) * DAY)


def name(period: Period, start: int) -> str:
    """How a partition is called: p20261127, or p202611."""
    day = datetime.fromtimestamp(start / 1000, UTC) + timedelta(hours=1)
    return f"p{day:%Y%m%d}" if period == "day" else f"p{day:%Y%m}"


def wanted(period: Period, now: int, age: int) -> dict[str, int]:
    """Partitions from `age` ms ago to those made ahead, by name, each with its end (ms)."""
    found: dict[str, int] = {}
    start, last = begin(period, now - age), now
    for _ in range(AHEAD[period]):
        last = following(period, begin(period, last))
    while start <= last:
        end = following(period, start)
        found[name(period, start)] = end
        start = end
    return found


def create(engine: Engine, now: int, ages: dict[str, int]) -> None:
    """Make all tables that are not there; `ages` are those (ms) of the tables that have partitions."""
    for table in tables.ALL:
        first, periods = 0, {}
        if table.period:
            first, periods = begin(table.period, now - ages[table.name]), wanted(table.period, now, ages[table.name])
        for statement in engine.dialect.create(table, first, periods):
            engine.define(statement)


def next_change(engine: Engine, table: Table, now: int, age: int) -> str | None:
    """Statement of the one change that is due first, or None: a partition ahead, else the oldest that is too old."""
    if table.period is None:
        return None
    there = engine.run(lambda connection: engine.dialect.partitions(connection, table))
    newest = max(there.values(), default=0)
    due = {called: until for called, until in wanted(table.period, now, age).items() if until > newest}
    for called, until in sorted(due.items(), key=lambda one: one[1]):
        since = newest or begin(table.period, now - age)
        return engine.dialect.add(table, called, since, until)
    old = sorted((until, called) for called, until in there.items() if until <= now - age)
    if old and len(there) > 1:
        return engine.dialect.drop(table, old[0][1])
    return None


def oldest(now: int, age: int, period: Period = "day") -> int:
    """Time (ms) before which nothing is stored: the beginning of the oldest partition."""
    return begin(period, now - age)
