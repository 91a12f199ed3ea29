"""The days of the house's time zone as rows, so that plain SQL has days of 23 and 25 hours where the clocks change."""

from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta
from typing import Final, NamedTuple
from zoneinfo import ZoneInfo

import sqlalchemy as sql
from sqlalchemy.dialects.sqlite import insert

from services.stores import hours
from services.stores.schema import CALENDAR, SETTINGS

AHEAD: Final = 40
"""Days that stand in the table before they come."""

BEHIND: Final = 40
"""Days that stand in it before the first that something is stored of: what waited in a spool may be older."""

OLDEST: Final = """
    SELECT min(first) FROM (SELECT min(time) AS first FROM readings
        UNION ALL SELECT (SELECT min(time) FROM minutes WHERE topic = topics.id) FROM topics
        UNION ALL SELECT (SELECT min(time) FROM hours WHERE topic = topics.id) FROM topics)"""
"""Time (ms) of the first that is stored, as SQL."""


class LocalDay(NamedTuple):
    """A local day; `begin` and `end` in milliseconds since 1970 UTC."""

    day: str
    month: str
    begin: int
    end: int


def midnight(day: date, zone: ZoneInfo) -> int:
    """When a local day begins (ms); where its midnight is skipped by a clock change, the first moment after it."""
    return round(datetime(day.year, day.month, day.day, tzinfo=zone).timestamp() * 1000)


def local_days(first: date, last: date, zone: ZoneInfo) -> Iterator[LocalDay]:
    """All days from `first` to `last`."""
    for offset in range((last - first).days + 1):
        day = first + timedelta(offset)
        text = day.isoformat()
        yield LocalDay(text, text[:7], midnight(day, zone), midnight(day + timedelta(1), zone))


def local_days_between(since: int, until: int, zone: ZoneInfo) -> Iterator[LocalDay]:
    """All days that a time (ms) up to another is in."""
    return local_days(_local_date(since, zone), _local_date(until, zone), zone)


def fill(connection: sql.Connection, zone: ZoneInfo, now: int) -> None:
    """Complete the calendar from the first stored minute or reading to some days ahead; anew for another time zone."""
    known = connection.scalar(sql.select(SETTINGS.c.value).where(SETTINGS.c.name == "timezone"))
    before: dict[str, int] = {}
    if known != zone.key:
        before = {row.day: row.begin for row in connection.execute(sql.select(CALENDAR.c.day, CALENDAR.c.begin))}
        connection.execute(sql.delete(CALENDAR))
        row = insert(SETTINGS).values(name="timezone", value=zone.key)
        connection.execute(row.on_conflict_do_update(set_={"value": row.excluded.value}))
    oldest = connection.exec_driver_sql(OLDEST).scalar_one()
    first = _local_date(min(now, oldest if oldest is not None else now), zone) - timedelta(BEHIND)
    last = _local_date(now, zone) + timedelta(AHEAD)
    there = connection.execute(sql.select(sql.func.min(CALENDAR.c.day), sql.func.max(CALENDAR.c.day))).one()
    if there[0] is None or there[0] > first.isoformat() or there[1] < (last - timedelta(AHEAD // 2)).isoformat():
        connection.execute(
            insert(CALENDAR).on_conflict_do_nothing(), [day._asdict() for day in local_days(first, last, zone)]
        )
    db = hours.below(connection)
    if any(
        (begin - before.get(day, begin)) % hours.HOUR for day, begin in db.execute('SELECT day, "begin" FROM calendar')
    ):
        hours.begin_again(db)
    hours.correct(db)


def _local_date(moment: int, zone: ZoneInfo) -> date:
    return datetime.fromtimestamp(moment / 1000, UTC).astimezone(zone).date()
