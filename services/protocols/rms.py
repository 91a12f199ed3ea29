"""The RMS current of a clamp from its sampled voltage, and plain voltages by calibration points.

A window is cut to whole mains cycles by the samples' own times, because the converter's rate is only known to a tenth;
the mean (the bias) is removed; what the clamp shows at no current is subtracted in quadrature.
"""

import math
from bisect import bisect
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import pairwise

LONGEST_STEP = 1 / 4
"""Of a mains cycle: a longer pause between two samples breaks the window, since a straight line no longer follows."""
FEWEST_CYCLES = 3
FEWEST_POINTS = 2
ZERO_MEMORY = 64
"""Windows over which a learned zero forgets."""


@dataclass(frozen=True, slots=True)
class Samples:
    """A sampled window: times in seconds (any origin, ascending), volts, and whether the converter was at its limit."""

    times: tuple[float, ...]
    volts: tuple[float, ...]
    saturated: bool


@dataclass(frozen=True, slots=True)
class Waveform:
    """What a window says: the alternating part (V RMS), the mean (V), the whole cycles used, the limit reached."""

    rms: float
    mean: float
    cycles: int
    saturated: bool


def waveform(samples: Samples, hertz: float = 50.0) -> Waveform:
    """Measure a window over its whole mains cycles, by the trapezoidal rule on the samples' times.

    Where the process was held up between two samples the window is cut there and the parts are measured together.
    ValueError if fewer than three whole cycles remain.
    """
    cycle = 1 / hertz
    cycles = 0
    area = power = 0.0
    for times, volts in _unbroken(samples, LONGEST_STEP * cycle):
        whole = int((times[-1] - times[0]) / cycle)
        end = times[0] + whole * cycle
        cycles += whole
        for (from_time, before), (to_time, sample) in pairwise(zip(times, volts, strict=True)):
            if from_time >= end:
                break
            inside = min(1.0, (end - from_time) / (to_time - from_time))
            after = before + (sample - before) * inside
            half = (to_time - from_time) * inside / 2
            area += (before + after) * half
            power += (before * before + after * after) * half
    if cycles < FEWEST_CYCLES:
        raise ValueError(
            f"Of {len(samples.times)} samples only {cycles} whole mains cycles can be used, and {FEWEST_CYCLES} are "
            "needed: sample for longer, at a higher rate, or on a machine with less to do."
        )
    mean = area / (cycles * cycle)
    return Waveform(math.sqrt(max(0.0, power / (cycles * cycle) - mean * mean)), mean, cycles, samples.saturated)


def _unbroken(samples: Samples, longest: float) -> Iterator[tuple[tuple[float, ...], tuple[float, ...]]]:
    times, volts = samples.times, samples.volts
    breaks = [index + 1 for index, (before, after) in enumerate(pairwise(times)) if after - before > longest]
    for start, end in pairwise([0, *breaks, len(times)]):
        if end > start:
            yield times[start:end], volts[start:end]


@dataclass(frozen=True, slots=True)
class Zero:
    """What a clamp and its converter show at no current: noise and hum, as a mean square in V², over some windows."""

    square: float = 0.0
    windows: int = 0

    @property
    def rms(self) -> float:
        """The zero in V RMS."""
        return math.sqrt(self.square)

    def learn(self, rms: float, ceiling: float) -> "Zero":
        """Follow a window (V RMS) that lies below `ceiling` (V RMS); what lies above is a current and teaches nothing.

        The ceiling is half of the smallest current that matters, as a voltage: a motor that hums below it all day
        would be taken for silence.
        """
        if rms > ceiling:
            return self
        windows = min(self.windows + 1, ZERO_MEMORY)
        return Zero(self.square + (rms * rms - self.square) / windows, windows)


def amperes(rms: float, volts_per_ampere: float, zero: Zero) -> float:
    """Return the current (A RMS) behind a clamp's voltage (V RMS), its zero subtracted in quadrature."""
    return math.sqrt(max(0.0, rms * rms - zero.square)) / volts_per_ampere


@dataclass(frozen=True, slots=True)
class Calibration:
    """A piecewise linear scale through measured points (volts, value); its outer lines go on beyond the points."""

    points: tuple[tuple[float, float], ...]

    @classmethod
    def through(cls, points: Mapping[float, float]) -> "Calibration":
        """Make the scale from volts and their values, in any order; ValueError if there are fewer than two points."""
        if len(points) < FEWEST_POINTS:
            raise ValueError(f"A calibration needs at least two points of volts and value, and has {len(points)}.")
        return cls(tuple(sorted(points.items())))

    def value(self, volts: float) -> float:
        """Return the value at a voltage."""
        right = min(max(bisect(self.points, (volts, math.inf)), 1), len(self.points) - 1)
        (from_volts, from_value), (to_volts, to_value) = self.points[right - 1 : right + 1]
        return from_value + (to_value - from_value) * (volts - from_volts) / (to_volts - from_volts)
