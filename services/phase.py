"""What the boiler is doing: phases, faults, cycles and fuel, from readings, as topics (docs/services/phase.md)."""

import logging
import time
from collections.abc import Iterable, Iterator
from typing import Annotated, Any, ClassVar, Final

from msgspec import Meta, Struct, field

from bootstrap_lib import (
    LATER,
    Away,
    DocumentError,
    Duration,
    InstanceOptions,
    Message,
    Needs,
    Problem,
    Publisher,
    Reading,
    ReadingError,
    Registry,
    Request,
    RequestError,
    Subscriber,
    Topic,
    Value,
    format_time,
    nearest,
    parse_time,
    reason,
    state,
)
from services.boiler.backlog import SETTLE, Backlog, Waiting
from services.boiler.boiler import Boiler, Entry, Memory
from services.boiler.check import compile_entries
from services.boiler.replay import replay_house
from services.boiler.rework import Rework, Reworking
from services.boiler.state import Event
from services.stores.backfill import Filling

log = logging.getLogger(__name__)

STEP: Final = 120_000
"""Milliseconds by which the clock is behind the readings when it was set back."""


class Options(InstanceOptions, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """How often it looks, and what it costs the SD card."""

    every: Annotated[Duration, Meta(description="How often it lets time pass.")] = Duration(1)
    settle: Annotated[
        Duration, Meta(description="After a connection, how long it waits for the inputs: sources come back after it.")
    ] = Duration(60)
    save: Annotated[Duration, Meta(description="How often it writes down what it knows; also at each change.")] = (
        Duration(60)
    )


class Kept(Struct):
    """What must survive a restart; readings are acknowledged when it is on disk."""

    boilers: dict[str, Memory] = {}
    waiting: list[Waiting] = []
    inputs: set[str] = set()
    """Topics that the broker's session brings."""


class Refill(Struct, forbid_unknown_fields=True):
    """Payload of `request/refill`: {"kg":2500}, what the silo holds now; with two boilers also {"boiler":"north"}."""

    kg: Annotated[float, Meta(ge=0, le=1e6)]
    boiler: str | None = None


class Span(Struct, forbid_unknown_fields=True):
    """Payload of `request/rework`: {"from":"2026-11-20T00:00:00Z"}, to now or to a time, all boilers or one."""

    since: str = field(name="from")
    until: str | None = field(name="to", default=None)
    boiler: str | None = None


class Phase(Subscriber):
    """Tells what each boiler of `phases:` is doing."""

    NEEDS: ClassVar = Needs(
        publishes=True, fills=True, sections=("phases",), simulator="services.simulators.staging:boiler"
    )

    options: Options
    WANTS_DATA = False
    SECTIONS: ClassVar[dict[str, type]] = {"phases": Entry}

    def load(self, registry: Registry) -> bool:
        """Take options, boilers and the lines of their outputs; DocumentError lists what cannot be used."""
        entries, topics, problems = compile_entries(registry, self.name)
        if problems:
            raise DocumentError(problems)
        before = getattr(self, "entries", None), getattr(self, "topics", None)
        changed = super().load(registry) or (entries, topics) != before
        self.entries, self.topics = entries, topics
        return changed

    @classmethod
    def check(cls, registry: Registry, name: str) -> list[Problem]:
        """Return what is wrong with the options, the boilers and the lines of their outputs."""
        problems = super().check(registry, name)
        try:
            return problems + compile_entries(registry, name)[2]
        except DocumentError as error:
            return problems + list(error.problems)

    @staticmethod
    def replay(registry: Registry, lines: Iterable[bytes]) -> Iterator[str]:
        """Print what would have been published of readings as JSON lines; for `constellation replay phase`."""
        entries = registry.entries("phases", Entry).values()
        return replay_house(lines, entries, registry.timezone.key, f"{registry.root}/data/")

    # -- the process --------------------------------------------------------------------------------------------

    def begin(self) -> None:
        """Take up what was so at the last stop."""
        super().begin()
        self.publisher = Publisher(self, self.dead)
        self._file = self.state_folder / "phase.json"
        self._kept = state.load(self._file, Kept, Kept())
        self._told_at: dict[str, float] = {}
        self._backlog = Backlog(self._kept.waiting, time.monotonic())
        self._filling = Filling(self)
        self._reworking = Reworking(self._filling, self.publisher)
        self._take_boilers()

    def _take_boilers(self) -> None:
        memories, zone = self._kept.boilers, self.registry.timezone.key
        self._boilers = {name: Boiler(entry, zone, memories.get(name)) for name, entry in self.entries.items()}
        self._kept.boilers = {name: boiler.memory for name, boiler in self._boilers.items()}
        self.publisher.disown(self.topics)
        self._told_at.clear()

    def on_reloaded(self, changed: bool) -> None:
        """Take over other rules; what is known of a boiler stays."""
        if changed:
            self._take_boilers()
            self._subscribe()

    def request_owners(self) -> Iterable[object]:
        """Return the service, and what publishes for it."""
        return self, self.publisher

    def end(self) -> None:
        """Close the spool."""
        self.publisher.close()

    @property
    def flush_every(self) -> float:
        """Seconds after which what is known is written down."""
        return self.options.save

    def flush(self) -> None:
        """Write everything down; Away where the disk cannot take it."""
        try:
            state.save(self._file, self._kept)
        except OSError as error:
            raise Away(f"{self._file} cannot be written: {reason(error)}") from None

    # -- what is heard ------------------------------------------------------------------------------------------

    def subscribe(self, session: bool) -> None:
        """Hear of inputs; have the archive tell what a broker without memory has lost."""
        self._backlog.connect(time.monotonic())
        self._subscribe()
        self._filling.subscribe()
        self.publisher.on_connected(session)
        if not session and self._reworking.rework is None:
            since: dict[str, int] = {}
            for boiler in self._boilers.values():
                if boiler.time:
                    since |= {topic: min(boiler.time, since.get(topic, boiler.time)) for topic in boiler.roles}
            self._filling.ask(since)

    def _subscribe(self) -> None:
        inputs = {topic for boiler in self._boilers.values() for topic in boiler.roles}
        for topic in inputs:
            self.bus.subscribe(self.publisher.topic_of(topic), qos=1, only_new=True)
        for topic in self._kept.inputs - inputs:
            self.bus.unsubscribe(self.publisher.topic_of(topic))
        self._kept.inputs = inputs

    def on_message(self, message: Message) -> bool:
        """Tell marks from readings."""
        return False if self.publisher.on_message(message) else super().on_message(message)

    def on_reading(self, reading: Reading, topic: Topic[Any]) -> None:
        """Keep a reading until those of its moment have come from all sources."""
        self._backlog.take(topic.name, reading.value, reading.time, self.clock.now(), time.monotonic())

    def on_other(self, message: Message) -> None:
        """Take a page of what the archive replays."""
        try:
            for name, moment, value in self._filling.take(message):
                if self._reworking.rework is not None:
                    self._reworking.rework.take(name, moment, value)
                else:
                    self._backlog.hold(name, value, moment)
        except ValueError as error:
            self.bury(message, str(error))

    # -- what is due --------------------------------------------------------------------------------------------

    def on_tick(self) -> None:
        """Judge what has come, let time pass, and say again what would go stale."""
        now = time.monotonic()
        self.publisher.housekeep(now)
        self._filling.on_tick()
        if self._reworking.on_tick():
            self._told_at.clear()
        until = self.clock.now() - SETTLE
        behind = self._is_behind(now)
        for moment, name, value in self._backlog.due(until, behind=behind):
            for boiler in self._boilers.values():
                if name in boiler.roles:
                    self._tell(boiler, boiler.feed(name, value, moment))
        if self.clock.trusted and not behind:
            for boiler in self._boilers.values():
                self._tell(boiler, boiler.rebase(until) if until < boiler.time - STEP else boiler.advance(until))
                self._repeat(boiler, now)

    def _is_behind(self, now: float) -> bool:
        filling = bool(self._filling.topics and self._reworking.rework is None)
        inputs = self._kept.inputs
        return self._backlog.is_behind(now, self.options.settle, inputs, online=self.bus.online, filling=filling)

    def _tell(self, boiler: Boiler, events: list[Event]) -> None:
        for event in events:
            self._publish(f"{boiler.entry.thing}/{event.name}", event.value, event.time)
        if events:
            self._flush_at = 0.0

    def _publish(self, name: str, value: Value, moment: int) -> None:
        if (topic := self.topics.get(name)) is None:
            return
        self._told_at[name] = time.monotonic()
        try:
            self.publisher.publish(topic, topic.proper(value), moment)
        except ReadingError as error:
            self.error(str(error), name)

    def _repeat(self, boiler: Boiler, now: float) -> None:
        if boiler.known:
            for output, value in boiler.memory.outputs.items():
                topic = self.topics.get(f"{boiler.entry.thing}/{output}")
                if topic is not None and now >= self._told_at.get(topic.name, -topic.stale) + topic.stale / 3:
                    self._publish(topic.name, value, boiler.known)

    def on_published(self, mid: int, refusal: str | None) -> None:
        """Learn what became of a reading, or go on with corrections."""
        self.publisher.on_published(mid, refusal)
        self._reworking.on_published(mid)

    def on_beat(self) -> None:
        """Tell health what waits and what each boiler does."""
        self.publisher.on_beat()
        self.health.extra["phases"] = {name: b.memory.outputs.get("phase") for name, b in self._boilers.items()}

    def status(self) -> str:
        """One line: what each boiler does."""
        phases = (f"{name} {boiler.memory.outputs.get('phase')}" for name, boiler in self._boilers.items())
        return f"{self.health.state}: {', '.join(phases)}"

    # -- requests -----------------------------------------------------------------------------------------------

    def _named(self, name: str | None) -> dict[str, Boiler]:
        if not self._boilers:
            raise RequestError("topics.yaml names no boiler: add one below phases:")
        if name is None:
            return self._boilers
        if name in self._boilers:
            return {name: self._boilers[name]}
        hint = nearest(name, self._boilers) or f": there are {', '.join(self._boilers)}"
        raise RequestError(f"no boiler is named '{name}'{hint}")

    def request_refill(self, _request: Request, arguments: Refill) -> dict[str, Any]:
        """Enter what the silo holds after a refill."""
        found = self._named(arguments.boiler)
        if len(found) > 1:
            raise RequestError(f'there are {", ".join(found)}: say which with "boiler"')
        name, boiler = next(iter(found.items()))
        try:
            self._tell(boiler, boiler.refill(arguments.kg))
        except ValueError as error:
            raise RequestError(str(error)) from None
        log.info("the silo of %s holds %g kg", name, arguments.kg)
        return {"boiler": name, "kg": arguments.kg}

    def request_rework(self, request: Request, arguments: Span) -> object:
        """Compute a span of the archive anew and correct what it says there; alerts see nothing new in it."""
        if self._reworking.rework is not None or self._filling.topics:
            raise RequestError("it is reading from the archive already: wait until that is done")
        if not self.registry.find("archive"):
            raise RequestError("topics.yaml names no archive: there is nothing to be computed anew")
        zone = self.registry.timezone.key
        boilers = [Boiler(self.entries[name], zone) for name in self._named(arguments.boiler)]
        try:
            since, now = parse_time(arguments.since), self.clock.now() - SETTLE
            until = min(parse_time(arguments.until), now) if arguments.until else now
        except ReadingError as error:
            raise RequestError(str(error)) from None
        if since >= until:
            raise RequestError("the span is empty: `from` lies before `to`, and before now")
        log.info("computing anew from %s to %s", format_time(since), format_time(until))
        self._reworking.begin(Rework(boilers, self.topics, since, until), request)
        return LATER
