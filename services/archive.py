"""The record: every reading in an SQL database, and the marks that tell sources what is safe (docs/services/archive.md)."""

import logging
import time
from collections.abc import Iterable, Iterator
from typing import Annotated, Any, ClassVar, Final

from msgspec import Meta

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
from services.stores import house_registry, record_url
from services.stores.counting import CountRange, count
from services.stores.database import RecordError, sentence
from services.stores.marks import Stream
from services.stores.open_archive import OpenArchive
from services.stores.replay import Replay, Wanted
from services.stores.retiming import Retiming

log = logging.getLogger(__name__)


class Options(InstanceOptions, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """The database."""

    every: Annotated[Duration, Meta(description="How often it computes minutes and looks after the disk.")] = Duration(
        1
    )
    url: Annotated[str, Meta(description="SQLAlchemy URL of the database.", pattern="^sqlite:///")] = record_url.DEFAULT
    commit: Annotated[Duration, Meta(description="How often readings are committed: what a power cut may cost.")] = (
        Duration(1)
    )
    group: Annotated[
        Duration, Meta(description="How long minutes wait to be computed together: what the card has to bear.")
    ] = Duration(600)
    raw: Annotated[Duration, Meta(description="How long raw readings are kept; eight days at least.")] = Duration(
        8 * 86400
    )
    minutes: Annotated[Duration, Meta(description="How long minutes are kept.")] = Duration(3650 * 86400)
    budget: Annotated[
        int, Meta(ge=1, description="Megabytes of disk for archive, backup, spools and dead letters.")
    ] = 4000
    centre: Annotated[str, Meta(description="A fleet's store that may ask for replays.")] | None = None


COMMIT: Final = 11_000
"""Bytes that a commit writes to the device: a few small pages, and 6 kB of the file system's journal, which no smaller one avoids."""

READING: Final = 350
"""Bytes that each reading costs besides, until its page is full and its minute and hour are computed."""

HEARD: Final = 2.0
"""Seconds after a connection in which the archive hears what it misses."""


class Archive(Subscriber):
    """The record of all readings."""

    NEEDS: ClassVar = Needs(
        extra="archive",
        libraries=("sqlalchemy",),
        records=True,
        rights=("write {root}/service/registry",),
        unit=(
            "# A night's backlog and the compaction of years want some room.",
            "MemoryMax=384M",
            "# The page reads the record beside it.",
            "UMask=0027",
            "StateDirectoryMode=0750",
        ),
    )

    options: Options
    BATCH = 1000

    @classmethod
    def cost(cls, registry: Registry, name: str) -> Iterator[str]:
        """Say what its commits write."""
        raw = registry.instances[name].raw.get("commit", "1s")
        rate = sum(1 / topic.every for topic in registry.topics.values() if topic.stored_by(name))

        def megabytes(commits: float) -> str:
            return f"{(min(rate, commits) * COMMIT + rate * READING) * 86400 / 1e6:,.0f} MB"

        yield (
            f"a commit every {raw} (what a power cut may cost) writes about {megabytes(1 / Duration.parse(raw))} a day; "
            f"commit: 5s would write {megabytes(0.2)}"
        )

    LETTERS: ClassVar = 10
    """Part of the budget that dead letters may take: one in so many."""

    def __init__(self, registry: Registry, name: str) -> None:
        """Prepare the instance; nothing is opened yet."""
        super().__init__(registry, name)
        self._opened: OpenArchive | None = None
        self._heard_at = float("inf")
        self._trouble: str | None = None

    @property
    def _held(self) -> OpenArchive:
        if self._opened is None:
            raise RuntimeError("the archive is not open")
        return self._opened

    def begin(self) -> None:
        """Open the database and take up the marks; StartError where it cannot be used."""
        super().begin()
        self.dead.limit = self.options.budget * 10**6 // self.LETTERS
        try:
            self._opened = OpenArchive(self.options.url, self.state_folder, self.registry, self._send, self.clock.now())
            self._opened.recognise(self.clock.now(), again=self.remembered.start > 1)
        except RecordError as error:
            raise StartError(sentence("the archive cannot be opened", error)) from None
        self._tell()

    def _tell(self) -> None:
        for text in self._held.news():
            log.error("%s", text)
            self.error(text)

    def on_reloaded(self, changed: bool) -> None:  # noqa: ARG002 (new topics are no option of ours)
        """Take over new topics and another time zone; StartError where the database does not take them now."""
        try:
            self._held.reload(self.registry)
        except RecordError as error:
            self._look_into(error)
            raise StartError(sentence("the archive does not take the new topics", error)) from None
        house_registry.publish(self.bus, self.registry, self.name)

    @property
    def flush_every(self) -> float:
        """Seconds between two commits."""
        return self.options.commit

    def on_reading(self, reading: Reading, topic: Topic[Any]) -> None:
        """Keep a reading for the next commit."""
        self._held.database.store(reading.topic, reading.time, reading.value)
        self._account(topic, reading.sequence)

    def on_cleared(self, name: str, sequence: Sequence | None) -> None:
        """Keep when a topic fell silent."""
        topic = self.registry.topics.get(name)
        if topic is not None:
            self._held.database.clear(name, self._cleared_at(topic, sequence))
        self._account(topic, sequence)

    def _cleared_at(self, topic: Topic[Any], sequence: Sequence | None) -> int:
        """When a topic was cleared (ms): by at most `stale` after its source's last reading, however wrong or late our clock is."""
        heard = self.heard_at(topic, sequence) if sequence else 0
        now = self.clock.now()
        return max(heard, min(now, heard + round(topic.stale * 1000))) if heard else now

    def on_refused(self, topic: Topic[Any] | None, sequence: Sequence | None) -> None:
        """A reading in the dead letters is dealt with too: its source need not keep it."""
        self._account(topic, sequence)

    def _account(self, topic: Topic[Any] | None, sequence: Sequence | None) -> None:
        """Move the mark of a source; that of a topic which topics.yaml no longer has is known by its stream."""
        if sequence is not None:
            source = topic.source if topic else self._held.ledger.source_of(sequence.stream)
            if source is not None and not self._held.ledger.account(source, sequence):
                self.health.counters["repeats"] += 1

    def flush(self) -> None:
        """Commit readings, clearings and marks in one transaction, and say the marks; Away where the database cannot."""
        held = self._held
        try:
            self.dead.synchronise()  # a letter that a power cut takes must not have been marked
            moved = held.commit(self.clock.now())
        except RecordError as error:
            raise Away(sentence("the database does not take readings", error)) from None
        finally:
            self._tell()
        for key in moved:
            self._publish_mark(key)

    def on_flushed(self) -> None:
        """Begin replays that waited for it."""
        self._begin_replays()

    def _publish_mark(self, key: Stream) -> None:
        """Say up to where a source's readings are on disk; ask for what is missing before readings that are there."""
        source, stream = key
        ledger = self._held.ledger
        payload = as_json({"stream": stream, "after": ledger.stored[key]})
        self.bus.publish(f"{self.prefix}/stored/{source}", payload, retain=True)
        if ledger.missing(key):
            self.health.counters["gaps"] += 1
            self.bus.publish(f"{self.registry.root}/service/{source}/request/resend", payload)

    def subscribe(self, session: bool) -> None:
        """Say the marks again to a broker that lost its memory."""
        self._heard_at = time.monotonic() + HEARD
        house_registry.publish(self.bus, self.registry, self.name)
        if not session:
            for key in self._held.ledger.stored:
                self._publish_mark(key)

    def on_tick(self) -> None:
        """Compute minutes that are over, keep within the budget; what fails is said once and tried again."""
        options, held, now = self.options, self._held, self.clock.now()
        try:
            limits = options.raw, options.minutes, options.budget * 10**6
            group = round(options.group * 1000)
            trouble = held.turn(now, *limits, certain=self.clock.certain, group=group)
        except (*RecordError, ValueError, TypeError, OverflowError) as error:  # a row that holds what none may
            trouble = sentence("minutes and retention have to wait", error)
            self._look_into(error)
        if trouble and trouble != self._trouble:
            log.error("%s", trouble)
            self.error(trouble)
        self._trouble = trouble
        if held.beside.answer():
            held.remember_file()
        self._tell()
        self._begin_replays()

    def _look_into(self, error: BaseException) -> None:
        """Begin a new database where the old one proved to be damaged."""
        try:
            self._held.trouble(error, self.clock.now())
        except RecordError as hindrance:  # a full disk: `flush` says so, and tries again
            self.error(sentence("a new archive cannot be begun", hindrance))

    def on_beat(self) -> None:
        """Tell health what the disk holds."""
        held = self._held
        used = held.upkeep.usage
        self.health.extra["disk"] = {
            "archive": used.archive,
            "others": used.others,
            "budget": self.options.budget * 10**6,
        } | ({"shortened": held.upkeep.shortened} if held.upkeep.shortened else {})
        if held.mending.working:
            self.health.extra["mending"] = True
        else:
            self.health.extra.pop("mending", None)
        if held.mending.lost:
            self.health.extra["lost"] = [[format_time(since), format_time(until)] for since, until in held.mending.lost]

    # -- requests -----------------------------------------------------------------------------------------------

    def request_replay(self, request: Request, arguments: Replay) -> dict[str, str]:
        """Send what is stored to a store on `replay/<store>`, in batches, with an end."""
        if arguments.store not in (*self.registry.instances, self.options.centre):
            raise RequestError(f"topics.yaml names no '{arguments.store}' to replay for")
        try:
            since = parse_time(arguments.since)
            until = parse_time(arguments.until) if arguments.until else self.clock.now()
        except ReadingError as error:
            raise RequestError(str(error)) from None
        renamed = self._held.renamed
        topics = [renamed.get(name, name) for name in arguments.topics] if arguments.topics is not None else None
        self._held.replays.want(arguments.store, Wanted(since, until, topics, arguments.span, request.id))
        self._begin_replays()
        return {"from": format_time(since), "to": format_time(until)}

    def _begin_replays(self) -> None:
        """Begin what was asked for once nothing before it is missing, and nothing that was heard waits for its commit."""
        held = self._held
        whole = time.monotonic() >= self._heard_at and held.ledger.whole
        try:
            held.replays.begin(whole=whole and not (self.away or self.uncommitted), filled_at=held.ledger.filled_at)
        except (*RecordError, ValueError, OverflowError) as error:  # also a time in the file that has no name
            self.error(sentence("a store gets no replay", error))
            self._look_into(error)

    def _send(self, store: str, payload: bytes) -> int:
        return self.bus.publish(f"{self.prefix}/replay/{store}", payload, qos=1)

    def on_published(self, mid: int, refusal: str | None) -> None:  # noqa: ARG002 (a replay goes on either way)
        """Go on with a replay."""
        try:
            self._held.replays.on_published(mid)
        except (*RecordError, ValueError, OverflowError) as error:
            self.error(sentence("a replay breaks off", error))
            self._look_into(error)

    def request_counts(self, _request: Request, arguments: CountRange) -> dict[str, Any]:
        """Count what is stored of each topic in each hour."""
        return count(self._held.database.engine, arguments)

    def on_clock_set(self) -> None:
        """Count ages from now on."""
        self._held.upkeep.begin_at(self.clock.now())

    def request_owners(self) -> Iterable[object]:
        """Return the service, and what puts a false time right."""
        return self, Retiming(lambda: self.registry, lambda: self._held)

    def request_backup(self, request: Request, _arguments: Nothing) -> object:
        """Copy the database into `backup.sqlite` in the state folder, beside the loop."""
        return self._held.beside.begin(request, self._held.back_up)

    def request_restore(self, request: Request, _arguments: Nothing) -> object:
        """Take in what only `backup.sqlite` in the state folder has, beside the loop."""
        return self._held.beside.begin(request, self._held.restore)

    def end(self) -> None:
        """Close the database."""
        if self._opened is not None:
            self._opened.close()
