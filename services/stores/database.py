"""The archive's database with what waits for its next commit, and what shows that its file is no longer what it was."""

import logging
import os
import sqlite3
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, Final

import sqlalchemy as sql
from sqlalchemy.dialects.sqlite import insert

from bootstrap_lib import Topic, Value, format_time, reason, state
from services.stores import record_url, schema
from services.stores.marks import Stream
from services.stores.schema import CLEARINGS, MARKS, MINUTE, PENDING, READINGS, SETTINGS, TOPICS

log = logging.getLogger(__name__)

FLOOR: Final = 946_684_800_000
"""2000-01-01, in ms: what says less is no time of a house; no calendar is made for it."""

CEILING: Final = 7_258_118_400_000
"""2200-01-01, in ms."""

_NEWEST: Final = "newest stream of "
"""Setting that names a source's newest run of numbers; the source follows."""

_NONE: Final[Mapping[str, str]] = {}


class Database:
    """The database. Nothing lasts before `commit`; all methods may raise RecordError."""

    def __init__(self, url: str, state_folder: Path, owe: Callable[[Path], None] = lambda _: None) -> None:
        """Open it and bring it to this version's format; one that cannot be used is set aside, a new one is begun.

        `owe` is told where it will lie, before it does: something may be rescued from it.
        """
        self.path = record_url.path_of(url, state_folder)
        self.aside: Path | None = None
        """Where the file lies that could not be used, None where it could."""
        self.poison: list[str] = []
        """What was taken out because nothing can be done with it, as sentences."""
        self.holds: dict[int, int] = {}
        self._ids: dict[str, int] = {}
        self._readings: list[tuple[int, int, float | None, str | None]] = []
        self._clearings: list[tuple[int, int]] = []
        self._touched: set[tuple[int, int]] = set()
        self._pending: set[tuple[int, int]] = set()
        self.new = not self.path.exists() or not self.path.lstat().st_size
        """Whether there was no file, or nothing in it."""
        if state.hindrance(self.path):
            self.aside = set_aside(self.path, owe)
        self.engine = schema.open_file(self.path)
        try:
            self._prepare()
        except (sql.exc.DatabaseError, schema.ForeignError) as error:
            if not is_damage(error):
                raise
            self.engine.dispose()
            self.aside = set_aside(self.path, owe)
            self.engine = schema.open_file(self.path)
            self._prepare()
        self._identity = self._identify()

    def _prepare(self) -> None:
        schema.migrate(self.engine)
        with suppress(sql.exc.DatabaseError):  # a damaged page shows when it is needed
            self.poison = list(take_out_poison(self.engine))

    def _identify(self) -> tuple[int, int] | None:
        try:
            found = self.path.lstat()
        except OSError:
            return None
        return (found.st_dev, found.st_ino) if found.st_size else None

    def exchanged(self) -> bool:
        """Whether another file, or none, lies where ours did."""
        try:
            found = self.path.lstat()
        except OSError:
            return True
        return (found.st_dev, found.st_ino) != self._identity

    @property
    def gone(self) -> bool:
        """Whether the file was deleted, exchanged or emptied since it was opened."""
        return self._identify() != self._identity

    def inherit(self, other: "Database") -> None:
        """Take over what waits for a commit in another one, whose file is no longer what it was."""
        names = {topic: name for name, topic in other._ids.items()}  # noqa: SLF001 (of the same class)
        for moment, topic, value, word in other._readings:  # noqa: SLF001
            self.store(names[topic], moment, word if value is None else value)  # type: ignore[arg-type]
        for topic, moment in other._clearings:  # noqa: SLF001
            self.clear(names[topic], moment)

    def marks(self) -> dict[Stream, int]:
        """Numbers up to which everything was stored; the newest stream of each source comes last."""
        newest = sql.and_(SETTINGS.c.name == _NEWEST + MARKS.c.source, SETTINGS.c.value == MARKS.c.stream)
        query = sql.select(MARKS).outerjoin(SETTINGS, newest).order_by(SETTINGS.c.value.isnot(None))
        with self.engine.connect() as connection:
            return {(row.source, row.stream): row.number for row in connection.execute(query)}

    def take_topics(self, topics: Iterable[Topic[Any]]) -> list[tuple[int, int]]:
        """Give each topic its row; one with another unit or kind than before begins a new one.

        A topic that had another name takes over what is stored under it; where something is stored under both, the rows to move from and
        to are returned.
        """
        taken = {(topic.name, topic.unit, topic.kind): topic for topic in topics if topic.stored_by("archive")}
        moves: list[tuple[int, int]] = []
        with self.engine.begin() as connection:
            for topic in taken.values():
                for old in topic.was:  # but a row of the new name, unit and kind stays the one that it is
                    history = sql.update(TOPICS).prefix_with("OR IGNORE").where(TOPICS.c.name == old)
                    connection.execute(history.values(name=topic.name))
            if taken:
                rows = [_row(topic) for topic in taken.values()]
                connection.execute(insert(TOPICS).on_conflict_do_nothing(), rows)
            known = {(row.name, row.unit, row.kind): row.id for row in connection.execute(sql.select(TOPICS))}
        self._ids = {key[0]: known[key] for key in taken}
        self.holds = {known[key]: round(topic.stale * 1000) for key, topic in taken.items()}
        for (_, unit, kind), topic in taken.items():
            moves += [
                (known[old, unit, kind], self._ids[topic.name])
                for old in topic.was
                if (old, unit, kind) in known and old not in self._ids
            ]
        return moves

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

    def commit(
        self, marks: Mapping[Stream, int], forgotten: Iterable[Stream] = (), begun: Mapping[str, str] = _NONE
    ) -> None:
        """Store in one transaction what waits, and the marks that moved; what waits goes on waiting where it fails.

        `begun` says which stream is the newest of a source.
        """
        with self.engine.begin() as connection:
            schema.insert_rows(connection, READINGS, self._readings)
            schema.insert_rows(connection, CLEARINGS, self._clearings)
            schema.insert_rows(connection, PENDING, list(self._touched))
            if marks:
                rows = [{"source": key[0], "stream": key[1], "number": number} for key, number in marks.items()]
                row = insert(MARKS)
                connection.execute(row.on_conflict_do_update(set_={"number": row.excluded.number}), rows)
            for source, stream in forgotten:
                connection.execute(sql.delete(MARKS).where(MARKS.c.source == source, MARKS.c.stream == stream))
            for source, stream in begun.items():
                schema.note(connection, _NEWEST + source, stream)
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

    def leave(self, owe: Callable[[Path], None]) -> list[Path]:
        """Close a database whose file is not what it was, and clear its place; returns the files that something can be rescued from.

        `owe` as above.
        """
        held = self._held()
        self.engine.dispose()
        left = [set_aside(self.path, owe)] if os.path.lexists(self.path) else []
        for ending in ("-wal", "-shm"):
            self.path.with_name(self.path.name + ending).unlink(missing_ok=True)
        return ([Path(f"/proc/self/fd/{held}")] if held is not None else []) + left

    def _held(self) -> int | None:
        """Descriptor of the file that was deleted or exchanged, with all that its log held, as long as it is open."""
        if not self.exchanged():
            return None
        with suppress(*RecordError):
            schema.outside(self.engine, "PRAGMA wal_checkpoint(TRUNCATE)")
            for entry in Path("/proc/self/fd").iterdir():
                with suppress(OSError):
                    found = entry.stat()
                    if (found.st_dev, found.st_ino) == self._identity:
                        return os.dup(int(entry.name))
        return None


