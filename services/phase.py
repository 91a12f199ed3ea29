"""What the boiler is doing: phases, faults, cycles and fuel, from readings, as topics (docs/services/phase.md)."""

import logging
import time
from collections.abc import Iterable, Iterator
from typing import Annotated, Any, ClassVar, Literal

from msgspec import Meta, Struct, field

from bootstrap_lib import (
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
    Sequence,
    Subscriber,
    Topic,
    format_time,
    nearest,
    parse_time,
)
from services.boiler.backlog import SETTLE
from services.boiler.boiler import Boiler, BoilerEntry
from services.boiler.check import compile_entries, tells_of
from services.boiler.replay import replay_house
from services.boiler.rework import Rework
from services.boiler.work import PhaseWork
from services.protocols.recording import FIRST
from services.stores.backfill import Filling

log = logging.getLogger(__name__)


class PhaseOptions(InstanceOptions, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """How often it looks, and what it costs the SD card."""

    every: Annotated[Duration, Meta(description="How often it lets time pass.")] = Duration(1)
    settle: Annotated[
        Duration, Meta(description="After a connection, how long it waits for the inputs: sources come back after it.")
    ] = Duration(60)
    save: Annotated[Duration, Meta(description="How often it writes down what it knows; also at each change.")] = (
        Duration(60)
    )


class Refill(Struct, forbid_unknown_fields=True):
    """Payload of `request/refill`: {"kg":2500} or {"level":80}, what the silo holds now, or {"bags":3}, what was filled in."""

    kg: Annotated[float, Meta(ge=0, le=1e6)] | None = None
    bags: Annotated[float, Meta(gt=0, le=1e4)] | None = None
    level: Annotated[float, Meta(ge=0, le=100)] | None = None
    boiler: str | None = None


class Reset(Struct, forbid_unknown_fields=True):
    """Payload of `request/reset`: {"what":"ash"}, emptied; or cleaning, service: done; with two boilers also the boiler."""

    what: Literal["ash", "cleaning", "service"]
    boiler: str | None = None


class ReworkSpan(Struct, forbid_unknown_fields=True):
    """Payload of `request/rework`: {"from":"2026-11-20T00:00:00Z"}, to now or to a time, all boilers or one."""

    since: str = field(name="from")
    until: str | None = field(name="to", default=None)
    boiler: str | None = None


class Phase(Subscriber):
    """Tells what each boiler of `phases:` is doing."""

    NEEDS: ClassVar = Needs(
        publishes=True, fills=True, sections=("phases",), simulator="services.simulators.staging:boiler"
    )

    options: PhaseOptions
    WANTS_DATA = False
    SECTIONS: ClassVar[dict[str, type]] = {"phases": BoilerEntry}

    def __init__(self, registry: Registry, name: str) -> None:
        """Prepare the instance; nothing is opened yet."""
        self.entries: dict[str, BoilerEntry] = {}
        self.topics: dict[str, Topic[Any]] = {}
        self._zone = ""
        self._work: PhaseWork | None = None
        super().__init__(registry, name)

    def load(self, registry: Registry) -> bool:
        """Take options, boilers and the lines of their outputs; DocumentError lists what cannot be used."""
        entries, topics, problems = compile_entries(registry, self.name)
        if problems:
            raise DocumentError(problems)
        zone = registry.timezone.key
        changed = super().load(registry) or (entries, topics, zone) != (self.entries, self.topics, self._zone)
        self.entries, self.topics, self._zone = entries, topics, zone
        return changed

    @classmethod
    def check(cls, registry: Registry, name: str) -> list[Problem]:
        """Return what is wrong with the options, the boilers and the lines of their outputs."""
        problems = super().check(registry, name)
        try:
            return problems + compile_entries(registry, name)[2]
        except DocumentError as error:
            return problems + list(error.problems)

    @classmethod
    def cost(cls, registry: Registry, name: str) -> list[str]:
        """Lines of `check`: which phases, faults and sums the inputs of each boiler can tell."""
        return [*super().cost(registry, name), *tells_of(registry)]

    @staticmethod
    def replay(registry: Registry, lines: Iterable[bytes]) -> Iterator[str]:
        """Print what would have been published of readings as JSON lines; for `constellation replay phase`."""
        entries = registry.entries("phases", BoilerEntry).values()
        return replay_house(lines, entries, registry.timezone.key, f"{registry.root}/data/")

    # -- the process --------------------------------------------------------------------------------------------

    def begin(self) -> None:
        """Take up what was so at the last stop."""
        super().begin()
        publisher, filling = Publisher(self, self.dead), Filling(self)
        file = self.state_folder / "phase.json"
        self._work = PhaseWork(file, publisher, filling, bus=self.bus, clock=self.clock, error=self.error)
        self._work.take_boilers(self.entries, self.topics, self._zone)

    @property
    def open_work(self) -> PhaseWork:
        """What `begin` opened; RequestError before."""
        if self._work is None:
            raise RequestError("it is starting: ask again in a second")
        return self._work

    def on_reloaded(self, changed: bool) -> None:
        """Take over other rules; what is known of a boiler stays."""
        if changed and self._work is not None:
            self._work.take_boilers(self.entries, self.topics, self._zone)
            self._work.subscribe_inputs()

    def request_owners(self) -> Iterable[object]:
        """Return the service, and what publishes for it."""
        return self, self.open_work.publisher

    def end(self) -> None:
        """Close the spool."""
        if self._work is not None:
            self._work.publisher.close()

    @property
    def flush_every(self) -> float:
        """Seconds after which what is known is written down."""
        return self.options.save

    def flush(self) -> None:
        """Write everything down; Away where the disk cannot take it."""
        self.open_work.save()

    def subscribe(self, session: bool) -> None:
        """Hear of inputs; have the archive tell what a broker without memory has lost."""
        self.open_work.subscribe(session)

    def on_message(self, message: Message) -> bool:
        """Tell marks from readings."""
        return False if self.open_work.publisher.on_message(message) else super().on_message(message)

    def on_reading(self, reading: Reading, topic: Topic[Any]) -> None:
        """Keep a reading until those of its moment have come from all sources."""
        backlog = self.open_work.backlog
        backlog.take(topic.name, reading.value, reading.time, self.clock.now(), time.monotonic())

    def on_cleared(self, name: str, sequence: Sequence | None) -> None:  # noqa: ARG002 (its place is that of its coming)
        """Take note that an input cannot be measured any more."""
        self.open_work.backlog.clear(name)

    def on_other(self, message: Message) -> None:
        """Take a page of what the archive replays."""
        try:
            self.open_work.take_page(message)
        except ValueError as error:
            self.bury(message, str(error))

    def on_tick(self) -> None:
        """Judge what has come, let time pass, and say again what would go stale."""
        if self.open_work.judge(time.monotonic(), self.options.settle):
            self._flush_at = 0.0

    def on_published(self, mid: int, refusal: str | None) -> None:
        """Learn what became of a reading, or go on with corrections."""
        self.open_work.publisher.on_published(mid, refusal)
        self.open_work.reworking.on_published(mid)

    def on_beat(self) -> None:
        """Tell health what waits and what each boiler does."""
        self.open_work.publisher.on_beat()
        self.health.extra["phases"] = self.open_work.phases

    def status(self) -> str:
        """One line: what each boiler does."""
        phases = self._work.phases if self._work is not None else {}
        return f"{self.health.state}: {', '.join(f'{name} {phase}' for name, phase in phases.items())}"

    # -- requests -----------------------------------------------------------------------------------------------

    def _named(self, name: str | None) -> dict[str, Boiler]:
        boilers = self.open_work.boilers
        if not boilers:
            raise RequestError("topics.yaml names no boiler: add one below phases:")
        if name is None:
            return boilers
        if name in boilers:
            return {name: boilers[name]}
        hint = nearest(name, boilers) or f": there are {', '.join(boilers)}"
        raise RequestError(f"no boiler is named '{name}'{hint}")

    def _one(self, name: str | None) -> tuple[str, Boiler]:
        found = self._named(name)
        if len(found) > 1:
            raise RequestError(f'there are {", ".join(found)}: say which with "boiler"')
        return next(iter(found.items()))

    def request_refill(self, _request: Request, arguments: Refill) -> dict[str, Any]:
        """Enter what the silo holds after a refill, or the bags that were filled in."""
        name, boiler = self._one(arguments.boiler)
        given = {"kg": arguments.kg, "bags": arguments.bags, "level": arguments.level}
        try:
            self.open_work.tell(boiler, boiler.refill(**given))
        except ValueError as error:
            raise RequestError(str(error)) from None
        self._flush_at = 0.0
        entered = {what: value for what, value in given.items() if value is not None}
        log.info("the silo of %s was filled: %s", name, entered)
        return {"boiler": name, **entered}

    def request_reset(self, _request: Request, arguments: Reset) -> dict[str, Any]:
        """Note that ash was emptied, or the boiler cleaned or serviced: its reminder begins anew."""
        name, boiler = self._one(arguments.boiler)
        try:
            self.open_work.tell(boiler, boiler.reset(arguments.what))
        except ValueError as error:
            raise RequestError(str(error)) from None
        self._flush_at = 0.0
        log.info("%s of %s is done", arguments.what, name)
        return {"boiler": name, "what": arguments.what}

    def request_rework(self, request: Request, arguments: ReworkSpan) -> object:
        """Compute a span of the archive anew and correct what it says there; alerts see nothing new in it."""
        work = self.open_work
        if work.reworking.rework is not None or work.filling.topics:
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
        if since < FIRST:
            raise RequestError("`from` lies before the year 2000: there is nothing to be computed")
        if since >= until:
            raise RequestError("the span is empty: `from` lies before `to`, and before now")
        log.info("computing anew from %s to %s", format_time(since), format_time(until))
        work.reworking.begin(Rework(boilers, self.topics, since, until), request)
        return Request.LATER
