"""The archive's database with what waits for its next commit."""

import sqlite3
import time
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import sqlalchemy as sql
from sqlalchemy.dialects.sqlite import insert

from bootstrap_lib import Topic, Value, reason
from services.stores import schema
from services.stores.schema import CLEARINGS, MARKS, MINUTE, PENDING, READINGS, TOPICS

Stream = tuple[str, str]
"""A source's instance and the name of its run of numbers."""


class Record:
    """The database. Nothing lasts before `commit`; all methods may raise RecordError."""

    def __init__(self, url: str, state_folder: Path) -> None:
        """Open it and bring it to this version's format; one that is no database is set aside, a new one is begun."""
        self.aside: Path | None = None
        self.path = schema.path_of(url, state_folder)
        self.engine = schema.open_database(url, state_folder)
        self._ids: dict[str, int] = {}
        self.holds: dict[int, int] = {}
        self._readings: list[tuple[int, int, float | None, str | None]] = []
        self._clearings: list[tuple[int, int]] = []
        self._touched: set[tuple[int, int]] = set()
        self._pending: set[tuple[int, int]] = set()
        try:
            schema.migrate(self.engine)
        except sql.exc.DatabaseError as error:
            if not _damaged(error):
                raise
            self.engine.dispose()
            self.aside = self.path.with_name(f"{self.path.name}.damaged-{int(time.time())}")
            self.path.replace(self.aside)
            for ending in ("-wal", "-shm"):
                self.path.with_name(self.path.name + ending).unlink(missing_ok=True)
            schema.migrate(self.engine)

    def marks(self) -> dict[Stream, int]:
        """Numbers up to which everything was stored."""
        with self.engine.connect() as connection:
            return {(row.source, row.stream): row.number for row in connection.execute(sql.select(MARKS))}

    def take_topics(self, topics: Iterable[Topic[Any]]) -> None:
        """Give each topic its row; one with another unit or kind than before begins a new one."""
        taken = {(topic.name, topic.unit, topic.kind): topic for topic in topics if topic.stored_by("archive")}
        with self.engine.begin() as connection:
            for topic in taken.values():
                if topic.was:
                    known_already = sql.exists().where(TOPICS.alias("other").c.name == topic.name)
                    history = sql.update(TOPICS).where(TOPICS.c.name == topic.was, ~known_already)
                    connection.execute(history.values(name=topic.name))
            if taken:
                rows = [{"name": name, "unit": unit, "kind": kind} for name, unit, kind in taken]
                connection.execute(insert(TOPICS).on_conflict_do_nothing(), rows)
            known = {(row.name, row.unit, row.kind): row.id for row in connection.execute(sql.select(TOPICS))}
        self._ids = {key[0]: known[key] for key in taken}
        self.holds = {known[key]: round(topic.stale * 1000) for key, topic in taken.items()}

    def store(self, name: str, moment: int, value: Value) -> None:
        """Keep a reading for the next commit, unless its topic is not stored here; `moment` in ms."""
        topic = self._ids.get(name)
        if topic is None:
            return
        row = (None, value) if isinstance(value, str) else (float(value), None)
        self._readings.append((moment, topic, *row))
        minute = moment - moment % MINUTE, topic
        if minute not in self._pending:
            self._touched.add(minute)

    def clear(self, name: str, moment: int) -> None:
        """Keep when a topic fell silent, for the next commit."""
        if (topic := self._ids.get(name)) is not None:
            self._clearings.append((topic, moment))
            self._touched.add((moment - moment % MINUTE, topic))

    def commit(self, marks: Mapping[Stream, int]) -> None:
        """Store in one transaction what waits, and the marks that moved; what waits goes on waiting where it fails."""
        with self.engine.begin() as connection:
            schema.insert_rows(connection, READINGS, self._readings)
            schema.insert_rows(connection, CLEARINGS, self._clearings)
            schema.insert_rows(connection, PENDING, list(self._touched))
            if marks:
                rows = [{"source": key[0], "stream": key[1], "number": number} for key, number in marks.items()]
                row = insert(MARKS)
                connection.execute(row.on_conflict_do_update(set_={"number": row.excluded.number}), rows)
        self._pending |= self._touched
        for done in (self._readings, self._clearings, self._touched):
            done.clear()

    def computed(self, last: int) -> None:
        """Learn that the minutes up to one (ms) are computed; what waits for a commit will make them pending again."""
        self._pending = {minute for minute in self._pending if minute[0] > last}
        self._touched |= {(moment - moment % MINUTE, topic) for moment, topic, *_ in self._readings}

    def close(self) -> None:
        """Close the database."""
        self.engine.dispose()


RecordError = (sql.exc.SQLAlchemyError, schema.FormatError, OSError)
"""What a database may raise: full disks, locks, damage."""


def sentence(what: str, error: BaseException) -> str:
    """Say what did not work, and why in the database's own words."""
    return f"{what}: {reason(getattr(error, 'orig', None) or error)}"


def _damaged(error: sql.exc.DatabaseError) -> bool:
    return isinstance(error.orig, sqlite3.DatabaseError) and error.orig.sqlite_errorname in (
        "SQLITE_NOTADB",
        "SQLITE_CORRUPT",
    )
