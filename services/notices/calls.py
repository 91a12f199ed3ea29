"""Calls that may hang, one at a time in a thread: people are not kept waiting by a library that never comes back."""

import threading
import time
from collections.abc import Callable
from typing import Final, Generic, TypeVar

T = TypeVar("T")

DEADLINE: Final = 45.0
"""Seconds after which a call is given up, whatever its library does."""
CONNECTIONS: Final = 2
"""Calls at most at any time, those given up included: Pushover allows two connections."""


class Courier(Generic[T]):
    """Runs one call at a time in a thread and gives up on it after a deadline."""

    def __init__(self, renew: Callable[[], None]) -> None:
        """`renew` is called where a call was given up: it ends it where it can, and lets go of what it used."""
        self._renew = renew
        self._threads: list[threading.Thread] = []
        self._result: list[T] = []
        self._done: Callable[[T | None], None] | None = None
        self._since = 0.0

    @property
    def free(self) -> bool:
        """Whether it can take a call."""
        self._threads = [thread for thread in self._threads if thread.is_alive()]
        return self._done is None and len(self._threads) < CONNECTIONS

    def run(self, call: Callable[[], T], done: Callable[[T | None], None]) -> None:
        """Begin a call; `done` gets its result from `poll`, or None where it was given up. The call never raises."""
        result: list[T] = []
        thread = threading.Thread(target=lambda: result.append(call()), name="courier", daemon=True)
        self._result, self._done, self._since = result, done, time.monotonic()
        self._threads.append(thread)
        thread.start()

    def poll(self) -> None:
        """Hand on the result of a call that has ended or is overdue."""
        done, result = self._done, self._result
        if done is not None and (result or time.monotonic() - self._since > DEADLINE):
            self._done = None
            given_up = not result
            if given_up:
                self._renew()  # which may well end the call
            done(None if given_up else result[0])
