"""A year of alerts: when each fired, what it said, who was told, who acknowledged it, when it was over.

The alerts service keeps what it must know to go on; what people want to look up later is written here, by who shows it.
"""

import sqlite3
import threading
from pathlib import Path
from typing import Any, Final

from msgspec import Struct

from bootstrap_lib import ReadingError, StartError, parse_time

KEPT: Final = 400 * 86_400_000
"""Milliseconds."""

FORMAT: Final = 1
"""`PRAGMA user_version`."""

MOST_STEPS: Final = 20_000
"""Steps in all: the oldest go first."""

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
        self._lock = threading.Lock()
        try:
            self._db = self._opened(path)
        except sqlite3.DatabaseError:
            path.replace(path.with_name(path.name + ".damaged"))
            self._db = self._opened(path)
        with self._lock, self._db as db:
            if not db.execute("SELECT 1 FROM begun").fetchone():
                db.execute("INSERT INTO begun VALUES (?)", (now,))
            db.execute("DELETE FROM alerts WHERE until < ?", (now - KEPT,))
            db.execute(
                "DELETE FROM steps WHERE time < ? OR rowid <= (SELECT max(rowid) FROM steps) - ?",
                (now - KEPT, MOST_STEPS),
            )
        self.begun: int = self._db.execute("SELECT time FROM begun").fetchone()[0]

    @staticmethod
    def _opened(path: Path) -> sqlite3.Connection:
        db = sqlite3.connect(path, check_same_thread=False)
        version = db.execute("PRAGMA user_version").fetchone()[0]
        if version > FORMAT:
            db.close()
            raise StartError(
                f"{path} has format {version} of a later version of Constellation, this one knows {FORMAT}:"
                " install that version again, or move the file away to begin anew"
            )
        db.executescript(f"PRAGMA journal_mode=WAL; PRAGMA synchronous=NORMAL; {_TABLES} PRAGMA user_version={FORMAT}")
        return db

    def note(self, name: str, document: dict[str, Any], now: int) -> None:
        """Take what stands on an alert's topic; the same twice changes nothing."""
        since = _time(document.get("since"))
        with self._lock, self._db as db:
            open_ = db.execute(
                "SELECT since, acknowledged, text FROM alerts WHERE name = ? AND until IS NULL", (name,)
            ).fetchone()
            if document.get("state") != "firing":
                if open_:
                    db.execute(
                        "UPDATE alerts SET until = ? WHERE name = ? AND until IS NULL",
                        (max(since or now, open_[0]), name),
                    )
                    self._step(db, name, since or now, "over", "")
                return
            since = since or now
            text = str(document.get("text", ""))[:500]
            if open_ and open_[0] != since:
                db.execute("UPDATE alerts SET until = ? WHERE name = ? AND until IS NULL", (since, name))
                open_ = None
            if not open_:
                told = (document.get("unit"), str(document.get("value", "")), document.get("priority", 0))
                row = (name, since, document.get("rule"), document.get("topic"), text, *told)
                db.execute(
                    "INSERT OR IGNORE INTO alerts (name, since, rule, topic, text, unit, value, priority)"
                    " VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
                    row,
                )
                db.execute("UPDATE alerts SET until = NULL WHERE name = ? AND since = ?", (name, since))
                self._step(db, name, now, "fires", text)
            if document.get("acknowledged") and not (open_ and open_[1]):
                db.execute(
                    "UPDATE alerts SET acknowledged = ? WHERE name = ? AND until IS NULL AND acknowledged IS NULL",
                    (now, name),
                )
                self._step(db, name, now, "acknowledged", "")

    def step(self, names: list[str], time: int, kind: str, text: str) -> None:
        """Write down something that happened to alerts."""
        with self._lock, self._db as db:
            for name in names:
                self._step(db, name, time, kind, text)

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


def _time(text: object) -> int | None:
    try:
        return parse_time(text) if isinstance(text, str) else None
    except ReadingError:
        return None
