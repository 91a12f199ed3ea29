"""The record: every reading in an SQL database, and the marks that tell sources what is safe (docs/services/archive.md)."""

import logging
import time
from collections.abc import Iterator
from typing import Annotated, Any, ClassVar, Final

from msgspec import Meta, Struct, field

from bootstrap_lib import (
    Away,
    Duration,
    InstanceOptions,
    Needs,
    Nothing,
    Reading,
    ReadingError,
    Registry,
    Request,
    RequestError,
    Sequence,
    StartError,
    Subscriber,
    Topic,
    as_json,
    format_time,
    parse_time,
)
from services.stores import backup
from services.stores.marks import Mark
from services.stores.record import Record, RecordError, Stream, sentence
from services.stores.replay import Replays, Wanted
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


PAGE: Final = 4096
"""Bytes that one small synchronised change costs at least on flash, twice: journal and place (facts of ext4)."""

OWED: Final = 20.0
"""Seconds for which a replay waits until sources have sent what the archive misses itself."""

HEARD: Final = 2.0
"""Seconds after a connection in which the archive hears what it misses."""


class Replay(Struct, forbid_unknown_fields=True):
    """Payload of `request/replay`: what was stored from one time to before another is sent to a store.

    With a `span` these are means of so many seconds, which the archive has for years, and no raw readings.
    """

    since: str = field(name="from")
    store: str = field(name="for")
    until: str | None = field(name="to", default=None)
    topics: list[str] | None = None
    span: Annotated[int, Meta(ge=60, multiple_of=60)] | None = None


