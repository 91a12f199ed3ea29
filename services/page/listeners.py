"""Browsers that look: each has a queue that is bounded, and who does not keep up is dropped while the others go on."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable, MutableMapping
from typing import Any, Final

Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]

WAITING: Final = 100
"""Events that may wait for a browser: ten seconds of a busy house."""

PATIENCE: Final = 10.0
"""Seconds in which a browser must take what it is sent."""

CHANCE: Final = 1.0
"""Seconds of the loop that a browser with a full queue has to take from it: the loop may have been late itself, not the browser."""

MOST: Final = 300
"""Browsers at a time."""

ASKED: Final = 60.0
"""Seconds after which it is asked again whether who listens may: a session ends while a stream goes on."""


def event(name: str, content: bytes) -> bytes:
    """A server-sent event (html.spec.whatwg.org, 9.2); the content is JSON and has no line breaks."""
    return b"event: %s\ndata: %s\n\n" % (name.encode(), content)


class Listeners:
    """All open streams. Everything but `send_from` belongs to the server's own thread."""

    def __init__(self) -> None:
        """Begin with none."""
        self._loop: asyncio.AbstractEventLoop | None = None
        self._queues: dict[asyncio.Queue[bytes], asyncio.Task[Any] | None] = {}
        self.dropped = 0

    def __len__(self) -> int:
        """How many listen."""
        return len(self._queues)

    def begin(self) -> None:
        """Belong to the running loop."""
        self._loop = asyncio.get_running_loop()

    def send_from(self, content: bytes) -> None:
        """Hand events to all, from any thread."""
        if self._loop is not None and self._queues:
            with contextlib.suppress(RuntimeError):  # the loop has ended
                self._loop.call_soon_threadsafe(self._spread, content)

    def _spread(self, content: bytes) -> None:
        for queue in self._queues:
            queue.put_nowait(content)
            if queue.qsize() == WAITING:
                asyncio.get_running_loop().call_later(CHANCE, self._judge, queue)

    def _judge(self, queue: asyncio.Queue[bytes]) -> None:
        if queue.qsize() >= WAITING and (task := self._queues.pop(queue, None)):
            task.cancel()  # which counts it

    @contextlib.asynccontextmanager
    async def listen(self) -> AsyncIterator[asyncio.Queue[bytes]]:
        """Take part until the context is left."""
        queue: asyncio.Queue[bytes] = asyncio.Queue()
        self._queues[queue] = asyncio.current_task()
        try:
            yield queue
        finally:
            self._queues.pop(queue, None)

    async def serve(self, first: Callable[[], bytes], may: Callable[[], bool], receive: Receive, send: Send) -> None:
        """Answer a request with the stream: `first`, then what comes, until the browser goes, does not keep up, or may look no more."""
        async with self.listen() as queue:
            start = [(b"content-type", b"text/event-stream; charset=utf-8"), (b"cache-control", b"no-store")]
            gone = asyncio.ensure_future(_until_gone(receive))
            gone.add_done_callback(lambda _: queue.put_nowait(b""))
            body = b"retry: 1000\n\n" + first()
            clock = asyncio.get_running_loop().time
            ask_at = clock() + ASKED
            try:
                await send({"type": "http.response.start", "status": 200, "headers": start})
                while not gone.done():
                    if clock() >= ask_at:
                        ask_at = clock() + ASKED
                        if not may():
                            await send({"type": "http.response.body", "body": b""})
                            return
                    async with asyncio.timeout(PATIENCE):
                        await send({"type": "http.response.body", "body": body, "more_body": True})
                    body = await queue.get()
                    while not queue.empty():
                        body += queue.get_nowait()
            except (TimeoutError, asyncio.CancelledError):
                self.dropped += 1
            finally:
                gone.cancel()


async def _until_gone(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
