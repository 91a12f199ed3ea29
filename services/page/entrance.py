"""Who comes in: sessions and rights at each door, alike for the page of a house and for that of a fleet."""

import logging
from collections.abc import Callable
from typing import TYPE_CHECKING

from starlette.requests import Request as HttpRequest
from starlette.responses import Response

from services.page import forms
from services.page.answers import Refusal, as_answer
from services.page.gate import COOKIE, Caller, Gate, Wait, is_origin_of, same_origin

if TYPE_CHECKING:
    from services.page.door import Door

log = logging.getLogger(__name__)


class Entrance:
    """What stands behind a gate."""

    def __init__(self, gate: Gate, now: Callable[[], int]) -> None:
        """`now` is the clock (ms)."""
        self.gate, self.now = gate, now

    @property
    def address(self) -> str | None:
        """Where the page is reached from outside, where that is another than its own."""
        return None

    @property
    def has_passkeys(self) -> bool:
        """Whether one may come in by a passkey."""
        return False

    def caller(self, request: HttpRequest, *, used: bool = True) -> Caller:
        """Who asks; `used`: it keeps a session from idling."""
        peer = request.client.host if request.client else ""
        headers = {name.lower(): value for name, value in request.headers.items()}
        tls = request.url.scheme == "https"
        return self.gate.caller(peer, headers, request.cookies.get(COOKIE), self.now(), tls=tls, used=used)

    def may_still_look(self, request: HttpRequest) -> bool:
        """Whether who once came in would still be let in to look: no session lasts longer for it."""
        return self.gate.may_look(self.caller(request, used=False))

    def admit(self, request: HttpRequest, door: "Door") -> None:
        """Let a request through a door; Refusal 401, 403."""
        caller = self.caller(request)
        if not door.open and not self.gate.may_look(caller):
            raise Refusal(401, "log in to see the house")
        if door.method != "GET":
            host = request.headers.get("host", "")
            origin = request.headers.get("origin")
            if not same_origin(origin, host, secure=caller.secure) and not is_origin_of(origin, self.address):
                raise Refusal(403, "a change comes from the page itself, and from nowhere else", "origin")
            if door.changes and caller.name is None:
                raise Refusal(401, "log in to change something")

    async def log_in(self, request: HttpRequest, name: str, password: str) -> Response:
        """Begin a session."""
        from starlette.concurrency import run_in_threadpool

        caller = self.caller(request)
        try:
            cookie = await run_in_threadpool(self.gate.log_in, name, password, caller.address, self.now())
        except Wait as wait:
            raise Refusal(429, str(wait), Retry_After=str(wait.seconds)) from None
        except OSError as error:
            raise Refusal(503, f"the session cannot be kept: {error}") from None
        if cookie is None:
            raise Refusal(401, "the name or the password is wrong")
        log.info("%s logs in by password", name)
        answer = as_answer(request, forms.Me(name, True, True, self.has_passkeys))
        answer.headers["set-cookie"] = self.gate.cookie(cookie, secure=caller.secure)
        return answer

    def log_out(self, request: HttpRequest) -> Response:
        """End the session."""
        caller = self.caller(request)
        gone = self.gate.cookie("", secure=caller.secure)
        try:
            self.gate.log_out(request.cookies.get(COOKIE))
        except OSError as error:
            said = f"you are logged out, but a copy of your cookie would be good again after a restart: {error}"
            raise Refusal(503, said, Set_Cookie=gone) from None
        caller = self.caller(request)
        answer = as_answer(
            request, forms.Me(None, self.gate.may_look(caller), bool(self.gate.people), self.has_passkeys)
        )
        answer.headers["set-cookie"] = gone
        return answer
