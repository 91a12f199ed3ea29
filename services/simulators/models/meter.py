"""Meters that a house drives: counters that only grow, by the habits of a day."""

from random import Random

import msgspec

from services.simulators.models.chance import is_between


class MeterSample(msgspec.Struct, frozen=True):
    """What a meter shows at one moment."""

    total: float
    """kWh or m³, to 0.001; never less than before."""
    rate: float
    """The same per hour, now: kW or m³/h."""


class SimulatedMeter:
    """A counter that a house drives: a base that never rests, habits of the day, and short strong draws."""

    def __init__(
        self,
        seed: int = 0,
        *,
        base: float,
        draw: float,
        speed: float = 1.0,
        time: float = 0.0,
        total: float = 0.0,
    ) -> None:
        """Rates `base` (always) and `draw` (one kettle, one tap) in kW or m³/h; `total` is what it shows at first."""
        self._random = Random(seed)
        self.speed = speed
        self.time = time
        self.total = total
        self.base, self.draw = base, draw
        self._drawing_until = time

    def step(self, seconds: float) -> MeterSample:
        """Let time pass (real seconds, times `speed` in the model) and read."""
        left = seconds * self.speed
        rate = self.base
        while left > 0.0:
            passed = min(left, 10.0)
            self.time += passed
            busy = is_between(self.time, 6.5, 8.5) or is_between(self.time, 17.5, 21.5)
            awake = 0.15 if is_between(self.time, 0.0, 6.0) else 2.5 if busy else 1.0
            if self.time >= self._drawing_until and self._random.random() < passed * awake / 1200.0:
                self._drawing_until = self.time + self._random.uniform(20.0, 300.0)
            rate = self.base + (self.draw if self.time < self._drawing_until else 0.0)
            self.total += rate * passed / 3600.0
            left -= passed
        return MeterSample(total=round(self.total, 3), rate=round(rate, 3))


def electricity(seed: int = 0, *, speed: float = 1.0, time: float = 0.0) -> SimulatedMeter:
    """Meter of a house's electricity: total in kWh, rate in kW."""
    return SimulatedMeter(seed, base=0.18, draw=1.9, speed=speed, time=time, total=48213.207)


def water(seed: int = 0, *, speed: float = 1.0, time: float = 0.0) -> SimulatedMeter:
    """Meter of a house's water: total and rate in m³ and m³/h; at night nothing flows."""
    return SimulatedMeter(seed, base=0.0, draw=0.42, speed=speed, time=time, total=912.046)


def heat(seed: int = 0, *, speed: float = 1.0, time: float = 0.0) -> SimulatedMeter:
    """Meter of a heating circuit: total in kWh, rate in kW."""
    return SimulatedMeter(seed, base=4.5, draw=6.0, speed=speed, time=time, total=130871.0)
