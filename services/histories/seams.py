"""Where a coarse row meets finer ones: what is known of a part of its time is not brought once more.

A mean over half an hour, an hour or a day speaks of all minutes in it. Where the archive has some of these, the rest of a counter's row
is what it counted more than they did; of all else the finer ones stay alone. So a row that came in whole brings nothing the second time.
The row behind an outage counted from the outage's begin on, so what is known of that is not its rest either.
"""

import sqlite3
from bisect import bisect_left
from collections.abc import Iterable, Iterator
from itertools import groupby
from typing import Final, NamedTuple

from services.histories.conversion import HOUR, Kept
from services.stores.minutes import DECIMALS
from services.stores.schema import MINUTE

NOISE: Final = 1e-6
"""Part of a row up to which its difference from the sum of finer ones is their rounding: files have seven digits and more."""
MOST: Final = 12
"""An hour in which Home Assistant went off may end with the first of its twelve rows: what came until its end is as many times more."""

_MINUTES: Final = "SELECT time, difference, last FROM minutes WHERE topic = ? AND time >= ? AND time < ? ORDER BY time"
_HOURS: Final = "SELECT time, difference, NULL FROM hours WHERE topic = ? AND time > ? AND time < ? ORDER BY time"
_BEFORE: Final = "SELECT max(time) FROM minutes WHERE topic = ? AND time < ? AND last IS NOT NULL"
_AFTER: Final = "SELECT min(time) FROM minutes WHERE topic = ? AND time >= ? AND last IS NOT NULL"
_TELL: Final = """
    UPDATE minutes SET difference = ?1 WHERE topic = ?2 AND time = ?3
    AND difference IS NULL AND NOT EXISTS (SELECT 1 FROM readings WHERE time >= ?3 AND time < ?3 + 60000 AND topic = ?2)"""


class Seams:
    """One topic of an archive, into which rows of one resolution come after those of finer ones. sqlite3.Error."""

    def __init__(self, database: sqlite3.Connection, topic: int, kind: str) -> None:
        """Look at the topic of this number."""
        self._database, self._topic, self._kind = database, topic, kind

    def wanted(self, some: Iterable[Kept]) -> Iterator[Kept]:
        """What rows of one slice bring that is not known; parts of one row are given together."""
        for span, group in groupby(some, key=lambda row: row.span):
            if span is None:
                yield from group
            else:
                yield from self._rest(list(group), *span)

    def _rest(self, parts: list[Kept], begin: int, end: int) -> Iterator[Kept]:
        since = begin if parts[0].since is None else parts[0].since
        minutes = _Known(self._database.execute(_MINUTES, (self._topic, since, end)))
        of_hours = (self._topic, since - HOUR, end)
        hours = _Known(self._database.execute(_HOURS, of_hours) if parts[0].length == HOUR else ())
        if not minutes.times and not hours.times:
            yield from parts
            return
        slots = list(zip(parts, [*(part.time for part in parts[1:]), end], strict=True))
        free = [
            part
            for part, edge in slots
            if not minutes.between(part.time, edge) and not hours.between(part.time - HOUR + 1, part.time + HOUR)
        ]
        told = [part.difference for part in parts if part.difference is not None]
        if self._kind != "counter" or not told:
            yield from free
            return
        times = [(part.time, edge) for part, edge in slots]
        if since < begin:
            width = HOUR if parts[0].length == HOUR else begin - since
            times = [(time, min(time + width, begin)) for time in range(since, begin, width)] + times
        counted = sum(max(minutes.sum(*time), hours.sum(*time)) for time in times)
        rest = max(0.0, round(sum(told) - counted, DECIMALS))
        if stands := minutes.stands():
            row = _Row(since, end, sum(told), rest, parts[-1].last)
            yield from self._around(row, stands, [slot for slot in slots if slot[0] in free], minutes, hours)
        elif free:
            yield from (part._replace(difference=round(rest / len(free), DECIMALS)) for part in free)
        elif rest > sum(told) * NOISE:
            for slot in times:
                known = minutes.between(*slot) or not hours.between(slot[0] - HOUR + 1, slot[1])
                if known and (hole := minutes.hole(*slot)) is not None:
                    yield Kept(hole, MINUTE, readings=0, difference=rest)
                    return

    def _around(
        self,
        row: "_Row",
        stands: list[tuple[int, float]],
        free: list[tuple[Kept, int]],
        minutes: "_Known",
        hours: "_Known",
    ) -> Iterator[Kept]:
        """What a row brings in which there are stands: nothing between these, and behind them what the next one counted."""
        (first, low), (last, high) = stands[0], stands[-1]
        before, after = self._ask(_BEFORE, row.since), self._ask(_AFTER, row.end)
        ahead = behind = 0.0
        if before is None:
            told = None if row.stand is None else low - (row.stand - row.told)
            ahead = row.part(told, minutes, hours, row.since, first + MINUTE)
        if after is not None:
            told = None if row.stand is None else row.stand - high
            behind = row.part(told, minutes, hours, last + MINUTE, row.end)
        those = [part for part, edge in free if edge <= first]
        if those or ahead > row.told * NOISE:
            yield from self._put(ahead, those, minutes.hole(row.since, first), first)
        for part, _ in free:
            if part.time > last:
                yield part._replace(difference=behind)
                behind = 0.0
        wide = after is not None and after - last > row.end - row.since
        if wide and behind > row.told * NOISE and (hole := minutes.hole(last + MINUTE, row.end)) is not None:
            yield Kept(hole, MINUTE, readings=0, difference=behind)

    def _put(self, ahead: float, those: list[Kept], hole: int | None, first: int) -> Iterator[Kept]:
        """What was counted ahead of the first stand: as parts of the row, a minute, or that of this stand."""
        if those:
            yield from (part._replace(difference=round(ahead / len(those), DECIMALS)) for part in those)
        elif hole is not None:
            yield Kept(hole, MINUTE, readings=0, difference=ahead)
        else:
            self._database.execute(_TELL, (ahead, self._topic, first))

    def _ask(self, query: str, *moment: int) -> int | None:
        found: int | None = self._database.execute(query, (self._topic, *moment)).fetchone()[0]
        return found


