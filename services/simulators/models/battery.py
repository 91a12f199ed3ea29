"""Eight LiFePO4 cells with their flat discharge curve, a solar day above and a house below."""

from bisect import bisect_right
from math import pi, sin
from random import Random
from typing import Final

import msgspec

from services.simulators.models.chance import DAY, Wander, clamp, is_between

LIFEPO4: Final = (
    (0.0, 2.50),
    (0.03, 2.95),
    (0.10, 3.18),
    (0.20, 3.24),
    (0.40, 3.28),
    (0.60, 3.30),
    (0.70, 3.32),
    (0.90, 3.335),
    (0.97, 3.36),
    (0.99, 3.42),
    (1.0, 3.55),
)
"""Open-circuit voltage of a cell by state of charge (0..1), V: flat for most of its way."""


def cell_voltage(soc: float) -> float:
    """Open-circuit voltage (V) of a LiFePO4 cell at a state of charge (0..1), between the points of its curve."""
    place = clamp(soc, 0.0, 1.0)
    after = min(bisect_right(LIFEPO4, (place, 99.0)), len(LIFEPO4) - 1)
    (x0, y0), (x1, y1) = LIFEPO4[after - 1], LIFEPO4[after]
    return y0 + (y1 - y0) * (place - x0) / (x1 - x0)


def sunlight(time: float, *, sunrise: float = 6.5, sunset: float = 19.5) -> float:
    """Share (0..1) of the clear-sky noon power at a second of the day; sunrise and sunset in hours."""
    hour = time % DAY / 3600.0
    return max(0.0, sin(pi * (hour - sunrise) / (sunset - sunrise))) ** 1.2 if sunrise < hour < sunset else 0.0


class BatterySample(msgspec.Struct, frozen=True):
    """What a battery management system and a solar charge controller report at one moment."""

    cells: tuple[float, ...]
    """V, to 1 mV."""
    voltage: float
    """V."""
    current: float
    """A, charging positive."""
    soc: float
    """%."""
    charge: float
    """What is left, Ah."""
    throughput: float
    """Discharged in all, Ah."""
    temperature: float
    """°C."""
    solar_power: float
    """W."""
    load_power: float
    """W."""


class SimulatedBattery:
    """Eight LiFePO4 cells with a solar day above and a house below, cut off at full and at empty."""

    def __init__(
        self, seed: int = 0, *, speed: float = 1.0, time: float = 0.0, soc: float = 0.6, capacity: float = 280.0
    ) -> None:
        """`time` is the second of the day, `soc` 0..1, `capacity` in Ah."""
        self._random = Random(seed)
        self._clouds = Wander(self._random, 5400.0)
        self._habit = Wander(self._random, 7000.0)
        self._spread = [self._random.gauss(0.0, 0.004) for _ in range(8)]
        self.speed = speed
        self.time = time
        self.soc = soc
        self.capacity = capacity
        self.solar_peak, self.load_mean = 1800.0, 220.0
        self._throughput = 5200.0
        self._temperature = 18.0

    def step(self, seconds: float) -> BatterySample:
        """Let time pass (real seconds, times `speed` in the model) and report."""
        left = seconds * self.speed
        solar = load = current = 0.0
        while True:
            passed = min(left, 30.0)
            self.time += passed
            solar = self.solar_peak * sunlight(self.time) * clamp(0.75 + 0.5 * self._clouds(self.time), 0.08, 1.0)
            evening = 1.0 if is_between(self.time, 17.0, 22.5) else 0.0
            load = self.load_mean * (1.0 + 0.8 * evening + 0.5 * self._habit(self.time))
            current = (solar - load) / (8 * cell_voltage(self.soc))
            if (self.soc >= 1.0 and current > 0.0) or (self.soc <= 0.0 and current < 0.0):
                current = 0.0
            self.soc = clamp(self.soc + current * passed / 3600.0 / self.capacity, 0.0, 1.0)
            self._throughput += max(0.0, -current) * passed / 3600.0
            self._temperature += (18.0 + current * current * 0.0006 - self._temperature) * passed / 7200.0
            left -= passed
            if left <= 0.0:
                break
        noise = self._random.gauss
        cells = tuple(
            round(cell_voltage(self.soc) + current * 0.0004 + spread * (1.0 + 2.0 * (self.soc > LIFEPO4[-3][0])), 3)
            for spread in self._spread
        )
        return BatterySample(
            cells=cells,
            voltage=round(sum(cells), 2),
            current=round(current + noise(0.0, 0.02), 2),
            soc=round(self.soc * 100.0, 1),
            charge=round(self.soc * self.capacity, 2),
            throughput=round(self._throughput, 3),
            temperature=round(self._temperature + noise(0.0, 0.05), 1),
            solar_power=round(solar, 1),
            load_power=round(load, 1),
        )
