"""A year of alerts: when each fired, what it said, who was told, who acknowledged it, when it was over.

The alerts service keeps what it must know to go on; what people want to look up later is written here, by who shows it.
A disk that takes nothing is no reason to show nothing: what comes meanwhile is kept in memory and written down later.
"""

import logging
import sqlite3
import threading
from collections import deque
from collections.abc import Callable, Collection
from contextlib import suppress
from pathlib import Path
from typing import Any, Final

from msgspec import Struct

from bootstrap_lib import ReadingError, StartError, parse_time

log = logging.getLogger(__name__)

KEPT: Final = 400 * 86_400_000
"""Milliseconds."""

FORMAT: Final = 1
"""`PRAGMA user_version`."""

MOST_STEPS: Final = 20_000
"""Steps in all: the oldest go first. So many writings wait for a file that takes nothing, too."""

DAMAGED: Final = (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB)
"""Errors (their low byte) that say that the file is no diary any more; all others leave it where it is."""

_TABLES: Final = """
CREATE TABLE IF NOT EXISTS alerts (
    name TEXT NOT NULL, since INTEGER NOT NULL, until INTEGER, rule TEXT, topic TEXT, text TEXT, unit TEXT,
    value TEXT, priority INTEGER, acknowledged INTEGER, PRIMARY KEY (name, since)) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS steps (name TEXT NOT NULL, time INTEGER NOT NULL, kind TEXT NOT NULL, text TEXT NOT NULL);
CREATE INDEX IF NOT EXISTS steps_of ON steps (name, time);
CREATE TABLE IF NOT EXISTS begun (time INTEGER NOT NULL);
"""


class Step(Struct, frozen=True):
    """Something that happened to an alert. `kind`: fires, told, delivered, failed, acknowledged, snoozed, over."""

    time: int
    kind: str
    text: str


class Fired(Struct, frozen=True, kw_only=True):
    """An alert from its beginning to its end. Times in ms; `until` is None while it fires."""

    name: str
    rule: str
    since: int
    until: int | None
    topic: str
    text: str
    priority: int
    acknowledged: int | None
    steps: list[Step]


