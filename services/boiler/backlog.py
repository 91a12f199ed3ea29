"""Readings of several sources, put in the order of their times: each is held until those of its moment have come from all.

After a connection it also tells when the past has come to its end, so that the clock may speak about the inputs again.
Times are in ms since 1970; `now` is monotonic, in seconds.
"""

from bisect import bisect_right
from collections.abc import Set as AbstractSet
from typing import Final

Waiting = tuple[int, str, float | None]
"""A reading that was not judged yet: time, topic, value; None where the topic was cleared."""

SETTLE: Final = 2_000
"""Milliseconds after which the readings of a moment are taken to have come from all sources."""
LATE: Final = 10_000
"""Milliseconds after which a reading is one of a backlog."""
QUIET: Final = 2.0
"""Seconds without a late reading after which a connection has caught up, once all inputs speak of the present."""
PATIENCE: Final = 300.0
"""Seconds after which a backlog that does not end is not waited for any more."""
HELD: Final = 5_000
"""Readings of a backlog that are held at once, to put them in order."""


class Backlog:
    """What has come and is not judged yet."""

    def __init__(self, waiting: list[Waiting], now: float) -> None:
        """`waiting` is what must survive a restart; it stays the same list."""
        self._waiting = waiting
        self._newest: dict[str, int] = {}
        for time, topic, _ in waiting:
            self._newest[topic] = max(time, self._newest.get(topic, 0))
        self._connected_at = self._late_at = now
        self._caught_up = False
        self._present: set[str] = set()

    def connect(self, now: float) -> None:
        """Expect readings of the past: a connection begins."""
        self._connected_at = self._late_at = now
        self._caught_up = False
        self._present.clear()

    def take(self, topic: str, value: float | str, time: int, wall: int, now: float) -> None:
        """Take a reading that was measured at `time` and came at `wall`; words are not judged."""
        self.hold(topic, value, time)
        if time >= wall - LATE:
            self._present.add(topic)
        else:
            self._late_at = now

    def hold(self, topic: str, value: float | str, time: int) -> None:
        """Take a reading that says nothing about the backlog."""
        if not isinstance(value, str):
            self._newest[topic] = max(time, self._newest.get(topic, 0))
            self._waiting.append((time, topic, float(value)))

    def clear(self, topic: str) -> None:
        """Take note that a topic was cleared: after the newest of its readings, whenever this is heard."""
        if topic in self._newest:
            self._waiting.append((self._newest[topic] + 1, topic, None))

    def is_behind(self, now: float, settle: float, inputs: AbstractSet[str], *, online: bool, filling: bool) -> bool:
        """Whether readings of the past may still come, from the broker or (`filling`) from the archive.

        An input that does not speak is waited for during `settle` seconds: sources come back after the service.
        """
        if not online:
            self._caught_up = False
        elif now - self._connected_at >= settle + PATIENCE:
            self._caught_up = True
        elif not self._caught_up and not filling:
            self._caught_up = now - self._late_at >= (QUIET if self._present >= inputs else settle)
        return not self._caught_up

    def due(self, until: int, *, behind: bool) -> list[Waiting]:
        """Take out, in order, what can be judged: up to a time, or the older half of too many while it is behind."""
        if behind and len(self._waiting) <= HELD:
            return []
        self._waiting.sort(key=lambda entry: (entry[0], entry[1]))
        count = len(self._waiting) // 2 if behind else bisect_right(self._waiting, until, key=lambda entry: entry[0])
        found = self._waiting[:count]
        del self._waiting[:count]
        return found
