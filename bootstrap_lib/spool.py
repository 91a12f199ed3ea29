"""Store and forward: every reading stays here until the archive has it on disk (docs/durability.md).

Two SQLite files. The *fresh* one lies in the runtime folder (tmpfs): it costs the SD card nothing and survives
any kill of the process. What the archive has not confirmed within two seconds moves to the *kept* one in the
state folder, in one synchronised transaction a second, where a power cut does not reach it.

Numbers never repeat: a block of them is reserved on disk before it is used, so that a power cut, which empties
the tmpfs, only skips some. Each reading is sent with the number of its predecessor that is still unconfirmed;
whatever lies between is gone for a reason that was counted, and the archive need not wait for it.
"""

import contextlib
import logging
import secrets
import sqlite3
import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, Final, NamedTuple

from bootstrap_lib.reading import Sequence

log = logging.getLogger(__name__)

FORMAT: Final = 1
"""`PRAGMA user_version` of both files; a file of another format is converted or set aside, never guessed at."""

RESERVED: Final = 10_000_000
"""Numbers reserved by one write to the disk, and half of them at least are in hand: a disk may be full for weeks."""

AGE: Final = 1.4
"""Seconds without the archive's mark after which a reading goes to disk: a commit a second is quicker, and two seconds are promised."""

GROUP: Final = 1.0
"""Seconds of readings that go to disk together."""

LOG: Final = {"OFF": 100, "FULL": 1000}
"""Pages of SQLite's log before they are carried into the file: the one in the tmpfs takes memory, the other writes."""

EMPTY: Final = 1000
"""Free pages of a file that are given back once they are nine tenths of it: 4 MB."""

_TABLES: Final = """
CREATE TABLE IF NOT EXISTS tail (number INTEGER PRIMARY KEY AUTOINCREMENT, topic TEXT NOT NULL, head TEXT, time INTEGER NOT NULL,
                                 boot TEXT, since REAL NOT NULL);
CREATE TABLE IF NOT EXISTS meta (name TEXT PRIMARY KEY, value) WITHOUT ROWID;
"""


class Row(NamedTuple):
    """A reading that waits: `head` as from `encode_head`, or None to clear the topic; `time` in milliseconds.

    With a `boot` (its boot id) the time is that boot's monotonic clock: the wall clock was not to be trusted.
    """

    number: int
    topic: str
    head: str | None
    time: int
    boot: str | None


class SpoolError(OSError):
    """Neither of the two folders takes a reading; the message says why."""


