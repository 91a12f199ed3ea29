"""What the archive does beside storing: minutes, calendar, retention, budget; a little in each turn of its loop."""

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Final
from zoneinfo import ZoneInfo

from services.stores import calendar, retention
from services.stores.minutes import compute
from services.stores.record import Record
from services.stores.retention import LEAST, Usage
from services.stores.schema import MINUTE

SHARE: Final = 0.05
"""Seconds of a turn that are used at most, give or take a slice."""

ROUND: Final = 600.0
"""Seconds between two rounds of retention."""

GRACE: Final = 2000
"""Milliseconds after a minute's end before it is computed."""


class Upkeep:
    """The archive's own work. `usage` and `shortened` are for health, `trouble` is a sentence or None."""

    def __init__(self, record: Record, state_folder: Path, zone: ZoneInfo) -> None:
        """Begin with a round of retention."""
        self._record, self._engine = record, record.engine
        self._state_folder, self._zone = state_folder, zone
        self._round: Iterator[object] = iter(())
        self._next_round = 0.0
        self.usage = Usage(0, 0)
        self.shortened = 0
        self.trouble: str | None = None

    def turn(self, now: int, raw: float, minutes: float, budget: int) -> None:
        """Work for a moment.

        `now` in ms, `raw` and `minutes` say for how many seconds they are kept, `budget` is in bytes.
        """
        deadline = time.monotonic() + SHARE
        keep = max(LEAST, round(raw * 1000))
        while time.monotonic() < deadline:
            with self._engine.begin() as connection:
                last = compute(connection, now - MINUTE - GRACE, now - keep, self._record.holds)
            if last is None:
                break
            self._record.computed(last)
        if time.monotonic() >= self._next_round:
            self._next_round = time.monotonic() + ROUND
            self._round = self._retention(now, keep, round(minutes * 1000), budget)
        for _ in self._round:
            if time.monotonic() >= deadline:
                break

    def _retention(self, now: int, raw: int, minutes: int, budget: int) -> Iterator[object]:
        with self._engine.begin() as connection:
            calendar.fill(connection, self._zone, now)
        yield None
        yield from retention.forget_raw(self._engine, now - raw)
        yield from retention.forget_minutes(self._engine, now - minutes)
        while not self._fits(budget):
            work = retention.shorten(self._engine, now)
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
