"""Looks now and then whether the archive's file is whole where nobody reads it: a page that went bad shows only when it is needed."""

import sqlite3
import time
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing, suppress
from pathlib import Path
from typing import Final

from services.stores.backup import open_beside

FIRST: Final = 60.0
"""Seconds after the start until it looks for the first time."""

PERIOD: Final = 86_400.0
"""Seconds between two looks: each reads the whole file."""


class Soundness:
    """SQLite's own check, in a thread beside the loop, on a connection of its own."""

    def __init__(self, path: Path) -> None:
        """`path` is the database."""
        self._path = path
        self._thread = ThreadPoolExecutor(1, "soundness")
        self._job: Future[str | None] | None = None
        self._file = 0
        """Inode of the file that is looked at: one that was replaced meanwhile is not judged by it."""
        self._connection: sqlite3.Connection | None = None
        self._look_at = time.monotonic() + FIRST

    def damage(self) -> str | None:
        """Say what is damaged, once a look found something; begins one when it is time."""
        if self._job is None and time.monotonic() >= self._look_at:
            self._file = self._inode()
            self._job = self._thread.submit(self._look)
        if self._job is None or not self._job.done():
            return None
        job, self._job = self._job, None
        self._look_at = time.monotonic() + PERIOD
        return job.result() if self._inode() == self._file else None

    def _inode(self) -> int:
        try:
            return self._path.stat().st_ino
        except OSError:
            return 0

    def _look(self) -> str | None:
        try:
            with closing(open_beside(self._path, "ro")) as self._connection:
                found = self._connection.execute("PRAGMA quick_check(1)").fetchone()[0]
        except sqlite3.DatabaseError as error:
            code = getattr(error, "sqlite_errorcode", 0) & 0xFF
            return str(error) if code in (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB) else None
        return None if found == "ok" else " ".join(str(found).split())[:200]

    def close(self) -> None:
        """Break off what is under way."""
        if self._job is not None and self._connection is not None and not self._job.done():
            with suppress(sqlite3.ProgrammingError):  # it has ended just now
                self._connection.interrupt()
        self._thread.shutdown(cancel_futures=True)