RecordError: Final = (sql.exc.SQLAlchemyError, sqlite3.Error, schema.FormatError, schema.ForeignError, OSError)
"""What a database may raise: full disks, locks, damage."""


def _row(topic: Topic[Any]) -> dict[str, str]:
    return {"name": topic.name, "unit": topic.unit, "kind": topic.kind}


def sentence(what: str, error: BaseException) -> str:
    """Say what did not work, and why in the database's own words."""
    return f"{what}: {reason(getattr(error, 'orig', None) or error)}"


def is_damage(error: BaseException) -> bool:
    """Whether an error says that the file is no whole database of ours any more."""
    cause = getattr(error, "orig", None) or error
    if isinstance(cause, schema.ForeignError):
        return True
    return isinstance(cause, sqlite3.DatabaseError) and getattr(cause, "sqlite_errorcode", 0) & 0xFF in (
        sqlite3.SQLITE_NOTADB,
        sqlite3.SQLITE_CORRUPT,
    )


def set_aside(path: Path, owe: Callable[[Path], None]) -> Path:
    """Move a database out of the way together with its log, which holds its newest readings; `owe` is told first where to."""
    aside = path.with_name(f"{path.name}.damaged-{time.time_ns() // 1_000_000}")
    owe(aside)
    path.rename(aside)
    for ending in ("-wal", "-shm"):
        with suppress(FileNotFoundError):
            path.with_name(path.name + ending).rename(aside.with_name(aside.name + ending))
    return aside


NOTED: Final = ("reached", "hours")
"""Settings that are times (ms): up to when the archive grew old, and up to when hours are computed."""

_AS_TIME: Final = "CAST(value AS INTEGER)"  # of whatever bytes stand there


def noted(db: sqlite3.Connection, name: str) -> int | None:
    """Return one of the settings that are times (ms); None where there is none, or what stands there is no time."""
    row = db.execute(f"SELECT {_AS_TIME} FROM settings WHERE name = ?", (name,)).fetchone()
    return int(row[0]) if row and FLOOR <= row[0] < CEILING else None


def take_out_poison(engine: sql.Engine) -> Iterator[str]:
    """Take out rows of times that are none, which would end everything that looks at them; a sentence for each kind."""
    with engine.begin() as connection:
        false = sql.or_(sql.text(f"{_AS_TIME} < {FLOOR}"), sql.text(f"{_AS_TIME} >= {CEILING}"))
        for name in NOTED:
            if connection.execute(sql.delete(SETTINGS).where(SETTINGS.c.name == name, false)).rowcount:
                yield f"the setting {name!r} was no time: it is taken out, and begins anew"
        for table in (READINGS, CLEARINGS, schema.MINUTES, schema.HOURS, PENDING):
            for outside in (table.c.time < FLOOR, table.c.time >= CEILING):  # each by the order of the table
                chosen = [outside]
                if table.primary_key.columns.keys()[0] == "topic":
                    chosen.append(table.c.topic.in_(sql.select(TOPICS.c.id)))
                if found := connection.execute(sql.select(table).where(*chosen).limit(3)).all():
                    count = connection.execute(sql.delete(table).where(*chosen)).rowcount
                    shown = ", ".join(_shown(tuple(row)) for row in found)
                    yield f"{count} rows of {table.name} had times that are none ({shown}): they are taken out"


def _shown(row: tuple[Any, ...]) -> str:
    def text(value: Any) -> str:
        with suppress(ValueError, OverflowError, OSError):
            if isinstance(value, int) and abs(value) > FLOOR // 100:
                return format_time(value)
        return str(value)

    return "/".join(text(value) for value in row[:4])
