"""Minutes, hours and days of what was stored: computed anew from the readings of a house's hour whenever one of them came late.

What is to be computed stands in `pending`, which is written in the transaction of the readings. A mean counts each reading alike.
"""

import logging
from datetime import UTC, datetime, timedelta
from typing import Final
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

import sqlalchemy as sql

from services.fleet import tables
from services.fleet.engine import Engine, RowsRefused
from services.fleet.tables import Table

log = logging.getLogger(__name__)

HOUR: Final = 3_600_000
GRACE: Final = 120_000
"""Milliseconds after an hour's end until it is summed up: what is on its way then is summed up by another turn."""

_LAST: Final = "ROW_NUMBER() OVER (PARTITION BY topic, {begin} ORDER BY time DESC)"


def due(engine: Engine, house: int, now: int, most: int) -> list[int]:
    """Hours (ms) of a house that can be summed up, the oldest first."""
    asked = sql.text("SELECT time FROM pending WHERE house = :house AND time <= :last ORDER BY time LIMIT :most")
    limits = {"house": house, "last": now - HOUR - GRACE, "most": most}
    return engine.run(lambda connection: list(connection.scalars(asked, limits)))


def counts(engine: Engine, house: int, since: int, until: int) -> dict[tuple[str, int], int]:
    """How many readings are stored of each topic in each hour (ms), of a range of time."""
    asked = sql.text(
        "SELECT t.name, r.hour, r.count FROM topics t JOIN (SELECT topic, time - time % 3600000 AS hour, count(*) AS count"
        " FROM readings WHERE house = :house AND time >= :since AND time < :until GROUP BY topic, time - time % 3600000) r"
        " ON r.topic = t.id"
    )
    limits = {"house": house, "since": since, "until": until}
    found: dict[tuple[str, int], int] = {}
    for name, hour, count in engine.run(lambda connection: connection.execute(asked, limits).all()):
        found[name, hour] = found.get((name, hour), 0) + count
    return found


def sum_up(engine: Engine, house: int, hour: int, timezone: str) -> bool:
    """Compute the minutes of a house's hour, that hour, and the local day that it lies in; done twice it is the same.

    False where the engine never will: that hour is left out, and the next one's turn comes.
    """
    day, end = local_day(hour, timezone)

    def work(connection: sql.Connection) -> None:
        connection.execute(_minutes(engine), {"house": house, "since": hour, "until": hour + HOUR})
        connection.execute(_sums(engine, tables.MINUTES, tables.HOURS), _range(house, hour, hour + HOUR, hour))
        connection.execute(_sums(engine, tables.HOURS, tables.DAYS), _range(house, day, end, day))
        leave(connection)

    def leave(connection: sql.Connection) -> None:
        done = sql.text("DELETE FROM pending WHERE house = :house AND time = :hour")
        connection.execute(done, {"house": house, "hour": hour})

    try:
        engine.run(work)
    except RowsRefused as error:
        log.error("house %d has no sums of its hour %d: %s", house, hour, error)  # noqa: TRY400
        engine.run(leave)
        return False
    return True


def _range(house: int, since: int, until: int, begin: int) -> dict[str, int]:
    return {"house": house, "since": since, "until": until, "begin": begin}


def _minutes(engine: Engine) -> sql.TextClause:
    begin = "time - time % 60000"
    numbered = f"SELECT topic, {begin} AS begin, value, word, {_LAST.format(begin=begin)} AS place FROM readings"
    return sql.text(
        "INSERT INTO minutes (topic, time, count, mean, low, high, last, word)"
        " SELECT topic, begin, count(*), avg(value), min(value), max(value),"
        " max(CASE WHEN place = 1 THEN value END), max(CASE WHEN place = 1 THEN word END)"
        f" FROM ({numbered} WHERE house = :house AND time >= :since AND time < :until) AS r GROUP BY topic, begin "
        + engine.dialect.on_repeat(tables.MINUTES)
    )


def _sums(engine: Engine, source: Table, target: Table) -> sql.TextClause:
    numbered = (
        "SELECT s.topic, s.time, s.count, s.mean, s.low, s.high, s.last, s.word,"
        " ROW_NUMBER() OVER (PARTITION BY s.topic ORDER BY s.time DESC) AS place"
        f" FROM topics t JOIN {source.name} s ON s.topic = t.id"
        " WHERE t.house = :house AND s.time >= :since AND s.time < :until"
    )
    return sql.text(
        f"INSERT INTO {target.name} (topic, time, count, mean, low, high, last, word)"
        " SELECT topic, :begin, sum(count), sum(mean * count) / sum(CASE WHEN mean IS NULL THEN 0 ELSE count END),"
        " min(low), max(high), max(CASE WHEN place = 1 THEN last END), max(CASE WHEN place = 1 THEN word END)"
        f" FROM ({numbered}) AS r GROUP BY topic " + engine.dialect.on_repeat(target)
    )


def local_day(moment: int, timezone: str) -> tuple[int, int]:
    """Beginning and end (ms) of the day of a house that a time lies in: 23, 24 or 25 hours."""
    try:
        zone: ZoneInfo | None = ZoneInfo(timezone)
    except (ZoneInfoNotFoundError, ValueError, OSError):  # what a house says of itself may be anything
        zone = None
    local = datetime.fromtimestamp(moment / 1000, zone or UTC).replace(hour=0, minute=0, second=0, microsecond=0)
    ends = (local + timedelta(days=1)).replace(hour=0)
    return round(local.timestamp() * 1000), round(ends.timestamp() * 1000)
