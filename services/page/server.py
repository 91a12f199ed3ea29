"""The web server of a house's page, in a thread beside the loop: shipped files, the doors, the stream. No byte comes from elsewhere."""

import contextlib
import os
import threading
from collections.abc import Collection
from concurrent.futures import ThreadPoolExecutor
from typing import Final

from starlette.requests import Request as HttpRequest
from starlette.routing import Route
from starlette.types import Receive, Scope, Send

from services.page.answers import Refusal
from services.page.door import BASE, Door
from services.page.doors import DOORS, Doors
from services.page.house import PageHouse
from services.page.listeners import MOST, Listeners, event
from services.page.routing import not_here, routes
from services.page.serving import FILES, WebServer

READERS: Final = 2
"""Questions that the archive is asked at a time, each at a low priority: who browses never delays a commit."""


class PageServer(WebServer):
    """Serves a house on a socket."""

    def __init__(self, house: PageHouse, names: Collection[str]) -> None:
        """`names` are those under which the page may be reached."""
        self.house, self.listeners = house, Listeners()
        self._readers = ThreadPoolExecutor(READERS, "reader", be_patient)
        doors = Doors(house, self._readers)
        super().__init__([*routes(doors, house, DOORS), Route(f"{BASE}/stream", StreamDoor(self))], names, FILES)

    def begin(self) -> None:
        """Take listeners from now on."""
        self.listeners.begin()

    def stop(self) -> None:
        """Serve no more."""
        super().stop()
        self._readers.shutdown(wait=False, cancel_futures=True)


class StreamDoor:
    """The stream's door: an ASGI app of its own, because it has no end."""

    def __init__(self, server: PageServer) -> None:
        self._server = server
        self._door = Door("GET", "/stream", "", Doors.see_house, None)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Let who may look listen, for as long as it may."""
        listeners, house = self._server.listeners, self._server.house
        request = HttpRequest(scope)
        try:
            if request.method != "GET":  # HEAD has no end to wait for
                raise not_here("GET")
            house.admit(request, self._door)
            if len(listeners) >= MOST:
                raise Refusal(503, f"{MOST} browsers look already", Retry_After="10")
        except Refusal as refusal:
            await refusal.response()(scope, receive, send)
            return
        await listeners.serve(
            lambda: event("house", house.encoded()), lambda: house.may_still_look(request), receive, send
        )


def be_patient() -> None:
    """Let whoever asks wait rather than who writes."""
    with contextlib.suppress(OSError):
        os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), 10)
