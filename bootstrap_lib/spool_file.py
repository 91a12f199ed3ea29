"""One of the spool's two files: a table of readings in SQLite, which is replaced where it is no longer what it was."""

import contextlib
import logging
import os
import sqlite3
import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, Final

from bootstrap_lib import state

log = logging.getLogger(__name__)

FORMAT: Final = 1
"""`PRAGMA user_version`; a file of a later format is left as it is, never guessed at."""

LATER: Final = range(FORMAT + 1, 1000)
"""What may be the format of a later version; any other number is damage."""

LOG: Final = {"OFF": 100, "FULL": 1000}
"""Pages of SQLite's log before they are carried into the file: the one in the tmpfs takes memory, the other writes."""

EMPTY: Final = 1000
"""Free pages of a file that are given back once they are nine tenths of it: 4 MB."""

DAMAGE: Final = (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB)

_TABLES: Final = """
CREATE TABLE IF NOT EXISTS tail (number INTEGER PRIMARY KEY AUTOINCREMENT, topic TEXT NOT NULL, head TEXT, time INTEGER NOT NULL,
                                 boot TEXT, since REAL NOT NULL);
CREATE TABLE IF NOT EXISTS meta (name TEXT PRIMARY KEY, value) WITHOUT ROWID;
"""
_ADD: Final = "INSERT OR IGNORE INTO tail VALUES (?, ?, ?, ?, ?, ?)"


class LaterFormatError(RuntimeError):
    """A later version has written the file; the message says so."""


class SpoolFile:
    """One file. Its methods raise sqlite3.Error where the disk does not take what they write."""

    def __init__(self, path: Path, synchronous: str) -> None:
        """Open it; one that cannot be used is set aside, said, and begun anew with what can be read out of it.

        LaterFormatError for one of a later version.
        """
        self.path, self._synchronous = path, synchronous
        self._damage: str | None = None
        self._clear_the_way()
        try:
            self._database = _prepare(path, synchronous)
        except sqlite3.DatabaseError as error:
            if not _is_damage(error):
                raise
            self._database = _connect(path)
            self._replace(str(error))
        self._identity = self._identify()

    def _clear_the_way(self) -> None:
        if hindrance := state.hindrance(self.path):
            log.error("%s: it is set aside as %s, a new one is begun", hindrance, self._set_aside().name)

    def _set_aside(self) -> Path:
        aside = self.path.with_name(f"{self.path.name}.damaged-{time.time_ns() // 1_000_000}")
        self.path.rename(aside)
        return aside

    def _identify(self) -> tuple[int, int] | None:
        try:
            found = self.path.lstat()
        except OSError:
            return None
        return found.st_dev, found.st_ino

    # -- a file that is no longer what it was --------------------------------------------------------------------

    def look(self) -> bool:
        """Replace the file where it was deleted, exchanged or damaged under us; True if that was so."""
        if self._damage is None and self._identify() == self._identity:
            return False
        self._replace(self._damage or "it was deleted or exchanged while it was in use")
        return True

    def _replace(self, why: str) -> None:
        """Begin a new file with all that the old one still gives. Its log is found by name, so the old one is closed first."""
        beside = self.path.with_name(self.path.name + ".new")
        _unlink(beside)
        new = _prepare(beside, self._synchronous)
        saved = _salvage(self._database, new)
        new.close()
        with contextlib.suppress(sqlite3.Error):
            self._database.close()
        aside = f"it is set aside as {self._set_aside().name}, " if os.path.lexists(self.path) else ""
        _unlink(self.path)
        beside.replace(self.path)
        self._database = _prepare(self.path, self._synchronous)
        self._identity, self._damage = self._identify(), None
        log.error("%s was damaged (%s): %sa new one is begun with %d readings of it", self.path, why, aside, saved)

    def begin_anew(self) -> None:
        """Replace a file that holds nothing to keep, on a disk so full that nothing can be deleted in it.

        sqlite3.Error or OSError: one whose disk takes no change at all stays as it is, open; one that cannot be begun now is empty,
        and `look` begins it.
        """
        self.path.unlink(missing_ok=True)  # first: it shows whether anything can be done
        self._database.close()
        self._database, self._identity = _nothing(), None
        self._damage = "it could not be begun anew"
        _unlink(self.path)
        self._database = _prepare(self.path, self._synchronous)
        self._identity, self._damage = self._identify(), None

    def close(self) -> None:
        """Close it."""
        with contextlib.suppress(sqlite3.Error):
            self._database.close()

    # -- reading and writing ------------------------------------------------------------------------------------

    def ask(self, query: str, parameters: Iterable[Any] = ()) -> list[tuple[Any, ...]]:
        """Rows of a query; of a file that proves to be damaged, what can still be read out of it."""
        given = tuple(parameters)
        try:
            return self._database.execute(query, given).fetchall()
        except sqlite3.DatabaseError as error:
            if not _is_damage(error):
                raise
            self._replace(str(error))
            return self._database.execute(query, given).fetchall()

    def first(self, query: str, parameters: Iterable[Any] = ()) -> Any:
        """Return the first column of the first row, None where there is none."""
        rows = self.ask(query, parameters)
        return rows[0][0] if rows else None

    def do(self, statement: str, parameters: Iterable[Any] = ()) -> None:
        """Run one statement to its end."""
        with self._noticing():
            self._database.execute(statement, tuple(parameters))

    def each(self, statement: str, rows: Iterable[tuple[Any, ...]]) -> None:
        """Run a statement for each row."""
        with self._noticing():
            self._database.executemany(statement, rows)

    def add(self, rows: list[tuple[Any, ...]]) -> None:
        """Take readings, all or none; those that are there already stay as they are."""
        if len(rows) == 1:  # a step by itself
            self.do(_ADD, rows[0])
        elif self._database.in_transaction:
            self.each(_ADD, rows)
        else:
            with self.transaction():
                self.each(_ADD, rows)

    def remember(self, last: int, **values: str) -> None:
        """Write down what numbers these are, and the last of them."""
        with self.transaction():
            self.each("INSERT OR REPLACE INTO meta VALUES (?, ?)", values.items())
            if last > (self.first("SELECT max(seq) FROM sqlite_sequence") or 0):
                self.do("DELETE FROM sqlite_sequence")
                self.do("INSERT INTO sqlite_sequence VALUES ('tail', ?)", (last,))

    def recall(self, name: str) -> Any:
        """Return what was written down."""
        return self.first("SELECT value FROM meta WHERE name = ?", (name,))

    def delete(self, where: str, number: int) -> None:
        """Delete readings, and return the room that a backlog took."""
        if not self.ask("SELECT 1 FROM tail LIMIT 1"):
            return
        self.do(f"DELETE FROM tail WHERE {where}", (number,))
        free, pages = self.first("PRAGMA freelist_count"), self.first("PRAGMA page_count")
        if free > max(EMPTY, 0.9 * pages):
            with contextlib.suppress(sqlite3.Error):  # it can wait
                self._database.executescript("VACUUM; PRAGMA wal_checkpoint(TRUNCATE)")

    @property
    def used(self) -> int:
        """Bytes that readings take."""
        pages, size, free = (self.first(f"PRAGMA {name}") for name in ("page_count", "page_size", "freelist_count"))
        return int((pages - free) * size)

    @contextlib.contextmanager
    def transaction(self) -> Iterator[None]:
        """Make one durable step of several statements: with `isolation_level=None` each would be synchronised by itself."""
        with self._noticing():
            self._database.execute("BEGIN IMMEDIATE")
            try:
                yield
                self._database.execute("COMMIT")
            except BaseException:
                if self._database.in_transaction:
                    self._database.execute("ROLLBACK")
                raise

    @contextlib.contextmanager
    def _noticing(self) -> Iterator[None]:
        """Note damage, for the next `look` to mend."""
        try:
            yield
        except sqlite3.DatabaseError as error:
            if _is_damage(error):
                self._damage = str(error)
            raise


