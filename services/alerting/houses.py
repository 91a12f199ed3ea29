"""Houses of a fleet, as the rules at its centre see them: what they say of their topics, how they are, and whether their link stands.

Only what a rule speaks of is heard and remembered. What a house says of itself costs no other house.
"""

import re
from collections import ChainMap
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Final, NamedTuple

import msgspec

from bootstrap_lib import Bus, Message, Poison, Sequence, state
from services.alerting.condition import Scope, Subject, pattern_of
from services.alerting.desk import Desk
from services.alerting.matching import HousePatterns
from services.alerting.rule import Rule
from services.fleet import wire
from services.stores.house_registry import PublishedRegistry

MOST_TOPICS: Final = 3000
MOST_SERVICES: Final = 100
"""Topics and services of one house that rules look at."""

SETTLE: Final = 2_000
"""Milliseconds in which registries of many houses are gathered until rules are read anew."""

OFTEN: Final = 1_000
"""Milliseconds between two signs of life of a house that are taken."""


SHORTEST: Final = 1.0
LONGEST: Final = 90 * 86400.0
"""Seconds that a house may let its topics be silent."""

_WORD: Final = re.compile(r"[a-z0-9_]{1,60}")
_TOPIC: Final = re.compile(r"[a-z0-9_]{1,60}(/[a-z0-9_]{1,60}){2}")


class WatchedTopic(msgspec.Struct, frozen=True):
    """A topic of a house, as its registry describes it; `source` is `HOUSE/instance`, `stale` in seconds."""

    kind: str
    unit: str
    decimals: int
    states: tuple[str, ...]
    stale: float
    source: str
    label: str
    low: None = None
    high: None = None


class WatchedHouse(msgspec.Struct):
    """What is remembered of a house, so that rules mean the same after a restart."""

    topics: dict[str, WatchedTopic] = msgspec.field(default_factory=dict)
    services: set[str] = msgspec.field(default_factory=set)


class Listener(NamedTuple):
    """Who is told what was heard, and when: `at` monotonic, `wall` since 1970, both in ms; silent after so many `beats`."""

    desk: Desk
    beats: int
    at: int
    wall: int


_registry = msgspec.json.Decoder(PublishedRegistry)


def _as_kept(file: Path) -> dict[str, WatchedHouse]:
    try:
        return msgspec.json.decode(state.read(file), type=dict[str, WatchedHouse])
    except (OSError, msgspec.DecodeError, UnicodeDecodeError):
        return {}


