"""What the archive does beside storing: minutes, calendar, retention, budget; a little in each turn of its loop."""

import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final
from zoneinfo import ZoneInfo

import sqlalchemy as sql

from bootstrap_lib import clock
from services.stores import days as calendar
from services.stores import hours, renaming, retention, schema
from services.stores.database import Database, noted
from services.stores.minutes import compute
from services.stores.retention import LEAST, Usage
from services.stores.schema import MINUTE, READINGS

SHARE: Final = 0.05
"""Seconds of a turn that are used at most, give or take a slice."""

ROUND: Final = 600.0
"""Seconds between two rounds of retention."""

GRACE: Final = 2000
"""Milliseconds after a minute's end before it is computed."""


PACE: Final = 24
"""How much faster than by itself the archive grows old after a clock that is synchronised jumped ahead: a day an hour, so
that a wrong one has no time to delete a history. By a clock that is a guess it grows old as time passes, no faster."""


class Upkeep:
    """The archive's own work. `usage` and `shortened` are for health, `trouble` is a sentence or None."""

    def __init__(
        self, database: Database, state_folder: Path, zone: ZoneInfo, moves: Sequence[tuple[int, int]] = ()
    ) -> None:
        """Begin with a round of retention; `moves` are topics whose rows are another one's by now."""
        self._database, self._engine = database, database.engine
        self._moves = list(moves)
        self._first_day: int | None = None
        self._state_folder, self._zone = state_folder, zone
        self._round: Iterator[object] = iter(())
        self._next_round = 0.0
        self._next_hour = 0
        self._reached: int | None = None
        self._turned_at = time.monotonic()
        self.usage = Usage(0, 0)
        self.shortened = 0
        self.trouble: str | None = None

    def turn(
        self, now: int, raw: float, minutes: float, budget: int, *, certain: bool = True, group: int = MINUTE
    ) -> None:
        """Work for a moment.

        `now` in ms, and whether that is `certain`; `raw` and `minutes` say for how many seconds they are kept, `budget`
        is in bytes. The minutes of a `group` (ms) are computed together when it is over; what comes late at once.
        """
        deadline = time.monotonic() + SHARE
        self._look_back(now)
        keep = max(LEAST, round(raw * 1000))
        reached = self._grow_old(now, certain)
        until = (now if certain else max(now, self._newest() or now)) - GRACE
        until -= until % max(MINUTE, group)
        while time.monotonic() < deadline:
            with self._engine.begin() as connection:
                last = compute(connection, until, reached - keep, self._database.holds)
            if last is None:
                break
            self._database.computed(last)
        self._learn_hours(until, deadline)
        if time.monotonic() >= self._next_round:
            self._next_round = time.monotonic() + ROUND
            self._round = self._retention(now, reached, keep, round(minutes * 1000), budget)
        for _ in self._round:
            if time.monotonic() >= deadline:
                break

    def _learn_hours(self, until: int, deadline: float) -> None:
        """Compute hours that are over; many where an archive is new to them, a little in each turn."""
        if self._next_hour - 4 * hours.HOUR <= until < self._next_hour:
            return
        with self._engine.begin() as connection:  # one for many: each costs the card a page of every topic
            while (found := hours.advance(hours.below(connection), until)) is None and time.monotonic() < deadline:
                pass
        self._next_hour = found or 0

    def _look_back(self, now: int) -> None:
        """Make days of minutes that are older than all before, as soon as they are to be computed."""
        with self._engine.begin() as connection:
            oldest = connection.exec_driver_sql("SELECT min(time) FROM pending").scalar_one()
            if self._first_day is None:
                self._first_day = connection.exec_driver_sql("SELECT min(begin) FROM calendar").scalar_one()
            if oldest is not None and self._first_day is not None and oldest < self._first_day:
                calendar.fill(connection, self._zone, now)
                self._first_day = None

    def _grow_old(self, now: int, certain: bool) -> int:
        """Return the time (ms) from which ages are counted: it lasts over restarts, and jumps with no clock."""
        before, self._turned_at = self._turned_at, time.monotonic()
        if self._reached is None:
            with self._engine.connect() as connection:
                known = noted(hours.below(connection), "reached")
            self._reached = known or min(now, self._newest() or now)
        passed = round((self._turned_at - before) * 1000) * (PACE if certain else 1)
        self._reached = max(clock.BORN, self._reached, min(now, self._reached + passed))
        return self._reached

    def begin_at(self, now: int) -> None:
        """Count ages from a time (ms), also an earlier one: a person said that it is right."""
        self._reached = min(now, self._reached) if self._reached else None
        with self._engine.begin() as connection:
            schema.note(connection, "reached", str(self._reached or now))

    def _newest(self) -> int | None:
        with self._engine.connect() as connection:
            newest: int | None = connection.scalar(sql.select(sql.func.max(READINGS.c.time)))
        return newest

    def _retention(self, now: int, reached: int, raw: int, minutes: int, budget: int) -> Iterator[object]:
        age, late = min(now, reached), max(now, reached)
        with self._engine.begin() as connection:
            schema.note(connection, "reached", str(reached))
            calendar.fill(connection, self._zone, late)
        yield None
        while self._moves:
            yield from renaming.move(self._engine, *self._moves[0])
            del self._moves[0]
        yield from retention.forget_raw(self._engine, age - raw)
        yield from retention.forget_minutes(self._engine, age - minutes)
        while not self._fits(budget):
            work = retention.shorten(self._engine, late)
            if work is None:
                self.trouble = (
                    f"{self.usage.total // 10**6} MB are more than the budget of {budget // 10**6} MB,"
                    " and what is left must stay: raise `budget`"
                )
                break
            for rows in work:
                self.shortened += rows
                yield None
        yield from retention.give_back(self._engine)

    def _fits(self, budget: int) -> bool:
        with self._engine.connect() as connection:
            self.usage = retention.usage(connection, self._state_folder)
        if self.usage.total <= budget:
            self.trouble = None
        return self.usage.total <= budget
