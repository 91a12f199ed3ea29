"""Keeps the archive within its time and its disk budget, oldest first, in slices that the service does not feel."""

from collections.abc import Iterator
from pathlib import Path
from typing import Final, NamedTuple

import sqlalchemy as sql

from services.stores import hours
from services.stores.schema import MINUTE, outside

SLICE: Final = 2000
"""Rows deleted in one transaction."""

DAY: Final = 86_400_000
"""Milliseconds."""

LEAST: Final = 8 * DAY
"""Raw readings are kept for longer than any session or spool is late, so that a repeat is always recognised."""

PAGES: Final = 256
"""Pages given back to the file system in one transaction."""


class Usage(NamedTuple):
    """What the archive takes on the disk, in bytes; `others` are spools, dead letters and backups."""

    archive: int
    others: int

    @property
    def total(self) -> int:
        """All of it."""
        return self.archive + self.others


def usage(connection: sql.Connection, state_folder: Path) -> Usage:
    """Measure: pages in use of the database, and the files of the instances beside it that we may see."""
    pages, free, size = (
        connection.exec_driver_sql(f"PRAGMA {name}").scalar_one()
        for name in ("page_count", "freelist_count", "page_size")
    )
    files = {*state_folder.parent.glob("*/spool.sqlite*"), *state_folder.parent.glob("*/dead_letters.jsonl*")}
    files |= {*state_folder.glob("backup*.sqlite"), *state_folder.glob("*.damaged-*")}
    return Usage((pages - free) * size, sum(_size(file) for file in files))


def _size(file: Path) -> int:
    try:
        return file.stat().st_size
    except OSError:  # another instance's file that has gone, or is not ours to see
        return 0


def forget_raw(engine: sql.Engine, before: int) -> Iterator[int]:
    """Delete raw readings and clearings from before a time (ms), those with a minute to compute excepted; yields rows."""
    with engine.connect() as connection:
        pending = connection.exec_driver_sql("SELECT min(time) FROM pending").scalar_one()
    before = before if pending is None else min(before, pending)
    before -= before % MINUTE  # a minute goes whole: what knows less of it than its row would be all that is left
    while True:
        with engine.begin() as connection:
            bound = connection.exec_driver_sql(
                "SELECT time FROM readings ORDER BY time LIMIT 1 OFFSET ?", (SLICE,)
            ).scalar()
            cut = before if bound is None else min(before, bound + 1)
            deleted = connection.exec_driver_sql("DELETE FROM readings WHERE time < ?", (cut,)).rowcount
            if cut == before:
                connection.exec_driver_sql("DELETE FROM clearings WHERE time < ?", (before,))
        yield deleted
        if cut == before:
            return


def forget_minutes(engine: sql.Engine, before: int) -> Iterator[int]:
    """Delete minutes from before a time (ms), topic by topic; yields rows."""
    before = _begin_of_hour(engine, before)
    with engine.connect() as connection:
        topics = connection.exec_driver_sql("SELECT id FROM topics").scalars().all()
    for topic in topics:
        deleted = SLICE
        while deleted == SLICE:
            with engine.begin() as connection:
                deleted = connection.exec_driver_sql(
                    "DELETE FROM minutes WHERE (topic, time) IN"
                    " (SELECT topic, time FROM minutes WHERE topic = ? AND time < ? ORDER BY time LIMIT ?)",
                    (topic, before, SLICE),
                ).rowcount
            yield deleted


def _begin_of_hour(engine: sql.Engine, moment: int) -> int:
    """Begin of the hour (ms) that a time is in: an hour that outlives its minutes outlives all of them."""
    with engine.connect() as connection:
        found = hours.hour_of(hours.below(connection), moment)
    return found[0] if found else moment - moment % hours.HOUR


def oldest(connection: sql.Connection, table: str) -> int | None:
    """Time (ms) of the oldest row of `readings` or `minutes`."""
    if table == "readings":
        return connection.exec_driver_sql("SELECT min(time) FROM readings").scalar()
    each = "SELECT (SELECT min(time) FROM minutes WHERE topic = topics.id) AS first FROM topics"
    return connection.exec_driver_sql(f"SELECT min(first) FROM ({each})").scalar()


def shorten(engine: sql.Engine, now: int) -> Iterator[int] | None:
    """Make some room, oldest first: a day of raw readings beyond those that must stay, else ten days of minutes.

    None where nothing is left that may go.
    """
    with engine.connect() as connection:
        raw, minute = oldest(connection, "readings"), oldest(connection, "minutes")
    least = now - LEAST
    if raw is not None and raw < least - least % MINUTE:
        return forget_raw(engine, min(raw + DAY, least))
    if minute is not None and minute < _begin_of_hour(engine, least):
        return forget_minutes(engine, min(minute + 10 * DAY, least))
    return None


def give_back(engine: sql.Engine) -> Iterator[int]:
    """Return free pages to the file system as long as they are more than a tenth of the file; yields pages."""
    while True:
        with engine.connect() as connection:
            pages, free = (
                connection.exec_driver_sql(f"PRAGMA {name}").scalar_one() for name in ("page_count", "freelist_count")
            )
        if free <= max(PAGES, pages // 10):
            return
        outside(engine, f"PRAGMA incremental_vacuum({PAGES})")
        yield PAGES
