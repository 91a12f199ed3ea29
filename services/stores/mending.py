"""After the archive's file proved to be no longer what it was: rescue, backup, and a sentence on what is missing; beside the loop."""

import logging
import os
import shutil
import sqlite3
from collections.abc import Iterable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from threading import Lock
from typing import Final

import msgspec

from bootstrap_lib import format_time, reason, state
from services.stores import backup
from services.stores.rescue import missing, rescue

log = logging.getLogger(__name__)

SHOWN: Final = 5
"""Times of missing readings that a sentence names."""

_OPEN: Final = Path("/proc/self/fd")
"""Where a file lies that has no name any more."""


class Owed(msgspec.Struct):
    """What a killed run leaves to do, in the state folder: files to read, and when the damage was noticed (ms)."""

    sources: list[str] = []
    noticed: int = 0
    gap: tuple[int, int] | None = None
    """From when to when (ms) something may be missing, where that is known."""


def _said(job: Future[list[str]]) -> list[str]:
    """Wait for a piece of work, and return its sentences."""
    try:
        return job.result()
    except (OSError, sqlite3.Error) as error:
        return [f"what was set aside could not be rescued: {reason(error)}; it is tried again at the next start"]


class Mending:
    """Brings what can be found into a new database. One piece of work after the other, in a thread."""

    def __init__(self, database: Path, folder: Path) -> None:
        """`folder` is the state folder; what a run before left to do is done by `resume`."""
        self._database, self._file = database, folder / "mending.json"
        self._backup = folder / "backup.sqlite"
        self._owed = state.load(self._file, Owed, Owed())
        self._owed.sources = [source for source in self._owed.sources if Path(source).parent != _OPEN]  # closed by now
        self._thread = ThreadPoolExecutor(1, "mending")
        self._lock = Lock()
        """Guards what is owed, which both threads change."""
        self._job: Future[list[str]] | None = None
        self.lost: list[tuple[int, int]] = []
        """Times (ms) between which readings are missing for good."""

    @property
    def working(self) -> bool:
        """Whether it is not done yet."""
        return self._job is not None

    @property
    def owed(self) -> list[str]:
        """Names of the files that something is to be read out of."""
        with self._lock:
            return [Path(source).name for source in self._owed.sources if os.path.lexists(source)]

    def owe(self, source: Path, noticed: int | None = None) -> None:
        """Note, before a file is set aside, that it is to be read out of: whenever a kill comes, the next start knows of it.

        `noticed` (ms) is when the damage showed; None for what belongs to a damage that is known.
        """
        with self._lock:
            noticed = self._owed.noticed if noticed is None else noticed
            self._owed = Owed([*self._owed.sources, str(source)], noticed, self._owed.gap)
            self._save()

    def resume(self, renamed: Mapping[str, str]) -> None:
        """Go on with what is owed, also by a run before that could not end it."""
        if self._owed.sources and not self.owed:  # none of them was set aside before the kill
            self._owed = Owed()
            self._save()
        if self._owed.noticed and not self.working:
            self._job = self._thread.submit(self._mend, msgspec.structs.replace(self._owed), dict(renamed))

    def begin(
        self, sources: Iterable[Path], noticed: int, renamed: Mapping[str, str], gap: tuple[int, int] | None = None
    ) -> None:
        """Rescue what files hold; `noticed` (ms) is when the damage showed, `gap` when something may be missing, where that is known."""
        task = Owed([str(source) for source in sources], noticed, gap)
        with self._lock:
            self._owed = Owed([*dict.fromkeys(self._owed.sources + task.sources)], noticed, gap)
            self._save()
        before = self._job

        def work() -> list[str]:
            return (_said(before) if before is not None else []) + self._mend(task, dict(renamed))

        self._job = self._thread.submit(work)

    def _save(self) -> None:
        with suppress(OSError):  # then a kill leaves it to a person
            state.save(self._file, self._owed)

    def news(self) -> list[str]:
        """Sentences of what came of it, once it is done."""
        if self._job is None or not self._job.done():
            return []
        job, self._job = self._job, None
        return _said(job)

    def _mend(self, task: Owed, renamed: dict[str, str]) -> list[str]:
        sources = [Path(source) for source in task.sources]
        files = [source for source in sources if not source.is_dir()]  # what stood in its place holds nothing
        said, gaps, readable = [], [], False
        for source in files:
            if (path := self._copied(source, task)) is None:
                continue
            found = rescue(self._database, path, renamed)
            gaps += found.gaps
            nothing = found.unreadable and not found.readings
            readable = readable or not nothing  # beside the old file, a stranger in its place held nothing of ours
            said.append(
                f"nothing could be read out of {path.name}"
                if nothing
                else f"{found.readings} readings came out of {path.name}"
            )
        said += self._fill_from_backup(renamed)
        noticed = task.noticed
        if not readable and not gaps:
            gaps.append(task.gap or (self._newest_before(noticed), noticed))
        self.lost = missing(self._database, gaps, noticed)
        with self._lock:  # what was begun meanwhile stays owed
            left = [source for source in self._owed.sources if source not in task.sources]
            ended = not left and self._owed.noticed == noticed
            self._owed = Owed() if ended else Owed(left, self._owed.noticed, self._owed.gap)
            self._save()
        return [*said, self._sentence()]

    def _copied(self, source: Path, task: Owed) -> Path | None:
        """Return the file itself, or a copy of one that has no name any more."""
        if source.parent != _OPEN:
            return source if source.exists() else None
        copy = self._database.with_name(f"{self._database.name}.damaged-{task.noticed}-deleted")
        try:
            with source.open("rb") as old, state.replacing(copy) as new:
                shutil.copyfileobj(old, new, 1 << 20)
        except FileNotFoundError:  # of a run before
            return None
        self.owe(copy)
        task.sources.append(str(copy))
        os.close(int(source.name))
        return copy

    def _fill_from_backup(self, renamed: dict[str, str]) -> list[str]:
        if not self._backup.exists():
            return []
        try:
            return [f"{backup.take_in(self._database, self._backup, renamed)} readings came out of {self._backup.name}"]
        except OSError as error:
            return [str(error)]

    def _newest_before(self, moment: int) -> int:
        connection = backup.open_beside(self._database, "ro")
        try:
            query = "SELECT max(time) FROM (SELECT max(time) AS time FROM readings WHERE time < ?)"
            newest: int | None = connection.execute(query, (moment - 60_000,)).fetchone()[0]
        finally:
            connection.close()
        return newest or 0

    def _sentence(self) -> str:
        if not self.lost:
            return "no longer time is missing"
        spans = [
            f"from {format_time(since)} to {format_time(until)}" if since else f"before {format_time(until)}"
            for since, until in self.lost[:SHOWN]
        ]
        more = f" and {len(self.lost) - SHOWN} times more" if len(self.lost) > SHOWN else ""
        return f"readings are missing {', '.join(spans)}{more}: `constellation restore` takes in a backup that has them"

    def close(self) -> None:
        """Wait for what is under way."""
        self._thread.shutdown()
