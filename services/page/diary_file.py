"""A small database that stops nobody: what its file does not take is kept in memory, and written down when it does again."""

import logging
import sqlite3
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final

from bootstrap_lib import StartError

log = logging.getLogger(__name__)

DAMAGED: Final = (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB)
"""Errors (their low byte) that say that the file is no database any more; all others leave it where it is."""

MOST_OWED: Final = 20_000
"""Writings that wait for a file that takes nothing: the oldest go first."""

PATIENCE: Final = 1.0
"""Seconds that a lock is waited for."""

Write = Callable[[sqlite3.Connection], None]
"""A piece of writing that can be done again, and fails for the file alone."""


class DiaryFile:
    """The file, or what stands in for it. May be asked from any thread."""

    def __init__(self, path: Path, tables: str, version: int, prepare: Write) -> None:
        """Open or begin it, and `prepare` it; a damaged one is set aside. StartError for one of a later version."""
        self._path, self._tables, self._version, self._prepare = path, tables, version, prepare
        self._lock = threading.Lock()
        self._owed: deque[Write] = deque(maxlen=MOST_OWED)
        self._in_memory = False
        self.trouble: str | None = None
        """Why the file takes nothing now."""
        self._db = self._usable()

    def _usable(self) -> sqlite3.Connection:
        for _ in range(2):
            try:
                return self._opened(self._path)
            except sqlite3.DatabaseError as error:
                if getattr(error, "sqlite_errorcode", 0) & 0xFF not in DAMAGED:
                    self._fail(error)  # full, locked, not to be opened: what is kept there stays as it is
                    break
                log.error("%s is damaged: it is set aside as %s", self._path, _set_aside(self._path))  # noqa: TRY400
        self._in_memory = True
        return self._opened(None)

    def _opened(self, path: Path | None) -> sqlite3.Connection:
        db = sqlite3.connect(path or ":memory:", check_same_thread=False, timeout=PATIENCE)
        try:
            version = db.execute("PRAGMA user_version").fetchone()[0]
            if version > self._version:
                raise StartError(
                    f"{path} has format {version} of a later version of Constellation, this one knows {self._version}:"
                    " install that version again, or move the file away to begin anew"
                )
            db.executescript(
                f"PRAGMA journal_mode=WAL; PRAGMA synchronous=NORMAL; {self._tables}"
                f" PRAGMA user_version={self._version}"
            )
            with db:
                self._prepare(db)
        except (sqlite3.Error, StartError):
            db.close()
            raise
        return db

    def write(self, write: Write) -> None:
        """Do it, or keep it until the file takes it; that is tried with each `heal`, and not by who writes.

        What fails for a reason of its own (no sqlite3.Error) would fail for ever: that is said, and it is not kept.
        """
        with self._lock:
            self._owed.append(write)
            if self._in_memory:
                self._try([write])
            elif self.trouble is None:
                self._pay()

    def _pay(self) -> None:
        try:
            while not self._try(self._owed):
                pass
        except sqlite3.Error as error:
            self._fail(error)
        else:
            self._owed.clear()
            self.trouble = None

    def _try(self, writes: Iterable[Write]) -> bool:
        """Do them in one transaction; False where one failed for itself: it is forgotten, nothing is done. sqlite3.Error."""
        with self._db as db:
            for write in writes:
                try:
                    write(db)
                except sqlite3.Error:
                    raise
                except Exception:
                    log.exception("%s cannot hold what was to be written down", self._path)
                    self._owed.remove(write)
                    db.rollback()
                    return False
        return True

    def _fail(self, error: sqlite3.Error) -> None:
        if self.trouble is None:
            log.error("%s takes nothing: %s; what happens is written down there when it does again", self._path, error)
        self.trouble = f"{self._path} takes nothing: {error}"

    def heal(self) -> None:
        """Try the file again where it took nothing, and write down there what happened meanwhile."""
        with self._lock:
            if self.trouble is None:
                return
            if self._in_memory:
                try:
                    file = self._opened(self._path)
                except (sqlite3.Error, StartError):
                    return
                self._db.close()
                self._db, self._in_memory = file, False
            self._pay()

    @contextmanager
    def reading(self) -> Iterator[sqlite3.Connection]:
        """Ask it something; sqlite3.Error where it cannot be read."""
        with self._lock:
            yield self._db

    def close(self) -> None:
        """Close it."""
        with self._lock:
            self._db.close()


def _set_aside(path: Path) -> Path:
    """Move a file out of the way together with its log, which holds what is newest; none that was before is lost for it."""
    number = 1
    while (aside := path.with_name(f"{path.name}.damaged-{number}")).exists():
        number += 1
    path.replace(aside)
    for ending in ("-wal", "-shm"):
        with suppress(FileNotFoundError):
            path.with_name(path.name + ending).replace(aside.with_name(aside.name + ending))
    return aside
