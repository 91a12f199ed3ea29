"""Up to which number a store has every reading of a source: the mark, which never passes a gap.

Each reading names its predecessor that its source still vouches for (`bootstrap_lib.reading.Sequence`). The mark
moves to a reading when it has reached that predecessor; what came too early waits.
"""

import heapq
import time
from collections.abc import Iterable, Mapping
from typing import Final

from bootstrap_lib import Sequence

Stream = tuple[str, str]
"""A source's instance and the name of its run of numbers."""

MOST_EARLY: Final = 100_000
"""Readings remembered beyond gaps, of all sources together: 14 MB. Past that those of the stream that has most are forgotten here, and
its source sends them again."""


class SourceMark:
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
            heapq.heappush(self._early, (previous, number))
            return True
        self.number = number
        while self._early and self._early[0][0] <= self.number:
            self.number = max(self.number, heapq.heappop(self._early)[1])
        return True

    @property
    def early(self) -> int:
        """How many readings are remembered beyond a gap."""
        return len(self._early)

    def forget_early(self) -> None:
        """Remember none beyond the gap: they come again."""
        self._early.clear()

    @property
    def gap(self) -> bool:
        """Whether something is missing before readings that are there."""
        return bool(self._early)


class Ledger:
    """The marks of all sources: what is accounted for, what of it is on disk, what is missing."""

    STREAMS: Final = 4
    """Runs of numbers of a source that are remembered: each boot of its machine begins one, and the old ones are over."""

    LARGEST: Final = 2**63 - 1
    """Largest number that the database holds."""

    PAUSE: Final = 5.0
    """Seconds between two requests for what is missing of a stream."""

    def __init__(self, stored: Mapping[Stream, int]) -> None:
        """Begin with the marks that are on disk, the newest stream of a source behind its others.

        That order is kept: what is said last of a source is what its mark's topic retains, and the first is forgotten first.
        """
        self.stored = dict(stored)
        self.moved: set[Stream] = set()
        """Streams whose mark may have moved since the last commit."""
        self.forgotten: set[Stream] = set()
        """Streams that are over, to be deleted with the next commit."""
        self.begun: dict[str, str] = {}
        """The newest stream of each source that began one since the last commit."""
        self.filled_at = float("-inf")
        """When (monotonic) something that was missing came."""
        self._marks = {stream: SourceMark(number) for stream, number in stored.items()}
        self._asked: dict[Stream, float] = {}
        self._early = 0

    def source_of(self, stream: str) -> str | None:
        """Instance that a stream is of, None where it was never heard."""
        return next((source for source, name in self._marks if name == stream), None)

    def account(self, source: str, sequence: Sequence) -> bool:
        """Account for a reading that is stored with the next commit; False if it was known already."""
        key = source, sequence.stream
        mark = self._marks.get(key)
        if mark is None:
            mark = self._begin(key)
        if not 0 <= sequence.previous <= sequence.number <= self.LARGEST:
            return True
        gap, early = mark.gap, mark.early
        known = mark.take(sequence.previous, sequence.number)
        self._early += mark.early - early
        if self._early > MOST_EARLY:
            most = max(self._marks.values(), key=lambda one: one.early)
            self._early -= most.early
            most.forget_early()
        if gap and known:
            self.filled_at = time.monotonic()
        self.moved.add(key)
        return known

    def _begin(self, key: Stream) -> SourceMark:
        of_source = [stream for stream in self._marks if stream[0] == key[0]]
        for old in of_source[: max(0, len(of_source) - self.STREAMS + 1)]:
            self._early -= self._marks.pop(old).early
            self.stored.pop(old, None)
            self._asked.pop(old, None)
            self.moved.discard(old)
            self.forgotten.add(old)
        self.forgotten.discard(key)
        self._marks[key] = SourceMark()
        self.begun[key[0]] = key[1]
        return self._marks[key]

    def due(self) -> dict[Stream, int]:
        """Marks to commit."""
        return {stream: mark.number for stream, mark in self._marks.items() if stream in self.moved}

    def committed(self, marks: Mapping[Stream, int]) -> Iterable[Stream]:
        """Learn that marks are on disk; returns them to be said."""
        self.stored |= marks
        self.moved.difference_update(marks)
        self.forgotten.clear()
        self.begun.clear()
        return marks

    def begin_anew(self) -> None:
        """Have all marks committed to a new database: what they confirmed was confirmed."""
        self.moved |= self._marks.keys()
        self.begun = dict(self._marks.keys())

    def missing(self, key: Stream) -> bool:
        """Whether to ask for what is missing of a stream, not again and again."""
        mark = self._marks.get(key)
        now = time.monotonic()
        if mark is None or not mark.gap or now <= self._asked.get(key, float("-inf")) + self.PAUSE:
            return False
        self._asked[key] = now
        return True

    @property
    def whole(self) -> bool:
        """Whether nothing is missing before what is there."""
        return not any(mark.gap for mark in self._marks.values())
