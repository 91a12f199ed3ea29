"""What people may ask of a centre's store: what is lacking of each house, to compare counts now, and what a house's services answer."""

import logging
import secrets
import time
from collections.abc import Callable
from typing import Annotated, Any, Final

import msgspec
from msgspec import Meta, Struct

from bootstrap_lib import Message, ReadingError, Request, RequestError, as_json, format_time, parse_time
from services.fleet import roster
from services.fleet.centre import Centre
from services.fleet.remote_house import RemoteHouse

log = logging.getLogger(__name__)

SHOWN: Final = 20
"""Ranges of a house that are listed."""

PATIENCE: Final = 20.0
"""Seconds that a house's service may take to answer."""

MOST: Final = 200
"""Requests to houses that wait for their answer at a time."""


class Comparing(Struct, forbid_unknown_fields=True):
    """Payload of `request/compare` and `request/houses`: one house or all; since a time, or the last comparison."""

    house: str | None = None
    since: str | None = None


class Asking(Struct, forbid_unknown_fields=True):
    """Payload of `request/ask`: what somebody wants of a house's service, and who that is."""

    house: str
    instance: Annotated[str, Meta(pattern=roster.WORD, max_length=60)]
    verb: Annotated[str, Meta(pattern=roster.WORD, max_length=60)]
    by: Annotated[str, Meta(min_length=1, max_length=60)]
    arguments: dict[str, Any] = {}


class RemoteAnswer(Struct):
    """What a house's service answers."""

    status: str
    id: str
    data: Any = None
    error: str = ""


_answer = msgspec.json.Decoder(RemoteAnswer)


class Waiting(Struct):
    """Somebody who waits for a house's answer, until then (monotonic)."""

    request: Request
    topic: str
    until: float


class FleetRequests:
    """The requests of a store of a fleet."""

    def __init__(
        self, centre: Callable[[], Centre | None], now: Callable[[], int], send: Callable[[str, bytes], None]
    ) -> None:
        """`centre` gives the centre that is open, or None; `send` sends what is worth nothing when it comes late."""
        self._centre, self._now, self._send = centre, now, send
        self._waiting: dict[str, Waiting] = {}

    # -- what a house's services are asked ----------------------------------------------------------------------------

    def request_ask(self, request: Request, arguments: Asking) -> object:
        """Ask a service of a house; its answer is passed on."""
        centre = self._open()
        house = centre.houses.get(arguments.house)
        if house is None:
            raise RequestError(f"no house is called '{arguments.house[:60]}' in this shard")
        if not house.linked:
            raise RequestError(f"{house.name} has no link")
        if len(self._waiting) >= MOST:
            raise RequestError("too many requests wait for an answer")
        if not arguments.by.isprintable():
            raise RequestError("who asks is a name")
        identity = secrets.token_hex(8)
        service = f"{house.prefix}/service/{arguments.instance}"
        asked = {"by": arguments.by, "at": format_time(self._now()), "id": identity, "arguments": arguments.arguments}
        log.info("%s asks %s/%s to %s", arguments.by, house.name, arguments.instance, arguments.verb)
        self._waiting[identity] = Waiting(request, f"{service}/answer/{arguments.verb}", time.monotonic() + PATIENCE)
        self._send(f"{service}/remote/{arguments.verb}", as_json(asked))
        return Request.LATER

    def take_answer(self, message: Message) -> None:
        """Pass a service's answer on to who asked; one that nobody waits for is nobody's."""
        try:
            answer = _answer.decode(message.payload)
        except (msgspec.DecodeError, UnicodeDecodeError):
            return
        waiting = self._waiting.get(answer.id)
        if waiting is None or waiting.topic != message.topic or answer.status == "progress":
            return
        del self._waiting[answer.id]
        if answer.status == "ok":
            waiting.request.reply(answer.data)
        else:
            waiting.request.refuse(answer.error[:500])

    def look_for_silence(self) -> None:
        """Tell those who waited too long."""
        now = time.monotonic()
        for identity in [identity for identity, waiting in self._waiting.items() if now >= waiting.until]:
            self._waiting.pop(identity).request.refuse(
                "no answer: nothing of that name runs there, or the house lets no request of the centre in"
            )

    # -- what the store knows -----------------------------------------------------------------------------------------

    def _open(self) -> Centre:
        centre = self._centre()
        if centre is None:
            raise RequestError("the engine is not there, or another process holds the shard")
        return centre

    def _asked(self, arguments: Comparing) -> tuple[Centre, list[RemoteHouse]]:
        centre = self._open()
        return centre, [house for house in centre.houses.values() if arguments.house in (None, house.name)]

    def request_compare(self, _request: Request, arguments: Comparing) -> dict[str, int]:
        """Have counts compared now."""
        centre, houses = self._asked(arguments)
        try:
            since = parse_time(arguments.since) if arguments.since else None
        except ReadingError as error:
            raise RequestError(str(error)) from None
        for house in houses:
            centre.compare(house, self._now(), since)
        return {"houses": len(houses)}

    def request_houses(self, _request: Request, arguments: Comparing) -> dict[str, Any]:
        """Say of each house what is lacking here, when it was heard last, and whether anything is under way."""
        centre, houses = self._asked(arguments)
        return {
            house.name: {
                "linked": house.linked,
                "newest": format_time(house.newest) if house.newest else None,
                "compared": format_time(house.compared) if house.compared else None,
                "lacking": [[format_time(since), format_time(until)] for since, until in house.lacking][:SHOWN],
                "busy": centre.filling.busy(house),
            }
            for house in houses
        }
