"""The archive's views as rows of text, read in slices so that a long export never holds up the archive."""

from collections.abc import Collection, Iterator
from datetime import datetime
from typing import Any, Final, Literal
from zoneinfo import ZoneInfo

import sqlalchemy as sql

from bootstrap_lib import format_time
from services.stores import replay
from services.stores.database import CEILING

Table = Literal["raw", "minutes", "days", "months"]
Rows = list[tuple[Any, ...]]

SLICE: Final = 5000
"""Rows read at once."""

_AGGREGATES: Final = "unit, count, mean, low, high, difference, seconds_on, starts, word"
_COLUMNS: Final[dict[Table, str]] = {
    "raw": "name, time, value, unit",
    "minutes": f"name, time, {_AGGREGATES}, last",
    "days": f"name, day, {_AGGREGATES}",
    "months": f"name, month, {_AGGREGATES}",
}


def header(table: Table) -> list[str]:
    """Names of the columns of an export."""
    return _COLUMNS[table].split(", ")


def topics(engine: sql.Engine) -> list[str]:
    """Names of all topics that were ever stored."""
    with engine.connect() as connection:
        return list(connection.exec_driver_sql("SELECT DISTINCT name FROM topics ORDER BY name").scalars())


def rows(  # noqa: PLR0917
    engine: sql.Engine, table: Table, names: Collection[str], since: int, until: int, zone: ZoneInfo
) -> Iterator[tuple[float, Rows]]:
    """Rows in slices, each with the part (0..1) of the work that is done; `until` (ms) is not included.

    Raw readings come in the order of time, the rest topic by topic; days and months that begin outside are included.
    """
    if table == "raw":
        yield from _raw(engine, names, since, until)
        return
    for index, name in enumerate(names):
        part = (index + 1) / len(names)
        if table == "minutes":
            for slice_ in _minutes(engine, name, since, until):
                yield part, slice_
        else:
            column = table.removesuffix("s")
            first, last = (_local(moment, zone)[: 10 if table == "days" else 7] for moment in (since, until - 1))
            query = f"SELECT {_COLUMNS[table]} FROM {table} WHERE name = ? AND {column} >= ? AND {column} <= ? ORDER BY {column}"
            yield part, ask(engine, query, (name, first, last))


def _raw(engine: sql.Engine, names: Collection[str], since: int, until: int) -> Iterator[tuple[float, Rows]]:
    first = None
    for batch in replay.read(engine, since, until, names):
        first = batch[0].time if first is None else first
        part = (batch[-1].time - first) / max(1, until - first)
        yield part, [(row.name, format_time(row.time), _text(row.value), row.unit) for row in batch]


def _text(value: object) -> object:
    return str(value).lower() if isinstance(value, bool) else value


def _minutes(engine: sql.Engine, name: str, since: int, until: int) -> Iterator[Rows]:
    query = f"SELECT {_COLUMNS['minutes']}, ms FROM minutes_by_name WHERE name = ? AND ms >= ? AND ms < ? ORDER BY ms LIMIT {SLICE}"
    while found := ask(engine, query, (name, since, until)):
        yield [row[:-1] for row in found]
        since = found[-1][-1] + 1


def ask(engine: sql.Engine, query: str, parameters: tuple[Any, ...]) -> Rows:
    """Rows of a query."""
    with engine.connect() as connection:
        return [tuple(row) for row in connection.exec_driver_sql(query, parameters)]


def _local(moment: int, zone: ZoneInfo) -> str:
    return datetime.fromtimestamp(min(max(0, moment), CEILING) / 1000, zone).date().isoformat()