def _is_damage(error: sqlite3.Error) -> bool:
    return getattr(error, "sqlite_errorcode", 0) & 0xFF in DAMAGE


def _unlink(path: Path) -> None:
    for ending in ("", "-wal", "-shm"):
        path.with_name(path.name + ending).unlink(missing_ok=True)


def _salvage(old: sqlite3.Connection, new: sqlite3.Connection) -> int:
    """Carry over what can be read from either end up to the damage; returns how many readings.

    Not what stream they were of: a file that may lack some of its numbers cannot vouch for them.
    """
    for order in ("ASC", "DESC"):
        with contextlib.suppress(sqlite3.Error):
            new.execute("BEGIN")
            for row in old.execute(f"SELECT * FROM tail ORDER BY number {order}"):
                new.execute(_ADD, row)
        if new.in_transaction:
            new.execute("COMMIT")
    return int(new.execute("SELECT count(*) FROM tail").fetchone()[0])


def _nothing() -> sqlite3.Connection:
    """Stand for a file that cannot be made now: nothing is in it, and it takes nothing."""
    database = sqlite3.connect(":memory:", isolation_level=None)
    database.executescript(f"{_TABLES} PRAGMA query_only=ON")
    return database


def _connect(path: Path) -> sqlite3.Connection:
    return sqlite3.connect(path, isolation_level=None, timeout=5)


def _prepare(path: Path, synchronous: str) -> sqlite3.Connection:
    path.parent.mkdir(parents=True, exist_ok=True)
    database = _connect(path)
    try:
        version = database.execute("PRAGMA user_version").fetchone()[0]
        if version not in (0, FORMAT, *LATER):
            raise _damaged(f"format {version} never was")
        if version in LATER:
            raise LaterFormatError(
                f"{path} holds readings in format {version} of a later version of Constellation, this one knows {FORMAT}:"
                " install that version again, or move the file away and do without them"
            )
        if version == FORMAT and database.execute("PRAGMA quick_check(1)").fetchone()[0] != "ok":
            raise _damaged("its pages do not agree")
        database.executescript(
            f"PRAGMA cache_size=-256; PRAGMA journal_mode=WAL; PRAGMA synchronous={synchronous};"
            f"PRAGMA wal_autocheckpoint={LOG[synchronous]}; {_TABLES}"
        )
        database.execute(f"PRAGMA user_version={FORMAT}")
    except BaseException:
        database.close()
        raise
    return database


def _damaged(sentence: str) -> sqlite3.DatabaseError:
    error = sqlite3.DatabaseError(sentence)
    error.sqlite_errorcode = sqlite3.SQLITE_CORRUPT
    return error
