"""What is heard of one topic or service: when, how often, and whether it is news.

A reading's own time counts, while it advances. Where the clock of a source stands or goes back while its readings go on
coming, their arrival counts: they are placed behind the newest by what passed since that one came.
"""

from typing import Final

import msgspec

from services.alerting.rule import Count, Moment, Value

LATE: Final = 60_000
"""A reading that comes later than this (ms) may be part of a backlog."""
BEHIND: Final = 10_000
"""A backlog has ended when nothing more came of it for this long (ms)."""
JITTER: Final = 500
"""Milliseconds by which readings may come out of step: what comes faster is no live reading."""
SURE: Final = 3
"""Readings that came in time before a topic is held to its pace."""
PATIENT: Final = 3
"""A topic of which readings come seldom is silent after so many times its own pace."""
MOST: Final = 1000


class Pace(msgspec.Struct, omit_defaults=True):
    """What is remembered of a topic over a restart. Times in ms since 1970."""

    time: Moment = 0
    """Time of the newest reading, as it counts."""
    own: Moment = 0
    """The same by the clock of its source."""
    ahead: Count = 0
    """By how much it counts later than that clock says (ms), where that clock cannot be followed."""
    quick: Count = 0
    """Readings that came within `stale` of the one before."""
    slow: Count = 0
    pace: Count = 0
    """The longest wait for a reading of late (ms), where they come seldom."""
    untold: bool = False
    """Whether the service that concludes it took it back: it is not known, and not silent."""


class Signal:
    """One topic or service. `at` is monotonic, in ms."""

    def __init__(self, key: str, pulse: Pace, stale: int, at: int) -> None:
        """`stale` in ms; `at` is now."""
        self.key, self.pulse, self.stale = key, pulse, stale
        self.value: Value | None = None
        """The newest value, where it came since the start."""
        self.at = 0
        """When the newest reading came, or 0."""
        self.heard = at
        """From when on its silence counts."""
        self.cleared = False
        self.behind = 0
        """Until when a backlog is awaited."""
        self._lag: int | None = None
        self._suspect: tuple[int, int] | None = None

    @property
    def by_arrival(self) -> bool:
        """Whether its source's clock cannot be followed."""
        return self.pulse.ahead > 0

    def now(self, at: int) -> int:
        """Reading time at a moment: that of the newest reading, carried on."""
        return self.pulse.time + at - self.at

    @property
    def patience(self) -> int | None:
        """How long it may be silent (ms); None while nobody knows how often it speaks."""
        pulse = self.pulse
        if self.key.startswith("service ") and pulse.time:
            return self.stale
        if pulse.quick >= SURE and pulse.quick > pulse.slow:
            return self.stale
        return max(self.stale, PATIENT * pulse.pace) if pulse.slow > 1 else None

    def is_silent(self, at: int) -> bool:
        """Whether it has been heard, and is not now; what its living service took back is not known, and not silent."""
        patience = self.patience
        over = self.cleared or (patience is not None and at - self.heard >= patience)
        return over and bool(self.pulse.time) and not self.pulse.untold

    def take(self, value: Value, own: int, at: int, lag: int | None, fresh: bool | None) -> tuple[int, int] | None:
        """Take a reading; its time as it counts, and for how long nobody measured before it. None where it is known.

        `own` is its time by its source, `lag` by how much it is late, `fresh` whether it was never heard before, where known.
        """
        pulse = self.pulse
        if own <= pulse.own:
            if not self._is_live(value, own, at, fresh):
                return None
            time = max(self.now(at) if self.at else pulse.time, pulse.time + 1)
            pulse.ahead = time - own
        else:
            if lag is not None and abs(lag) < LATE:
                pulse.ahead = 0
            if lag is not None and not pulse.ahead:
                self._follow_backlog(own, at, lag)
            time = max(own + pulse.ahead, pulse.time + 1)
        gap = time - (self.now(at) if self.at else pulse.time or time)
        unseen = gap if gap > self.stale else 0
        if pulse.time and not unseen:
            self._learn(time - pulse.time)
        pulse.time, pulse.own, self.value = time, own, value
        self.at = self.heard = at
        self.cleared, self._suspect, pulse.untold = False, None, False
        return time, unseen

    def _is_live(self, value: Value, own: int, at: int, fresh: bool | None) -> bool:
        """Whether a reading that is not newer is one all the same: unseen so far, or at the pace at which it is measured."""
        if fresh is not None:
            return fresh
        if own == self.pulse.own:
            return value != self.value and bool(self.at)
        before, self._suspect = self._suspect, (at, own)
        if before is None:
            return False
        passed, measured = at - before[0], own - before[1]
        return passed >= JITTER and abs(measured - passed) <= max(JITTER, passed // 4)

    def _follow_backlog(self, own: int, at: int, lag: int) -> None:
        """A late reading is of a backlog when the readings come faster than they were measured, or is the first."""
        faster = self._lag is None or (self._lag - lag) * 2 > own - self.pulse.own
        self.behind = at + BEHIND if lag > LATE and faster else 0
        self._lag = lag

    def _learn(self, waited: int) -> None:
        pulse = self.pulse
        if waited <= self.stale:
            pulse.quick += 1
        else:
            pulse.slow += 1
            pulse.pace = max(waited, pulse.pace * 3 // 4)
        if pulse.quick + pulse.slow > MOST:
            pulse.quick, pulse.slow = pulse.quick // 2, pulse.slow // 2
