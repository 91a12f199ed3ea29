"""The inbox of a process and the sleep of its main thread: what other threads, signals and files have to say ends it.

Each call of the system of one thread wakes the other for Python's lock, mostly in vain; so a woken loop waits some
milliseconds for company, and the network thread rests while a thousand messages wait (docs/decisions.md).
"""

import fcntl
import logging
import os
import select
import signal
import threading
from collections import deque
from collections.abc import Callable
from pathlib import Path
from types import FrameType
from typing import Final, Literal

from bootstrap_lib.document import reason as reason_of
from bootstrap_lib.events import Event, Message

log = logging.getLogger(__name__)

BREATHS: Final = (4, 64)
"""Milliseconds that a woken loop waits for company, the second only in a rush of more than a thousand messages a second: else
the network thread and the loop wake each other for Python's lock at every message, at twice the cost (tests/bench/stores.py)."""

CROWD: Final = 1000
"""Messages in the inbox at which the network thread rests, so that the loop need not fight for Python's lock; a broker does not
always keep to our receive maximum (mosquitto 2.0.11)."""

PATIENCE: Final = 0.25
"""Seconds for which it rests at most: a loop that is held up by its store must not cost the connection."""

HEAVY: Final = 8_000_000
"""Bytes in the inbox at which it rests too: messages of a megabyte are allowed, a thousand of them are more than a service may weigh."""

HEAVY_PATIENCE: Final = 2.0
"""Seconds for which it rests then, for each message: the keepalive is ten times as long."""

Word = Literal["reload", "file", "stop", "round"]
"""What is no event of the connection: signals, a changed file, a device that speaks by itself."""

_SIGNALS: Final[dict[int, Word]] = {
    signal.SIGTERM: "stop",
    signal.SIGINT: "stop",
    signal.SIGHUP: "reload",
    signal.SIGIO: "file",
}


class Loop:
    """Events in the order in which they came; `post` from any thread, all else from the main one."""

    def __init__(self) -> None:
        """Open the pipe that wakes it; signals and files are listened to where asked for."""
        self._inbox: deque[Event | Word] = deque()
        self._asleep = False
        self._taken_in = self._dealt_with = 0
        self._turn_of_network = threading.Event()
        self._wake_read, self._wake_write = os.pipe()
        os.set_blocking(self._wake_write, False)
        os.set_blocking(self._wake_read, False)
        self._watched: int | None = None

    def post(self, event: Event | Word) -> None:
        """Hand an event to the loop, from any thread."""
        self._inbox.append(event)
        if self._asleep:
            self._asleep = False
            os.write(self._wake_write, b"\0")
        if isinstance(event, Message):
            self._taken_in += event.weight
            heavy = self._taken_in - self._dealt_with > HEAVY
            if heavy or len(self._inbox) == CROWD:
                self._turn_of_network.clear()  # before the loop is woken, which sets it when it has dealt with all
                os.write(self._wake_write, b"\0")
                self._turn_of_network.wait(HEAVY_PATIENCE if heavy else PATIENCE)

    def next(self) -> Event | Word | None:
        """The oldest event that was not dealt with, or None."""
        if not self._inbox:
            return None
        event = self._inbox.popleft()
        if isinstance(event, Message):
            self._dealt_with += event.weight
        return event

    def sleep(self, seconds: float, file: int | None) -> bool:
        """Sleep until there are events, or a file descriptor can be read; True for the latter."""
        poll = select.poll()
        poll.register(self._wake_read, select.POLLIN)
        if file is not None:
            poll.register(file, select.POLLIN)
        self._turn_of_network.set()
        self._asleep = True
        ready = {} if self._inbox else dict(poll.poll(max(0.0, seconds) * 1000 + 0.5))
        self._asleep = False
        if self._wake_read in ready:
            os.read(self._wake_read, 4096)
        if self._inbox:
            self._gather()
        return file in ready

    def _gather(self) -> None:
        """Let messages come in company, for longer while they rush in."""
        poll = select.poll()
        poll.register(self._wake_read, select.POLLIN)
        for breath in BREATHS:
            before = len(self._inbox)
            if poll.poll(breath):
                os.read(self._wake_read, 4096)
                return
            if len(self._inbox) - before < breath:
                return

    def listen_to_signals(self, stop: Callable[[str], None]) -> None:
        """Make events of the signals that processes get; `stop` is called at once, with the name of the one that ends it."""

        def heard(number: int, _frame: FrameType | None) -> None:
            word = _SIGNALS[number]
            if word == "stop":
                stop(f"signal {signal.Signals(number).name}")
            self._inbox.append(word)

        signal.set_wakeup_fd(self._wake_write, warn_on_full_buffer=False)
        for number in _SIGNALS:
            signal.signal(number, heard)

    def watch(self, folder: Path) -> None:
        """Make an event of each change of a folder's files (F_NOTIFY of fcntl(2)): nothing is polled."""
        try:
            self._watched = os.open(folder, os.O_RDONLY)
            changes = fcntl.DN_MODIFY | fcntl.DN_CREATE | fcntl.DN_DELETE | fcntl.DN_RENAME | fcntl.DN_MULTISHOT
            fcntl.fcntl(self._watched, fcntl.F_NOTIFY, changes)
        except OSError as error:
            log.warning("changes of topics.yaml are not noticed (%s): reload with SIGHUP", reason_of(error))
