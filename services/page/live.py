"""What is known of the house now, as messages told it. It never looks at a clock, a file or a socket: it is told.

Whatever it says of a topic is what stands at the broker; whether that is still alive is a matter of age, and is
decided by who shows it, from `rhythm` and `stale`.
"""

import contextlib
from collections import deque
from collections.abc import Iterable, Mapping
from typing import Any, Final

import msgspec

from bootstrap_lib import Reading, Registry, Topic, Value

LOG: Final = 200
"""Lines of the services' logs that are kept."""

QUICK: Final = 3.5
"""A topic whose `stale` is at most so many rounds is measured in each of them, and late when a round is missed."""

DEFAULT: Final = 30.0
"""Seconds after which a quick topic is stale where topics.yaml says nothing."""

CELL: Final = "cell_"

DIGITS: Final = {
    **dict.fromkeys(("soc", "usage", "duty", "power", "level", "humidity", "duration"), 0),
    **dict.fromkeys(("temperature", "mass", "signal", "days"), 1),
    **dict.fromkeys(("current", "voltage"), 2),
}
"""Decimals that people read, where a sensor has more."""


class Stand(msgspec.Struct, omit_defaults=True):
    """What stands on a topic: a value with its time, or since when nothing does. Times in ms since 1970."""

    value: Value | None = None
    time: int = 0
    cleared: int = 0
    """Since when nobody can measure it; 0 while a value stands there."""
    asked: bool = False
    """The broker was asked and has not answered yet."""


class TopicFacts(msgspec.Struct, frozen=True, kw_only=True):
    """A line of topics.yaml, as far as it is shown. `every`, `rhythm`, `stale` in seconds."""

    name: str
    label: str
    named: bool
    """Whether a person gave it the label."""
    kind: str
    quantity: str
    unit: str
    decimals: int
    states: tuple[str, ...]
    source: str
    every: float
    rhythm: float
    """Age from which it is late."""
    stale: float
    """Age from which it is dead, whatever stands there."""
    stored: bool


class ServiceFacts(msgspec.Struct, omit_defaults=True):
    """What an instance says of itself; `heard` (ms) is when it last did."""

    service: str
    section: str
    status: str = ""
    heard: int = 0
    health: dict[str, Any] | None = None
    listed: dict[str, str] | None = None
    """Meters that it hears because somebody listed them, by number, with their makers; None of what hears no meters."""


class LogLine(msgspec.Struct, frozen=True):
    """A warning or worse, as a service told it; `time` in ms."""

    time: int
    service: str
    level: str
    text: str


def facts_of(topic: Topic[Any]) -> TopicFacts:
    """What is shown of a topic's line."""
    quick = (
        topic.deadband is None
        and topic.kind in ("gauge", "counter")
        and topic.stale <= max(QUICK * topic.every, DEFAULT)
    )
    rhythm = topic.every * 1.5 + 1 if quick else topic.stale * 0.67
    return TopicFacts(
        name=topic.name,
        label=topic.label,
        named=topic.label != topic.name.replace("/", " ").replace("_", " "),
        kind=topic.kind,
        quantity=topic.quantity,
        unit=topic.unit,
        decimals=topic.decimals if CELL in topic.name else min(topic.decimals, DIGITS.get(topic.quantity, 3)),
        states=topic.states,
        source=topic.source,
        every=float(topic.every),
        rhythm=float(min(rhythm, topic.stale)),
        stale=float(topic.stale),
        stored=topic.stored_by("archive"),
    )


