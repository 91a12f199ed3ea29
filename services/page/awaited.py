"""Answers that somebody at the page waits for: asked from the server's thread, answered in the service's loop."""

import asyncio
import contextlib
import time
from collections.abc import Callable
from typing import Any, Final

import msgspec

from services.page.answers import Refusal

PATIENCE: Final = 10.0
"""Seconds that a service has to answer somebody's request."""


class Awaited:
    """Requests that are under way."""

    def __init__(self, name: str) -> None:
        """`name` is the instance's."""
        self._name = name
        self._waiting: dict[str, tuple[asyncio.AbstractEventLoop, asyncio.Future[Any]]] = {}
        self._asked = 0

    async def ask(self, send: Callable[[str], object], instance: str, verb: str, patience: float = PATIENCE) -> Any:
        """Have a request sent under an identity, and return the data of its answer; Refusal where it is refused, or nobody answers."""
        loop = asyncio.get_running_loop()
        self._asked += 1
        identity = f"{self._name}-{time.monotonic_ns()}-{self._asked}"
        future: asyncio.Future[Any] = loop.create_future()
        self._waiting[identity] = loop, future
        try:
            send(identity)
            answer = await asyncio.wait_for(future, patience)
        except TimeoutError:
            raise Refusal(504, f"{instance} does not answer", "instance") from None
        finally:
            self._waiting.pop(identity, None)
        if answer.get("status") != "ok":
            raise Refusal(409, str(answer.get("error", "it is refused")), verb)
        return answer.get("data") or {}

    def take(self, payload: bytes) -> None:
        """Take a service's answer."""
        with contextlib.suppress(ValueError):
            answer = msgspec.json.decode(payload, type=dict[str, Any])
            waiting = self._waiting.get(str(answer.get("id")))
            if waiting and answer.get("status") in ("ok", "error"):
                loop, future = waiting
                with contextlib.suppress(RuntimeError):
                    loop.call_soon_threadsafe(_settle_with, future, answer)


def _settle_with(future: asyncio.Future[Any], answer: dict[str, Any]) -> None:
    if not future.done():
        future.set_result(answer)
