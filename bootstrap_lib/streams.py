"""How far a subscriber has heard each run of numbers of each source, so that it notices what it never got."""

from typing import Any

from bootstrap_lib.clock import AHEAD
from bootstrap_lib.entries import Topic
from bootstrap_lib.reading import Sequence

STREAMS = 4
"""Runs of numbers of one source that are followed: each boot begins a new one, and those that are gone are forgotten."""

GAP_PAUSE = 5.0
"""Seconds between two gaps that are acted upon: a source whose readings are refused shows one in each round."""


class Streams:
    """The newest number heard of each stream, and the time of its reading; `heard` is what outlasts a clean end."""

    def __init__(self, heard: dict[str, tuple[int, int]] | None = None) -> None:
        """Begin with what was heard before the last stop, by `source/stream`: number and time (ms)."""
        self.heard = {} if heard is None else heard
        self._gap: int | None = None
        self._gap_at = 0.0

    def follow(self, topic: Topic[Any] | None, sequence: Sequence | None, moment: int | None = None) -> None:
        """Notice what a source sent and we never got, also over a restart; between a reading and its predecessor nothing is missing.

        A new run of numbers of a source may have begun before we hear of it, and the end of the old one have been missed.
        """
        if sequence is None:
            return
        place = self._place(topic, sequence)
        number, before = self.heard.get(place, (0, 0))
        if sequence.number > number:
            missed = bool(number) and sequence.number > number + 1 and sequence.previous != number
            if place not in self.heard:
                before = self._forget(place.partition("/")[0])
                missed = before > 0
            if missed:
                since = before - AHEAD
                self._gap = since if self._gap is None else min(since, self._gap)
            self.heard[place] = sequence.number, before if moment is None else moment

    def _place(self, topic: Topic[Any] | None, sequence: Sequence) -> str:
        """`source/stream`: the source of a topic that topics.yaml no longer has is known by its stream."""
        if topic is not None:
            return f"{topic.source}/{sequence.stream}"
        ending = f"/{sequence.stream}"
        return next((place for place in self.heard if place.endswith(ending)), ending)

    def _forget(self, source: str) -> int:
        """Keep the newest streams of a source only; returns the time (ms) of its newest reading, 0 for one never heard."""
        streams = [place for place in self.heard if place.partition("/")[0] == source]
        newest = max((self.heard[place][1] for place in streams), default=0)
        for place in streams[: max(0, len(streams) - STREAMS + 1)]:
            del self.heard[place]
        return newest

    def heard_at(self, topic: Topic[Any] | None, sequence: Sequence) -> int:
        """Time (ms) of the newest reading heard of a run of numbers, 0 for one never heard."""
        return self.heard.get(self._place(topic, sequence), (0, 0))[1]

    @property
    def lacking(self) -> bool:
        """Whether a gap was noticed that nobody has acted upon yet."""
        return self._gap is not None

    def due_gap(self, now: float) -> int | None:
        """Since when (ms) something is missing, once it is time to act upon it; it is not said twice."""
        if self._gap is None or now < self._gap_at:
            return None
        since, self._gap, self._gap_at = self._gap, None, now + GAP_PAUSE
        return since