class Diary:
    """The file. May be asked from any thread."""

    def __init__(self, path: Path, now: int) -> None:
        """Open or begin it; a damaged one is set aside. StartError for one of a later version."""
        self._path, self._lock = path, threading.Lock()
        self._owed: deque[Write] = deque(maxlen=MOST_STEPS)
        self._in_memory = False
        self.trouble: str | None = None
        """Why the file takes nothing now."""
        self._db = self._usable(path, now)
        self.begun = self._first()

    def _usable(self, path: Path, now: int) -> sqlite3.Connection:
        for _ in range(2):
            try:
                return self._begun(path, now)
            except sqlite3.DatabaseError as error:
                if getattr(error, "sqlite_errorcode", 0) & 0xFF not in DAMAGED:
                    self._fail(error)  # full, locked, not to be opened: what is kept there stays as it is
                    break
                log.error("%s is damaged: it is set aside as %s", path, _set_aside(path, now))  # noqa: TRY400
        self._in_memory = True
        return self._begun(None, now)

    def _first(self) -> int:
        return int(self._db.execute("SELECT time FROM begun").fetchone()[0])

    def _begun(self, path: Path | None, now: int) -> sqlite3.Connection:
        db = self._opened(path)
        try:
            with db:
                if not db.execute("SELECT 1 FROM begun").fetchone():
                    db.execute("INSERT INTO begun VALUES (?)", (now,))
                db.execute("DELETE FROM alerts WHERE until < ?", (now - KEPT,))
                db.execute(
                    "DELETE FROM steps WHERE time < ? OR rowid <= (SELECT max(rowid) FROM steps) - ?",
                    (now - KEPT, MOST_STEPS),
                )
        except sqlite3.Error:
            db.close()
            raise
        return db

    @staticmethod
    def _opened(path: Path | None) -> sqlite3.Connection:
        db = sqlite3.connect(path or ":memory:", check_same_thread=False)
        try:
            version = db.execute("PRAGMA user_version").fetchone()[0]
            if version > FORMAT:
                raise StartError(
                    f"{path} has format {version} of a later version of Constellation, this one knows {FORMAT}:"
                    " install that version again, or move the file away to begin anew"
                )
            db.executescript(
                f"PRAGMA journal_mode=WAL; PRAGMA synchronous=NORMAL; {_TABLES} PRAGMA user_version={FORMAT}"
            )
        except (sqlite3.Error, StartError):
            db.close()
            raise
        return db

    # -- writing ------------------------------------------------------------------------------------------------

    def _write(self, write: "Write") -> None:
        with self._lock:
            self._owed.append(write)
            if self._in_memory:
                with self._db as db:
                    write(db)
            else:
                self._pay()

    def _pay(self) -> None:
        try:
            with self._db as db:
                for write in self._owed:
                    write(db)
        except sqlite3.Error as error:
            self._fail(error)
        else:
            self._owed.clear()
            self.trouble = None

    def _fail(self, error: sqlite3.Error) -> None:
        if self.trouble is None:
            log.error("%s takes nothing: %s; alerts are written down there when it does again", self._path, error)
        self.trouble = f"{self._path} takes nothing: {error}"

    def heal(self, now: int) -> None:
        """Try the file again where it took nothing, and write down there what happened meanwhile."""
        with self._lock:
            if self._in_memory:
                try:
                    file = self._begun(self._path, now)
                except (sqlite3.Error, StartError):
                    return
                self._db.close()
                self._db, self._in_memory = file, False
                self.begun = self._first()
            if self._owed:
                self._pay()
            else:
                self.trouble = None

    def note(self, name: str, document: dict[str, Any], now: int) -> None:
        """Take what stands on an alert's topic, nothing where its rule is no more; the same twice changes nothing."""
        self._write(lambda db: self._note(db, name, document, now))

    def settle(self, standing: Collection[str], now: int) -> None:
        """End what is written down as firing and stands on no topic any more: it ended while nobody wrote."""

        def end(db: sqlite3.Connection) -> None:
            for (name,) in db.execute("SELECT name FROM alerts WHERE until IS NULL").fetchall():
                if name not in standing:
                    self._note(db, name, {}, now)

        self._write(end)

    def _note(self, db: sqlite3.Connection, name: str, document: dict[str, Any], now: int) -> None:
        since = _time(document.get("since"))
        open_ = db.execute(
            "SELECT since, acknowledged FROM alerts WHERE name = ? AND until IS NULL", (name,)
        ).fetchone()
        if document.get("state") != "firing":
            if open_:
                db.execute(
                    "UPDATE alerts SET until = ? WHERE name = ? AND until IS NULL", (max(since or now, open_[0]), name)
                )
                self._step(db, name, since or now, "over", "")
            return
        since = since or now
        if open_ and open_[0] != since:
            db.execute("UPDATE alerts SET until = ? WHERE name = ? AND until IS NULL", (since, name))
            open_ = None
        if not open_:
            text = _text(document.get("text")) or ""
            told = (_text(document.get("unit")), str(document.get("value", ""))[:500], _rank(document.get("priority")))
            row = (name, since, _text(document.get("rule")), _text(document.get("topic")), text, *told)
            new = db.execute(
                "INSERT OR IGNORE INTO alerts (name, since, rule, topic, text, unit, value, priority)"
                " VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
                row,
            )
            if new.rowcount:
                self._step(db, name, now, "fires", text)
            else:  # it was believed over, and never was: a broker had forgotten it for a moment
                db.execute("UPDATE alerts SET until = NULL WHERE name = ? AND since = ?", (name, since))
                db.execute("DELETE FROM steps WHERE name = ? AND kind = 'over' AND time >= ?", (name, since))
        if document.get("acknowledged") and not (open_ and open_[1]):
            changed = db.execute(
                "UPDATE alerts SET acknowledged = ? WHERE name = ? AND until IS NULL AND acknowledged IS NULL",
                (now, name),
            )
            if changed.rowcount:
                self._step(db, name, now, "acknowledged", "")

    def step(self, names: list[str], time: int, kind: str, text: str) -> None:
        """Write down something that happened to alerts."""

        def steps(db: sqlite3.Connection) -> None:
            for name in names:
                self._step(db, name, time, kind, text)

        self._write(steps)

    @staticmethod
    def _step(db: sqlite3.Connection, name: str, time: int, kind: str, text: str) -> None:
        same = db.execute(
            "SELECT 1 FROM steps WHERE name = ? AND kind = ? AND text = ? AND abs(time - ?) < 1000",
            (name, kind, text, time),
        )
        if not same.fetchone():
            db.execute("INSERT INTO steps VALUES (?, ?, ?, ?)", (name, time, kind, text[:500]))

    def between(self, since: int, until: int) -> list[Fired]:
        """Alerts that fired within a span (ms), the newest first."""
        query = (
            "SELECT name, rule, since, until, topic, text, priority, acknowledged FROM alerts"
            " WHERE since < ? AND (until IS NULL OR until >= ?) ORDER BY since DESC LIMIT 1000"
        )
        found = []
        with self._lock:
            for name, rule, begun, ended, topic, text, priority, acknowledged in self._db.execute(
                query, (until, since)
            ).fetchall():
                steps = self._db.execute(
                    "SELECT time, kind, text FROM steps WHERE name = ? AND time >= ? AND time <= ? ORDER BY time LIMIT 100",
                    (name, begun - 5000, (ended or until) + 60_000),
                ).fetchall()
                fired = Fired(
                    name=name,
                    rule=rule or name,
                    since=begun,
                    until=ended,
                    topic=topic or "",
                    text=text or name,
                    priority=priority or 0,
                    acknowledged=acknowledged,
                    steps=[Step(*one) for one in steps],
                )
                found.append(fired)
        return found

    def close(self) -> None:
        """Close the file."""
        with self._lock:
            self._db.close()


Write = Callable[[sqlite3.Connection], None]
"""A piece of writing that can be done again; it never fails but for the file."""


def _set_aside(path: Path, now: int) -> Path:
    """Move a diary out of the way together with its log, which holds what is newest."""
    aside = path.with_name(f"{path.name}.damaged-{now}")
    path.replace(aside)
    for ending in ("-wal", "-shm"):
        with suppress(FileNotFoundError):
            path.with_name(path.name + ending).replace(aside.with_name(aside.name + ending))
    return aside


def _text(given: object) -> str | None:
    return given[:500] if isinstance(given, str) else None


def _rank(given: object) -> int:
    return max(-10, min(10, given)) if isinstance(given, int) else 0


def _time(text: object) -> int | None:
    try:
        return parse_time(text) if isinstance(text, str) else None
    except ReadingError:
        return None
