"""The thread in which all links live: a GLib main loop that is woken by events and timers only, and ends without rest."""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING

from gi.repository import GLib

if TYPE_CHECKING:
    from collections.abc import Callable


class GLibLoop:
    """A GLib main loop in a thread of its own; D-Bus knows the default context only, so one runs at a time."""

    def __init__(self) -> None:
        self._loop = GLib.MainLoop()
        self._thread = threading.Thread(target=self._run, name="bluetooth", daemon=True)
        self._timers: set[int] = set()
        self._asked: float | None = None

    def start(self, first: Callable[[], None]) -> None:
        """Start the thread; `first` is done there first."""
        self.post(first)
        self._thread.start()

    def _run(self) -> None:
        self._loop.run()
        for timer in self._timers:  # the context outlives the loop, and another loop would run them
            GLib.source_remove(timer)

    def quit(self) -> None:
        """End the loop, from its own thread."""
        self._loop.quit()

    def join(self, seconds: float) -> None:
        """Wait for the thread's end, but not for one that is stuck: it ends with the process."""
        if self._thread.is_alive():
            self._thread.join(seconds)

    def post(self, action: Callable[[], None]) -> None:
        """Run something in the loop's thread, as soon as it can; may be called from any thread."""

        def act() -> bool:
            action()
            return False

        GLib.idle_add(act, priority=GLib.PRIORITY_DEFAULT)

    def later(self, seconds: float, action: Callable[[], None]) -> int:
        """Run something after some seconds, unless it is cancelled; only from the loop's thread."""

        def act() -> bool:
            self._timers.discard(timer)
            action()
            return False

        timer: int = GLib.timeout_add(max(0, round(1000 * seconds)), act)
        self._timers.add(timer)
        return timer

    def cancel(self, timer: int) -> None:
        """Remove a timer; one that has run is none any more."""
        if timer in self._timers:
            self._timers.discard(timer)
            GLib.source_remove(timer)

    def silence(self) -> float:
        """Return for how many seconds the loop has owed a sign of life; may be called from another thread, now and then."""
        now = time.monotonic()
        asked = self._asked
        if asked is None:
            self._asked = asked = now
            self.post(self._answer)
        return now - asked

    def _answer(self) -> None:
        self._asked = None
