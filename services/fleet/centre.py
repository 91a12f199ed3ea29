"""What a centre does with what houses send: it keeps readings, follows numbers, has gaps filled, and clears what a house cleared."""

import logging
import time
from collections.abc import Callable, Iterator
from typing import Any, Final, NamedTuple

import msgspec

from bootstrap_lib import Message, Poison, Reading, Sequence, Topic, Value
from services.fleet import partitions, summing, tables
from services.fleet.engine import Engine, PartitionMissing
from services.fleet.filling import FleetFilling
from services.fleet.remote_house import RemoteHouse, RemoteTopic
from services.fleet.store import CentralStore, HousesLost, RefusedReading
from services.fleet.tables import LONGEST
from services.fleet.wire import AHEAD, place, read
from services.stores.house_registry import PublishedRegistry

log = logging.getLogger(__name__)

MOST_HOUSES: Final = 5000
HANDED: Final = 1000
"""Milliseconds beyond the taking up of a house in which nobody hears it yet."""

SETTLED: Final = 60_000
"""Milliseconds that are not compared yet: they may still be on their way."""

LARGEST: Final = 1e100
"""No counter comes near it, and no sum of such numbers, nor of their squares, leaves a double."""

LOOK: Final = 10.0
"""Seconds between two looks for topics that were cleared in their house while nobody told us."""

CHANGES: Final = 600.0
"""Seconds between two looks whether a partition is to be made or dropped."""

SHARE: Final = 0.2
"""Seconds of a turn that are spent on sums."""


class Limits(NamedTuple):
    """How long things are kept (ms), and how often counts are compared (ms)."""

    raw: int
    minutes: int
    compare: int


_registry = msgspec.json.Decoder(PublishedRegistry)


