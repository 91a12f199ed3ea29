"""The archive's tables and views, and the way there from every earlier format (docs/services/archive.md).

Readings lie in the order of time, so that a commit writes one page of the SD card and not one for each topic;
minutes lie in the order of topics, because people ask for years of one topic.
"""

import logging
from collections.abc import Iterator, Sequence
from contextlib import closing
from functools import cache
from itertools import chain
from pathlib import Path
from typing import Any, Final

import sqlalchemy as sql

from bootstrap_lib import notify
from services.stores import record_url
from services.stores.views import TRIGGERS, VIEWS

log = logging.getLogger(__name__)

FORMAT: Final = 3
"""`PRAGMA user_version` of the database."""

ORDERED: Final = 2
"""The first format with minutes. It has no hours: these are computed from minutes while the archive works."""

MOVING: Final = "moving"
"""Setting in which a move of readings to another time stands until it is done and answered."""

MINUTE: Final = 60_000
"""Milliseconds."""

SCHEMA: Final = sql.MetaData()
TOPICS: Final = sql.Table(
    "topics",
    SCHEMA,
    sql.Column("id", sql.Integer, primary_key=True),
    sql.Column("name", sql.Text, nullable=False),
    sql.Column("unit", sql.Text, nullable=False),
    sql.Column("kind", sql.Text, nullable=False),
    sql.UniqueConstraint("name", "unit", "kind"),
)
READINGS: Final = sql.Table(
    "readings",
    SCHEMA,
    sql.Column("time", sql.BigInteger, primary_key=True, comment="milliseconds since 1970 UTC"),
    sql.Column("topic", sql.ForeignKey("topics.id"), primary_key=True),
    sql.Column("value", sql.Float, comment="a number; 1 and 0 for true and false; empty for words"),
    sql.Column("word", sql.Text, comment="a word of the topic's states"),
    sqlite_with_rowid=False,
)
CLEARINGS: Final = sql.Table(
    "clearings",
    SCHEMA,
    sql.Column("topic", sql.ForeignKey("topics.id"), primary_key=True),
    sql.Column("time", sql.BigInteger, primary_key=True, comment="from here on nobody could measure it"),
    sqlite_with_rowid=False,
)
MARKS: Final = sql.Table(
    "marks",
    SCHEMA,
    sql.Column("source", sql.Text, primary_key=True),
    sql.Column("stream", sql.Text, primary_key=True),
    sql.Column("number", sql.BigInteger, nullable=False),
    sqlite_with_rowid=False,
)


def _known() -> Iterator[sql.Column[Any]]:
    """What is known of a minute, or an hour."""
    yield sql.Column("count", sql.Integer, nullable=False, comment="readings; 0 where a switch only stayed as it was")
    yield sql.Column("mean", sql.Float, comment="gauges")
    yield sql.Column("low", sql.Float, comment="gauges")
    yield sql.Column("high", sql.Float, comment="gauges; switches: 1 if it was on at any time")
    yield sql.Column("last", sql.Float, comment="counters: the stand; switches: 1 or 0")
    yield sql.Column("difference", sql.Float, comment="counters: what was counted since the stand before")
    yield sql.Column("seconds_on", sql.Float, comment="switches")
    yield sql.Column("starts", sql.Integer, comment="switches: how often it was switched on")
    yield sql.Column("word", sql.Text, comment="states: the last")


MINUTES: Final = sql.Table(
    "minutes",
    SCHEMA,
    sql.Column("topic", sql.ForeignKey("topics.id"), primary_key=True),
    sql.Column("time", sql.BigInteger, primary_key=True, comment="its beginning, milliseconds since 1970 UTC"),
    *_known(),
    sqlite_with_rowid=False,
)
HOURS: Final = sql.Table(
    "hours",
    SCHEMA,
    sql.Column("topic", sql.ForeignKey("topics.id"), primary_key=True),
    sql.Column("time", sql.BigInteger, primary_key=True, comment="its beginning; counted from that of the local day"),
    sql.Column("minutes", sql.Integer, nullable=False, comment="minutes of which something is known"),
    *_known(),
    sqlite_with_rowid=False,
)
DUE: Final = sql.Table(
    "due",
    SCHEMA,
    sql.Column("time", sql.BigInteger, primary_key=True, comment="a quarter of an hour that changed after its hour"),
    sql.Column("topic", sql.ForeignKey("topics.id"), primary_key=True),
    sqlite_with_rowid=False,
)
PENDING: Final = sql.Table(
    "pending",
    SCHEMA,
    sql.Column("time", sql.BigInteger, primary_key=True, comment="beginning of a minute that is to be computed anew"),
    sql.Column("topic", sql.ForeignKey("topics.id"), primary_key=True),
    sqlite_with_rowid=False,
)
CALENDAR: Final = sql.Table(
    "calendar",
    SCHEMA,
    sql.Column("day", sql.Text, primary_key=True, comment="2026-10-25, local"),
    sql.Column("month", sql.Text, nullable=False, comment="2026-10, local"),
    sql.Column("begin", sql.BigInteger, nullable=False, unique=True, comment="milliseconds since 1970 UTC"),
    sql.Column("end", sql.BigInteger, nullable=False, comment="the next day's begin: 23, 24 or 25 hours later"),
    sql.Index("calendar_months", "month", "begin", "end"),
    sqlite_with_rowid=False,
)
SETTINGS: Final = sql.Table(
    "settings",
    SCHEMA,
    sql.Column("name", sql.Text, primary_key=True),
    sql.Column("value", sql.Text, nullable=False),
    sqlite_with_rowid=False,
)


class FormatError(RuntimeError):
    """A database that this version cannot use; the message says why and what to do."""


class ForeignError(RuntimeError):
    """A database that lacks what every archive has: somebody else's."""


