"""A copy of the archive while it runs, and a copy taken in again: what the archive has already stays as it is."""

import os
import sqlite3
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing
from pathlib import Path
from typing import Any, Final

from bootstrap_lib import Request, RequestError, reason, state
from services.stores import merging
from services.stores.merging import Merging
from services.stores.schema import FORMAT, ORDERED

SECRET: Final = 0o600
"""Who lives in a house, and when they are away, can be read out of its history."""


class BackupError(OSError):
    """A backup that cannot be made or used; the message says why."""


def back_up(database: Path, target: Path) -> int:
    """Copy a database in use, consistently, by SQLite's backup (sqlite.org/backup.html); returns bytes. BackupError."""
    if target.exists() and target.samefile(database):
        raise BackupError(f"{target} is the archive itself: name another file")
    try:
        with state.replacing(target, SECRET) as file:
            with state.as_owner_of(database.parent):
                opened = open_beside(database, "ro")
            with closing(opened) as source:
                with state.as_owner_of(database.parent):
                    source.execute("BEGIN")
                    source.execute(
                        "SELECT count(*) FROM sqlite_master"
                    ).fetchone()  # all its files are open from now on
                with state.as_owner_of(target.absolute().parent), closing(sqlite3.connect(file.name)) as copy:
                    source.backup(copy)
                    copy.execute("PRAGMA journal_mode=DELETE")
                    found = copy.execute("PRAGMA quick_check(1)").fetchone()[0]
            if found != "ok":
                raise BackupError(f"the copy of {database} is damaged ({found}): check the disk")
        return target.stat().st_size
    except BackupError:
        raise
    except (sqlite3.Error, OSError) as error:
        raise BackupError(f"{database} cannot be copied to {target}: {reason(error)}") from None


def take_in(database: Path, backup: Path, renamed: Mapping[str, str]) -> int:
    """Add to a database, also while it is in use, what only a backup has; returns raw readings added. BackupError.

    `renamed` says which topics have another name by now.
    """
    if not backup.is_file():
        raise BackupError(f"{backup} is not there: make one with `constellation backup`")
    try:
        with closing(open_beside(backup, "ro")) as source:
            theirs = source.execute("PRAGMA user_version").fetchone()[0]
            if ORDERED <= theirs <= FORMAT and (found := source.execute("PRAGMA quick_check(1)").fetchone()[0]) != "ok":
                raise BackupError(f"{backup} is damaged ({found}): nothing of it was taken in")
            with state.as_owner_of(database.parent), closing(open_beside(database, "rw")) as into:
                ours = into.execute("PRAGMA user_version").fetchone()[0]
                if not ORDERED <= theirs <= FORMAT == ours:
                    raise BackupError(
                        f"{backup} has format {theirs}, the archive {ours}: it must have {FORMAT}, and the backup {ORDERED} at least"
                    )
                return _merge(Merging(into, renamed), source)
    except sqlite3.Error as error:
        raise BackupError(f"{backup} cannot be taken in: {error}") from None


def scratch_for(target: Path) -> Path:
    """Folder for what is written on the way to a file: beside it where that is ours alone, else where nobody else can rename our things."""
    found = target.absolute().parent.stat()
    ours = found.st_uid == os.geteuid() and not found.st_mode & 0o022
    return target.absolute().parent if ours else Path("/var/tmp")  # noqa: S108 (folders of random names are made in it)


def open_beside(path: Path, mode: str) -> sqlite3.Connection:
    """Open a database that others use too; `mode` is ro or rw."""
    connection = sqlite3.connect(f"{path.absolute().as_uri()}?mode={mode}", uri=True, isolation_level=None, timeout=30)
    connection.execute("PRAGMA synchronous=FULL")
    return connection


def _merge(merging_: Merging, source: sqlite3.Connection) -> int:
    merging_.topics(source.execute("SELECT id, name, unit, kind FROM topics"))
    for table, columns, take in (
        ("clearings", merging.CLEARINGS, merging_.clearings),
        ("minutes", merging.COLUMNS, merging_.minutes),
        ("hours", merging.HOUR_COLUMNS, merging_.hours),
        ("readings", merging.READINGS, merging_.readings),
    ):
        if not source.execute("SELECT 1 FROM sqlite_master WHERE name = ?", (table,)).fetchone():
            continue  # of a format that had no hours
        for rows in _slices(source, f"SELECT {', '.join(columns)} FROM {table}"):
            take(rows)
    merging_.finish()
    return merging_.added


def _slices(source: sqlite3.Connection, query: str) -> Iterator[list[Any]]:
    cursor = source.execute(query)
    while rows := cursor.fetchmany(merging.SLICE):
        yield rows


class Beside:
    """One long work at a time, in a thread beside the loop; its request is answered from the loop."""

    def __init__(self) -> None:
        """Nothing is under way."""
        self._thread = ThreadPoolExecutor(1, "beside")
        self._job: tuple[Request, Future[int]] | None = None

    def begin(self, request: Request, work: Callable[[], int]) -> object:
        """Begin one; RequestError while another is under way."""
        if self._job is not None:
            raise RequestError("a backup or restore is under way: wait for its answer")
        self._job = request, self._thread.submit(work)
        return Request.LATER

    def answer(self) -> bool:
        """Answer the request if its work is done; whether it was."""
        if self._job is None or not self._job[1].done():
            return False
        (request, future), self._job = self._job, None
        try:
            request.reply({"bytes" if request.verb == "backup" else "readings": future.result()})
        except (BackupError, sqlite3.Error, ValueError, TypeError, OverflowError) as error:  # what a row holds too
            request.refuse(reason(error))
        return True

    def close(self) -> None:
        """Wait for what is under way."""
        self._thread.shutdown()