class Centre:
    """A shard of houses, open. What speaks with the engine may raise EngineAway."""

    def __init__(
        self, engine: Engine, store: CentralStore, filling: FleetFilling, limits: Limits, clear: Callable[[str], Any]
    ) -> None:
        """`clear` takes a retained message away at the centre's broker."""
        self.engine, self.store, self.filling, self._limits, self._clear = engine, store, filling, limits, clear
        self.houses: dict[str, RemoteHouse] = {}
        self.counters: dict[str, int] = {}
        self._look_at = self._change_at = 0.0
        self._summing: Iterator[RemoteHouse] = iter(())

    def ages(self) -> dict[str, int]:
        """How long (ms) the tables that have partitions keep their rows."""
        return {
            table.name: self._limits.raw if table is tables.READINGS else self._limits.minutes
            for table in tables.ALL
            if table.period
        }

    def take_up(self, name: str, prefix: str, now: int) -> bool:
        """Take up a house from the engine, and what another process may have missed of it; False while another shard keeps it."""
        claim = self.store.claim(name, now)
        if claim == "another's":
            return False
        house = self.houses[name] = self.store.load(name, prefix)
        if house.numbers.newest and (claim == "new" or self.store.taken_over):
            house.lack(max(0, house.numbers.newest - AHEAD), now + HANDED)
        return True

    def let_go(self, name: str) -> None:
        """Leave a house to another shard, once what came of it is committed."""
        self.store.let_go(name)
        self._forget(name)

    def _forget(self, name: str) -> None:
        self.filling.forget(name)
        self.houses.pop(name, None)

    def house(self, name: str, prefix: str, now: int) -> RemoteHouse:
        """A house that something was heard of; one that is new lacks all that its archive has. Poison for one too many."""
        house = self.houses.get(name)
        if house is None:
            if len(self.houses) >= MOST_HOUSES or len(name) > LONGEST:
                raise Poison("this shard has no room for another house")
            house = self.houses[name] = RemoteHouse(name, prefix)
        if house.number is None and not house.compared:
            house.compared = now
            house.lack(partitions.oldest(now, self._limits.raw), now)
        house.linked = True
        return house

    # -- readings -----------------------------------------------------------------------------------------------------

    def take(self, house: RemoteHouse, name: str, message: Message, now: int) -> None:
        """Take a message of a data topic: a reading, or a clearing. Poison and ReadingError say what is wrong."""
        sequence = place(message.sequence)
        if not message.payload:
            self._cleared(house, name, sequence, now)
            return
        wire, moment = read(message.payload, now)
        if not message.retained and house.awaits(name, moment, now):
            return
        topic = house.topic(name, wire.unit)
        if sequence is not None:
            self.follow(house, topic, sequence, moment, now)
        if message.retained or moment >= topic.standing:
            topic.standing = moment
        house.newest = max(house.newest, moment)
        if topic.stored or (topic.stored is None and sequence is not None):
            self.keep(topic, moment, wire.value, now)

    def take_own(self, house: RemoteHouse, reading: Reading, own: Topic[Any], now: int) -> None:
        """Take a reading of the house that this is, as its topics.yaml judged it."""
        topic = house.topic(reading.topic, own.unit)
        topic.source = own.source
        if reading.sequence is not None:
            self.follow(house, topic, reading.sequence, reading.time, now)
        house.newest = max(house.newest, reading.time)
        if own.stored_by("archive"):
            self.keep(topic, reading.time, reading.value, now)

    def follow(
        self, house: RemoteHouse, topic: RemoteTopic | None, sequence: Sequence, moment: int | None, now: int
    ) -> None:
        """Follow the numbers of a house's source, and have filled what never came."""
        if house.follow(topic, sequence, moment, now):
            self._count("gaps")

    def keep(self, topic: RemoteTopic, moment: int, value: Value, now: int) -> None:
        """Keep a reading for the next commit; one that is older than all that is kept is counted. Poison for no value."""
        if moment < self._oldest(now)[0]:
            self._count("too_old")
            return
        if isinstance(value, str) and len(value) > LONGEST:
            raise Poison(f"a word of {len(value)} characters is none of a state: at most {LONGEST}")
        if not isinstance(value, str) and abs(value) > LARGEST:
            raise Poison("its number is larger than any measurement")
        self.store.store(topic, moment, value)

    def _cleared(self, house: RemoteHouse, name: str, sequence: Sequence | None, now: int) -> None:
        topic = house.topics.get(name)
        at = house.numbers.heard_at(sequence.stream) if sequence else 0
        if sequence is not None:
            self.follow(house, topic, sequence, None, now)
        if topic is not None and topic.standing:
            topic.standing = 0
            self._clear_here(topic, min(now, at + round(topic.stale * 1000)) if at and topic.stale > 0 else now, now)

    def _clear_here(self, topic: RemoteTopic, moment: int, now: int) -> None:
        """Keep when a topic was cleared; what is older than all that is kept of clearings is counted."""
        if moment < self._oldest(now)[1]:
            self._count("too_old")
        else:
            self.store.clear(topic, moment)

    def _oldest(self, now: int) -> tuple[int, int]:
        """Times (ms) before which no reading and no clearing is kept: their tables have no partition for them."""
        return partitions.oldest(now, self._limits.raw), partitions.oldest(now, self._limits.minutes, "month")

    def take_registry(self, house: RemoteHouse, message: Message) -> None:
        """Take what a house says of its topics; Poison where it is no registry."""
        try:
            house.take_registry(_registry.decode(message.payload))
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            raise Poison(f"no registry of a house: {error}") from None

    def take_page(self, house: RemoteHouse, message: Message, now: int) -> None:
        """Take a page of a replay; Poison says what is wrong with it, or with one of its readings: the others are kept."""
        poison: Poison | None = None
        try:
            for filled in self.filling.take(house, message):
                try:
                    if isinstance(filled, Poison):
                        raise filled
                    if filled.time <= now + AHEAD:
                        self.keep(house.topic(filled.name, filled.unit), filled.time, filled.value, now)
                        self._count("filled")
                except Poison as error:
                    poison = error
                    self._count("refused")
        except ValueError as error:
            raise Poison(str(error)) from None
        if poison is not None:
            raise poison

    def take_counts(self, house: RemoteHouse, message: Message, now: int) -> None:
        """Take what an archive counted: where it has more than we have, it is asked for it."""
        self.commit(now)

        def ours(since: int, until: int) -> dict[tuple[str, int], int]:
            return summing.counts(self.engine, house.number, since, until) if house.number is not None else {}

        if lacking := self.filling.take_counts(house, message, ours):
            self._count("holes", len(lacking))
            log.warning(
                "%s has readings of %d hours that are missing here: they are asked for", house.name, len(lacking)
            )

    def _count(self, what: str, number: int = 1) -> None:
        self.counters[what] = self.counters.get(what, 0) + number

    # -- what lasts ---------------------------------------------------------------------------------------------------

    def commit(self, now: int) -> list[RefusedReading]:
        """Make all last that came; returns the readings that the engine will never take. ShardLost, EngineAway."""
        try:
            return self.store.commit(self.houses.values(), now)
        except PartitionMissing:
            partitions.create(self.engine, now, self.ages())
            self.look_after_partitions(now)
            rows, clearings = self._oldest(now)  # what waited here while its partition was dropped
            self._count("too_old", self.store.drop(rows=rows, clearings=clearings))
        except HousesLost as error:
            log.warning("%s", error)
            self._count("lost", len(error.names))
            self.store.drop(error.names)
            for name in error.names:
                self._forget(name)
        return self.store.commit(self.houses.values(), now)

    def look_after_partitions(self, now: int, *, most: int = 50) -> None:
        """Make partitions ahead and drop those that are too old."""
        for table in tables.ALL:
            age = self.ages().get(table.name, 0)
            for _ in range(most if table.period else 0):
                change = partitions.next_change(self.engine, table, now, age)
                if change is None:
                    break
                log.info("%s", change)
                self.engine.define(change)

    # -- what is done with the time -----------------------------------------------------------------------------------

    def on_tick(self, now: int) -> None:
        """Ask houses for what is lacking, compare counts, sum up, look after partitions; a little of each."""
        tick = time.monotonic()
        for house in self.houses.values():
            if house.linked and now - house.compared >= self._limits.compare and not self.filling.busy(house):
                self.compare(house, now)
        self.filling.on_tick(self.houses.values())
        if tick >= self._look_at:
            self._look_at = tick + LOOK
            self._clear_ghosts(now)
        if tick >= self._change_at:
            self._change_at = tick + CHANGES
            self.look_after_partitions(now, most=1)
        self._sum(now, tick + SHARE)

    def compare(self, house: RemoteHouse, now: int, since: int | None = None) -> None:
        """Have the counts of a house compared, since the last time or another (ms), up to a moment ago."""
        oldest = partitions.oldest(now, self._limits.raw)
        since = max(house.compared - summing.HOUR if since is None else since, oldest)
        self.filling.count(house, since, now - min(SETTLED, self._limits.compare))

    def _clear_ghosts(self, now: int) -> None:
        for house in self.houses.values():
            for topic, moment in list(house.ghosts()) if house.linked else ():
                self._clear(f"{house.prefix}/data/{topic.name}")
                topic.standing = 0
                self._clear_here(topic, moment, now)
                self._count("ghosts")

    def _sum(self, now: int, until: float) -> None:
        while time.monotonic() < until:
            house = next(self._summing, None)
            if house is None:
                self._summing = iter(list(self.houses.values()))
                return
            if house.number is not None:
                for hour in summing.due(self.engine, house.number, now, 4):
                    done = summing.sum_up(self.engine, house.number, hour, house.timezone)
                    self._count("summed" if done else "unsummed")

    def facts(self) -> dict[str, Any]:
        """What health says."""
        houses = self.houses.values()
        return {
            "houses": len(houses),
            "linked": sum(house.linked for house in houses),
            "lacking": sum(bool(house.lacking) for house in houses),
            "filling": self.filling.running,
            "short": self.filling.short,
            "node": self.engine.node,
            "errors": dict(self.engine.errors),
            **self.counters,
        }
