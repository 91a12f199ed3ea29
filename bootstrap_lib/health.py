"""What a process says of itself with every beat: alive means `online` and a health that has not expired."""

import os
import socket
from collections import Counter
from typing import Any, Literal, NamedTuple

from bootstrap_lib.reading import as_json, format_time
from bootstrap_lib.version import VERSION

State = Literal["starting", "running", "paused", "degraded", "stopping"]

BEATS: int = 3
"""Beats after which a health that was not renewed expires at the broker."""


class _Process(NamedTuple):
    """What stays the same as long as the process lives."""

    version: str
    host: str
    pid: int


class Health:
    """Counters and state of one process; `document` is what `home/service/<instance>/health` shows."""

    def __init__(self, now: int, start: int, beat: float) -> None:
        """`now` in milliseconds, `start` counts the starts of the instance, `beat` is in seconds."""
        self.state: State = "starting"
        self.since = now
        self.start = start
        self.beat = float(beat)
        self.counters: Counter[str] = Counter()
        self.stale: set[str] = set()
        self.last_error: dict[str, str] | None = None
        self.extra: dict[str, Any] = {}
        self._process = _Process(VERSION, socket.gethostname(), os.getpid())

    @property
    def identity(self) -> tuple[str, int]:
        """Host and process that it is the health of."""
        return self._process.host, self._process.pid

    def enter(self, state: State, now: int) -> bool:
        """Change the state; True if that is news."""
        if state == self.state:
            return False
        self.state, self.since = state, now
        return True

    def error(self, sentence: str, now: int, topic: str | None = None) -> None:
        """Count an error and remember it as the last one."""
        self.counters["errors"] += 1
        self.last_error = {"time": format_time(now), "text": sentence[:500]} | ({"topic": topic} if topic else {})

    def document(self, digest: str) -> bytes:
        """Build the heartbeat as JSON; `digest` identifies topics.yaml."""
        return as_json(
            {
                "state": self.state,
                "since": format_time(self.since),
                "start": self.start,
                **self._process._asdict(),
                "beat": self.beat,
                "counters": dict(self.counters),
                **self.extra,
                "stale": sorted(self.stale),
                "last_error": self.last_error,
                "registry": digest,
            }
        )
