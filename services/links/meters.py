"""Between receiver and service: whose telegram it is, whether it is new, and whether it is to be believed."""

import logging
import math
from collections import Counter
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Final, NamedTuple

from services.protocols.wmbus import (
    Address,
    Formats,
    Refusal,
    Telegram,
    TelegramError,
    decode,
    link_address,
    meter_address,
)

log = logging.getLogger(__name__)

ECHO: Final = 10.0
"""Seconds within which the same telegram again is one that two decoders or a repeater brought."""
NEW_BEGINNING: Final = 900.0
"""Seconds of silence of a meter after which a counter that went back is no replay, but a meter that began anew."""
MOST_FOREIGN: Final = 1000
"""Foreign meters that are remembered, so that each is said once."""
LASTING: Final = frozenset((Refusal.KEY, Refusal.MAC, Refusal.UNSUPPORTED))
"""Refusals that the meter's next telegram will not mend."""

Place = tuple[str, str]
"""A meter's number and its manufacturer; the latter is empty where any will do."""


@dataclass(slots=True)
class Meter:
    """A meter that was asked for, and what is known of its last telegram."""

    place: Place
    key: bytes | None = None
    trouble: str = ""
    """Why its key cannot be used."""
    frame: bytes = b""
    heard: float = -math.inf
    counter: int = -1
    access: int | None = None
    said: set[str] = field(default_factory=set)

    @property
    def id(self) -> str:
        """Its number."""
        return self.place[0]


class Heard(NamedTuple):
    """A new telegram of a meter that was asked for, or the lasting reason why its telegrams say nothing."""

    meter: Meter
    telegram: Telegram | None
    reason: str


class Meters:
    """All meters that were asked for; what one telegram costs does not depend on how many they are."""

    def __init__(self, formats: Formats) -> None:
        self.formats = formats
        self.counts: Counter[str] = Counter()
        """Telegrams in all, and those that are foreign, damaged, duplicates, replays, plain, or refused, by reason."""
        self.foreign: set[str] = set()
        self._meters: dict[Place, Meter] = {}

    def __len__(self) -> int:
        return len(self._meters)

    def want(self, keys: dict[Place, bytes | str | None]) -> None:
        """Ask for exactly these meters, each with its key, with the sentence why it has none, or with None if it has none.

        What is known of a meter from before stays known.
        """
        before = self._meters
        self._meters = {place: before.get(place) or Meter(place) for place in keys}
        for place, given in keys.items():
            meter = self._meters[place]
            key, trouble = (None, given) if isinstance(given, str) else (given, "")
            if (key, trouble) != (meter.key, meter.trouble):
                meter.key, meter.trouble, meter.frame = key, trouble, b""
                meter.said.clear()

    @property
    def counters(self) -> dict[str, int]:
        """How far each meter has counted, for `recall` after a restart."""
        return {meter.id: meter.counter for meter in self._meters.values() if meter.counter >= 0}

    def recall(self, counters: dict[str, int], now: float) -> None:
        """Go on where `counters` ended; `now` is the time of `hear`."""
        for meter in self._meters.values():
            meter.counter, meter.heard = counters.get(meter.id, -1), now

    def hear(self, frame: bytes, now: float) -> Heard | None:
        """Take a telegram; None where there is nothing to do but to count it. `now` in monotonic seconds."""
        self.counts["telegrams"] += 1
        meter = self._meter_of(frame)
        if meter is None:
            return None
        if frame == meter.frame and now - meter.heard < ECHO:
            self.counts["duplicates"] += 1
            return None
        if meter.trouble:
            return Heard(meter, None, meter.trouble)
        try:
            telegram = decode(frame, meter.key, formats=self.formats, framing="stripped")
        except TelegramError as error:
            self.counts[f"refused_{error.kind}"] += 1
            self._say_once(meter, error.kind, str(error))
            return Heard(meter, None, str(error)) if error.kind in LASTING else None
        if not telegram.records:
            self._say_once(meter, "nothing", telegram.note or "it says nothing")
            return None
        if meter.key is not None and not telegram.decrypted:
            self.counts["plain"] += 1
            return Heard(meter, None, "a telegram with its number is not encrypted although it has a key: anybody's")
        if not self._is_fresh(telegram, meter, now):
            return None
        meter.frame, meter.heard = frame, now
        if "names" not in meter.said:
            self._say_once(meter, "names", f"it says {', '.join(record.name for record in telegram.records)}")
        return Heard(meter, telegram, "")

    def _meter_of(self, frame: bytes) -> Meter | None:
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

    def _at(self, address: Address) -> Meter | None:
        return self._meters.get((address.id, "")) or self._meters.get((address.id, address.manufacturer))

    def _is_fresh(self, telegram: Telegram, meter: Meter, now: float) -> bool:
        """Tell a new telegram from a replayed or repeated one, where the meter counts."""
        if telegram.counter is None:
            return True
        if telegram.counter < meter.counter and now - meter.heard < NEW_BEGINNING:
            self.counts["replays"] += 1
            self._say_once(meter, "replay", "a telegram came again after newer ones: it is not believed")
            return False
        if (telegram.counter, telegram.access) == (meter.counter, meter.access):
            self.counts["duplicates"] += 1
            return False
        meter.counter, meter.access = telegram.counter, telegram.access
        return True

    @staticmethod
    def _say_once(meter: Meter, what: str, sentence: str) -> None:
        if what not in meter.said:
            meter.said.add(what)
            log.info("meter %s: %s", meter.id, sentence)


def describe(frame: bytes, key: bytes | None, formats: Formats) -> str | None:
    """Return a line about the meter that sent a telegram, with its values where they can be read; None for a later one."""
    try:
        telegram = decode(frame, key, formats=formats, framing="stripped")
    except TelegramError as error:
        sender = link_address(frame)
        return None if error.kind is Refusal.FORMAT or sender is None else f"{sender.id} {sender.manufacturer}  {error}"
    values = ", ".join(f"{record.name} {record.value} {record.unit}".rstrip() for record in telegram.records)
    return f"{telegram.id} {telegram.manufacturer} {telegram.type}  {values or telegram.note}"
