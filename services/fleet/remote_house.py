"""A house as its centre knows it: topics, runs of numbers, and what is lacking of it here."""

import re
from collections.abc import Iterable
from typing import Final

from bootstrap_lib import Poison, Sequence
from services.fleet.gaps import Gaps
from services.fleet.numbers import Numbers
from services.fleet.tables import LONGEST
from services.stores.house_registry import PublishedRegistry, PublishedTopic

MOST_TOPICS: Final = 3000
"""Topics of a house: one that invents more is refused them."""

GRACE: Final = 60_000
"""Milliseconds beyond `stale` after which a topic that is still standing here was cleared in its house."""

LONGEST_STALE: Final = 90 * 86_400.0
"""Seconds of silence after which any topic was cleared, whatever its house says of itself."""

AHEAD: Final = 60_000
"""Milliseconds by which the clocks of a house's sources may differ."""


_TOPIC: Final = re.compile(r"[a-z0-9_]+(/[a-z0-9_]+){2}")


def _fits(name: str, unit: str) -> bool:
    """Whether a house can have such a topic, so that every engine takes it: what is written is of all houses at once."""
    return max(len(name), len(unit)) <= LONGEST and unit.isprintable() and _TOPIC.fullmatch(name) is not None


def _plain(text: str) -> str:
    """What every engine takes: PostgreSQL has no zero byte in a text, and no column is without end."""
    return "".join(letter for letter in text if letter.isprintable())[:LONGEST]


class RemoteTopic:
    """A topic of a house under one unit; its number is the engine's, None until that gave it one."""

    __slots__ = ("house", "kind", "label", "name", "number", "source", "stale", "standing", "stored", "unit")

    def __init__(self, house: "RemoteHouse", name: str, unit: str, number: int | None = None) -> None:
        """Begin with what a reading says of it."""
        self.house, self.name, self.unit, self.number = house, name, unit, number
        self.kind = self.label = self.source = ""
        self.stale = 0.0
        self.stored: bool | None = None
        """Whether the house's record keeps it, None while nobody said."""
        self.standing = 0
        """Time (ms) of what stands on it at the centre's broker, 0 for nothing."""


