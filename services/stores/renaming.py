"""Gives what is stored of one topic to another: where both have rows, because readings came under either name."""

from collections.abc import Iterator
from typing import Final

import sqlalchemy as sql

from services.stores import hours

HOUR: Final = 3_600_000
"""Milliseconds of raw readings looked at in one transaction: they lie in the order of time, not of topics."""

SLICE: Final = 2000
"""Minutes moved in one transaction."""

_PENDING: Final = (
    "INSERT OR IGNORE INTO pending SELECT DISTINCT time - time % 60000, :new FROM readings"
    " WHERE time >= :begin AND time < :end AND topic = :old"
)


def move(engine: sql.Engine, old: int, new: int) -> Iterator[object]:
    """Move all rows, in slices; of two for one time the one that is there stays, and the minute is computed anew."""
    with engine.connect() as connection:
        first, last = connection.exec_driver_sql("SELECT min(time), max(time) FROM readings").one()
    begin = first - first % HOUR if first is not None else 0
    while first is not None and begin <= last:
        with engine.begin() as connection:
            for statement in (
                _PENDING,
                "UPDATE OR IGNORE readings SET topic = :new WHERE time >= :begin AND time < :end AND topic = :old",
                "DELETE FROM readings WHERE time >= :begin AND time < :end AND topic = :old",
                "DELETE FROM pending WHERE time >= :begin AND time < :end AND topic = :old",
            ):
                connection.execute(sql.text(statement), {"old": old, "new": new, "begin": begin, "end": begin + HOUR})
        begin += HOUR
        yield None
    for table in ("clearings", "hours", "minutes"):  # hours first: those that minutes make are computed with them
        moved = SLICE
        while moved == SLICE:
            with engine.begin() as connection:
                span = connection.exec_driver_sql(
                    f"SELECT max(time), count(*) FROM (SELECT time FROM {table} WHERE topic = ? ORDER BY time LIMIT ?)",
                    (old, SLICE),
                ).one()
                moved = span[1]
                values = {"old": old, "new": new, "last": span[0]}
                connection.execute(
                    sql.text(f"UPDATE OR IGNORE {table} SET topic = :new WHERE topic = :old AND time <= :last"),
                    values,
                )
                connection.execute(sql.text(f"DELETE FROM {table} WHERE topic = :old AND time <= :last"), values)
                hours.correct(hours.below(connection))
            yield None
    with engine.begin() as connection:
        connection.exec_driver_sql("DELETE FROM due WHERE topic = ?", (old,))
        connection.exec_driver_sql("DELETE FROM topics WHERE id = ?", (old,))
