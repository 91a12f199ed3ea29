"""Notices another process under our name: two machines with one topics.yaml, a card that was copied, a container beside a unit.

The broker gives a session to whoever came last and ends the other's connection; not each says why (mosquitto 2.0.11 does not). So after
each end that we did not want, the heartbeat is looked at that stands there: is it another's, then so was the session meanwhile.
"""

import logging
import time
from typing import Final

import msgspec

from bootstrap_lib.bus import Bus
from bootstrap_lib.document import plain
from bootstrap_lib.events import Message
from bootstrap_lib.health import Health

log = logging.getLogger(__name__)

REMEMBERED: Final = 120.0
"""Seconds after which a rival that was not seen again is taken for gone; the slowest comes back in forty."""


class _Beat(msgspec.Struct):
    host: str = ""
    pid: int = 0
    start: int = 0


class Other(msgspec.Struct):
    """The process that was seen: `rival` in health."""

    host: str = ""
    pid: int = 0


class Rival:
    """Says who else runs under our name, in the log and in health."""

    def __init__(self, name: str, prefix: str, bus: Bus, health: Health) -> None:
        """`prefix` is `home/service/<instance>`."""
        self._name, self._topic, self._bus, self._health = name, f"{prefix}/health", bus, health
        self._seen_at = float("-inf")
        self._asks = False
        self._rival: Other | None = None

    def on_disconnected(self) -> None:
        """Ask with the next connection."""
        self._asks = True

    def on_connected(self) -> None:
        """Ask for the heartbeat that stands there, before ours takes its place."""
        if self._asks:
            self._bus.subscribe(self._topic)

    def on_message(self, message: Message, now: int) -> None:
        """Learn from a heartbeat that is not ours who it was; `now` in ms."""
        if not self._asks or message.topic != self._topic:
            return
        try:
            beat = msgspec.json.decode(message.payload, type=_Beat)
        except (msgspec.DecodeError, UnicodeDecodeError):
            return
        self._asks = False
        self._bus.unsubscribe(self._topic)
        host, pid = self._health.identity
        before = beat.host == host and beat.start < self._health.start  # our own, by a broker of yesterday's memory
        if before or (beat.host, beat.pid) == (host, pid):
            return
        self._seen_at = time.monotonic()
        rival = Other(plain(beat.host, 80), beat.pid)
        sentence = (
            f"another '{self._name}' at {rival.host} (process {beat.pid}) took over the session: one name is one process;"
            " stop one of them, or give it another name in topics.yaml"
        )
        if rival != self._rival:
            log.error("%s", sentence)
            self._health.error(sentence, now)
        self._rival = self._health.extra["rival"] = rival

    def on_beat(self) -> None:
        """Forget one that is gone."""
        if self._rival is not None and time.monotonic() > self._seen_at + REMEMBERED:
            self._rival = None
            self._health.extra.pop("rival", None)
            log.info("nobody takes the session of '%s' any more", self._name)
