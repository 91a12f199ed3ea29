"""Up to which number a store has every reading of a source: the mark, which never passes a gap.

Each reading names its predecessor that its source still vouches for (`bootstrap_lib.reading.Sequence`). The mark
moves to a reading when it has reached that predecessor; what came too early waits.
"""

import heapq
from typing import Final

MOST_EARLY: Final = 100_000
"""Readings remembered beyond a gap; past that they are forgotten here, and their source sends them again."""


class Mark:
    """The mark of one stream of one source."""

    def __init__(self, number: int = 0) -> None:
        """Begin at what is known to be stored."""
        self.number = number
        self._early: list[tuple[int, int]] = []

    def take(self, previous: int, number: int) -> bool:
        """Account for a stored reading; False if it was known already."""
        if number <= self.number:
            return False
        if previous > self.number:
            if len(self._early) >= MOST_EARLY:
                self._early.clear()
            heapq.heappush(self._early, (previous, number))
            return True
        self.number = number
        while self._early and self._early[0][0] <= self.number:
            self.number = max(self.number, heapq.heappop(self._early)[1])
        return True

    @property
    def gap(self) -> bool:
        """Whether something is missing before readings that are there."""
        return bool(self._early)