class Spool:
    """The unconfirmed readings of one source, in order. Used from one thread only."""

    def __init__(self, runtime: Path, state: Path, limit: int = 200_000_000) -> None:
        """Open both files, `limit` bytes at most on disk; a damaged one is set aside, said, and started anew."""
        self.limit = limit
        self.dropped = 0
        self.trouble: str | None = None
        self._confirmed = 0
        self._paths = state / "spool.sqlite", runtime / "spool.sqlite"
        with contextlib.ExitStack() as opened:
            self._kept = opened.enter_context(contextlib.closing(_open(self._paths[0], synchronous="FULL")))
            self._fresh = opened.enter_context(contextlib.closing(_open(self._paths[1], synchronous="OFF")))
            self.stream = str(self._meta(self._kept, "stream") or secrets.token_hex(4))
            self._reserved = int(self._meta(self._kept, "reserved") or 0)
            known = self._meta(self._fresh, "stream") == self.stream
            used = "SELECT max(seq) FROM sqlite_sequence"  # survives the deletion of what is confirmed
            newest = max(database.execute(used).fetchone()[0] or 0 for database in (self._kept, self._fresh))
            self._next = newest + 1 if known else self._reserved + 1
            try:
                self._reserve()
                self._fresh.execute("INSERT OR REPLACE INTO meta VALUES ('stream', ?)", (self.stream,))
            except sqlite3.Error as error:
                raise SpoolError(f"the spool cannot be written: {error}") from None
            last = [c.execute("SELECT max(number) FROM tail").fetchone()[0] for c in (self._kept, self._fresh)]
            self._last = max((n for n in last if n is not None), default=0)
            opened.pop_all()  # both stay open

    def _reserve(self) -> None:
        if self._next + RESERVED // 2 > self._reserved:
            reserved = self._next + RESERVED
            with _transaction(self._kept):
                row = ("stream", self.stream), ("reserved", reserved)
                self._kept.executemany("INSERT OR REPLACE INTO meta VALUES (?, ?)", row)
            self._reserved = reserved

    @staticmethod
    def _meta(database: sqlite3.Connection, name: str) -> Any:
        row = database.execute("SELECT value FROM meta WHERE name = ?", (name,)).fetchone()
        return row[0] if row else None

    def append(self, topic: str, head: str | None, moment: int, boot: str | None = None) -> tuple[Row, Sequence]:
        """Take a reading (or, without a head, a clearing) and give it its number; SpoolError where no folder takes it."""
        return self.append_all([(topic, head, moment, boot)])[0]

    def append_all(self, readings: Iterable[tuple[str, str | None, int, str | None]]) -> list[tuple[Row, Sequence]]:
        """Take several readings in one step: all of them are kept, or SpoolError says that none is."""
        rows = [Row(number, *reading) for number, reading in enumerate(readings, self._next)]
        if not rows:
            return []
        since = time.monotonic()
        self._add([(*row, since) for row in rows])
        previous = (self._last, *(row.number for row in rows))
        self._last = rows[-1].number
        self._next = self._last + 1
        if self._last >= self._reserved:
            with contextlib.suppress(sqlite3.Error):  # a full disk: `settle` says so and tries again
                self._reserve()
        return [(row, Sequence(self.stream, before, row.number)) for before, row in zip(previous, rows, strict=False)]

    def _add(self, rows: list[tuple[Any, ...]]) -> None:
        insert = "INSERT INTO tail VALUES (?, ?, ?, ?, ?, ?)"
        try:
            _insert(self._fresh, insert, rows)
        except sqlite3.Error:  # tmpfs is full: the disk takes it
            try:
                _insert(self._kept, insert, rows)
            except sqlite3.Error as error:
                raise SpoolError(f"no room to keep a reading, it is lost: {error}") from None

    def after(self, number: int, count: int) -> list[tuple[Row, Sequence]]:
        """Return up to `count` of the readings behind a number, oldest first, each with its place in the sequence."""
        query = "SELECT number, topic, head, time, boot FROM tail WHERE number > ? ORDER BY number LIMIT ?"
        rows = {row[0]: Row(*row) for row in self._kept.execute(query, (number, count))}
        rows |= {row[0]: Row(*row) for row in self._fresh.execute(query, (number, count))}
        previous, found = self._before(number + 1), []
        for key in sorted(rows)[:count]:
            found.append((rows[key], Sequence(self.stream, previous, key)))
            previous = key
        return found

    def _before(self, number: int) -> int:
        query = "SELECT max(number) FROM tail WHERE number < ?"
        return max((c.execute(query, (number,)).fetchone()[0] or 0) for c in (self._kept, self._fresh))

    def confirm(self, stream: str, number: int) -> None:
        """Forget all readings up to a number: the archive has them on disk."""
        if stream != self.stream:
            return
        self._confirmed = 0
        for database in (self._kept, self._fresh):
            try:
                _delete(database, "number <= ?", number)
            except sqlite3.Error as error:
                if database.execute("SELECT 1 FROM tail WHERE number > ? LIMIT 1", (number,)).fetchone():
                    self._confirmed = number  # what stays is sent again, which is normal, and deleted by `settle`
                    self.trouble = f"what is confirmed cannot be deleted from the spool: {error}"
                else:
                    self._begin_anew(database)
        self._find_last(number)

    def drop(self, number: int) -> None:
        """Forget one reading that will never be delivered; those behind it need not wait for it."""
        for database in (self._kept, self._fresh):
            with contextlib.suppress(sqlite3.Error):  # a full disk: it is sent, and dropped, again
                _delete(database, "number = ?", number)
        self._find_last(number)
        self.dropped += 1

    def _find_last(self, number: int) -> None:
        if number >= self._last:
            self._last = self._before(self._last + 1)

    def _begin_anew(self, database: sqlite3.Connection) -> None:
        """Replace a file that holds nothing to keep, on a disk so full that nothing can be deleted in it."""
        kept = database is self._kept
        path = self._paths[0 if kept else 1]
        database.close()
        _unlink(path)
        new = _open(path, synchronous="FULL" if kept else "OFF")
        if kept:
            self._kept, self._reserved = new, 0
        else:
            self._fresh = new
        with contextlib.suppress(sqlite3.Error):  # a file without them is one of an earlier boot: numbers are skipped
            self._reserve()
            with _transaction(new):
                new.execute("INSERT INTO sqlite_sequence VALUES ('tail', ?)", (self._next - 1,))
                new.execute("INSERT OR REPLACE INTO meta VALUES ('stream', ?)", (self.stream,))

    def settle(self, age: float = AGE) -> None:
        """Once a reading has waited for `age` seconds, move it to the disk in one transaction with all those up to a second younger.

        A full disk is said, and tried again.
        """
        try:
            self._reserve()
            if rows := self._due(age):
                with _transaction(self._kept):
                    self._kept.executemany("INSERT OR IGNORE INTO tail VALUES (?, ?, ?, ?, ?, ?)", rows)
                    self._bound()
                self._release([row[:1] for row in rows])
            if self._confirmed:
                self.confirm(self.stream, self._confirmed)
            if not self._confirmed:
                self.trouble = None
        except sqlite3.Error as error:
            self.trouble = f"the spool cannot be written to disk: {error}"

    def _due(self, age: float) -> list[tuple[Any, ...]]:
        now = time.monotonic()
        future = now + 60  # of another boot
        waits = "FROM tail WHERE since <= ? OR since > ? LIMIT"
        if not self._fresh.execute(f"SELECT 1 {waits} 1", (now - age, future)).fetchone():
            return []
        return self._fresh.execute(f"SELECT * {waits} 50000", (now - age + GROUP, future)).fetchall()

    def _release(self, numbers: list[tuple[Any, ...]]) -> None:
        """Delete from the tmpfs what is on disk; one so full that nothing can be deleted in it is emptied as a whole."""
        try:
            with _transaction(self._fresh):
                self._fresh.executemany("DELETE FROM tail WHERE number = ?", numbers)
        except sqlite3.Error:
            rows = self._fresh.execute("SELECT * FROM tail").fetchall()
            with _transaction(self._kept):
                self._kept.executemany("INSERT OR IGNORE INTO tail VALUES (?, ?, ?, ?, ?, ?)", rows)
            self._begin_anew(self._fresh)

    def _bound(self) -> None:
        pages, size, free = (
            self._kept.execute(f"PRAGMA {name}").fetchone()[0] for name in ("page_count", "page_size", "freelist_count")
        )
        if (pages - free) * size > self.limit:
            count = self._kept.execute("SELECT count(*) FROM tail").fetchone()[0] // 50 + 1
            self._kept.execute(
                "DELETE FROM tail WHERE number IN (SELECT number FROM tail ORDER BY number LIMIT ?)", (count,)
            )
            self.dropped += count

    def correct(self, boot: str, offset: int) -> None:
        """Turn monotonic times of a boot into wall times, `offset` milliseconds later; what a full disk keeps stays `uncertain`."""
        for database in (self._kept, self._fresh):
            try:
                database.execute("UPDATE tail SET time = time + ?, boot = NULL WHERE boot = ?", (offset, boot))
            except sqlite3.Error as error:
                self.trouble = f"times in the spool cannot be corrected: {error}"

    def uncertain(self) -> Iterator[tuple[str, int, int]]:
        """Boots of which readings still have monotonic times, each with its first and last such time."""
        spans: dict[str, tuple[int, int]] = {}
        for database in (self._kept, self._fresh):
            query = "SELECT boot, min(time), max(time) FROM tail WHERE boot IS NOT NULL GROUP BY boot"
            for boot, first, last in database.execute(query):
                low, high = spans.get(boot, (first, last))
                spans[boot] = (min(low, first), max(high, last))
        for boot, (low, high) in spans.items():
            yield boot, low, high

    def count(self) -> int:
        """How many readings wait."""
        query = "SELECT count(*) FROM tail"
        return sum(database.execute(query).fetchone()[0] for database in (self._kept, self._fresh))

    @property
    def last(self) -> int:
        """Number of the newest reading that still waits, or 0."""
        return self._last

    def close(self) -> None:
        """Close both files; what waits is there again at the next start."""
        with contextlib.suppress(sqlite3.Error):
            self._fresh.close()
            self._kept.close()


