"""Graphs that messages are to show: asked for at the rrd service, and not waited for long."""

import logging
import time
from collections.abc import Callable
from typing import Any, Final

import msgspec

from bootstrap_lib import Duration

log = logging.getLogger(__name__)

PATIENCE: Final = 15.0
"""Seconds that the rrd service has for a graph; the message goes without it then."""


class _Drawn(msgspec.Struct):
    base64: bytes


class Pictures:
    """Graphs by the message that shows them."""

    def __init__(self, ask: Callable[[dict[str, Any]], bool]) -> None:
        """`ask` sends a request to whoever draws graphs; it tells whether there is anybody."""
        self._ask = ask
        self._asked: dict[str, float] = {}
        self._drawn: dict[str, bytes | None] = {}

    def ready(self, message: str, topic: str | None, span: Duration) -> bool:
        """Whether a message need not wait for the graph of its topic any more: it came, never will, or took too long."""
        now = time.monotonic()
        if not topic or message in self._drawn:
            return True
        if message not in self._asked:
            if not self._ask({"id": message, "topics": [topic], "from": str(span), "inline": True}):
                return True
            self._asked[message] = now
            return False
        if now - self._asked[message] < PATIENCE:
            return False
        log.warning("no graph of %s was drawn within %s", topic, Duration(PATIENCE))
        self._drawn[message] = None
        return True

    def hear(self, payload: bytes) -> None:
        """Take the rrd service's answer; one that holds no graph is waited for no more. ValueError where it is none."""
        answer = msgspec.json.decode(payload, type=dict[str, Any])
        identity = str(answer.get("id"))
        if self._asked.pop(identity, None) is None:
            return
        try:
            self._drawn[identity] = msgspec.convert(answer.get("data"), _Drawn).base64 or None
        except msgspec.ValidationError:
            self._drawn[identity] = None
        if self._drawn[identity] is None:
            log.warning("no graph: %.200r", answer.get("error", "the answer holds none"))

    def take(self, message: str) -> bytes | None:
        """Take the graph of a message, where there is one; nothing is kept of the message."""
        self._asked.pop(message, None)
        return self._drawn.pop(message, None)
