"""Where a coarse row meets finer ones: what is known of a part of its time is not brought once more.

A mean over half an hour, an hour or a day speaks of all minutes in it. Where the archive has some of these, the rest of a counter's row
is what it counted more than they did; of all else the finer ones stay alone. So a row that came in whole brings nothing the second time.
The row behind an outage counted from the outage's begin on, so what is known of that is not its rest either.
"""

import sqlite3
from bisect import bisect_left
from collections.abc import Iterable, Iterator
from itertools import groupby
from typing import Final

from services.histories.conversion import HOUR, Kept
from services.stores.minutes import DECIMALS
from services.stores.schema import MINUTE

NOISE: Final = 1e-6
"""Part of a row up to which its difference from the sum of finer ones is their rounding: files have seven digits and more."""

_MINUTES: Final = (
    "SELECT time, difference, last IS NOT NULL FROM minutes WHERE topic = ? AND time >= ? AND time < ? ORDER BY time"
)
_HOURS: Final = "SELECT time, difference, 0 FROM hours WHERE topic = ? AND time > ? AND time < ? ORDER BY time"
_FIRST: Final = "SELECT min(time) FROM minutes WHERE topic = ? AND last IS NOT NULL"
_BEFORE: Final = "SELECT max(time) FROM minutes WHERE topic = ? AND time < ? AND last IS NOT NULL"
_AFTER: Final = "SELECT min(time) FROM minutes WHERE topic = ? AND time >= ? AND last IS NOT NULL"
_TELL: Final = """
    UPDATE minutes SET difference = ?1 WHERE topic = ?2 AND time = ?3
    AND NOT EXISTS (SELECT 1 FROM readings WHERE time >= ?3 AND time < ?3 + 60000 AND topic = ?2)"""


class Seams:
    """One topic of an archive, into which rows of one resolution come after those of finer ones. sqlite3.Error."""

    def __init__(self, database: sqlite3.Connection, topic: int, kind: str) -> None:
        """Look at the topic of this number."""
        self._database, self._topic, self._kind = database, topic, kind
        self._first: tuple[int | None] | None = None
        self._ahead = 0, 0.0
        """Where the row before ended, and how much more than it counted was known by then: an outage that began within it."""

    def wanted(self, some: Iterable[Kept]) -> Iterator[Kept]:
        """What rows of one slice bring that is not known; parts of one row are given together."""
        self._first = None  # the slice before may have brought stands
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
        if since < begin and self._ahead[0] == since:
            counted += self._ahead[1]
        self._ahead = end, max(0.0, counted - sum(told))
        rest = max(0.0, round(sum(told) - counted, DECIMALS))
        if free:
            yield from (part._replace(difference=round(rest / len(free), DECIMALS)) for part in free)
        elif rest > sum(told) * NOISE:
            yield from self._placed(rest, times, minutes, hours)

    def _placed(self, rest: float, slots: list[tuple[int, int]], minutes: "_Known", hours: "_Known") -> Iterator[Kept]:
        """The rest as a minute of its own; where none is free, as that of the first stand, which had none before it."""
        self._first = self._first or (self._ask(_FIRST),)
        first = self._first[0]
        for begin, edge in slots:
            known = minutes.between(begin, edge) or not hours.between(begin - HOUR + 1, edge)
            if known and (hole := self._hole(begin, edge, slots[-1][1], minutes, first)) is not None:
                yield Kept(hole, MINUTE, readings=0, difference=rest)
                return
        if first is not None and (those := minutes.between(first, first + MINUTE)) and those[0][1] is None:
            self._database.execute(_TELL, (rest, self._topic, first))

    def _hole(self, begin: int, edge: int, end: int, minutes: "_Known", first: int | None) -> int | None:
        """A free minute whose count no stand has counted already: ahead of the first, or in a wide gap that ends behind the row."""
        holes = [moment for moment in range(begin, edge, MINUTE) if not minutes.between(moment, moment + MINUTE)]
        ahead = [moment for moment in holes if first is None or moment < first]
        if ahead or first is None:
            return next(iter(ahead), None)
        before, after = self._ask(_BEFORE, edge), self._ask(_AFTER, edge)
        if before is None or after is None or after < end or after - before <= edge - begin:
            return None
        return next((moment for moment in holes if moment > before), None)

    def _ask(self, query: str, *moment: int) -> int | None:
        found: int | None = self._database.execute(query, (self._topic, *moment)).fetchone()[0]
        return found


class _Known:
    """Minutes or hours that are there, in the order of time: what each counted, and whether it has a stand."""

    def __init__(self, rows: Iterable[tuple[int, float | None, int]]) -> None:
        self._rows = list(rows)
        self.times = [row[0] for row in self._rows]

    def between(self, begin: int, end: int) -> list[tuple[int, float | None, int]]:
        """Those from a time (ms) to before another."""
        return self._rows[bisect_left(self.times, begin) : bisect_left(self.times, end)]

    def sum(self, begin: int, end: int) -> float:
        """What these counted."""
        return sum(row[1] or 0.0 for row in self.between(begin, end))
