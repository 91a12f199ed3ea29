"""A year of alerts: when each fired, what it said, who was told, who acknowledged it, when it was over.

The alerts service keeps what it must know to go on; what people want to look up later is written here, by who shows it.
"""

import sqlite3
from collections.abc import Collection
from pathlib import Path
from typing import Any, Final

from msgspec import Struct

from bootstrap_lib import ReadingError, parse_time
from services.page.diary_file import DiaryFile

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
    """May be asked from any thread."""

    def __init__(self, path: Path, now: int) -> None:
        """Open or begin it. StartError for one of a later version."""

        def prepare(db: sqlite3.Connection) -> None:
            if not db.execute("SELECT 1 FROM begun").fetchone():
                db.execute("INSERT INTO begun VALUES (?)", (now,))
            db.execute("DELETE FROM alerts WHERE until < ?", (now - KEPT,))
            db.execute(
                "DELETE FROM steps WHERE time < ? OR rowid <= (SELECT max(rowid) FROM steps) - ?",
                (now - KEPT, MOST_STEPS),
            )

        self.file = DiaryFile(path, _TABLES, FORMAT, prepare)

    @property
    def begun(self) -> int:
        """Since when (ms) it is written."""
        with self.file.reading() as db:
            return int(db.execute("SELECT time FROM begun").fetchone()[0])

    def note(self, name: str, document: dict[str, Any], now: int) -> None:
        """Take what stands on an alert's topic, nothing where its rule is no more; the same twice changes nothing."""
        self.file.write(lambda db: self._note(db, name, document, now))

    def settle(self, standing: Collection[str], now: int) -> None:
        """End what is written down as firing and stands on no topic any more: it ended while nobody wrote."""

        def end(db: sqlite3.Connection) -> None:
            for (name,) in db.execute("SELECT name FROM alerts WHERE until IS NULL").fetchall():
                if name not in standing:
                    self._note(db, name, {}, now)

        self.file.write(end)

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

        self.file.write(steps)

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
        with self.file.reading() as db:
            for name, rule, begun, ended, topic, text, priority, acknowledged in db.execute(
                query, (until, since)
            ).fetchall():
                steps = db.execute(
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
        self.file.close()


def _text(given: object) -> str | None:
    return given[:500] if isinstance(given, str) else None


def _rank(given: object) -> int:
    return max(-10, min(10, given)) if isinstance(given, int) else 0


def _time(text: object) -> int | None:
    try:
        return parse_time(text) if isinstance(text, str) else None
    except ReadingError:
        return None