def _open(path: Path, synchronous: str) -> sqlite3.Connection:
    try:
        return _prepare(path, synchronous)
    except sqlite3.OperationalError as error:  # a full disk, a folder that is not ours: no damage
        raise SpoolError(
            f"{path} cannot be opened ({error}): check that its disk has room and its folder belongs to this user"
        ) from None
    except sqlite3.DatabaseError as error:
        aside = path.with_name(f"{path.name}.damaged-{int(time.time())}")
        path.rename(aside)
        _unlink(path)
        log.error("%s was damaged (%s): it is set aside as %s, a new one is begun", path, error, aside.name)  # noqa: TRY400
        return _prepare(path, synchronous)


def _unlink(path: Path) -> None:
    for ending in ("", "-wal", "-shm"):
        path.with_name(path.name + ending).unlink(missing_ok=True)


def _delete(database: sqlite3.Connection, where: str, number: int) -> None:
    """Delete readings, and return the room that a backlog took."""
    if not database.execute("SELECT 1 FROM tail LIMIT 1").fetchone():
        return
    database.execute(f"DELETE FROM tail WHERE {where}", (number,))  # noqa: S608 (our own words)
    free, pages = (database.execute(f"PRAGMA {name}").fetchone()[0] for name in ("freelist_count", "page_count"))
    if free > max(EMPTY, 0.9 * pages):
        with contextlib.suppress(sqlite3.Error):  # it can wait
            database.executescript("VACUUM; PRAGMA wal_checkpoint(TRUNCATE)")