class WatchedHouses:
    """All houses of a fleet."""

    def __init__(self, file: Path, keep: Callable[[Path, object], None]) -> None:
        """`keep` writes state down; what was written to the `file` is taken up."""
        self._file, self._keep = file, keep
        self._known = _as_kept(file)
        self._patterns = HousePatterns(())
        self.names = frozenset[str]()
        self._alive: dict[str, int] = {}
        self._subscribed: set[str] = set()
        self._changed_at: int | None = None

    def begin(self) -> None:
        """Set aside a file that cannot be read: not before it is known that nobody else uses it, and that it is not of a later version."""
        state.load(self._file, dict[str, WatchedHouse], {})

    def take(self, rules: Mapping[str, Rule], names: Iterable[str]) -> None:
        """Take rules, and the houses that there are."""
        self._patterns = HousePatterns([pattern for rule in rules.values() if (pattern := pattern_of(rule))])
        self.names = frozenset(names)
        self._known = {name: house for name, house in self._known.items() if name in self.names}

    def scope(self, own: Scope) -> Scope:
        """What rules may speak of: the centre's own, and what houses have."""
        topics: dict[str, Subject] = {}
        services = list(own.services)
        for name, house in self._known.items():
            topics |= {f"{name}/{topic}": facts for topic, facts in house.topics.items()}
            services += [f"{name}/{service}" for service in sorted(house.services)]
        return Scope(ChainMap(dict(own.topics), topics), services, own.notifiers, self.names, own.concluded)

    def subscribe(self, bus: Bus, *, anew: bool) -> None:
        """Hear what rules speak of; `anew` on a connection."""
        if anew:
            self._subscribed.clear()
        service = f"+/{wire.FLEET_ROOT}/service"
        wanted = {f"{service}/registry", f"{service}/+/status", f"{service}/+/health", "+/link"}
        wanted |= set(self._patterns.filters(wire.FLEET_ROOT))
        for pattern in sorted(wanted - self._subscribed):
            bus.subscribe(pattern, qos=1)
        for pattern in self._subscribed - wanted:
            bus.unsubscribe(pattern)
        self._subscribed = wanted

    def is_due(self, at: int) -> bool:
        """Whether rules are to be read anew, once: houses told of other topics or services."""
        if self._changed_at is None or at - self._changed_at < SETTLE:
            return False
        self._changed_at = None
        self._keep(self._file, self._known)  # once for all that was gathered: it holds every house
        return True

    def hear(self, message: Message, to: Listener) -> None:
        """Take a message of a house. ValueError where it is not what belongs on its topic."""
        name, _, rest = message.topic.partition("/")
        if name not in self.names:
            return
        if rest == "link":
            self._hear_link(name, message.payload, to)
            return
        if not message.retained and to.at - self._alive.get(name, to.at - OFTEN) >= OFTEN:
            self._alive[name] = to.at
            to.desk.judge.feed(f"service {name}", "running", to.wall, to.at, fresh=True)
        kind, _, what = rest.removeprefix(f"{wire.FLEET_ROOT}/").partition("/")
        if kind == "data":
            self._hear_data(name, what, message, to)
        elif what == "registry":
            self._hear_registry(name, message.payload, to)
        else:
            self._hear_service(name, what, message.payload, to)

    def _hear_link(self, name: str, payload: bytes, to: Listener) -> None:
        linked, known = payload == b"1", f"service {name}"
        to.desk.judge.pause(name, not linked, to.at)
        if linked:
            to.desk.judge.feed(known, "running", to.wall, to.at, fresh=True)
        else:
            to.desk.judge.clear(known, to.at)

    def _hear_data(self, name: str, topic: str, message: Message, to: Listener) -> None:
        house = self._known.get(name)
        if house is None or topic not in house.topics:
            return
        sequence = wire.place(message.sequence)
        if sequence is not None:
            sequence = Sequence(f"{name}:{sequence.stream}", sequence.previous, sequence.number)
        if not message.payload:
            if to.desk.is_fresh(sequence) is not False:
                to.desk.judge.clear(f"{name}/{topic}", to.at)
            return
        reading, moment = wire.read(message.payload, to.wall)
        fresh = to.desk.is_fresh(sequence)
        to.desk.judge.feed(f"{name}/{topic}", reading.value, moment, to.at, to.wall - moment, fresh)

    def _hear_registry(self, name: str, payload: bytes, to: Listener) -> None:
        try:
            said = _registry.decode(payload)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            raise Poison(f"no registry of a house: {error}") from None
        topics = {}
        for topic, facts in list(said.topics.items())[:MOST_TOPICS]:
            if (
                _TOPIC.fullmatch(topic)
                and self._patterns.match(f"{name}/{topic}")
                and not self._is_like_another(name, topic)
            ):
                source = f"{name}/{facts.source if _WORD.fullmatch(facts.source) else ''}"
                label = f"{name} {facts.label or topic}"
                topics[topic] = WatchedTopic(
                    facts.kind,
                    facts.unit[:20],
                    min(9, max(0, facts.decimals)),
                    facts.states,
                    min(LONGEST, max(SHORTEST, facts.stale)),
                    source,
                    label,
                )
        house = self._known.setdefault(name, WatchedHouse())
        if topics != house.topics:
            house.topics = topics
            self._changed(to.at)

    def _is_like_another(self, name: str, what: str) -> bool:
        """Whether an alert of it would bear the name of one of another house: `north` with a place `1_cellar`, beside `north_1`."""
        flat = f"{name}_{what}"
        return any(
            len(one) > len(name) and flat.startswith(f"{one}_") for one in self.names if one.startswith(f"{name}_")
        )

    def _hear_service(self, name: str, what: str, payload: bytes, to: Listener) -> None:
        service, _, kind = what.removeprefix("service/").partition("/")
        house = self._known.setdefault(name, WatchedHouse())
        if (
            payload
            and _WORD.fullmatch(service)
            and service not in house.services
            and len(house.services) < MOST_SERVICES
            and not self._is_like_another(name, service)
        ):
            house.services.add(service)
            self._changed(to.at)
        if service not in house.services:
            return
        if kind == "health" and payload:
            to.desk.hear_health(f"{name}/{service}", payload, to.beats, to.at, to.wall)
        elif payload == b"offline":
            to.desk.judge.clear(f"service {name}/{service}", to.at)

    def _changed(self, at: int) -> None:
        if self._changed_at is None:
            self._changed_at = at