class Live:
    """The house as it stands, and what changed since it was last asked."""

    def __init__(self, registry: Registry) -> None:
        """Begin with a house of which nothing was heard."""
        self.values: dict[str, Stand] = {}
        self.services: dict[str, ServiceFacts] = {}
        self.alerts: dict[str, dict[str, Any]] = {}
        self.marks: dict[str, dict[str, Any]] = {}
        self.log: deque[LogLine] = deque(maxlen=LOG)
        self.topics: dict[str, TopicFacts] = {}
        self.take(registry)
        self._moved: set[str] = set()
        self._services: set[str] = set()
        self._alerts: set[str] = set()
        self.readings = 0

    def take(self, registry: Registry) -> bool:
        """Take over topics.yaml; what it no longer has is forgotten. Whether there are topics of which the broker has to be asked."""
        self.registry = registry
        new = bool(registry.topics.keys() - self.values.keys())
        self.topics = {name: facts_of(topic) for name, topic in registry.topics.items()}
        self.values = {name: self.values.get(name, Stand(asked=True)) for name in self.topics}
        instances = registry.instances.values()
        known = self.services
        self.services = {
            one.name: known.get(one.name, ServiceFacts(service=one.service, section=one.section)) for one in instances
        }
        for one in instances:
            if one.service == "wmbus":
                listed = one.raw.get("meters") or {}
                self.services[one.name].listed = {
                    str(number): meter.get("name", "") for number, meter in listed.items()
                }
        return new

    # -- what is heard ------------------------------------------------------------------------------------------

    def ask(self) -> None:
        """Believe nothing any more until the broker has said it again."""
        for shown in self.values.values():
            shown.asked = True
        for service in self.services.values():
            service.status, service.heard = "", 0
        self.alerts.clear()

    def answered(self, known: Mapping[str, int], now: int) -> None:
        """Nothing more comes of what the broker keeps: what has not come stands on no topic; `known` are last times (ms)."""
        for name, shown in self.values.items():
            if shown.asked:
                shown.asked = False
                last = shown.time or known.get(name, 0)
                since = min(now, last + round(self.topics[name].stale * 1000)) if last else 0
                shown.cleared = shown.cleared or since
                shown.value = None if not shown.time else shown.value
                self._moved.add(name)

    def read(self, reading: Reading) -> None:
        """Take a reading; one that is not newer than what stands there changes nothing."""
        shown = self.values.get(reading.topic)
        if shown is None:
            return
        self.readings += 1
        if reading.time < shown.time and not shown.asked:
            return
        self.values[reading.topic] = Stand(reading.value, reading.time)
        self._moved.add(reading.topic)

    def clear(self, name: str, now: int) -> None:
        """Nobody can measure a topic any more."""
        if (shown := self.values.get(name)) is not None and not (shown.cleared and not shown.asked):
            since = min(now, shown.time + round(self.topics[name].stale * 1000)) if shown.time else now
            self.values[name] = Stand(shown.value, shown.time, cleared=since)
            self._moved.add(name)

    def hear(self, name: str, what: str, payload: bytes, now: int) -> None:
        """Take a service's status or health."""
        service = self.services.get(name)
        if service is None:
            return
        if what == "status":
            service.status = payload[:20].decode("utf-8", "replace")
        elif payload:
            with contextlib.suppress(ValueError):
                service.health, service.heard = msgspec.json.decode(payload, type=dict[str, Any]), now
        else:
            service.health = None
        self._services.add(name)

    def tell(self, name: str, payload: bytes, now: int) -> None:
        """Take a line of a service's log."""
        with contextlib.suppress(ValueError):
            entry = msgspec.json.decode(payload, type=dict[str, Any])
            line = LogLine(now, name[:100], str(entry.get("level", ""))[:20], str(entry.get("text", ""))[:1000])
            self.log.appendleft(line)

    def alarm(self, name: str, payload: bytes) -> None:
        """Take what an alert says of itself; nothing where it is no more."""
        if payload:
            with contextlib.suppress(ValueError):
                self.alerts[name] = msgspec.json.decode(payload, type=dict[str, Any])
        else:
            self.alerts.pop(name, None)
        self._alerts.add(name)

    # -- what is shown ------------------------------------------------------------------------------------------

    def changes(self) -> list[tuple[str, dict[str, Any]]]:
        """Events since the last call: name and content of each."""
        found: list[tuple[str, dict[str, Any]]] = []
        if self._moved:
            found.append(("values", {name: self.values[name] for name in self._moved if name in self.values}))
            self._moved = set()
        if self._services:
            found.append(("services", {name: self.services[name] for name in self._services if name in self.services}))
            self._services = set()
        if self._alerts:
            found.append(("alerts", {name: self.alerts.get(name) for name in self._alerts}))
            self._alerts = set()
        return found

    def take_count(self) -> int:
        """Readings that came since the last call."""
        count, self.readings = self.readings, 0
        return count

    def boilers(self) -> list[dict[str, Any]]:
        """Boilers of `phases:`: the topics that the page speaks of."""
        found = []
        for name, entry in self.registry.document.section("phases").items():
            thing = entry.get("thing", "") if isinstance(entry, dict) else ""
            if f"{thing}/phase" in self.topics:
                inputs = entry.get("inputs") if isinstance(entry.get("inputs"), dict) else {}
                rules = entry.get("rules") if isinstance(entry.get("rules"), dict) else {}
                found.append({"name": name, "thing": thing, "inputs": inputs, "rate": rules.get("auger_rate")})
        return found

    def batteries(self) -> list[dict[str, Any]]:
        """Batteries: things that have several cells, with the topics of these in their order."""
        cells: dict[str, list[str]] = {}
        for name, topic in self.topics.items():
            thing, _, last = name.rpartition("/")
            if last.startswith(CELL) and topic.quantity == "voltage":
                cells.setdefault(thing, []).append(name)
        return [{"thing": thing, "cells": names} for thing, names in cells.items() if len(names) > 1]

    def meters(self) -> Iterable[str]:
        """Topics that count what is paid for."""
        return [
            name
            for name, topic in self.topics.items()
            if topic.kind == "counter" and topic.quantity in ("energy", "volume", "consumption", "rain")
        ]
