"""From doors to routes: a request finds the door of its path and method, and what stands before it; a refusal is an answer."""

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from starlette.requests import ClientDisconnect
from starlette.requests import Request as HttpRequest
from starlette.responses import Response
from starlette.routing import BaseRoute, Route
from starlette.types import Receive, Scope, Send

from bootstrap_lib import Nothing
from services.page.answers import Refusal, query_of
from services.page.door import BASE, Door

if TYPE_CHECKING:
    from services.page.entrance import Entrance


def routes(doors: Any, entrance: "Entrance", listed: Iterable[Door]) -> list[BaseRoute]:
    """Doors as routes; `doors` has what they call, `entrance` says who comes in."""
    paths: dict[str, list[Door]] = {}
    for door in listed:
        paths.setdefault(door.path, []).append(door)
    return [Route(BASE + path, Doorway(doors, entrance, found)) for path, found in paths.items()]


class Doorway:
    """All doors of one path. An ASGI app, so that every method comes here, and one that no door takes is refused in our words."""

    def __init__(self, doors: Any, entrance: "Entrance", found: Iterable[Door]) -> None:
        self._doors, self._entrance = doors, entrance
        self._by_method = {door.method: door for door in found}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request."""
        await (await self._answer(HttpRequest(scope, receive)))(scope, receive, send)

    async def _answer(self, request: HttpRequest) -> Response:
        try:
            door = self._by_method.get("GET" if request.method == "HEAD" else request.method)
            if door is None:
                raise not_here(*self._by_method)
            self._entrance.admit(request, door)
            if door.query is None:  # else its handler reads it
                query_of(request, Nothing)
            return await door.handler(self._doors, request)
        except Refusal as refusal:
            return refusal.response()
        except ClientDisconnect:
            return Refusal(400, "the request came only in part").response()


def not_here(*methods: str) -> Refusal:
    """What a method is told that no door of a path takes (RFC 9110, 15.5.6)."""
    takes = ", ".join(methods)
    return Refusal(405, f"this door takes {takes}", Allow=takes)
