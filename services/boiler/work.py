"""The boilers of a running service: what is known of them, what waits to be judged, and their ways in and out."""

import logging
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final

from msgspec import Struct

from bootstrap_lib import Away, Bus, Message, Publisher, ReadingError, Topic, Value, reason, state
from bootstrap_lib import clock as clocks
from services.boiler.backlog import SETTLE, Backlog, Waiting
from services.boiler.boiler import Boiler, BoilerEntry, BoilerMemory
from services.boiler.rework import Reworking
from services.boiler.state import Event
from services.stores.backfill import Filling

log = logging.getLogger(__name__)

STEP: Final = 120_000
"""Milliseconds by which the clock is behind the readings when it was set back."""


class PhaseMemory(Struct):
    """What must survive a restart; readings are acknowledged when it is on disk."""

    boilers: dict[str, BoilerMemory] = {}
    waiting: list[Waiting] = []
    inputs: set[str] = set()
    """Topics that the broker's session brings."""
    stands: set[str] = set()
    """Topics on which a value stands that was told."""


class PhaseWork:
    """What is open while the service runs: its boilers with what is known of them, and their ways in and out."""

    def __init__(
        self,
        file: Path,
        publisher: Publisher,
        filling: Filling,
        *,
        bus: Bus,
        clock: clocks.Clock,
        error: Callable[[str, str], None],
    ) -> None:
        """Take up what the last stop left in `file`; `error` says what cannot be told of a topic."""
        self._file, self._bus, self._clock, self._error = file, bus, clock, error
        self._topics: Mapping[str, Topic[Any]] = {}
        self._memory = state.load(self._file, PhaseMemory, PhaseMemory())
        self._told_at: dict[str, float] = {}
        self.publisher, self.filling = publisher, filling
        self.backlog = Backlog(self._memory.waiting, time.monotonic())
        self.reworking = Reworking(filling, publisher)
        self.boilers: dict[str, Boiler] = {}

    @property
    def phases(self) -> dict[str, Any]:
        """The phase of each boiler."""
        return {name: boiler.memory.outputs.get("phase") for name, boiler in self.boilers.items()}

    def take_boilers(self, entries: Mapping[str, BoilerEntry], topics: Mapping[str, Topic[Any]], zone: str) -> None:
        """Make a boiler of each entry, told on `topics`; what is known of it stays."""
        memories, self._topics = self._memory.boilers, topics
        self.boilers = {name: Boiler(entry, zone, memories.get(name)) for name, entry in entries.items()}
        self._memory.boilers = {name: boiler.memory for name, boiler in self.boilers.items()}
        self.publisher.disown(topics)
        self._memory.stands &= topics.keys()
        self._told_at.clear()

    def save(self) -> None:
        """Write everything down; Away where the disk cannot take it."""
        try:
            state.save(self._file, self._memory, often=True)
        except OSError as error:
            raise Away(f"{self._file} cannot be written: {reason(error)}") from None

    def subscribe(self, session: bool) -> None:
        """Hear of inputs; have the archive tell what a broker without memory has lost."""
        self.backlog.connect(time.monotonic())
        self.subscribe_inputs()
        self.filling.subscribe()
        self.publisher.on_connected(session)
        if not session and self.reworking.rework is None:
            since: dict[str, int] = {}
            for boiler in self.boilers.values():
                if boiler.time:
                    since |= {topic: min(boiler.time, since.get(topic, boiler.time)) for topic in boiler.inputs}
            self.filling.ask(since)

    def subscribe_inputs(self) -> None:
        """Hear of the inputs that there are now, and of no others."""
        inputs = {topic for boiler in self.boilers.values() for topic in boiler.inputs}
        for topic in inputs:
            self._bus.subscribe(self.publisher.topic_of(topic), qos=1, only_new=True)
        for topic in self._memory.inputs - inputs:
            self._bus.unsubscribe(self.publisher.topic_of(topic))
        self._memory.inputs = inputs

    def take_page(self, message: Message) -> None:
        """Take a page of what the archive replays; ValueError where it is none."""
        for name, moment, value in self.filling.take(message):
            if self.reworking.rework is not None:
                self.reworking.rework.take(name, moment, value)
            else:
                self.backlog.hold(name, value, moment)

    def judge(self, now: float, settle: float) -> bool:
        """Judge what has come and let time pass; True where something was told.

        After a connection, inputs that do not speak yet are waited for during `settle` seconds.
        """
        clock, told = self._clock, False
        self.publisher.housekeep(now)
        self.filling.on_tick()
        if self.reworking.on_tick():
            self._told_at.clear()
        until = clock.now() - SETTLE
        behind = self._is_behind(now, settle)
        for moment, name, value in self.backlog.due(until, behind=behind):
            for boiler in self.boilers.values():
                if value is None:
                    boiler.clear(name, moment)
                elif name in boiler.inputs:
                    told |= self.tell(boiler, boiler.feed(name, value, moment))
        if clock.trusted and not behind:
            for boiler in self.boilers.values():
                told |= self.tell(boiler, boiler.rebase(until) if until < boiler.time - STEP else boiler.advance(until))
                self._repeat(boiler, now)
        return told

    def _is_behind(self, now: float, settle: float) -> bool:
        filling = bool(self.filling.topics and self.reworking.rework is None)
        inputs = {topic for boiler in self.boilers.values() for topic in boiler.roles}
        return self.backlog.is_behind(now, settle, inputs, online=self._bus.online, filling=filling)

    def tell(self, boiler: Boiler, events: list[Event]) -> bool:
        """Publish what became certain of a boiler; True where there is something."""
        for event in events:
            self._publish(f"{boiler.entry.thing}/{event.name}", event.value, event.time)
        return bool(events)

    def _publish(self, name: str, value: Value, moment: int) -> None:
        if (topic := self._topics.get(name)) is None:
            return
        self._told_at[name] = time.monotonic()
        self._memory.stands.add(name)
        try:
            self.publisher.publish(topic, topic.proper(value), moment)
        except ReadingError as error:
            self._error(str(error), name)

    def _repeat(self, boiler: Boiler, now: float) -> None:
        """Say again what it still knows, before it goes stale; what it does not know any more is cleared once it has."""
        if not boiler.known:
            return
        standing, stands = boiler.standing, self._memory.stands
        for topic in self._topics.values():
            thing, _, output = topic.name.rpartition("/")
            if thing != boiler.entry.thing:
                continue
            if output in standing:
                if now >= self._told_at.get(topic.name, -topic.stale) + topic.stale / 3:
                    self._publish(topic.name, standing[output], boiler.known)
            elif topic.name in stands and now > self._told_at.get(topic.name, -topic.stale) + topic.stale:
                log.info("%s is not known any more, it is cleared: what tells it is silent", topic.name)
                self.publisher.clear(topic.name)
                stands.discard(topic.name)
