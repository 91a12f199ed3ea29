"""What a counter counted, where foreign stands, rates and hours come between those that an archive has.

Two stands say all that was counted between them. What foreign rates and hours know of that time is theirs, and the later stand
keeps the rest; so it counts once, whatever comes first.
"""

import sqlite3
from typing import Final, NamedTuple

from services.histories.conversion import HOUR, Kept
from services.stores.minutes import DECIMALS, difference, step
from services.stores.schema import MINUTE

COLUMNS: Final = (
    "topic",
    "time",
    "count",
    "mean",
    "low",
    "high",
    "last",
    "difference",
    "seconds_on",
    "starts",
    "word",
)
HOUR_ROW: Final = (
    f"INSERT OR IGNORE INTO hours ({', '.join(COLUMNS)}, minutes) SELECT {', '.join(f'?{n + 1}' for n in range(len(COLUMNS)))}, 60"
    f" WHERE NOT EXISTS (SELECT 1 FROM hours WHERE topic = ?1 AND time > ?2 - {HOUR} AND time < ?2 + {HOUR})"
)
"""An hour comes where none is that overlaps it; minutes of it are the business of `seams`."""

_BEFORE: Final = """
    SELECT time, last FROM minutes WHERE topic = ? AND time < ? AND last IS NOT NULL ORDER BY time DESC LIMIT 1"""
_AFTER: Final = """
    SELECT time, last FROM minutes WHERE topic = ? AND time >= ? AND last IS NOT NULL ORDER BY time LIMIT 1"""
_RATES: Final = "SELECT sum(difference) FROM minutes WHERE topic = ?1 AND time > ?2 AND time < ?3 AND last IS NULL"
_WHOLE: Final = f"""
    SELECT sum(difference) FROM hours h WHERE topic = ?1 AND time > ?2 AND time + {HOUR} <= ?3
    AND NOT EXISTS (SELECT 1 FROM minutes WHERE topic = ?1 AND time >= h.time AND time < h.time + {HOUR})"""
_IS_RAW: Final = "SELECT 1 FROM readings WHERE time >= ?2 AND time < ?2 + 60000 AND topic = ?1 LIMIT 1"


class Reached(NamedTuple):
    """A minute (its begin, ms) and what the counter said at its end."""

    time: int
    value: float


class CounterTopic:
    """A counter's topic in an archive. sqlite3.Error."""

    def __init__(self, database: sqlite3.Connection, topic: int) -> None:
        """Look at the topic of this number."""
        self._database, self._topic = database, topic

    def count(self, new: dict[int, Kept], there: dict[int, float | None]) -> list[Kept]:
        """Say what new minutes counted, and correct those that are there and now have another stand or rate before them.

        `there` holds the stands of minutes among the new ones and up to the next one behind them.
        """
        rows: list[Kept] = []
        if not new:
            return rows
        stand = self._stand(_BEFORE, min(new))
        ours, rates, since = False, 0.0, 0  # of what came since that stand
        line = {**there, **dict.fromkeys(new)}
        if following := self._stand(_AFTER, max(line) + 1):
            line[following.time] = there[following.time] = following.value
        for time in sorted(line):
            if (kept := new.get(time)) is not None:
                counted = kept.difference
                if (counted is None or not ours) and kept.last is not None and stand is not None:
                    by_stands = difference(stand.value, kept.stands or (kept.last,)) or 0.0
                    counted = max(counted or 0.0, self._without(by_stands, rates, stand.time, time))
                rows.append(kept._replace(difference=counted))
                ours = True
                if kept.last is None:
                    rates += counted or 0.0
                else:
                    stand, rates, since = Reached(time, kept.last), 0.0, len(rows)
            elif (known := there[time]) is not None:
                if ours and stand is not None and not self._count_anew(stand, rates, Reached(time, known)):
                    del rows[since:]
                stand, ours, rates, since = Reached(time, known), False, 0.0, len(rows)
        return rows

    def take_hours(self, rows: list[Kept]) -> int:
        """Put hours in; returns how many. Between stands they take their part of what the next one counted."""
        taken = 0
        first = after = self._stand(_AFTER, 0)
        changed: dict[int, Reached] = {}
        for row in rows:
            end = row.time + HOUR
            if after is not None and after.time < end:
                after = self._stand(_AFTER, end)
            behind = first is not None and first.time < row.time
            closed = after is not None and not self._is_raw(after.time)
            kept = row if closed or not behind else row._replace(difference=None)  # a later stand will tell all of it
            new = self._database.execute(HOUR_ROW, columns(self._topic, kept)).rowcount
            taken += new
            if new and behind and closed and after is not None:
                changed[after.time] = after
        for after in changed.values():
            before = self._stand(_BEFORE, after.time)
            if before is not None and before.value <= after.value:
                self._count_anew(before, 0.0, after)
        return taken

    def _count_anew(self, before: Reached, rates: float, stand: Reached) -> bool:
        """Have a minute of ours counted from another stand; False where the archive does, which has its raw readings."""
        if self._is_raw(stand.time):
            self._database.execute(
                "INSERT OR IGNORE INTO pending (time, topic) VALUES (?, ?)", (stand.time, self._topic)
            )
            return False
        counted = self._without(step(before.value, stand.value), rates, before.time, stand.time)
        update = "UPDATE minutes SET difference = ? WHERE topic = ? AND time = ?"
        self._database.execute(update, (counted, self._topic, stand.time))
        return True

    def _without(self, counted: float, rates: float, since: int, until: int) -> float:
        """What is left of it without these rates, and those that lie between two stands already."""
        if until - since > MINUTE:
            for query in (_RATES, _WHOLE) if until - since > HOUR else (_RATES,):
                rates += self._database.execute(query, (self._topic, since, until)).fetchone()[0] or 0.0
        return max(0.0, round(counted - rates, DECIMALS))

    def _is_raw(self, minute: int) -> bool:
        return self._database.execute(_IS_RAW, (self._topic, minute)).fetchone() is not None

    def _stand(self, query: str, moment: int) -> Reached | None:
        row = self._database.execute(query, (self._topic, moment)).fetchone()
        return None if row is None else Reached(*row)


def columns(topic: int, kept: Kept) -> tuple[object, ...]:
    """Values of a row, in the order of COLUMNS."""
    mean = kept.mean, kept.low, kept.high
    return topic, kept.time, kept.readings, *mean, kept.last, kept.difference, kept.seconds_on, kept.starts, kept.word
