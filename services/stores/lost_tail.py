"""Since when a database may have lost what it took: it says so itself by a new life, and an unclean end of ours says it too.

VictoriaMetrics writes its memory out every few seconds, so what it took just before it was killed is gone although it
was acknowledged. What this module knows is on disk, so that a power cut of everything is a lapse like any other.
"""

import logging
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Final

import msgspec

from bootstrap_lib import Message, Value, reason, state
from services.stores.backfill import Asker, Filling

log = logging.getLogger(__name__)

LASTS: Final = 60.0
"""Seconds after which a database that lives has written out what it took, with room to spare."""

SAVED: Final = 300.0
"""Seconds between two notes on disk, when nothing else makes one."""


class TailMemory(msgspec.Struct):
    """What is on disk. All times are those of readings, in milliseconds.

    `since`: what is older lasts; `missing`: a lapse goes back to there and is not filled yet; `server`: the life of the
    database that took it.
    """

    clean: bool
    since: int
    server: str | None = None
    missing: int | None = None


class Lapse:
    """Keeps account of what lasts in a database; `missing` (ms) is set while something has to be filled."""

    def __init__(self, path: Path, now: int) -> None:
        """Take up what is known; a store that is new lacks all that the archive has."""
        self._path = path
        known = state.load(path, TailMemory, TailMemory(clean=False, since=0))
        self._memory = known
        self._saved_at = self._turned_at = 0.0
        self._oldest = [now, now]  # of what was written since the last turn, and in the one before
        if not known.clean:
            self.happened()
        known.clean = False
        self._save()

    @property
    def missing(self) -> int | None:
        """Time (ms) since when readings may be missing, or None."""
        return self._memory.missing

    def wrote(self, oldest: int) -> None:
        """Readings from a time (ms) on were given to the database."""
        self._oldest[0] = min(self._oldest[0], oldest)
        if oldest < self._memory.since:
            self._memory.since = oldest
            self._save()

    def alive(self, server: str | None, now: int) -> bool:
        """Note which life of the database this is; False where it is another one: that is a lapse."""
        same = self._memory.server in (None, server)
        if not same:
            self.happened()
        self._memory.server = server
        if time.monotonic() >= self._turned_at + LASTS:
            self._turned_at = time.monotonic()
            self._oldest = [now, self._oldest[0]]
        if not same or time.monotonic() >= self._saved_at + SAVED:
            self._memory.since = min(self._oldest)
            self._save()
        return same

    def happened(self, since: int | None = None) -> None:
        """Something may be missing, also from a time (ms) on."""
        since = min(self._memory.since, *self._oldest, *(() if since is None else (since,)))
        self._memory.missing = since if self.missing is None else min(self.missing, since)
        self._save()

    def filled(self) -> None:
        """Nothing is missing any more."""
        self._memory.missing = None
        self._save()

    def close(self) -> None:
        """End cleanly."""
        self._memory.clean = True
        self._memory.since = min(self._oldest)
        self._save()

    def _save(self) -> None:
        self._saved_at = time.monotonic()
        try:
            state.save(self._path, self._memory)
        except OSError as error:
            log.warning("%s cannot be written: %s", self._path, reason(error))


class LapseFilling(Filling):
    """A filling that never gives up for good: what was not replayed is asked for again, until it is `complete`."""

    REST: Final = 60.0
    """Seconds until an archive that does not answer is asked again."""

    def __init__(self, asker: Asker) -> None:
        """`asker` is the store."""
        super().__init__(asker)
        self._asked = False
        self._rest_until = 0.0
        self._trouble: str | None = None

    @property
    def complete(self) -> bool:
        """Whether all that was asked for came."""
        return self._asked and not self.topics

    def subscribe(self) -> None:
        """Also hear when the archive comes back."""
        super().subscribe()
        if archive := self._archive:
            self._asker.bus.subscribe(f"{archive}/status")

    def take(self, message: Message) -> list[tuple[str, int, Value]]:
        """Take a page; an archive that came back is asked anew at once."""
        if not message.topic.endswith("/status"):
            return super().take(message)
        if message.payload == b"online":
            self.forget()
            self._rest_until = 0.0
        return []

    def fill(self, since: int, names: Iterable[str]) -> None:
        """Ask for topics since a time (ms), unless that is under way or has to rest."""
        if not self._asked and time.monotonic() >= self._rest_until:
            self.ask(dict.fromkeys(names, since))
            self._asked = bool(self.topics)

    def forget(self) -> None:
        """Begin anew with the next `fill`."""
        self._groups.clear()
        self._id = None
        self._asked = False

    def give_up(self, sentence: str) -> None:
        """Rest, and say why when it is news."""
        self.forget()
        self._rest_until = time.monotonic() + self.REST
        if sentence != self._trouble:
            self._trouble = sentence
            log.warning("readings may be missing here until they are replayed: %s", sentence)
            self._asker.error(sentence)
