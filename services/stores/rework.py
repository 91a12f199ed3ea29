"""What a phase that is computed anew changes in the archive: a service that was misled is put right afterwards."""

from bisect import bisect_right
from collections.abc import Collection, Iterator, Mapping
from typing import Any, Final, NamedTuple

from bootstrap_lib.publisher import proper
from bootstrap_lib.reading import ReadingError, Value
from bootstrap_lib.registry import Topic
from services.protocols.phase.boiler import Boiler
from services.protocols.phase.cycles import day_of
from services.protocols.phase.state import Event

WARM_UP: Final = 6 * 3_600_000
"""Milliseconds before the first day of a span from which a machine without memory knows what is going on."""


class Correction(NamedTuple):
    """What a topic should have said at a time (ms)."""

    topic: Topic[Any]
    value: Value
    time: int


class Rework:
    """Boilers without memory run again over stored readings; what they tell is compared with what is stored.

    Outputs last from one reading to the next. So each stored one is put right with what its output was at its time,
    and what was told at times of its own is added: nothing has to be deleted.
    """

    def __init__(self, boilers: Collection[Boiler], topics: Mapping[str, Topic[Any]], since: int, until: int) -> None:
        """`topics` are the outputs; only those from `since` to before `until` (ms) are corrected."""
        self.since, self.until = since, until
        zones = [boiler.rules.timezone for boiler in boilers]
        self.start = min(day_of(since, zone).start for zone in zones) - WARM_UP
        """From when readings are needed, ms."""
        self.count = 0
        """Readings of inputs that came."""
        self._boilers = boilers
        self._topics = {name: topic for name, topic in topics.items() if topic.stored_by("archive")}
        self._first = self._reached = 0
        self._stored: dict[tuple[str, int], Value] = {}
        self._told: dict[str, list[tuple[int, Value]]] = {}

    @property
    def names(self) -> set[str]:
        """Topics that are needed from the archive."""
        things = {boiler.entry.thing for boiler in self._boilers}
        outputs = {name for name in self._topics if name.rpartition("/")[0] in things}
        return outputs.union(*(boiler.roles for boiler in self._boilers))

    @property
    def share(self) -> float:
        """How much of the span has been read, 0 to 1."""
        return max(0.0, min(1.0, (self._reached - self.start) / (self.until - self.start)))

    def take(self, name: str, time: int, value: Value) -> None:
        """Take a stored reading; they come in the order of time (ms)."""
        self._reached = time
        if name in self._topics:
            self._stored[name, time] = value
        for boiler in self._boilers:
            if name in boiler.roles and not isinstance(value, str):
                self._first = self._first or time
                self.count += 1
                self._note(boiler, boiler.feed(name, value, time))
            elif name == f"{boiler.entry.thing}/cycles" and not boiler.memory.modern.cycles:
                boiler.memory.modern.cycles = int(value)

    def end(self) -> None:
        """Let the rest of the span pass."""
        for boiler in self._boilers:
            self._note(boiler, boiler.advance(self.until))

    def _note(self, boiler: Boiler, events: list[Event]) -> None:
        for event in events:
            name = f"{boiler.entry.thing}/{event.name}"
            halved = event.name.startswith("day_") and day_of(event.time, boiler.rules.timezone).start < self._first
            if name in self._topics and not halved:
                self._told.setdefault(name, []).append((event.time, event.value))

    def corrections(self) -> Iterator[Correction]:
        """What has to be told again, with its own times."""
        for name, told in self._told.items():
            told.sort(key=lambda entry: entry[0])
            topic, times = self._topics[name], [time for time, _ in told]
            wanted = {time for of, time in self._stored if of == name}.union(times)
            for time in sorted(wanted):
                index = bisect_right(times, time) - 1
                if index < 0 or not self.since <= time < self.until:
                    continue
                try:
                    value = proper(topic, told[index][1])
                except ReadingError:
                    continue
                if self._stored.get((name, time)) != value:
                    yield Correction(topic, value, time)
