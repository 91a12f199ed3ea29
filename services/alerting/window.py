"""How fast a value changes and how much a counter grew, over a stretch of time, from at most some 120 points."""

from itertools import pairwise
from typing import Annotated, Final

import msgspec
from msgspec import Meta

POINTS: Final = 120
"""Points that a window is divided into: an alert needs no finer ones, whatever the pace of the readings."""


class Window(msgspec.Struct):
    """The readings of one stretch of time, thinned; times in ms since 1970. It survives a restart as it is."""

    span: Annotated[int, Meta(gt=0)]
    times: list[int] = msgspec.field(default_factory=list)
    values: list[float] = msgspec.field(default_factory=list)

    def __post_init__(self) -> None:
        """ValueError where a file holds what never was a window."""
        if len(self.times) != len(self.values) or any(b <= a for a, b in pairwise(self.times)):
            raise ValueError("times and values of a window do not belong together")

    def take(self, time: int, value: float) -> None:
        """Add a reading that is newer than all before; the newest replaces one that is closer than a point's width."""
        if len(self.times) > 1 and time - self.times[-2] < self.span // POINTS:
            self.times[-1], self.values[-1] = time, value
        else:
            self.times.append(time)
            self.values.append(value)
        first = 0
        while first + 1 < len(self.times) and self.times[first + 1] <= time - self.span:
            first += 1
        if first:
            del self.times[:first], self.values[:first]

    @property
    def covered(self) -> float:
        """The part of the span that the readings cover, 0 to 1 and a little more."""
        return (self.times[-1] - self.times[0]) / self.span if self.times else 0.0

    def growth(self, *, counts: bool) -> float:
        """What was added within the span; a counter (`counts`) that falls was exchanged, and counts on from zero."""
        if not counts:
            return self.values[-1] - self.values[0]
        return sum(later - earlier if later >= earlier else later for earlier, later in pairwise(self.values))

    def rate(self) -> float | None:
        """Change per span by the least-squares line; None until half of the span is covered by three points."""
        if self.covered < 0.5 or len(self.times) < 3:  # noqa: PLR2004 (a line through fewer says nothing)
            return None
        count = len(self.times)
        mean_time, mean_value = sum(self.times) / count, sum(self.values) / count
        spread = sum((time - mean_time) ** 2 for time in self.times)
        joint = sum(
            (time - mean_time) * (value - mean_value) for time, value in zip(self.times, self.values, strict=True)
        )
        return joint / spread * self.span
