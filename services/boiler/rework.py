"""What a phase that is computed anew changes in the archive: a service that was misled is put right afterwards."""

import logging
from bisect import bisect_right
from collections.abc import Collection, Iterator, Mapping
from typing import Any, Final, NamedTuple

from bootstrap_lib import Publisher, ReadingError, Request, Topic, Value
from services.boiler.boiler import Boiler
from services.boiler.records import day_of
from services.boiler.state import Event
from services.stores.backfill import Filling

log = logging.getLogger(__name__)

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
        for name, events in self._told.items():
            events.sort(key=lambda entry: entry[0])
            told = self._numbered(name, events) if name.endswith("/cycles") else events
            topic, times = self._topics[name], [time for time, _ in told]
            wanted = {time for of, time in self._stored if of == name}.union(times)
            for time in sorted(wanted):
                index = bisect_right(times, time) - 1
                if index < 0 or not self.since <= time < self.until:
                    continue
                try:
                    value = topic.proper(told[index][1])
                except ReadingError:
                    continue
                if self._stored.get((name, time)) != value:
                    yield Correction(topic, value, time)

    def _numbered(self, name: str, told: list[tuple[int, Value]]) -> list[tuple[int, Value]]:
        """Count cycles on from the first number that is stored: a machine without memory begins with 1."""
        stored = sorted((time, int(value)) for (of, time), value in self._stored.items() if of == name)
        if not stored:
            return told
        time, number = stored[0]
        before = max(0, number - sum(1 for moment, _ in told if moment <= time))
        return [(moment, before + int(count)) for moment, count in told]


class Reworking:
    """One rework at a time, asked for by a request: reads from the archive, then sends it what has to be corrected."""

    def __init__(self, filling: Filling, publisher: Publisher) -> None:
        """`filling` brings the readings, `publisher` takes the corrections."""
        self.rework: Rework | None = None
        """The one under way, which wants what the archive sends."""
        self._filling, self._publisher = filling, publisher
        self._request: Request
        self._corrections: Iterator[Correction] | None = None
        self._flying: set[int] = set()
        self._count = 0

    def begin(self, rework: Rework, request: Request) -> None:
        """Ask the archive for what it needs."""
        self.rework, self._request = rework, request
        self._corrections, self._count = None, 0
        self._filling.ask(dict.fromkeys(rework.names, rework.start), rework.until)

    def on_tick(self) -> bool:
        """Tell how far it is, or go on; True once, when all is corrected."""
        rework = self.rework
        if rework is None:
            return False
        if self._filling.topics:
            self._request.progress({"share": round(rework.share, 3), "readings": rework.count})
            return False
        if self._filling.trouble or not rework.count:
            self.rework = None
            none = "the archive has no readings of that time: raw ones are kept for a while only (archive: raw)"
            self._request.refuse(self._filling.trouble or none)
            return False
        if self._corrections is None:
            rework.end()
            self._corrections = rework.corrections()
            self._send()
        if self._flying:
            return False
        self.rework = None
        log.info("corrected %d readings of the past", self._count)
        self._request.reply({"readings": rework.count, "corrected": self._count})
        return True

    def on_published(self, identity: int) -> None:
        """Go on when the broker has taken a correction."""
        if identity in self._flying:
            self._flying.discard(identity)
            self._send()

    def _send(self) -> None:
        while (
            len(self._flying) < Publisher.WINDOW
            and (correction := next(self._corrections or iter(()), None)) is not None
        ):
            self._flying.add(self._publisher.correct(*correction))
            self._count += 1
