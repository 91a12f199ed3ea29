"""Whether a source measures: it may be told to pause, for a time or until it is told to go on, also over a restart."""

import logging
from collections.abc import Callable
from typing import Any

import msgspec

from bootstrap_lib.control import Nothing, Request
from bootstrap_lib.duration import Duration, describe
from bootstrap_lib.process import Process

log = logging.getLogger(__name__)


class Pause(msgspec.Struct, forbid_unknown_fields=True):
    """Payload of `request/pause`: {"for":"5m"}, or {} for until resumed."""

    span: Duration | None = msgspec.field(name="for", default=None)


class Pausing:
    """The pause of one source. What is on disk of it is the process's (`Remembered.paused`)."""

    def __init__(self, process: Process, resumed: Callable[[], None]) -> None:
        """`resumed` is called when measuring goes on."""
        self._process, self._resumed = process, resumed

    def __bool__(self) -> bool:
        """Whether it pauses now; one that is over ends with this look."""
        process, until = self._process, self._process.remembered.paused
        if until > 0 and process.clock.now() >= until:
            self._resume("its time is over")
        if not process.remembered.paused:
            return False
        if process.health.enter("paused", process.clock.now()):
            process.publish_health()
        return True

    def left(self, most: float) -> float:
        """Seconds until it is over, `most` at most."""
        until = self._process.remembered.paused
        return min(most, (until - self._process.clock.now()) / 1000) if until > 0 else most

    def _resume(self, why: str) -> None:
        process = self._process
        process.remembered.paused = 0
        process.remember()
        log.info("measuring again: %s", why)
        process.health.enter("running", process.clock.now())
        self._resumed()
        process.beat_soon()

    def request_pause(self, _request: Request, arguments: Pause) -> dict[str, Any]:
        """Stop measuring, for a time or until resumed."""
        process = self._process
        process.remembered.paused = round(process.clock.now() + arguments.span * 1000) if arguments.span else -1
        process.remember()
        log.info("paused %s", f"for {describe(arguments.span)}" if arguments.span else "until resumed")
        return {"paused": True}

    def request_resume(self, _request: Request, _arguments: Nothing) -> dict[str, Any]:
        """Measure again."""
        if self._process.remembered.paused:
            self._resume("request")
        return {"paused": False}
