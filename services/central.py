"""The store of a fleet's centre: the readings of many houses in one engine, filled from each house's archive (docs/services/central.md)."""

import contextlib
import logging
import socket
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Annotated, Any, ClassVar, Final

from msgspec import Meta

from bootstrap_lib import (
    Away,
    Duration,
    Message,
    Needs,
    Reading,
    Registry,
    StartError,
    Subscriber,
    Topic,
    secrets,
)
from services.fleet import opening, roster
from services.fleet.asking import FleetRequests
from services.fleet.engine_options import EngineOptions
from services.fleet.opening import Centre
from services.fleet.remote_house import RemoteHouse
from services.fleet.routing import Routing

log = logging.getLogger(__name__)

MOST: Final = 5000
"""Readings that wait for a commit at most: a page of a replay has five hundred."""

RENEW: Final = 10.0
"""Seconds between two signs of life of who holds the shard."""

AGAIN: Final = 5.0
"""Seconds until an engine that was not there is asked again."""

LOOK: Final = 1.0
"""Seconds between two looks at the roster."""


class Options(EngineOptions, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """The engine, and which houses."""

    every: Annotated[Duration, Meta(description="How often it looks what is due.")] = Duration(1)
    houses: Annotated[Path, Meta(description="Roster of houses; without one it takes every house.")] | None = None
    shard: Annotated[str, Meta(description="Which houses of the roster.", pattern=roster.WORD)] = roster.ALL
    local: (
        Annotated[str, Meta(description="Name under which it keeps this house alone.", pattern=roster.WORD)] | None
    ) = None
    known_as: Annotated[str, Meta(description="Name by which the houses' archives know it.")] = "central"
    at_once: Annotated[int, Meta(description="Houses that are filled at the same time.", ge=1, le=200)] = 20
    commit: Annotated[Duration, Meta(description="How long readings are collected.")] = Duration(1)
    raw: Annotated[Duration, Meta(description="How long readings are kept.")] = Duration(8 * 86400)
    minutes: Annotated[Duration, Meta(description="How long minutes are kept.")] = Duration(90 * 86400)
    compare: Annotated[Duration, Meta(description="How often counts are compared with a house's.")] = Duration(86400)


class Central(Subscriber):
    """The store of a fleet: what many houses measured."""

    NEEDS: ClassVar = Needs(
        extra="central",
        libraries=("sqlalchemy", "pymysql", "psycopg"),
        network="house",
        fills=True,
        rights=(
            "read +/home/data/#",
            "write +/home/data/#",
            "read +/home/service/registry",
            "read +/home/service/archive/replay/+",
            "read +/home/service/archive/response/+",
            "write +/home/service/archive/request/replay",
            "write +/home/service/archive/request/counts",
            "write {root}/service/archive/request/counts",
            "read {root}/service/archive/response/counts",
            "read {root}/service/registry",
            "read +/link",
            "write +/home/service/+/remote/+",
            "read +/home/service/+/answer/+",
        ),
    )

    options: Options
    BATCH = 2000
    WANTS_DATA = False

    def __init__(self, registry: Registry, name: str) -> None:
        """Prepare the instance; nothing is opened yet."""
        super().__init__(registry, name)
        self._centre: Centre | None = None
        self._parked: list[Message] = []
        """What came before the engine was there: acknowledged once it is dealt with."""
        self._complaint = ""
        self._open_at = self._renew_at = self._roster_at = 0.0
        self._roster: frozenset[str] | None = None
        self._left: set[str] = set()
        self._requests = FleetRequests(lambda: self._centre, self._time, self._send_asked)
        self._waiting: set[str] = set()
        """Houses of the roster that another shard has not let go."""

    # -- opening ------------------------------------------------------------------------------------------------------

    @property
    def _routing(self) -> Routing:
        return Routing(self.registry.root, self.options.local, self.options.known_as)

    def begin(self) -> None:
        """Look at what must be right; the engine may come later."""
        super().begin()
        secrets.resolve(self.options.password)
        self._look_at_roster()

    def _open(self) -> None:
        """Open the engine and take up all houses; Away where it is not there, or another process holds the shard."""
        options = self.options
        holder = f"{socket.gethostname()}/{self.name}"
        try:
            centre = opening.open_centre(self, options, holder, self.clock.now())
            names = opening.houses(centre, options.local, self._roster)
            now = self.clock.now()
            held = [centre.take_up(name, self._routing.prefix_of(name), now) for name in names]
        except opening.TROUBLE as error:
            raise Away(str(error)) from None
        self._centre = centre
        log.info("%s keeps shard %s: %d houses known", centre.engine.node, options.shard, sum(held))
        if self.bus.online:
            self.subscribe(session=True)
        parked, self._parked = self._parked, []
        for message in parked:
            self.on_message(message)
        self._complaint = ""

    # -- what comes ---------------------------------------------------------------------------------------------------

    def subscribe(self, session: bool) -> None:  # noqa: ARG002 (what stands is wanted either way: it shows gaps)
        """Hear the houses of the shard."""
        self._left.clear()
        self._parked.clear()  # the broker sends again what another connection brought
        if self._centre is not None:
            self._routing.subscribe(self.bus, None if self._roster is None else frozenset(self._centre.houses))

    def on_message(self, message: Message) -> bool:
        """Take a message; while the engine was never there, it waits."""
        if self._centre is None:
            self._parked.append(message)
            return False
        return super().on_message(message)

    def on_other(self, message: Message) -> None:
        """Take a message of a house; what still comes of one that went to another shard is that one's to fill."""
        if self._roster is not None and not self._routing.concerns(message.topic, self._held.houses):
            self._leave(message.topic.partition("/")[0])
            return
        self._routing.deal(self._held, message, self.clock.now(), self._take_counts, self._requests.take_answer)
        if self._held.store.waiting >= MOST and not self.away:
            try:
                self._commit(self.clock.now())
            except Away as error:  # `flush` says so
                log.debug("%s", error)

    def _take_counts(self, house: RemoteHouse, message: Message) -> None:
        try:
            self._held.take_counts(house, message, self.clock.now())
        except opening.TROUBLE as error:  # it is asked again
            self.error(str(error))

    def on_reading(self, reading: Reading, topic: Topic[Any]) -> None:
        """Take a reading of this house itself, where it is the one that is kept."""
        now, name = self.clock.now(), str(self.options.local)
        self._held.take_own(self._held.house(name, self.registry.root, now), reading, topic, now)

    # -- what lasts ---------------------------------------------------------------------------------------------------

    @property
    def _held(self) -> Centre:
        if self._centre is None:
            raise RuntimeError("the engine is not open")
        return self._centre

    @property
    def flush_every(self) -> float:
        """Seconds for which readings are collected."""
        return self.options.commit

    def flush(self) -> None:
        """Commit readings and marks in one transaction; Away where the engine does not take them."""
        if self._centre is None:
            self._open()
        self._commit(self.clock.now())

    def _commit(self, now: int) -> None:
        try:
            refused = self._held.commit(now)
        except opening.ShardLost as error:
            raise StartError(f"{error}: this one ends, and waits for its turn") from None
        except opening.TROUBLE as error:
            raise Away(str(error)) from None
        self._renew_at = time.monotonic() + RENEW
        for one in refused:
            topic = f"{one.topic.house.prefix}/data/{one.topic.name}"
            payload = Reading(one.topic.name, one.value, one.topic.unit, one.time).payload()
            self.bury(Message(topic, payload, False, 0, 0, None), f"the engine refuses it: {one.sentence}")

    # -- what is done with the time -----------------------------------------------------------------------------------

    def on_tick(self) -> None:
        """Open what is not open, hold the shard, and let the centre do what is due."""
        now, tick = self.clock.now(), time.monotonic()
        self._requests.look_for_silence()
        try:
            if self._centre is None:
                if tick >= self._open_at:
                    self._open_at = tick + AGAIN
                    self._open()
                return
            if tick >= self._roster_at:
                self._roster_at = tick + LOOK
                self._follow_roster()
            if tick >= self._renew_at and not self.away:
                self._commit(now)
                if not self._centre.store.hold(now):
                    raise StartError("another process holds the shard: this one ends, and waits for its turn")
            self._centre.on_tick(now)
        except (Away, *opening.TROUBLE) as error:
            self.error(str(error))
            if self._centre is None and str(error) != self._complaint:
                self._complaint = str(error)
                log.error("%s; nothing is lost, trying on", error)  # noqa: TRY400

    def _look_at_roster(self) -> frozenset[str] | None:
        path = self.options.houses
        if path is not None:
            self._roster = frozenset(roster.read(path).of(self.options.shard))
        return self._roster

    def _leave(self, name: str) -> None:
        """Hear a house no more; once is enough, a session may still hold some of it."""
        if name not in self._left:
            self._left.add(name)
            self._routing.leave(self.bus, name)

    def _follow_roster(self) -> None:
        """Let houses go that went to another shard, and take up those that came, once that one has let them go."""
        try:
            names = self._look_at_roster()
        except StartError as error:
            self.error(str(error))
            return
        known, now = self._held.houses, self.clock.now()
        if names is None or names == known.keys():
            return
        self._commit(now)
        for name in known.keys() - names:
            self._leave(name)
            self._held.let_go(name)
            log.info("%s goes to another shard, or out", name)
        for name in sorted(names - known.keys()):
            if self._held.take_up(name, self._routing.prefix_of(name), now):
                self._left.discard(name)
                self._waiting.discard(name)
                self._routing.subscribe(self.bus, frozenset({name}))
                log.info("%s is kept here now", name)
            elif name not in self._waiting:
                self._waiting.add(name)
                log.warning("%s is kept by another shard, which has not let it go yet", name)

    def on_beat(self) -> None:
        """Tell health what the fleet is like."""
        if self._centre is not None:
            self.health.extra["fleet"] = self._centre.facts()

    def _time(self) -> int:
        return self.clock.now()

    def _send_asked(self, topic: str, payload: bytes) -> None:
        self.bus.publish(topic, payload, expiry=10)

    def request_owners(self) -> Iterable[object]:
        """Requests of people are dealt with by who knows the houses."""
        return (self, self._requests)

    def end(self) -> None:
        """Leave the shard to whoever waits for it, and close the engine."""
        if self._centre is not None:
            with contextlib.suppress(*opening.TROUBLE):  # it is free when it was not renewed for a while
                self._centre.store.leave()
            self._centre.engine.close()
