"""The record: every reading in an SQL database, and the marks that tell sources what is safe (docs/durability.md)."""

import time
from typing import Annotated, Any

import sqlalchemy as sql
from msgspec import Meta
from sqlalchemy.dialects.sqlite import insert

from bootstrap_lib import Away, Duration, InstanceOptions, Reading, Sequence, Subscriber, Topic
from bootstrap_lib.bus import Message
from bootstrap_lib.document import reason
from bootstrap_lib.reading import as_json
from services.protocols.marks import Mark

SCHEMA = sql.MetaData()
TOPICS = sql.Table(
    "topics",
    SCHEMA,
    sql.Column("id", sql.Integer, primary_key=True),
    sql.Column("name", sql.Text, unique=True, nullable=False),
    sql.Column("unit", sql.Text, nullable=False),
    sql.Column("kind", sql.Text, nullable=False),
)
READINGS = sql.Table(
    "readings",
    SCHEMA,
    sql.Column("topic", sql.ForeignKey("topics.id"), primary_key=True),
    sql.Column("time", sql.BigInteger, primary_key=True, comment="milliseconds since 1970 UTC"),
    sql.Column("value", sql.Float, comment="a number; 1 and 0 for true and false; empty for words"),
    sql.Column("word", sql.Text, comment="a word of the topic's states"),
    sqlite_with_rowid=False,
)
CLEARINGS = sql.Table(
    "clearings",
    SCHEMA,
    sql.Column("topic", sql.ForeignKey("topics.id"), primary_key=True),
    sql.Column("time", sql.BigInteger, primary_key=True, comment="from here on nobody could measure it"),
    sqlite_with_rowid=False,
)
MARKS = sql.Table(
    "marks",
    SCHEMA,
    sql.Column("source", sql.Text, primary_key=True),
    sql.Column("stream", sql.Text, primary_key=True),
    sql.Column("number", sql.BigInteger, nullable=False),
    sqlite_with_rowid=False,
)


class Options(InstanceOptions, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """The database."""

    url: Annotated[str, Meta(description="SQLAlchemy URL of the database.")] = "sqlite:///{state}/archive.sqlite"
    commit: Annotated[Duration, Meta(description="How often readings are committed: what a power cut may cost.")] = (
        Duration(1)
    )


class Archive(Subscriber):
    """The record of all readings."""

    options: Options
    BATCH = 1000

    def begin(self) -> None:
        """Open the database and take up the marks."""
        super().begin()
        self._engine = sql.create_engine(self.options.url.replace("{state}", str(self.state_folder)))
        sql.event.listen(self._engine, "connect", _durable)
        SCHEMA.create_all(self._engine)
        with self._engine.connect() as connection:
            self._ids: dict[str, int] = {row.name: row.id for row in connection.execute(sql.select(TOPICS))}
            stored = connection.execute(sql.select(MARKS)).all()
        self._marks: dict[tuple[str, str], Mark] = {(row.source, row.stream): Mark(row.number) for row in stored}
        self._moved: set[tuple[str, str]] = set()
        self._readings: list[dict[str, Any]] = []
        self._clearings: list[dict[str, Any]] = []
        self._asked: dict[tuple[str, str], float] = {}

    @property
    def flush_every(self) -> float:
        """Seconds between two commits."""
        return self.options.commit

    def on_reading(self, reading: Reading, topic: Topic[Any]) -> None:
        """Keep a reading for the next commit."""
        if topic.stored_by("archive"):
            word = reading.value if isinstance(reading.value, str) else None
            value = None if word is not None else float(reading.value)
            self._readings.append({"topic": self._id(topic), "time": reading.time, "value": value, "word": word})
        self._account(topic.source, reading.sequence)

    def on_cleared(self, name: str, sequence: Sequence | None) -> None:
        """Keep when a topic fell silent."""
        topic = self.registry.topics.get(name)
        if topic is not None and topic.stored_by("archive"):
            self._clearings.append({"topic": self._id(topic), "time": self.clock.now()})
        if topic is not None:
            self._account(topic.source, sequence)

    def on_refused(self, source: str, sequence: Sequence | None) -> None:
        """A reading in the dead letters is dealt with too: its source need not keep it."""
        self._account(source, sequence)

    def _account(self, source: str, sequence: Sequence | None) -> None:
        if sequence is not None:
            key = source, sequence.stream
            mark = self._marks.setdefault(key, Mark())
            if not mark.take(sequence.previous, sequence.number):
                self.health.counters["repeats"] += 1
            self._moved.add(key)

    def _id(self, topic: Topic[Any]) -> int:
        if topic.name not in self._ids:
            with self._engine.begin() as connection:
                row = insert(TOPICS).values(name=topic.name, unit=topic.unit, kind=topic.kind).on_conflict_do_nothing()
                connection.execute(row)
                self._ids[topic.name] = connection.scalars(
                    sql.select(TOPICS.c.id).where(TOPICS.c.name == topic.name)
                ).one()
        return self._ids[topic.name]

    def flush(self) -> None:
        """Commit readings, clearings and marks in one transaction; Away where the database cannot."""
        marks = [{"source": s, "stream": t, "number": self._marks[s, t].number} for s, t in self._moved]
        try:
            with self._engine.begin() as connection:
                for table, rows in ((READINGS, self._readings), (CLEARINGS, self._clearings)):
                    if rows:
                        connection.execute(insert(table).on_conflict_do_nothing(), rows)
                if marks:
                    update = insert(MARKS)
                    connection.execute(update.on_conflict_do_update(set_={"number": update.excluded.number}), marks)
        except sql.exc.SQLAlchemyError as error:
            raise Away(
                f"the database does not take readings: {reason(getattr(error, 'orig', None) or error)}"
            ) from None
        self._readings.clear()
        self._clearings.clear()

    def on_flushed(self) -> None:
        """Publish the marks that moved; ask for what is missing before readings that are there."""
        for key in self._moved:
            self._publish_mark(key)
        self._moved.clear()

    def _publish_mark(self, key: tuple[str, str]) -> None:
        source, stream = key
        mark = self._marks[key]
        payload = as_json({"stream": stream, "after": mark.number})
        self.bus.publish(f"{self.prefix}/stored/{source}", payload, retain=True)
        now = time.monotonic()
        if mark.gap and now > self._asked.get(key, 0.0) + 5.0:
            self._asked[key] = now
            self.health.counters["gaps"] += 1
            self.bus.publish(f"{self.registry.root}/service/{source}/request/resend", payload)

    def subscribe(self, session: bool) -> None:
        """Say the marks again to a broker that lost its memory."""
        if not session:
            for key in self._marks:
                self._publish_mark(key)

    def on_other(self, message: Message) -> None:
        """Nothing else is subscribed to."""

    def end(self) -> None:
        """Close the database."""
        if hasattr(self, "_engine"):
            self._engine.dispose()


def _durable(connection: Any, _record: Any) -> None:
    """Make a commit of SQLite one that a power cut leaves there (sqlite.org/pragma.html#pragma_synchronous)."""
    if type(connection).__module__.startswith("sqlite3"):
        connection.executescript(
            "PRAGMA journal_mode=WAL; PRAGMA synchronous=FULL; PRAGMA busy_timeout=5000; PRAGMA foreign_keys=ON"
        )
