"""How the centre gets from a house's archive what is lacking here: slice by slice, some houses at a time, each slice counted.

It asks with `<house>/home/service/archive/request/replay`; a slice is there when as many different readings came as the archive says
that it has. Pages bear no name of their request, so the readings themselves are counted: one of an earlier answer is the same reading.
"""

import itertools
import logging
import time
from collections.abc import Callable, Iterable, Iterator
from typing import Any, Final, NamedTuple

import msgspec

from bootstrap_lib import Message, Poison, Value, as_json, format_time, parse_time
from services.fleet.remote_house import RemoteHouse
from services.fleet.wire import CountAnswer
from services.stores.backfill import End, ReplayAnswer, entry_of, page_of

log = logging.getLogger(__name__)

SLICE: Final = 1_800_000
"""Milliseconds of readings asked for at a time: some 14,000, which are remembered until the slice is counted."""

LEAST_SLICE: Final = 60_000
"""Milliseconds of the smallest slice that a house is asked for which sent more than is remembered."""

MOST_SEEN: Final = 50_000
"""Readings of a slice that are remembered, in some 4 MB; all houses of a shard share one store's memory."""

SETTLE: Final = 2.0
"""Seconds until an archive has committed what revealed the gap."""

PATIENCE: Final = 30.0
"""Seconds of silence after which an archive is asked again: longer than it may wait itself for what it is owed."""

TRIES: Final = 3
"""Asks without an answer after which a house makes room for others."""

REST: Final = (5.0, 30.0, 120.0, 600.0)
"""Seconds until a house is asked again that did not answer, refused, or answered short: longer each time."""

HOUR: Final = 3_600_000
COUNTED: Final = 6 * HOUR
"""Milliseconds that an archive counts at a time."""

_answer = msgspec.json.Decoder(ReplayAnswer)
_counts = msgspec.json.Decoder(CountAnswer)


class Filled(NamedTuple):
    """A reading that a house's archive sent again; `time` in ms."""

    name: str
    unit: str
    time: int
    value: Value


class Errand:
    """What one house is asked for now: a slice of readings, or (`counting`) how many it has of a range. Times in ms."""

    def __init__(self, house: RemoteHouse, due: float) -> None:
        """Begin at a time (monotonic)."""
        self.house, self.due = house, due
        self.since = self.until = 0
        self.identity: str | None = None
        self.tries = 0
        self.counting = False
        self.seen: set[int] = set()
        """Hashes of the readings that came: a tenth of what they weigh themselves."""