def open_database(url: str, state_folder: Path) -> sql.Engine:
    """Engine of the database at an URL, in which `{state}` stands for the state folder."""
    return open_file(record_url.path_of(url, state_folder))


def open_file(path: Path) -> sql.Engine:
    """Engine of a database."""
    engine = sql.create_engine(f"sqlite:///{path}", connect_args={"isolation_level": None})
    sql.event.listen(engine, "connect", _durable)
    sql.event.listen(engine, "begin", lambda connection: connection.exec_driver_sql("BEGIN"))
    return engine


def _durable(connection: Any, _record: Any) -> None:
    """Make a commit one that a power cut leaves there (sqlite.org/pragma.html#pragma_synchronous).

    A file that is made has small pages: a commit touches four, and a card bears 35 % less. One that is there keeps its own.
    """
    connection.executescript(
        "PRAGMA page_size=1024; PRAGMA auto_vacuum=INCREMENTAL; PRAGMA journal_mode=WAL; PRAGMA synchronous=FULL; PRAGMA busy_timeout=5000;"
        "PRAGMA journal_size_limit=8000000"
    )


def outside(engine: sql.Engine, statement: str) -> None:
    """Run a statement to its end outside of any transaction."""
    with closing(engine.raw_connection()) as connection:
        connection.cursor().execute(statement).fetchall()


def migrate(engine: sql.Engine) -> None:
    """Bring a database to this version's format in one transaction; FormatError for one of a later version, ForeignError."""
    with engine.connect() as connection:
        version = connection.exec_driver_sql("PRAGMA user_version").scalar_one()
        tables = set(sql.inspect(connection).get_table_names())
        if (tables or version) and not tables >= (SCHEMA.tables.keys() if version == FORMAT else {"topics"}):
            raise ForeignError("it is a database, but not the archive's")
        if version == FORMAT:
            return
        if version > FORMAT:
            raise FormatError(
                f"the archive has format {version}, this version knows {FORMAT}: install the version that wrote it"
            )
        first = version < ORDERED and sql.inspect(connection).has_table("topics")
        if version or first:
            notify(EXTEND_TIMEOUT_USEC=3_600_000_000, STATUS="bringing the archive to a new format")
            log.info("the archive is brought from format %d to %d", version or 1, FORMAT)
        if first:
            _set_first_format_aside(connection)
        SCHEMA.create_all(connection)
        for index in CALENDAR.indexes:  # of a table that is there already, it would be left out
            index.create(connection, checkfirst=True)
        if first:
            _take_over_first_format(connection)
        for name, query in VIEWS.items():
            connection.exec_driver_sql(f"DROP VIEW IF EXISTS {name}")
            connection.exec_driver_sql(f"CREATE VIEW {name} AS {query}")
        for name, act in TRIGGERS.items():
            connection.exec_driver_sql(f"CREATE TRIGGER {name} {act}")
        connection.exec_driver_sql(f"PRAGMA user_version={FORMAT}")
        connection.commit()
    if first:
        outside(engine, "VACUUM")  # also switches incremental vacuum on


_FIRST_FORMAT: Final = ("topics", "readings", "clearings", "marks")


def _set_first_format_aside(connection: sql.Connection) -> None:
    for table in _FIRST_FORMAT:
        connection.exec_driver_sql(f"ALTER TABLE {table} RENAME TO old_{table}")


def _take_over_first_format(connection: sql.Connection) -> None:
    """Format 1 lay in the order of topics and had no minutes: all of its minutes are to be computed."""
    for table in _FIRST_FORMAT:
        columns = ", ".join(column.name for column in SCHEMA.tables[table].columns)
        connection.exec_driver_sql(f"INSERT INTO {table} ({columns}) SELECT {columns} FROM old_{table}")
    connection.exec_driver_sql(
        f"INSERT INTO pending (time, topic) SELECT DISTINCT time - time % {MINUTE}, topic FROM readings"
    )
    for table in reversed(_FIRST_FORMAT):
        connection.exec_driver_sql(f"DROP TABLE old_{table}")


_NOTE: Final = sql.text(
    "INSERT INTO settings (name, value) VALUES (:name, :value) ON CONFLICT DO UPDATE SET value = excluded.value"
)


def note(connection: sql.Connection, name: str, value: str) -> None:
    """Write a setting down."""
    connection.execute(_NOTE, {"name": name, "value": value})


def insert_rows(connection: sql.Connection, table: sql.Table, rows: Sequence[tuple[Any, ...]]) -> None:
    """Store rows given as tuples in the order of the columns.

    One that is there already is left as it is, unless it comes with another value: that is a correction.
    Many rows in one statement: `executemany` gives up Python's lock for each of them, and waits for the network thread.
    """
    start = 0
    for size in _SIZES:
        while len(rows) - start >= size:
            values = tuple(chain.from_iterable(rows[start : start + size]))
            connection.exec_driver_sql(_insertion(table, size), values)
            start += size


_SIZES: Final = (256, 32, 4, 1)
"""Rows in a statement; few different ones, so that all stay prepared."""


@cache
def _insertion(table: sql.Table, size: int) -> str:
    row = f"({', '.join('?' * len(table.columns))})"
    names = ", ".join(column.name for column in table.columns)
    values = [column.name for column in table.columns if not column.primary_key]
    corrected = ", ".join(f"{name} = excluded.{name}" for name in values)
    other = " OR ".join(f"{table.name}.{name} IS NOT excluded.{name}" for name in values)
    conflict = f"UPDATE SET {corrected} WHERE {other}" if values else "NOTHING"
    return f"INSERT INTO {table.name} ({names}) VALUES {', '.join([row] * size)} ON CONFLICT DO {conflict}"