def _insert(database: sqlite3.Connection, insert: str, rows: list[tuple[Any, ...]]) -> None:
    if len(rows) == 1:  # a step by itself
        database.execute(insert, rows[0])
    else:
        with _transaction(database):
            database.executemany(insert, rows)


@contextlib.contextmanager
def _transaction(database: sqlite3.Connection) -> Iterator[None]:
    """Make one durable step of several statements: with `isolation_level=None` each would be synchronised by itself."""
    database.execute("BEGIN IMMEDIATE")
    try:
        yield
        database.execute("COMMIT")
    except BaseException:
        if database.in_transaction:
            database.execute("ROLLBACK")
        raise


def _prepare(path: Path, synchronous: str) -> sqlite3.Connection:
    path.parent.mkdir(parents=True, exist_ok=True)
    database = sqlite3.connect(path, isolation_level=None, timeout=5)
    try:
        _bring_up(database, synchronous)
    except BaseException:
        database.close()
        raise
    return database


def _bring_up(database: sqlite3.Connection, synchronous: str) -> None:
    version = database.execute("PRAGMA user_version").fetchone()[0]
    if version not in (0, FORMAT):
        raise sqlite3.DatabaseError(f"format {version} is not known to this version")
    if version == FORMAT and database.execute("PRAGMA quick_check(1)").fetchone()[0] != "ok":
        raise sqlite3.DatabaseError("its pages do not agree")
    database.executescript(
        f"PRAGMA cache_size=-256; PRAGMA journal_mode=WAL; PRAGMA synchronous={synchronous};"
        f"PRAGMA wal_autocheckpoint={LOG[synchronous]}; {_TABLES}"
    )
    database.execute(f"PRAGMA user_version={FORMAT}")
