"""One row an hour from minutes, so that days of years are read in an instant; corrected in the transaction that changes a minute.

Hours are counted from the beginning of their local day, so that each lies in one day in every zone; the last of a day may be
shorter. What triggers on `minutes` note in `due` is computed anew by `correct`, before whoever wrote commits. An hour outlives
its minutes, and is only replaced by one that knows as much.
"""

import sqlite3
from collections.abc import Iterable
from typing import Any, Final

import sqlalchemy as sql

from services.stores.database import noted
from services.stores.schema import HOURS
from services.stores.views import QUARTER

HOUR: Final = 3_600_000
"""Milliseconds."""

_COLUMNS: Final = [column.name for column in HOURS.columns]
_LAST: Final = """(SELECT l.{0} FROM minutes l WHERE l.topic = s.topic AND l.time >= s."begin" AND l.time < s."end"
        AND l.{0} IS NOT NULL ORDER BY l.time DESC LIMIT 1)"""
_COMPUTE: Final = f"""
    INSERT INTO hours ({", ".join(_COLUMNS)})
    SELECT s.topic, s."begin", count(*), sum(m.count), avg(m.mean), min(m.low), max(m.high), {_LAST.format("last")},
        sum(m.difference), sum(m.seconds_on), sum(m.starts), {_LAST.format("word")}
    FROM ({{spans}}) s CROSS JOIN minutes m ON m.topic = s.topic AND m.time >= s."begin" AND m.time < s."end"
    GROUP BY s.topic, s."begin"
    ON CONFLICT DO UPDATE SET {", ".join(f"{name} = excluded.{name}" for name in _COLUMNS[2:])}
    WHERE excluded.minutes >= hours.minutes"""
_DUE: Final = _COMPUTE.format(
    spans=f"""
    SELECT DISTINCT d.topic, c."begin" + (d.time - c."begin") / {HOUR} * {HOUR} AS "begin",
        min(c."begin" + ((d.time - c."begin") / {HOUR} + 1) * {HOUR}, c."end") AS "end"
    FROM due d JOIN calendar c ON c."begin" = (SELECT max("begin") FROM calendar WHERE "begin" <= d.time)"""
)
_ALL: Final = _COMPUTE.format(spans='SELECT id AS topic, :begin AS "begin", :end AS "end" FROM topics')
_ELSEWHERE: Final = f"""
    DELETE FROM hours WHERE topic IN (SELECT id FROM topics) AND time > :begin - {HOUR} AND time < :end
    AND (time - (SELECT max("begin") FROM calendar WHERE "begin" <= time)) % {HOUR} != 0
    AND EXISTS (SELECT 1 FROM minutes m WHERE m.topic = hours.topic AND m.time >= hours.time AND m.time < hours.time + {HOUR})"""
_NEXT: Final = "SELECT min((SELECT min(time) FROM minutes WHERE topic = topics.id AND time >= ?)) FROM topics"
_LEFT: Final = f"""
    INSERT OR IGNORE INTO due (time, topic) SELECT DISTINCT time - time % {QUARTER}, topic FROM minutes
    WHERE topic = :topic AND time >= :begin AND time < min(:end, :until)"""
_REACH: Final = "INSERT INTO settings VALUES ('hours', ?) ON CONFLICT DO UPDATE SET value = excluded.value"


def below(connection: sql.Connection) -> sqlite3.Connection:
    """SQLite's own connection below one of SQLAlchemy's, in the same transaction."""
    raw: Any = connection.connection.driver_connection
    return raw  # type: ignore[no-any-return]


def until(db: sqlite3.Connection) -> int | None:
    """Up to when (ms) hours are computed; None where none is."""
    return noted(db, "hours")


def correct(db: sqlite3.Connection) -> None:
    """Compute anew the hours of which a minute changed, before that is committed; a day that the calendar lacks waits for it."""
    if db.execute("SELECT 1 FROM due LIMIT 1").fetchone() is None:
        return
    db.execute(_DUE)
    db.execute(
        'DELETE FROM due WHERE time >= (SELECT min("begin") FROM calendar) AND time < (SELECT max("end") FROM calendar)'
    )


def forget(db: sqlite3.Connection, topics: Iterable[int], begin: int, end: int) -> None:
    """Take out hours that a span (ms) touches, whose minutes were taken out, and compute anew what is left of them."""
    for topic in topics:
        db.execute("DELETE FROM hours WHERE topic = ? AND time > ? AND time < ?", (topic, begin - HOUR, end))
        db.execute(_LEFT, {"topic": topic, "begin": begin - HOUR, "end": end + HOUR, "until": until(db) or 0})
    correct(db)


def advance(db: sqlite3.Connection, now: int) -> int | None:
    """Compute the next hour of which all minutes up to `now` (ms) are there; None, or when the hour that is open will be over."""
    reached = until(db)
    if reached is None:
        reached = db.execute('SELECT min("begin") FROM calendar').fetchone()[0]
    if reached is None:
        return now + HOUR
    moment = db.execute(_NEXT, (reached,)).fetchone()[0]
    begin, end = hour_of(db, now if moment is None else min(moment, now)) or (reached, now + HOUR)
    if end > now:
        if begin != until(db):  # also where a clock that was wrong had come further
            db.execute(_REACH, (str(begin),))
        return end
    db.execute(_ELSEWHERE, {"begin": begin, "end": end})
    db.execute(_ALL, {"begin": begin, "end": end})
    db.execute(_REACH, (str(end),))
    return None


def hour_of(db: sqlite3.Connection, moment: int) -> tuple[int, int] | None:
    """Begin and end (ms) of the hour that a time is in; None where the calendar has no such day."""
    query = 'SELECT "begin", "end" FROM calendar WHERE "begin" <= ? ORDER BY "begin" DESC LIMIT 1'
    day = db.execute(query, (moment,)).fetchone()
    if day is None or moment >= day[1]:
        return None
    begin = moment - (moment - day[0]) % HOUR
    return begin, min(begin + HOUR, day[1])


def begin_again(db: sqlite3.Connection) -> None:
    """Compute all hours again, a little in each turn: days begin at other minutes of the hour now."""
    db.execute("DELETE FROM settings WHERE name = 'hours'")
