"""What all models share: the time of day, and chance that swings slowly and repeats with its seed."""

from math import pi, sin
from random import Random
from typing import Final

DAY: Final = 86_400.0
"""Seconds of a day; time of day counts from local midnight."""


def clamp(value: float, low: float, high: float) -> float:
    """Bring a value into a range."""
    return max(low, min(high, value))


def is_between(time: float, begin: float, end: float) -> bool:
    """Whether a second lies between two hours of its day."""
    return begin <= time % DAY / 3600.0 < end


class Wander:
    """A slow random swing between -1 and 1 that is a function of time: three sines that never repeat together."""

    def __init__(self, random: Random, period: float) -> None:
        """`period` in seconds is that of the slowest part."""
        self._parts = [(2 * pi / (period / n), random.uniform(0, 2 * pi)) for n in (1.0, 2.7, 7.3)]

    def __call__(self, time: float) -> float:
        """Return the swing at a time in seconds."""
        return sum(sin(rate * time + phase) / n for n, (rate, phase) in enumerate(self._parts, 1)) * 6 / 11
