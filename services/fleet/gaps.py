"""Ranges of time in which something is lacking: added by whoever notices, taken away piece by piece as they are filled."""

from collections.abc import Iterable, Iterator
from typing import Final

MOST: Final = 200
"""Ranges that are kept apart; past that the nearest two become one, and more is asked for than is lacking."""


class Gaps:
    """Ranges from a time to before another (ms), in order, none touching the next."""

    def __init__(self, ranges: Iterable[tuple[int, int]] = ()) -> None:
        """Begin with what is known."""
        self._ranges: list[tuple[int, int]] = []
        for since, until in ranges:
            self.add(since, until)

    def __iter__(self) -> Iterator[tuple[int, int]]:
        """Go through them, the oldest first."""
        return iter(self._ranges)

    def __bool__(self) -> bool:
        """Whether anything is lacking."""
        return bool(self._ranges)

    def add(self, since: int, until: int) -> bool:
        """Add a range; False where all of it was lacking already."""
        if since >= until or any(a <= since and until <= b for a, b in self._ranges):
            return False
        merged: list[tuple[int, int]] = []
        for a, b in self._ranges:
            if b < since or until < a:
                merged.append((a, b))
            else:
                since, until = min(a, since), max(b, until)
        self._ranges = sorted([*merged, (since, until)])
        while len(self._ranges) > MOST:
            self._join_nearest()
        return True

    def _join_nearest(self) -> None:
        pairs = zip(self._ranges, self._ranges[1:], strict=False)
        index = min(enumerate(pairs), key=lambda one: one[1][1][0] - one[1][0][1])[0]
        self._ranges[index : index + 2] = [(self._ranges[index][0], self._ranges[index + 1][1])]

    def take(self, since: int, until: int) -> None:
        """Take away what was filled."""
        left: list[tuple[int, int]] = []
        for a, b in self._ranges:
            left += [(a, min(b, since))] if a < since else []
            left += [(max(a, until), b)] if until < b else []
        self._ranges = [(a, b) for a, b in left if a < b] if self._ranges else []

    def first(self, longest: int, after: int = 0) -> tuple[int, int]:
        """The oldest range, cut to a length (ms): of what lies `after` a time where anything does."""
        behind = ((max(since, after), until) for since, until in self._ranges if until > after)
        since, until = next(behind, self._ranges[0])
        return since, min(until, since + longest)
