"""What is written down of a boiler: its cycles, its local days, its silo; plain data."""

from datetime import datetime, timedelta
from functools import lru_cache
from typing import Final, Literal
from zoneinfo import ZoneInfo

import msgspec

Outcome = Literal["burned", "failed", "interrupted"]

HOUR_MS: Final = 3_600_000


class Cycle(msgspec.Struct, frozen=True):
    """A finished cycle: from prepurge or first sign of fire to the end of its burnout."""

    number: int
    """Counts from 1 for the life of the installation."""
    start: int
    """ms since 1970."""
    end: int
    """ms since 1970; of an interrupted cycle the last moment that was known."""
    outcome: Outcome
    """burned: there was a flame; failed: there was none; interrupted: its end was not seen."""
    seen: float = 1.0
    """Share of it in which phase, and auger where there is one, were known (0..1)."""
    ignition_s: float | None = None
    """From start to flame, s; None when either was not seen."""
    auger_s: float | None = None
    """Auger at work, s; None without that clamp, or with a hole."""
    fuel_kg: float | None = None
    """... times the calibrated rate, kg; None without either."""


class BoilerDay(msgspec.Struct):
    """The sums of one local day."""

    start: int = 0
    """The first midnight, ms since 1970."""
    end: int = 0
    """The next midnight, ms since 1970."""
    starts: int = 0
    """Flames, and attempts without one."""
    failed: int = 0
    """Attempts without one."""
    burning_ms: int = 0
    """In ignition and combustion."""
    known_ms: int = 0
    """In any phase but unknown."""

    @property
    def duty(self) -> float | None:
        """Share of the known time in ignition and combustion, %; None when nothing was known."""
        return round(100.0 * self.burning_ms / self.known_ms, 1) if self.known_ms else None


class FuelDay(msgspec.Struct, frozen=True):
    """What a day took, for reckoning those to come."""

    start: int
    """The first midnight, ms since 1970."""
    kg: float
    degreedays: float | None = None
    """How much colder than the base it was outside, K·d; None where that was not measured."""


class Silo(msgspec.Struct):
    """The fuel store: what a refill said was in it, and what the last days took."""

    refill_kg: float | None = None
    """What it held after the last refill, kg; None until one was entered."""
    refill_auger_ms: float = 0.0
    """What the auger had run in all by then, ms."""
    refill_seen_ms: float = 0.0
    """For how long it had been seen by then, ms."""
    refill_time: int = 0
    """When that was, ms since 1970."""
    bags: float = 0.0
    """Bags that were ever filled in."""
    days: list[FuelDay] = []
    """The last days that were seen well enough, newest last."""
    told: str = ""
    """What was last said of it."""


class Chore(msgspec.Struct):
    """What had been burned when something was last done: the ash emptied, the boiler cleaned or serviced."""

    time: int = 0
    fuel_kg: float = 0.0
    burning_ms: int = 0


@lru_cache(maxsize=8)
def _zone(name: str) -> ZoneInfo:
    return ZoneInfo(name)


def day_of(time: int, timezone: str) -> BoilerDay:
    """Return the empty local day that holds a time (ms since 1970); it lasts 23 to 25 hours."""
    zone = _zone(timezone)
    midnight = datetime.fromtimestamp(time / 1000, zone).replace(hour=0, minute=0, second=0, microsecond=0)
    following = (midnight.replace(tzinfo=None) + timedelta(days=1)).replace(tzinfo=zone)
    return BoilerDay(round(midnight.timestamp() * 1000), round(following.timestamp() * 1000))
