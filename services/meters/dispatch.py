"""Between receiver and service: whose telegram it is, whether it is new, and whether it is to be believed."""

import logging
import math
from collections import Counter
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import date, timedelta
from typing import Final, NamedTuple

from msgspec import Struct

from services.protocols.wmbus import (
    Address,
    Formats,
    Telegram,
    TelegramError,
    TelegramRefusal,
    decode,
    link_address,
    meter_address,
)

log = logging.getLogger(__name__)

ECHO: Final = 10.0
"""Seconds within which the same telegram again is one that two decoders or a repeater brought."""
NEW_BEGINNING: Final = 900.0
"""Seconds of silence of a meter after which a counter that went back is no replay, but a meter that began anew, and
what cannot be read is not a stranger's with its number, but its own."""
SAME_COUNT: Final = 8
"""Telegrams of one count that are told apart by their access numbers: a Kamstrup sends four in a minute."""
MOST_FOREIGN: Final = 1000
"""Foreign meters that are remembered, so that each is said once."""
LASTING: Final = frozenset((TelegramRefusal.KEY, TelegramRefusal.MAC, TelegramRefusal.UNSUPPORTED))
"""Refusals that the meter's next telegram will not mend."""

Place = tuple[str, str]
"""A meter's number and its manufacturer; the latter is empty where any will do."""


class Counted(Struct):
    """How far a meter has counted, and the access numbers of its last telegrams with this count."""

    counter: int
    accesses: list[int | None]


class ShownTotal(NamedTuple):
    """A total that a meter showed, and the end of the period that it counts from, where it says one."""

    total: float
    period: str | None


@dataclass(slots=True)
class KnownMeter:
    """A meter that was asked for, and what is known of its last telegram."""

    place: Place
    key: bytes | None = None
    trouble: str = ""
    """Why its key cannot be used."""
    frame: bytes = b""
    heard: float = -math.inf
    counted: Counted | None = None
    shown: dict[str, ShownTotal] = field(default_factory=dict)
    """What it showed last, by the names of its totals, where its coding has no check of its own."""
    said: set[str] = field(default_factory=set)

    @property
    def id(self) -> str:
        """Its number."""
        return self.place[0]


class HeardMeter(NamedTuple):
    """A new telegram of a meter that was asked for, or the lasting reason why its telegrams say nothing."""

    meter: KnownMeter
    telegram: Telegram | None
    reason: str