class Archive(Subscriber):
    """The record of all readings."""

    NEEDS: ClassVar = Needs(
        extra="archive",
        libraries=("sqlalchemy",),
        records=True,
        unit=("# A night's backlog and the compaction of years want some room.", "MemoryMax=384M"),
    )

    options: Options
    BATCH = 1000

    @classmethod
    def cost(cls, registry: Registry, name: str) -> Iterator[str]:
        """Say what its commits write."""
        raw = registry.instances[name].raw.get("commit", "1s")
        rate = sum(1 / topic.every for topic in registry.topics.values() if topic.stored_by(name))

        def megabytes(commits: float) -> str:
            return f"{(min(rate, commits) * 2 * PAGE + rate * 60) * 86400 / 1e6:,.0f} MB"

        yield (
            f"a commit every {raw} (what a power cut may cost) writes about {megabytes(1 / Duration.parse(raw))} a day; "
            f"commit: 5s would write {megabytes(0.2)}"
        )

    def begin(self) -> None:
        """Open the database and take up the marks; StartError where it cannot be used."""
        super().begin()
        try:
            self._record = Record(self.options.url, self.state_folder)
            self._record.take_topics(self.registry.topics.values())
            self._committed = self._record.marks()
        except RecordError as error:
            raise StartError(sentence("the archive cannot be opened", error)) from None
        if self._record.aside:
            text = f"the archive was damaged: it is set aside as {self._record.aside.name}, a new one is begun"
            log.error("%s; `constellation restore` takes a backup in", text)
            self.error(text)
        self._marks = {stream: Mark(number) for stream, number in self._committed.items()}
        self._moved: set[Stream] = set()
        self._asked: dict[Stream, float] = {}
        self._trouble: str | None = None
        self._replays = Replays(self._record.engine, self._send)
        self._wanted: dict[str, Wanted] = {}
        self._heard_at = float("inf")
        self._beside = backup.Beside(self._record.path, self.state_folder / "backup.sqlite")
        self._upkeep = Upkeep(self._record, self.state_folder, self.registry.timezone)

    def on_reloaded(self, changed: bool) -> None:  # noqa: ARG002 (new topics are no option of ours)
        """Take over new topics and another time zone."""
        try:
            self._record.take_topics(self.registry.topics.values())
        except RecordError as error:
            raise StartError(sentence("the archive does not take the new topics", error)) from None
        self._upkeep = Upkeep(self._record, self.state_folder, self.registry.timezone)

    @property
    def flush_every(self) -> float:
        """Seconds between two commits."""
        return self.options.commit

    def on_reading(self, reading: Reading, topic: Topic[Any]) -> None:
        """Keep a reading for the next commit."""
        self._record.store(reading.topic, reading.time, reading.value)
        self._account(topic, reading.sequence)

    def on_cleared(self, name: str, sequence: Sequence | None) -> None:
        """Keep when a topic fell silent."""
        topic = self.registry.topics.get(name)
        if topic is not None:
            self._record.clear(name, self._cleared_at(topic, sequence))
        self._account(topic, sequence)

    def _cleared_at(self, topic: Topic[Any], sequence: Sequence | None) -> int:
        """When a topic was cleared (ms): by at most `stale` after its source's last reading, however wrong or late our clock is."""
        heard = self._heard[sequence.stream][1] if sequence and sequence.stream in self._heard else 0
        now = self.clock.now()
        return max(heard, min(now, heard + round(topic.stale * 1000))) if heard else now

    def on_refused(self, topic: Topic[Any] | None, sequence: Sequence | None) -> None:
        """A reading in the dead letters is dealt with too: its source need not keep it."""
        self._account(topic, sequence)

    def _account(self, topic: Topic[Any] | None, sequence: Sequence | None) -> None:
        """Move the mark of a source; that of a topic which topics.yaml no longer has is known by its stream."""
        if sequence is not None:
            source = (
                topic.source if topic else next((s for s, stream in self._marks if stream == sequence.stream), None)
            )
            if source is None:
                return
            key = source, sequence.stream
            mark = self._marks.get(key) or self._marks.setdefault(key, Mark())
            if not mark.take(sequence.previous, sequence.number):
                self.health.counters["repeats"] += 1
            self._moved.add(key)

    def flush(self) -> None:
        """Commit readings, clearings and marks in one transaction; Away where the database cannot."""
        marks = {stream: self._marks[stream].number for stream in self._moved}
        try:
            self._record.commit(marks)
        except RecordError as error:
            raise Away(sentence("the database does not take readings", error)) from None
        self._committed |= marks

    def on_flushed(self) -> None:
        """Publish the marks that moved; ask for what is missing before readings that are there."""
        for key in self._moved:
            self._publish_mark(key)
        self._moved.clear()
        self._begin_replays()

    def _publish_mark(self, key: Stream) -> None:
        source, stream = key
        payload = as_json({"stream": stream, "after": self._committed[key]})
        self.bus.publish(f"{self.prefix}/stored/{source}", payload, retain=True)
        now = time.monotonic()
        if self._marks[key].gap and now > self._asked.get(key, 0.0) + 5.0:
            self._asked[key] = now
            self.health.counters["gaps"] += 1
            self.bus.publish(f"{self.registry.root}/service/{source}/request/resend", payload)

    def subscribe(self, session: bool) -> None:
        """Say the marks again to a broker that lost its memory."""
        self._heard_at = time.monotonic() + HEARD
        if not session:
            for key in self._committed:
                self._publish_mark(key)

    def on_tick(self) -> None:
        """Compute minutes that are over, keep within the budget; what fails is said once and tried again."""
        options = self.options
        try:
            limits = options.raw, options.minutes, options.budget * 10**6
            self._upkeep.turn(self.clock.now(), *limits, certain=self.clock.certain)
            trouble = self._upkeep.trouble
        except RecordError as error:
            trouble = sentence("minutes and retention have to wait", error)
        if trouble and trouble != self._trouble:
            log.error("%s", trouble)
            self.error(trouble)
        self._trouble = trouble
        self._beside.answer()
        self._begin_replays()

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
        except ReadingError as error:
            raise RequestError(str(error)) from None
        patience = time.monotonic() + OWED
        self._wanted[arguments.store] = Wanted(since, until, arguments.topics, arguments.span, request.id, patience)
        self._begin_replays()
        return {"from": format_time(since), "to": format_time(until)}

    def _begin_replays(self) -> None:
        """Begin what was asked for once nothing before it is missing: a store that draws in order could never add it later."""
        now = time.monotonic()
        whole = now >= self._heard_at and not self._away and not any(mark.gap for mark in self._marks.values())
        for store, wanted in list(self._wanted.items()):
            if whole or now >= wanted.patience:
                del self._wanted[store]
                try:
                    self._replays.begin(store, wanted)
                except RecordError as error:
                    self.error(sentence(f"'{store}' gets no replay", error))

    def _send(self, store: str, payload: bytes) -> int:
        return self.bus.publish(f"{self.prefix}/replay/{store}", payload, qos=1)

    def on_published(self, mid: int, refusal: str | None) -> None:  # noqa: ARG002 (a replay goes on either way)
        """Go on with a replay."""
        try:
            self._replays.on_published(mid)
        except RecordError as error:
            self.error(sentence("a replay breaks off", error))

    def request_backup(self, request: Request, _arguments: Nothing) -> object:
        """Copy the database into `backup.sqlite` in the state folder, beside the loop."""
        return self._beside.begin(request, backup.back_up)

    def request_restore(self, request: Request, _arguments: Nothing) -> object:
        """Take in what only `backup.sqlite` in the state folder has, beside the loop."""
        return self._beside.begin(request, backup.take_in)

    def end(self) -> None:
        """Close the database."""
        self._beside.close()
        self._record.close()
