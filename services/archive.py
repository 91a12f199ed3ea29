"""The record: every reading in an SQL database, and the marks that tell sources what is safe (docs/services/archive.md)."""

import logging
import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Annotated, Any

import sqlalchemy as sql
from msgspec import Meta, Struct, field
from sqlalchemy.dialects.sqlite import insert

from bootstrap_lib import Away, Duration, InstanceOptions, Reading, Sequence, Subscriber, Topic
from bootstrap_lib.bus import Published
from bootstrap_lib.control import LATER, Nothing, Request, RequestError
from bootstrap_lib.document import reason
from bootstrap_lib.reading import ReadingError, as_json, format_time, parse_time
from bootstrap_lib.service import StartError
from services.protocols.marks import Mark
from services.stores import backup, schema
from services.stores.replay import Replays
from services.stores.schema import CLEARINGS, MARKS, MINUTE, PENDING, READINGS, TOPICS
from services.stores.upkeep import Upkeep

log = logging.getLogger(__name__)


class Options(InstanceOptions, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """The database."""

    every: Annotated[Duration, Meta(description="How often it computes minutes and looks after the disk.")] = Duration(
        1
    )
    url: Annotated[str, Meta(description="SQLAlchemy URL of the database.", pattern="^sqlite:///")] = (
        "sqlite:///{state}/archive.sqlite"
    )
    commit: Annotated[Duration, Meta(description="How often readings are committed: what a power cut may cost.")] = (
        Duration(1)
    )
    raw: Annotated[Duration, Meta(description="How long raw readings are kept; eight days at least.")] = Duration(
        8 * 86400
    )
    minutes: Annotated[Duration, Meta(description="How long minutes are kept.")] = Duration(3650 * 86400)
    budget: Annotated[
        int, Meta(ge=1, description="Megabytes of disk for archive, backup, spools and dead letters.")
    ] = 4000


class Replay(Struct, forbid_unknown_fields=True):
    """Payload of `request/replay`: what was stored from one time to before another is sent to a store."""

    since: str = field(name="from")
    store: str = field(name="for")
    until: str | None = field(name="to", default=None)
    topics: list[str] | None = None


class Archive(Subscriber):
    """The record of all readings."""

    options: Options
    BATCH = 1000

    def begin(self) -> None:
        """Open the database and take up the marks; StartError where it cannot be used."""
        super().begin()
        self._thread = ThreadPoolExecutor(1, "backup")
        self._job: tuple[Request, Future[int]] | None = None
        self._trouble: str | None = None
        self._readings: list[tuple[int, int, float | None, str | None]] = []
        self._clearings: list[tuple[int, int]] = []
        self._touched: set[tuple[int, int]] = set()
        self._pending: set[tuple[int, int]] = set()
        self._moved: set[tuple[str, str]] = set()
        self._asked: dict[tuple[str, str], float] = {}
        try:
            self._engine = schema.open_database(self.options.url, self.state_folder)
            schema.migrate(self._engine)
            with self._engine.connect() as connection:
                stored = connection.execute(sql.select(MARKS)).all()
            self._take_topics()
        except (sql.exc.SQLAlchemyError, schema.FormatError) as error:
            raise StartError(_sentence("the archive cannot be opened", error)) from None
        self._marks: dict[tuple[str, str], Mark] = {(row.source, row.stream): Mark(row.number) for row in stored}
        self._replays = Replays(self._engine, self._send)
        self._upkeep = Upkeep(self._engine, self.state_folder, self.registry.timezone)

    def _take_topics(self) -> None:
        """Give each topic its row; one with another unit or kind than before begins a new one."""
        topics = {(t.name, t.unit, t.kind): t for t in self.registry.topics.values() if t.stored_by("archive")}
        with self._engine.begin() as connection:
            if topics:
                rows = [{"name": name, "unit": unit, "kind": kind} for name, unit, kind in topics]
                connection.execute(insert(TOPICS).on_conflict_do_nothing(), rows)
            known = {(row.name, row.unit, row.kind): row.id for row in connection.execute(sql.select(TOPICS))}
        self._ids = {name: known[name, unit, kind] for name, unit, kind in topics}
        self._holds = {self._ids[topic.name]: round(topic.stale * 1000) for topic in topics.values()}

    def on_reloaded(self, changed: bool) -> None:  # noqa: ARG002 (new topics are no option of ours)
        """Take over new topics and another time zone."""
        try:
            self._take_topics()
        except sql.exc.SQLAlchemyError as error:
            raise StartError(_sentence("the archive does not take the new topics", error)) from None
        self._upkeep = Upkeep(self._engine, self.state_folder, self.registry.timezone)

    @property
    def flush_every(self) -> float:
        """Seconds between two commits."""
        return self.options.commit

    def on_reading(self, reading: Reading, topic: Topic[Any]) -> None:
        """Keep a reading for the next commit."""
        if (number := self._ids.get(topic.name)) is not None:
            value = reading.value
            row = (None, value) if isinstance(value, str) else (float(value), None)
            self._readings.append((reading.time, number, *row))
            minute = reading.time - reading.time % MINUTE, number
            if minute not in self._pending:
                self._touched.add(minute)
        self._account(topic.source, reading.sequence)

    def on_cleared(self, name: str, sequence: Sequence | None) -> None:
        """Keep when a topic fell silent."""
        topic = self.registry.topics.get(name)
        if topic is not None:
            if (number := self._ids.get(name)) is not None:
                now = self.clock.now()
                self._clearings.append((number, now))
                self._touched.add((now - now % MINUTE, number))
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

    def flush(self) -> None:
        """Commit readings, clearings and marks in one transaction; Away where the database cannot."""
        marks = [{"source": s, "stream": t, "number": self._marks[s, t].number} for s, t in self._moved]
        try:
            with self._engine.begin() as connection:
                schema.insert_rows(connection, READINGS, self._readings)
                schema.insert_rows(connection, CLEARINGS, self._clearings)
                schema.insert_rows(connection, PENDING, list(self._touched))
                if marks:
                    update = insert(MARKS)
                    connection.execute(update.on_conflict_do_update(set_={"number": update.excluded.number}), marks)
        except sql.exc.SQLAlchemyError as error:
            raise Away(_sentence("the database does not take readings", error)) from None
        self._pending |= self._touched
        for done in (self._readings, self._clearings, self._touched):
            done.clear()

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

    def on_tick(self) -> None:
        """Compute minutes that are over, keep within the budget; what fails is said once and tried again."""
        options, trouble = self.options, None
        try:
            last = self._upkeep.turn(
                self.clock.now(), self._holds, options.raw, options.minutes, options.budget * 10**6
            )
            if last is not None:
                self._pending = {minute for minute in self._pending if minute[0] > last}
                self._touched |= {(at - at % MINUTE, number) for at, number, *_ in self._readings}  # came meanwhile
        except sql.exc.SQLAlchemyError as error:
            trouble = _sentence("minutes and retention have to wait", error)
        trouble = trouble or self._upkeep.trouble
        if trouble and trouble != self._trouble:
            log.error("%s", trouble)
            self.error(trouble)
        self._trouble = trouble
        self._answer()

    def on_beat(self) -> None:
        """Tell health what the disk holds."""
        used = self._upkeep.usage
        self.health.extra["disk"] = {
            "archive": used.archive,
            "others": used.others,
            "budget": self.options.budget * 10**6,
        } | ({"shortened": self._upkeep.shortened} if self._upkeep.shortened else {})

    # -- requests -----------------------------------------------------------------------------------------------

    def request_replay(self, request: Request, arguments: Replay) -> dict[str, str]:
        """Send what is stored to a store on `replay/<store>`, in batches, with an end."""
        if arguments.store not in self.registry.instances:
            raise RequestError(f"topics.yaml names no '{arguments.store}' to replay for")
        try:
            since = parse_time(arguments.since)
            until = parse_time(arguments.until) if arguments.until else self.clock.now()
            self._replays.begin(arguments.store, since, until, arguments.topics, request.id)
        except ReadingError as error:
            raise RequestError(str(error)) from None
        except sql.exc.SQLAlchemyError as error:
            raise RequestError(_sentence("the database cannot be read", error)) from None
        return {"from": format_time(since), "to": format_time(until)}

    def _send(self, store: str, payload: bytes) -> int:
        return self.bus.publish(f"{self.prefix}/replay/{store}", payload, qos=1)

    def on_published(self, published: Published) -> None:
        """Go on with a replay."""
        try:
            self._replays.on_published(published.mid)
        except sql.exc.SQLAlchemyError as error:
            self.error(_sentence("a replay breaks off", error))

    def request_backup(self, request: Request, _arguments: Nothing) -> object:
        """Copy the database into `backup.sqlite` in the state folder, beside the loop."""
        return self._run_beside(request, backup.back_up)

    def request_restore(self, request: Request, _arguments: Nothing) -> object:
        """Take in what only `backup.sqlite` in the state folder has, beside the loop."""
        return self._run_beside(request, backup.take_in)

    def _run_beside(self, request: Request, work: Callable[..., int]) -> object:
        if self._job is not None:
            raise RequestError("a backup or restore is under way: wait for its answer")
        database = schema.path_of(self.options.url, self.state_folder)
        self._job = request, self._thread.submit(work, database, self.state_folder / "backup.sqlite")
        return LATER

    def _answer(self) -> None:
        if self._job is not None and self._job[1].done():
            request, future = self._job
            self._job = None
            try:
                request.reply({"bytes" if request.verb == "backup" else "readings": future.result()})
            except backup.BackupError as error:
                request.refuse(str(error))

    def end(self) -> None:
        """Close the database."""
        if hasattr(self, "_engine"):
            self._thread.shutdown()
            self._engine.dispose()


def _sentence(what: str, error: Exception) -> str:
    return f"{what}: {reason(getattr(error, 'orig', None) or error)}"