class _Row(NamedTuple):
    """A counter's row: what it counted from `since` to `end` (ms), how much of that nobody else knows, and its stand at the end."""

    since: int
    end: int
    told: float
    rest: float
    stand: float | None

    def part(self, told: float | None, minutes: "_Known", hours: "_Known", begin: int, end: int) -> float:
        """What it counted more in a part of its time than is known of that: by the stands at both ends, or by its share of free minutes."""
        if told is None or abs(told) > self.told * MOST:
            free = minutes.free(self.since, self.end)
            return round(self.rest * minutes.free(begin, end) / free, DECIMALS) if free else 0.0
        known = minutes.sum(begin, end)
        known += sum(
            hour[1] or 0.0
            for hour in hours.between(begin, end - HOUR + 1)
            if not minutes.between(hour[0], hour[0] + HOUR)
        )
        return max(0.0, round(told - known, DECIMALS))


class _Known:
    """Minutes or hours that are there, in the order of time: what each counted, and its stand."""

    def __init__(self, rows: Iterable[tuple[int, float | None, float | None]]) -> None:
        self._rows = list(rows)
        self.times = [row[0] for row in self._rows]

    def between(self, begin: int, end: int) -> list[tuple[int, float | None, float | None]]:
        """Those from a time (ms) to before another."""
        return self._rows[bisect_left(self.times, begin) : bisect_left(self.times, end)]

    def sum(self, begin: int, end: int) -> float:
        """What these counted."""
        return sum(row[1] or 0.0 for row in self.between(begin, end))

    def stands(self) -> list[tuple[int, float]]:
        """Minutes that have a stand."""
        return [(time, stand) for time, _, stand in self._rows if stand is not None]

    def hole(self, begin: int, end: int) -> int | None:
        """The first minute of this time that is not there."""
        return next((time for time in range(begin, end, MINUTE) if not self.between(time, time + MINUTE)), None)

    def free(self, begin: int, end: int) -> int:
        """How many minutes of this time are not there."""
        return (end - begin) // MINUTE - len(self.between(begin, end))
