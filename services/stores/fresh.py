"""What a round-robin file cannot show: the readings of the last minutes, and the moments at which states changed.

A file knows means of a minute and more; a picture of a young house would be empty, and a phase's edges would be mixtures.
"""

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Final

import msgspec

from bootstrap_lib import Topic, state

LATEST: Final = 300
"""Readings of a number that are kept, and"""
CHANGES: Final = 2000
"""... changes of a state: months of a boiler's phases."""
FILE: Final = "changes.json"
"""Beside the round-robin files: what states changed to, and when."""


class Recent(msgspec.Struct):
    """One topic: points (ms, value), the value None where it fell silent; `heard` is the newest time of all."""

    points: list[tuple[int, float | None]] = []
    heard: int = 0

    def add(self, time: int, value: float, silent: int, *, changes: bool) -> None:
        """Take a reading; one that is not newer says nothing. `silent` (ms) makes a gap, `changes` keeps only changes."""
        if time <= self.heard:
            return
        if self.heard and time - self.heard > silent:
            self.points.append((self.heard + silent, None))
        if not changes or not self.points or self.points[-1][1] != value:
            self.points.append((time, value))
        self.heard = time
        longest = CHANGES if changes else LATEST
        if len(self.points) > 2 * longest:
            del self.points[:-longest]


class Fresh:
    """The newest of all topics, as far as files do not show it."""

    def __init__(self, folder: Path) -> None:
        """`folder` is that of the round-robin files; what was written there is taken up."""
        self._file = folder / FILE
        self.states: dict[str, Recent] = state.load(self._file, dict[str, Recent], {})
        self.numbers: dict[str, Recent] = {}
        self._count = self._saved = sum(len(recent.points) for recent in self.states.values())

    def add(self, topic: Topic[Any], time: int, value: float) -> None:
        """Take a reading, a state as its place in the list."""
        stepwise = topic.kind in ("switch", "state")
        recent = (self.states if stepwise else self.numbers).setdefault(topic.name, Recent())
        before = len(recent.points)
        recent.add(time, value, round(1000 * max(2 * topic.every, topic.stale)), changes=stepwise)
        self._count += (len(recent.points) - before) * stepwise

    def save(self) -> None:
        """Write down what changed; OSError where the disk refuses."""
        if self._count != self._saved:
            state.save(self._file, self.states)
            self._saved = self._count

    def of(self, names: Iterable[str]) -> dict[str, Recent]:
        """Return what is kept of topics."""
        return {name: found for name in names if (found := self.states.get(name) or self.numbers.get(name))}


def stored(folder: Path) -> Mapping[str, Recent]:
    """Changes of states that a service has written down beside its files."""
    return state.load(folder / FILE, dict[str, Recent], {}) if (folder / FILE).exists() else {}
