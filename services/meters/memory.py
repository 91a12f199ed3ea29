"""What the meters' service must not forget: formats of compact frames, and how far each meter has counted."""

import time
from pathlib import Path
from typing import Final

from msgspec import Struct

from bootstrap_lib import state
from services.meters.dispatch import Counted, KnownMeters

SAVE_EVERY: Final = 3600.0
"""Seconds after which counters go to the SD card, for a power cut; for a kill they lie in the runtime folder."""


class RememberedMeters(Struct):
    """What is written down."""

    formats: dict[str, list[str]] = {}
    counted: dict[str, Counted] = {}


class MeterMemory:
    """Two files: one for power cuts, written seldom, and one for kills, written with each beat."""

    def __init__(self, lasting: Path, fleeting: Path) -> None:
        """`lasting` and `fleeting` are the service's state and runtime folders."""
        self._lasting, self._fleeting = lasting / "telegrams.json", fleeting / "counted.json"
        self._revision, self._saved_at = 0, time.monotonic()

    def recall(self) -> RememberedMeters:
        """Read what earlier starts have written."""
        found = state.load(self._lasting, RememberedMeters, RememberedMeters())
        found.counted |= state.load(self._fleeting, dict[str, Counted], {})
        return found

    def on_beat(self, meters: KnownMeters) -> None:
        """Write down what changed, and to the SD card a format that was learned. OSError."""
        if meters.formats.revision != self._revision or time.monotonic() - self._saved_at > SAVE_EVERY:
            self.save(meters)
        else:
            state.save(self._fleeting, meters.counted)

    def save(self, meters: KnownMeters) -> None:
        """Write everything down. OSError."""
        self._revision, self._saved_at = meters.formats.revision, time.monotonic()
        state.save(self._fleeting, meters.counted)
        state.save(self._lasting, RememberedMeters(meters.formats.to_dict(), meters.counted))
