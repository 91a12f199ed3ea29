"""What follows from a battery's samples in the course of time: how long it will last, and what it took and gave."""

from __future__ import annotations

import math
from typing import Final

import msgspec

SMOOTHING: Final = 300.0
"""Time constant in seconds of the average discharging current."""
SMALLEST_CURRENT: Final = 0.1
"""Amperes of average discharge below which a remaining time says nothing."""
JOULES: Final = 3.6e6
"""In a kilowatt-hour."""


class Energy(msgspec.Struct, frozen=True):
    """What a battery has taken and given since it was first seen, in kWh, and the charge that it had then (Ah)."""

    charged: float = 0.0
    discharged: float = 0.0
    charge: float | None = None

    def bridged(self, charge: float, voltage: float) -> Energy:
        """Add what must have flowed while nobody looked: the battery's own charge knows it, at the voltage of now."""
        passed = (charge - self.charge) * voltage / 1000 if self.charge is not None else 0.0
        return Energy(self.charged + max(0.0, passed), self.discharged + max(0.0, -passed), charge)


class Estimates:
    """The estimates of one battery; a pause of more than `gap` seconds between two samples is bridged by its charge."""

    def __init__(self, energy: Energy, gap: float) -> None:
        self.energy = energy
        self._gap = gap
        self._moment = -math.inf
        self._power = 0.0
        self._discharging: float | None = None

    def take(self, moment: float, voltage: float, current: float, remaining_charge: float) -> float | None:
        """Take a sample (monotonic seconds; V and A, positive while charging; Ah) and add its energy.

        Returns the remaining time in seconds at the average discharging current since the last charging or gap; None
        while the battery charges or rests.
        """
        seconds, power = moment - self._moment, voltage * current
        if seconds > self._gap:
            seconds, self._discharging = 0.0, None
            self.energy = self.energy.bridged(remaining_charge, voltage)
        else:
            self.energy = Energy(
                self.energy.charged + _area(self._power, power) * seconds / JOULES,
                self.energy.discharged + _area(-self._power, -power) * seconds / JOULES,
                remaining_charge,
            )
        self._moment, self._power = moment, power
        if current > 0:
            self._discharging = None
            return None
        before = -current if self._discharging is None else self._discharging
        self._discharging = before + (-current - before) * -math.expm1(-seconds / SMOOTHING)
        return 3600 * remaining_charge / self._discharging if self._discharging >= SMALLEST_CURRENT else None


def _area(before: float, after: float) -> float:
    """Return the mean of what lies above zero on a straight line between two values."""
    if before * after < 0:
        return max(before, after) ** 2 / (2 * abs(before - after))
    return max(0.0, (before + after) / 2)