class KnownMeters:
    """All meters that were asked for; what one telegram costs does not depend on how many they are."""

    def __init__(self, formats: Formats) -> None:
        self.formats = formats
        self.counts: Counter[str] = Counter()
        """Telegrams in all, and those that are foreign, damaged, duplicates, replays, plain, or refused, by reason."""
        self.foreign: set[str] = set()
        self._meters: dict[Place, KnownMeter] = {}

    def __len__(self) -> int:
        return len(self._meters)

    def want(self, keys: dict[Place, bytes | str | None]) -> None:
        """Ask for exactly these meters, each with its key, with the sentence why it has none, or with None if it has none.

        What is known of a meter from before stays known.
        """
        before = self._meters
        self._meters = {place: before.get(place) or KnownMeter(place) for place in keys}
        for place, given in keys.items():
            meter = self._meters[place]
            key, trouble = (None, given) if isinstance(given, str) else (given, "")
            if (key, trouble) != (meter.key, meter.trouble):
                meter.key, meter.trouble, meter.frame = key, trouble, b""
                meter.said.clear()

    @property
    def counted(self) -> dict[str, Counted]:
        """How far each meter has counted, for `recall` after a restart."""
        return {" ".join(place): meter.counted for place, meter in self._meters.items() if meter.counted}

    def recall(self, counted: Mapping[str, Counted], now: float) -> None:
        """Go on where they had counted to; `now` is the time of `hear`."""
        for place, meter in self._meters.items():
            meter.counted, meter.heard = counted.get(" ".join(place)), now

    def hear(self, frame: bytes, now: float, today: str | None = None) -> HeardMeter | None:
        """Take a telegram; None where there is nothing to do but to count it.

        `now` in monotonic seconds; `today`, the date by UTC as ISO 8601 where the clock is right, is for telegrams whose own
        coding has no check.
        """
        self.counts["telegrams"] += 1
        meter = self._meter_of(frame)
        if meter is None:
            return None
        if frame == meter.frame and now - meter.heard < ECHO:
            self.counts["duplicates"] += 1
            return None
        if meter.trouble:
            return HeardMeter(meter, None, meter.trouble)
        try:
            telegram = decode(frame, meter.key, formats=self.formats, framing="stripped")
        except TelegramError as error:
            self.counts[f"refused_{error.kind}"] += 1
            self._say_once(meter, error.kind, str(error))
            return self._failing(meter, str(error), now) if error.kind in LASTING else None
        if not telegram.records:
            self._say_once(meter, "nothing", telegram.note or "it says nothing")
            return None
        if meter.key is not None and not telegram.decrypted:
            self.counts["plain"] += 1
            sentence = "a telegram with its number is not encrypted although it has a key: anybody's"
            return self._failing(meter, sentence, now)
        if not self._is_fresh(telegram, meter, now):
            return None
        if not telegram.certain and (why := _doubt(telegram, meter, now, today)):
            self.counts["implausible"] += 1
            self._say_once(meter, "implausible", f"a telegram is not believed: {why}")
            return None
        if telegram.note:
            self._say_once(meter, "note", telegram.note)
        meter.frame, meter.heard = frame, now
        if "names" not in meter.said:
            self._say_once(meter, "names", f"it says {', '.join(record.name for record in telegram.records)}")
        return HeardMeter(meter, telegram, "")

    @staticmethod
    def _failing(meter: KnownMeter, reason: str, now: float) -> HeardMeter | None:
        """Say that a meter cannot be read, unless it is: then this telegram is somebody else's."""
        return None if meter.frame and now - meter.heard < NEW_BEGINNING else HeardMeter(meter, None, reason)

    def _meter_of(self, frame: bytes) -> KnownMeter | None:
        """Find the meter by the sender's address, else by that of the meter behind a radio adapter."""
        sender = link_address(frame)
        if sender is None:
            self.counts["damaged"] += 1
            return None
        meter = self._at(sender)
        if meter is None:
            with suppress(TelegramError):
                sender = meter_address(frame, "stripped")
                meter = self._at(sender)
        if meter is None:
            self.counts["foreign"] += 1
            if sender.id not in self.foreign and len(self.foreign) < MOST_FOREIGN:
                self.foreign.add(sender.id)
                log.info("meter %s (%s) is heard, and is not one of ours", sender.id, sender.manufacturer)
        return meter

    def _at(self, address: Address) -> KnownMeter | None:
        return self._meters.get((address.id, address.manufacturer)) or self._meters.get((address.id, ""))

    def _is_fresh(self, telegram: Telegram, meter: KnownMeter, now: float) -> bool:
        """Tell a new telegram from a replayed or repeated one, where the meter counts."""
        counter, known = telegram.counter, meter.counted
        if counter is None:
            return True
        if known is None or counter > known.counter or (counter < known.counter and now - meter.heard >= NEW_BEGINNING):
            meter.counted = Counted(counter, [telegram.access])
            return True
        if counter < known.counter:
            self.counts["replays"] += 1
            self._say_once(meter, "replay", "a telegram came again after newer ones: it is not believed")
            return False
        if telegram.access in known.accesses:
            self.counts["duplicates"] += 1
            return False
        known.accesses = [*known.accesses, telegram.access][-SAME_COUNT:]
        return True

    @staticmethod
    def _say_once(meter: KnownMeter, what: str, sentence: str) -> None:
        if what not in meter.said:
            meter.said.add(what)
            log.info("meter %s: %s", meter.id, sentence)


_TOTALS: Final = {"volume": 20.0, "energy": 200.0, "heat_cost_units": 100.0}
"""Totals, and the most that a meter of a house adds to each in an hour."""
_MIDNIGHT: Final = 26.0
"""Hours' worth that it may add besides: some meters say what they showed last midnight."""


def _doubt(telegram: Telegram, meter: KnownMeter, now: float, today: str | None) -> str | None:
    """Say why a telegram without a check cannot be what its meter shows, or None; then remember what it shows.

    After a long silence, or disbelief for as long, it is a meter that began anew. A meter's date is that of its own clock,
    which is hours ahead of `today`'s by UTC in most houses, and seldom right: tomorrow is no doubt.
    """
    values = {record.name: record.value for record in telegram.records}
    ended = values.get("target_date")
    latest = today and (date.fromisoformat(today) + timedelta(days=1)).isoformat()
    for day in (ended, values.get("date")):
        if latest is not None and isinstance(day, str) and day > latest:
            return f"its date {day} is still to come"
    hours = (now - meter.heard) / 3600 + _MIDNIGHT
    shown: dict[str, ShownTotal] = {}
    for name, most in _TOTALS.items():
        value = values.get(name)
        if isinstance(value, int | float):
            before = meter.shown.get(name)
            period = ended if isinstance(ended, str) else None
            if before is not None and now - meter.heard < NEW_BEGINNING:
                same = before.period == period or name != "heat_cost_units"  # these begin again with each period
                if same and value < before.total:
                    return f"its {name} of {value:g} is less than the {before.total:g} before"
                if same and value > before.total + most * hours:
                    return f"its {name} of {value:g} is more than it can have added to {before.total:g}"
            shown[name] = ShownTotal(value, period)
    meter.shown = shown
    return None