class RemoteHouse:
    """One house. What it says wrong costs nobody but itself."""

    def __init__(self, name: str, prefix: str, number: int | None = None, compared: int = 0) -> None:
        """`prefix` is what stands before `data/` and `service/` in its topics here; `number` is the engine's, None while it has none."""
        self.name, self.prefix, self.number = name, prefix, number
        self.compared = compared
        """Up to when (ms) the counts of both sides were compared."""
        self.timezone, self.digest = "UTC", ""
        self.topics: dict[str, RemoteTopic] = {}
        """The topic of each name, under the unit that it was heard with last."""
        self._units: dict[tuple[str, str], RemoteTopic] = {}
        self.numbers = Numbers()
        self.lacking = Gaps()
        self.changed = number is None
        """Whether its own row, or what it lacks, is to be written."""
        self.told: set[RemoteTopic] = set()
        """Topics whose row is to be written."""
        self.renamed: list[tuple[str, str]] = []
        """Old and new names of topics whose rows bear the old one yet, in their order."""
        self.newest = 0
        """Time (ms) of its newest reading."""
        self.announced = False
        """Whether it says on `service/registry` what its topics are."""
        self._early = Gaps()
        """When readings came of names that it had not said yet."""
        self._unkept: frozenset[str] = frozenset()
        """Topics that it says its record does not keep."""
        self.linked = False
        """Whether anything of it was heard since we are connected."""

    def know(self, topic: RemoteTopic) -> None:
        """Take up a topic that the engine has."""
        self._units[topic.name, topic.unit] = self.topics[topic.name] = topic
        if not self.digest:
            self.announced = self.announced or bool(topic.source or topic.kind)  # which a registry alone told

    def awaits(self, name: str, moment: int, now: int) -> bool:
        """Whether a reading (its time in ms) is of a new name whose registry is still to come: that tells whose new name it is.

        It is lacking then, and its place among the numbers is not taken: its archive brings it once the registry is here.
        """
        known = name in self.topics or name in self._unkept
        if known or not self.announced or not self.has_room_for(name):
            return False
        self._early.add(moment, max(now, moment) + 1)
        self.lack(moment, max(now, moment) + 1)
        return True

    def topic(self, name: str, unit: str) -> RemoteTopic:
        """The topic of a reading; Poison for a name that is none, and for one too many."""
        found = self.topics.get(name)
        if found is not None and found.unit == unit:
            return found
        found = self._units.get((name, unit))
        if found is None:
            if not _fits(name, unit):
                raise Poison("no topic of a house: place/thing/name")
            if len(self._units) >= MOST_TOPICS:
                raise Poison(f"{self.name} has {MOST_TOPICS} topics already: this one is not kept")
            found = RemoteTopic(self, name, unit)
            self.told.add(found)
        if (before := self.topics.get(name)) is not None:
            found.source, found.stale, found.stored = before.source, before.stale, before.stored
        self.know(found)
        return found

    def has_room_for(self, name: str) -> bool:
        """Whether a topic may be kept here; what may not is missing here for good, and asked for no more."""
        return name in self.topics or (len(self._units) < MOST_TOPICS and _fits(name, ""))

    def follow(self, topic: RemoteTopic | None, sequence: Sequence, moment: int | None, now: int) -> bool:
        """Follow the numbers of a source; True where something is lacking now that was not before. Times in ms."""
        since = self.numbers.follow(topic.source if topic else "", sequence, moment)
        if since is None:
            return False
        return self.lack(max(0, since - AHEAD), max(now, moment or 0) + 1)

    def lack(self, since: int, until: int) -> bool:
        """Note that something is lacking; False where that was known."""
        news = self.lacking.add(since, until)
        self.changed = self.changed or news
        return news

    def filled(self, since: int, until: int) -> None:
        """Note that nothing is lacking in a range; it is committed together with what filled it."""
        self.lacking.take(since, until)
        self.changed = True

    def forget(self, topic: RemoteTopic) -> None:
        """Have a topic no more that the engine does not take."""
        self._units.pop((topic.name, topic.unit), None)
        if self.topics.get(topic.name) is topic:
            del self.topics[topic.name]

    def take_registry(self, registry: PublishedRegistry) -> None:
        """Take what the house says of its topics; those that it renamed keep what is stored of them."""
        self.timezone, self.digest = _plain(registry.timezone), _plain(registry.digest)
        self.changed, self.announced = True, not registry.left_out
        said_of = dict(list(registry.topics.items())[:MOST_TOPICS])
        self._unkept = frozenset(name for name, facts in said_of.items() if not facts.stored)
        self._take_names(said_of, registry)
        for name, facts in said_of.items():
            if name not in self.topics and not facts.stored:
                continue
            try:
                topic = self.topic(name, facts.unit)
            except Poison:
                continue
            said = _plain(facts.kind), _plain(facts.label), _plain(facts.source)
            if said != (topic.kind, topic.label, topic.source):
                topic.kind, topic.label, topic.source = said
                self.told.add(topic)
            topic.stale, topic.stored = min(LONGEST_STALE, max(1.0, facts.stale)), facts.stored
        for since, until in self._early:
            self.lack(since, until)
        self._early = Gaps()
        for name in self.topics.keys() - registry.topics.keys():
            self.topics[name].stale, self.topics[name].stored = -1.0, None if registry.left_out else False

    def _take_names(self, said_of: dict[str, PublishedTopic], registry: PublishedRegistry) -> None:
        """Give topics the names that they have now; one whose new name is another's yet waits until that one has moved.

        An old name that the house gave to something else is taken up only for a topic that is kept: it is there from then on, and
        what bears the old name later is that something else.
        """
        moved, before = set[str](), -1
        while before != len(moved):
            before = len(moved)
            for name, facts in said_of.items():
                for old in facts.was if _fits(name, facts.unit) and name not in moved else ():
                    given_on = old in registry.topics
                    if name not in self.topics and old in self.topics.keys() - moved and (facts.stored or not given_on):
                        self._rename(old, name)
                        moved.add(name)

    def _rename(self, old: str, name: str) -> None:
        del self.topics[old]
        for (known, unit), topic in list(self._units.items()):
            if known == old:
                del self._units[known, unit]
                topic.name = name
                self.know(topic)
        self.renamed.append((old, name))

    def ghosts(self) -> Iterable[tuple[RemoteTopic, int]]:
        """Topics that stand here and were cleared in the house while nobody told us, with the time (ms) when that was.

        In a house a topic is cleared when it was silent for `stale`, and when topics.yaml no longer has it.
        """
        for topic in self.topics.values():
            if topic.standing and topic.stale:
                silent = max(0.0, topic.stale) * 1000
                if topic.stale < 0 or self.newest - topic.standing > silent + GRACE:
                    yield topic, topic.standing + round(silent)
