"""A copy of the archive while it runs, and a copy taken in again: what the archive has already stays as it is."""

import os
import sqlite3
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing
from pathlib import Path
from typing import Any, Final

from bootstrap_lib import LATER, Request, RequestError
from services.stores.schema import FORMAT, MINUTE, MINUTES

SLICE: Final = 5000
"""Rows taken in with one transaction, so that readings are stored meanwhile."""


class BackupError(OSError):
    """A backup that cannot be made or used; the message says why."""


def back_up(database: Path, target: Path) -> int:
    """Copy a database in use, consistently, by SQLite's backup (sqlite.org/backup.html); returns bytes. BackupError."""
    if target.exists() and target.samefile(database):
        raise BackupError(f"{target} is the archive itself: name another file")
    beside = target.with_name(target.name + ".new")
    try:
        beside.unlink(missing_ok=True)
        with closing(_open(database, "ro")) as source, closing(sqlite3.connect(beside)) as copy:
            source.backup(copy)
            copy.execute("PRAGMA journal_mode=DELETE")
            found = copy.execute("PRAGMA quick_check(1)").fetchone()[0]
        if found != "ok":
            raise BackupError(f"the copy of {database} is damaged ({found}): check the disk")
        with beside.open("rb") as file:
            os.fsync(file.fileno())
        beside.replace(target)
        return target.stat().st_size
    except (sqlite3.Error, OSError) as error:
        beside.unlink(missing_ok=True)
        if isinstance(error, BackupError):
            raise
        raise BackupError(f"{database} cannot be copied to {target}: {error}") from None


def take_in(database: Path, backup: Path) -> int:
    """Add to a database, also while it is in use, what only a backup has; returns raw readings added. BackupError."""
    if not backup.is_file():
        raise BackupError(f"{backup} is not there: make one with `constellation backup`")
    try:
        with closing(_open(database, "rw")) as into, closing(_open(backup, "ro")) as source:
            formats = [one.execute("PRAGMA user_version").fetchone()[0] for one in (into, source)]
            if formats != [FORMAT, FORMAT]:
                raise BackupError(
                    f"{backup} has format {formats[1]}, the archive {formats[0]}: both must have {FORMAT}"
                )
            return _merge(into, source)
    except sqlite3.Error as error:
        raise BackupError(f"{backup} cannot be taken in: {error}") from None


def _open(path: Path, mode: str) -> sqlite3.Connection:
    connection = sqlite3.connect(f"{path.absolute().as_uri()}?mode={mode}", uri=True, isolation_level=None, timeout=30)
    connection.execute("PRAGMA synchronous=FULL")
    return connection


def _merge(into: sqlite3.Connection, source: sqlite3.Connection) -> int:
    same: dict[int, int] = {}
    for theirs, *topic in source.execute("SELECT id, name, unit, kind FROM topics"):
        into.execute("INSERT OR IGNORE INTO topics (name, unit, kind) VALUES (?, ?, ?)", topic)
        query = "SELECT id FROM topics WHERE name = ? AND unit = ? AND kind = ?"
        same[theirs] = into.execute(query, topic).fetchone()[0]
    for rows in _slices(source, "SELECT topic, time FROM clearings"):
        _add(into, "INSERT OR IGNORE INTO clearings (topic, time) VALUES (?, ?)", [(same[t], *r) for t, *r in rows])
    names = [column.name for column in MINUTES.columns]
    insert = (
        f"INSERT INTO minutes ({', '.join(names)}) VALUES ({', '.join('?' * len(names))}) ON CONFLICT DO UPDATE SET "  # noqa: S608
    )
    insert += ", ".join(f"{name} = excluded.{name}" for name in names[2:]) + " WHERE excluded.count > minutes.count"
    for rows in _slices(source, f"SELECT {', '.join(names)} FROM minutes"):  # noqa: S608
        _add(into, insert, [(same[t], *rest) for t, *rest in rows])
    added = 0
    for rows in _slices(source, "SELECT topic, time, value, word FROM readings"):
        ours = [(same[t], *rest) for t, *rest in rows]
        into.execute("BEGIN IMMEDIATE")
        before = into.total_changes
        into.executemany("INSERT OR IGNORE INTO readings (topic, time, value, word) VALUES (?, ?, ?, ?)", ours)
        if into.total_changes > before:
            added += into.total_changes - before
            touched = {(topic, time - time % MINUTE) for topic, time, *_ in ours}
            into.executemany("INSERT OR IGNORE INTO pending (topic, time) VALUES (?, ?)", touched)
        into.execute("COMMIT")
    return added


def _slices(source: sqlite3.Connection, query: str) -> Iterator[list[Any]]:
    cursor = source.execute(query)
    while rows := cursor.fetchmany(SLICE):
        yield rows


def _add(into: sqlite3.Connection, statement: str, rows: list[tuple[Any, ...]]) -> None:
    into.execute("BEGIN IMMEDIATE")
    into.executemany(statement, rows)
    into.execute("COMMIT")


class Beside:
    """One backup or restore at a time, in a thread beside the loop; its request is answered from the loop."""

    def __init__(self, database: Path, backup: Path) -> None:
        """`backup` is the file that requests write and read."""
        self._files = database, backup
        self._thread = ThreadPoolExecutor(1, "backup")
        self._job: tuple[Request, Future[int]] | None = None

    def begin(self, request: Request, work: Callable[[Path, Path], int]) -> object:
        """Begin `back_up` or `take_in`; RequestError while another is under way."""
        if self._job is not None:
            raise RequestError("a backup or restore is under way: wait for its answer")
        self._job = request, self._thread.submit(work, *self._files)
        return LATER

    def answer(self) -> None:
        """Answer the request if its work is done."""
        if self._job is None or not self._job[1].done():
            return
        (request, future), self._job = self._job, None
        try:
            request.reply({"bytes" if request.verb == "backup" else "readings": future.result()})
        except BackupError as error:
            request.refuse(str(error))

    def close(self) -> None:
        """Wait for what is under way."""
        self._thread.shutdown()
