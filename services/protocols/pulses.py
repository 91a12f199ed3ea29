"""Pulses of a meter: how many there were, what its stand is, and what flows now."""

from __future__ import annotations

import math
from typing import Final

import msgspec

HOUR: Final = 3600.0


class Count(msgspec.Struct):
    """What is kept of a meter: its pulses, the stand that somebody typed in, and where the line's own numbers stood."""

    pulses: int = 0
    stand: float = 0.0
    """The meter's own, when it was typed in, in its unit."""
    stand_at: int = 0
    """Pulses then."""
    boot: str = ""
    number: int | None = 0
    """Number of the last edge; it begins anew with each request to the kernel. None: the next one that comes is the first."""
    line: str = ""
    """The line that has these numbers; of another meter's line, or of another line, they say nothing."""


class Counter:
    """Counts the edges of one line. Edges that the kernel had to drop are known by their numbers, and counted."""

    def __init__(self, count: Count, per_unit: float, shortest: float) -> None:
        """`shortest` is the least time between two pulses that the meter can make, in seconds."""
        self.count = count
        self.missed = self.refused = 0
        """Pulses that were counted by their number only, and edges that came too soon."""
        self._per_unit, self._shortest = per_unit, shortest
        self._pulse_at = -math.inf
        self._distance = math.inf

    def edge(self, moment: float, closed: bool, number: int) -> None:
        """Take an edge (monotonic seconds); a pulse is a line that closes."""
        count = self.count
        last = number - 1 if count.number is None else count.number
        if number <= last:
            last = 0  # a request to the kernel begins with 1
        if lost := number - last - 1:
            pulses = (lost + (not closed)) // 2  # edges alternate, up to this one
            count.pulses += pulses
            self.missed += pulses
        if lost or last != count.number:
            self._pulse_at, self._distance = -math.inf, math.inf
        count.number = number
        if not closed:
            return
        distance = moment - self._pulse_at
        if distance < self._shortest:
            self.refused += 1
            return
        count.pulses += 1
        self._pulse_at = moment
        self._distance = distance

    def type_in(self, stand: float) -> None:
        """Begin from what the meter shows now."""
        self.count.stand, self.count.stand_at = stand, self.count.pulses

    @property
    def stand(self) -> float:
        """What the meter shows, in its unit."""
        return self.count.stand + (self.count.pulses - self.count.stand_at) / self._per_unit

    def rate(self, moment: float) -> float | None:
        """Units in an hour by the last distance, less as time passes without a pulse; None before two pulses."""
        if math.isinf(self._distance):
            return None
        return HOUR / (self._per_unit * max(self._distance, moment - self._pulse_at))