class FleetFilling:
    """All fillings of a centre. `publish` sends a request to a house; `store` counts what is here."""

    def __init__(
        self,
        publish: Callable[[str, bytes], Any],
        name: str,
        at_once: int,
        complain: Callable[[str], None],
    ) -> None:
        """`name` is what houses know the centre by, `at_once` how many of them are asked at a time."""
        self._publish, self._name, self.at_once, self._complain = publish, name, at_once, complain
        self._errands: dict[str, Errand] = {}
        self._rests: dict[str, tuple[float, int]] = {}
        self._counting: dict[str, tuple[int, int]] = {}
        self._slices: dict[str, int] = {}
        """Milliseconds that are asked for at a time of houses which have too many readings in a usual slice."""
        self._passed: dict[str, int] = {}
        """Up to when (ms) houses are asked for the rest first: what lies before came short again and again."""
        self._numbers = itertools.count(time.time_ns() // 1_000_000)
        self._said: dict[str, str] = {}
        self.short = 0
        """Slices that were answered short, and asked for again."""

    @property
    def running(self) -> int:
        """Houses that are asked now."""
        return len(self._errands)

    def busy(self, house: RemoteHouse) -> bool:
        """Whether a house is asked for something now, or will be."""
        return bool(house.lacking) or house.name in self._errands or house.name in self._counting

    def count(self, house: RemoteHouse, since: int, until: int) -> None:
        """Have counts compared of a range of time (ms), once nothing is lacking that is known of."""
        if since < until:
            before = self._counting.get(house.name, (since, until))
            self._counting[house.name] = min(since, before[0]), max(until, before[1])

    def forget(self, name: str) -> None:
        """Ask a house for nothing any more."""
        for kept in (self._errands, self._rests, self._counting, self._slices, self._passed, self._said):
            kept.pop(name, None)

    def wake(self, name: str) -> None:
        """Ask a house at once: it is there again."""
        self._rests.pop(name, None)
        if (errand := self._errands.get(name)) is not None:
            errand.due, errand.identity, errand.tries = time.monotonic() + SETTLE, None, 0

    # -- asking -------------------------------------------------------------------------------------------------------

    def on_tick(self, houses: Iterable[RemoteHouse]) -> None:
        """Begin with houses that lack something, as many as there is room for; ask again where it is time."""
        now = time.monotonic()
        for errand in list(self._errands.values()):
            if now >= errand.due:
                self._ask(errand, now)
        for house in houses:
            if len(self._errands) >= self.at_once:
                return
            if house.linked and house.name not in self._errands and self._wants(house):
                if now < self._rests.get(house.name, (0.0, 0))[0]:
                    continue
                self._errands[house.name] = Errand(house, now + SETTLE)

    def _wants(self, house: RemoteHouse) -> bool:
        return bool(house.lacking) or house.name in self._counting

    def _ask(self, errand: Errand, now: float) -> None:
        if errand.tries >= TRIES:
            self._rest(errand, "its archive does not answer")
            return
        house, errand.tries = errand.house, errand.tries + 1
        errand.identity, errand.due = f"{self._name}-{next(self._numbers)}", now + PATIENCE
        errand.seen.clear()
        errand.counting = not house.lacking
        if house.lacking:
            errand.since, errand.until = house.lacking.first(
                self._slices.get(house.name, SLICE), self._passed.get(house.name, 0)
            )
        elif house.name in self._counting:
            since, until = self._counting[house.name]
            errand.since, errand.until = since, min(until, since // HOUR * HOUR + COUNTED)
        else:
            self._end(errand)
            return
        asked = {"from": format_time(errand.since), "to": format_time(errand.until), "id": errand.identity}
        verb = "counts" if errand.counting else "replay"
        payload = as_json(asked if errand.counting else asked | {"for": self._name})
        self._publish(f"{house.prefix}/service/archive/request/{verb}", payload)

    def _rest(self, errand: Errand, sentence: str) -> None:
        """Let a house rest, and say why once."""
        name = errand.house.name
        _, times = self._rests.get(name, (0.0, 0))
        self._rests[name] = time.monotonic() + REST[min(times, len(REST) - 1)], times + 1
        self._errands.pop(name, None)
        if self._said.get(name) != sentence:
            self._said[name] = sentence
            log.warning("%s is not filled: %s; asked again later", name, sentence)
            self._complain(f"{name} is not filled: {sentence}")

    def _go_on(self, errand: Errand) -> None:
        """Ask for the next slice at once, or make room."""
        self._rests.pop(errand.house.name, None)
        errand.tries, errand.identity = 0, None
        if self._wants(errand.house):
            self._ask(errand, time.monotonic())
        else:
            self._end(errand)

    def _end(self, errand: Errand) -> None:
        self._errands.pop(errand.house.name, None)
        if self._said.pop(errand.house.name, None):
            log.info("%s is filled", errand.house.name)

    # -- what comes ---------------------------------------------------------------------------------------------------

    def take(self, house: RemoteHouse, message: Message) -> Iterator[Filled | Poison]:
        """Readings of a page, Poison for each that is none: its archive counts it too, and has nothing better.

        A slice that is whole is taken from what the house lacks; ValueError for a page that is none.
        """
        page = page_of(message.payload)
        errand = self._errands.get(house.name)
        if isinstance(page, End):
            if errand is not None and page.id == errand.identity is not None:
                self._count_slice(errand, page)
            return
        filled: Filled | Poison
        for raw in page:
            try:
                entry, moment = entry_of(raw)
                filled = Filled(entry.topic, entry.unit, moment, entry.value)
            except ValueError as error:
                mark, filled = hash(bytes(raw)), Poison(f"a reading of a page is none: {error}")
            else:
                if entry.span:
                    continue
                mark = hash((entry.topic, entry.unit, moment))
            if errand is not None and (isinstance(filled, Poison) or errand.since <= filled.time < errand.until):
                errand.seen.add(mark)
                if len(errand.seen) > MOST_SEEN:
                    self._take_less(errand)
                    errand = None
            yield filled
        if errand is not None:
            errand.due = time.monotonic() + PATIENCE

    def _take_less(self, errand: Errand) -> None:
        """End an errand that brings more than is remembered: a house that has so much is asked for less at a time, later."""
        errand.seen.clear()
        before = self._slices.get(errand.house.name, SLICE)
        self._slices[errand.house.name] = max(LEAST_SLICE, before // 2)
        self._rest(errand, f"it sends more than {MOST_SEEN} readings of {before // 60_000} minutes")

    def _count_slice(self, errand: Errand, end: End) -> None:
        """Whether all came that the archive has; brokers drop from full queues without a word."""
        if len(errand.seen) != end.count:
            self.short += 1
            if errand.tries >= TRIES:
                self._rest(errand, f"of {end.count} readings {len(errand.seen)} came")
                if self._rests[errand.house.name][1] >= TRIES:  # what stays short keeps the rest of its house no longer
                    self._passed[errand.house.name] = errand.until
            else:
                self._ask(errand, time.monotonic())
            return
        until = errand.until
        for _, b in errand.house.lacking:  # where the archive has nothing for a while, it is not asked slice by slice
            if b >= until:
                until = max(until, min(b, parse_time(end.following) if end.following else b))
                break
        errand.house.filled(errand.since, until)
        self._go_on(errand)

    def take_answer(self, house: RemoteHouse, message: Message) -> None:
        """Hear that an archive refuses a replay."""
        try:
            answer = _answer.decode(message.payload)
        except (msgspec.DecodeError, UnicodeDecodeError):
            return
        errand = self._errands.get(house.name)
        if errand is not None and answer.status == "error" and answer.id == errand.identity is not None:
            self._rest(errand, f"its archive refuses: {answer.error[:200]}")

    def take_counts(
        self, house: RemoteHouse, message: Message, ours: Callable[[int, int], dict[tuple[str, int], int]]
    ) -> list[tuple[int, int]]:
        """Compare an archive's counts with ours (of a range of ms); returns the hours in which something is lacking here."""
        try:
            answer = _counts.decode(message.payload)
        except (msgspec.DecodeError, UnicodeDecodeError):
            return []
        errand = self._errands.get(house.name)
        if errand is None or not errand.counting or answer.id != errand.identity or errand.identity is None:
            return []
        if answer.data is None:
            self._rest(errand, f"its archive does not count: {answer.error[:200]}")
            return []
        here, lacking = ours(errand.since, errand.until), list[tuple[int, int]]()
        for index, said in enumerate(answer.data.hours[: COUNTED // HOUR]):
            hour = parse_time(said)
            for name, numbers in answer.data.topics.items():
                few = index < len(numbers) and numbers[index] > here.get((name, hour), 0)
                if few and house.has_room_for(name):
                    since, until = max(errand.since, hour), min(errand.until, hour + HOUR)
                    lacking += [(since, until)] if since < until and house.lack(since, until) else []
        self._counted(errand)
        return lacking

    def _counted(self, errand: Errand) -> None:
        house, (since, until) = errand.house, self._counting[errand.house.name]
        house.compared, house.changed = errand.until, True
        if errand.until < until:
            self._counting[house.name] = max(since, errand.until), until
        else:
            del self._counting[house.name]
        self._go_on(errand)
