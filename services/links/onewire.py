"""One bus master of the kernel's 1-wire: a thread that reads its sensors one by one, since the kernel does no other."""

import threading
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from queue import SimpleQueue
from typing import Any

from bootstrap_lib import Failure, Topic, reason

Read = Callable[[str, float | None], float | Failure]
"""Gives the temperature of a sensor (°C) by its id, with its last value, or the reason why there is none."""


class OneWireBus:
    """A master that measures a round when it is told to; its answers come through a queue, sensor by sensor.

    The thread is a daemon: a read that hangs in the kernel cannot be ended, and must not keep the process.
    """

    def __init__(self, folder: Path, read: Read, answers: "SimpleQueue[tuple[Topic[Any], float | Failure]]") -> None:
        """`folder` is the master's, such as /sys/bus/w1/devices/w1_bus_master1."""
        self.open: list[Topic[Any]] = []
        """Topics of this round whose sensors were not read yet."""
        self.pace = 0.0
        """Seconds that a round takes, as far as it is known."""
        self._moved_at = 0.0
        self._folder, self._read, self._answers = folder, read, answers
        self._rounds: SimpleQueue[Sequence[tuple[Topic[Any], float | None]] | None] = SimpleQueue()
        self._ended = False
        threading.Thread(target=self._work, name=folder.name, daemon=True).start()

    @property
    def rests(self) -> bool:
        """Whether nothing is left of the round before."""
        return not self.open

    @property
    def held(self) -> float:
        """Seconds since something was asked or answered last."""
        return time.monotonic() - self._moved_at

    def measure(self, sensors: Sequence[tuple[Topic[Any], float | None]]) -> None:
        """Begin a round: topics with the last values of their sensors."""
        self.open = [topic for topic, _ in sensors]
        self._moved_at = time.monotonic()
        self._rounds.put(sensors)

    def end(self) -> None:
        """Read no more after the sensor that is being read."""
        self._ended = True
        self._rounds.put(None)

    def _work(self) -> None:
        while (sensors := self._rounds.get()) is not None:
            begun = time.monotonic()
            self._convert()
            for done, (topic, last) in enumerate(sensors, 1):
                if self._ended:
                    return
                self._answers.put((topic, self._ask(topic.options.id, last)))
                self._moved_at = time.monotonic()
                self.pace = (self._moved_at - begun) / done * len(sensors)
                self.open = self.open[1:]

    def _ask(self, id_: str, last: float | None) -> float | Failure:
        """Read a sensor: whatever is raised there costs its reading, not the thread, without which the bus would be dead for good."""
        try:
            return self._read(id_, last)
        except Exception as error:  # noqa: BLE001
            return Failure(f"{type(error).__name__}: {reason(error)}")

    def _convert(self) -> None:
        """Start one conversion for all sensors where the kernel offers it (5.9 and later) and lets us."""
        trigger = self._folder / "therm_bulk_read"
        if trigger.exists():
            with suppress(OSError):
                trigger.write_text("trigger\n")
