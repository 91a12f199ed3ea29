"""A source of the fleet's demo: rooms whose temperatures wander, and a counter that shows by itself whether a reading is missing."""

import math
from collections.abc import Iterator
from pathlib import Path

from msgspec import Struct

from bootstrap_lib import InstanceOptions, Sample, Source, Topic, state


class Options(InstanceOptions, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Nothing of its own."""


class Room(Struct, frozen=True, forbid_unknown_fields=True):
    """Nothing of its own."""


class Tally(Source):
    """Rooms, and how many rounds there were."""

    options: Options
    topics: tuple[Topic[Room], ...]

    @property
    def _file(self) -> Path:
        return self.state_folder / "rounds.json"

    def samples(self) -> Iterator[Sample]:
        """Yield a value for each topic in each round; a count goes on where it was, also after a kill."""
        number = state.load(self._file, int, 0)
        while self.tick():
            number += 1
            for index, topic in enumerate(self.topics):
                if topic.kind == "counter":
                    state.save(self._file, number)  # first: a number that is skipped is no reading that was taken
                    yield topic, number
                else:
                    yield topic, round(20 + index + 3 * math.sin(number / 40 + index), 1)
