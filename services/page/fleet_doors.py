"""The doors of a fleet's page: houses by state and proof, one of them, months beside each other, and what each role may do."""

import asyncio
import csv
import functools
import io
from collections.abc import AsyncIterator, Callable, Collection, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Annotated, Any, Final, Protocol

from msgspec import Meta, Struct, field
from starlette.requests import Request as HttpRequest
from starlette.responses import Response, StreamingResponse

from bootstrap_lib import Nothing, format_time
from services.fleet.engine import EngineAway
from services.fleet.shown import FleetPerson, LiveHouse, Role
from services.fleet.view import FleetView, HouseRow, MonthRow, TopicRow
from services.page import forms
from services.page.answers import Refusal, as_answer, body_of, harmless, query_of, span_of
from services.page.door import Door
from services.page.entrance import Entrance

DAY: Final = 86_400_000
LONGEST: Final = 40
"""Days of readings that an export holds at most."""


class FleetHouse(HouseRow, kw_only=True):
    """A house by state and proof: taken and waiting there, gaps here. Times in ms."""

    state: str
    linked: bool | None
    heard: int
    version: str
    taken: int
    waiting: int
    dropped: int


class FleetHouseAnswer(Struct, kw_only=True):
    """One house: its topics as the engine has them, how its services are, and how many readings of a day are stored."""

    house: FleetHouse
    services: dict[str, str]
    topics: list[TopicRow]
    stored_today: int


class CurveAnswer(Struct):
    """Buckets of a topic: beginning (ms), mean, lowest, highest."""

    topic: str
    unit: str
    points: list[tuple[int, float, float, float]]


class MonthsAsked(Struct, forbid_unknown_fields=True):
    """Months since a time; `topic` is a counter's."""

    topic: forms.Text = "house/electricity/import_energy"
    since: forms.Text = field(name="from", default="2026-01-01")


class Curve(forms.Span, forbid_unknown_fields=True, kw_only=True):
    """A curve of one topic."""

    topic: Annotated[str, Meta(max_length=200)]
    buckets: Annotated[int, Meta(ge=2, le=2000)] = 300


class Erasing(Struct, forbid_unknown_fields=True):
    """The house's name once more: everything of it is deleted."""

    confirm: str


class FleetMe(Struct, frozen=True):
    """Who asks."""

    name: str | None
    role: Role | None


class Fleet(Protocol):
    """The service behind the page."""

    live: dict[str, LiveHouse]

    @property
    def people(self) -> dict[str, FleetPerson]:
        """Who may log in."""

    def members(self) -> Collection[str]:
        """Houses of the roster that are not revoked."""

    def gone(self) -> Collection[str]:
        """Houses that the roster names as revoked."""

    async def ask(self, house: str, instance: str, verb: str, by: str) -> Any:
        """Ask a service of a house."""

    def note(self, sentence: str) -> None:
        """Say in the journal what somebody did."""


class FleetDoors:
    """Answers requests about a fleet."""

    def __init__(self, fleet: Fleet, view: FleetView, entrance: Entrance, readers: ThreadPoolExecutor) -> None:
        """`readers` is the one thread that may ask the engine."""
        self._fleet, self._view, self._entrance, self._readers = fleet, view, entrance, readers

    async def _read(self, question: Callable[..., Any], *arguments: Any) -> Any:
        try:
            call = functools.partial(question, *arguments)
            return await asyncio.get_running_loop().run_in_executor(self._readers, call)
        except EngineAway as error:
            raise Refusal(503, str(error), "engine", Retry_After="5") from None

    def _person(self, request: HttpRequest) -> tuple[str, FleetPerson]:
        name = self._entrance.caller(request).name
        person = self._fleet.people.get(name or "")
        if name is None or person is None:
            raise Refusal(401, "log in to see houses")
        return name, person

    async def _houses(self, request: HttpRequest) -> list[HouseRow]:
        """Houses that this person may see."""
        _, person = self._person(request)
        rows: list[HouseRow] = await self._read(self._view.houses)
        return [row for row in rows if person.sees(row.name)]

    async def _house(self, request: HttpRequest, *roles: Role) -> tuple[str, HouseRow]:
        """Who asks, and the house; Refusal 404 for one that is not theirs or not there, 403 for what their role may not."""
        by, person = self._person(request)
        wanted = request.path_params["house"]
        found = next((row for row in await self._houses(request) if row.name == wanted), None)
        if found is None:
            raise Refusal(404, "there is no such house", "house")
        if roles and person.role not in roles:
            raise Refusal(403, f"that is for {' and '.join(roles)}", "role")
        return by, found

    def _shown(self, row: HouseRow) -> FleetHouse:
        live = self._fleet.live.get(row.name) or LiveHouse()
        member = row.name in self._fleet.members()
        state = "out" if not member else "silent" if not live.linked else "lacking" if row.gaps else "whole"
        return FleetHouse(
            **{name: getattr(row, name) for name in row.__struct_fields__},
            state=state,
            linked=live.linked,
            heard=live.heard,
            version=live.version,
            taken=sum(live.taken.values()),
            waiting=sum(live.waiting.values()),
            dropped=sum(live.dropped.values()),
        )

    # -- looking ------------------------------------------------------------------------------------------------------

    async def see_houses(self, request: HttpRequest) -> Response:
        """Houses by state and proof."""
        return as_answer(request, [self._shown(row) for row in await self._houses(request)])

    async def see_house(self, request: HttpRequest) -> Response:
        """One house, from the engine."""
        _, row = await self._house(request)
        now = self._entrance.now()
        live = self._fleet.live.get(row.name) or LiveHouse()
        answer = FleetHouseAnswer(
            house=self._shown(row),
            services=live.states,
            topics=await self._read(self._view.topics, row.number, row.newest),
            stored_today=await self._read(self._view.stored, row.number, now - DAY, now),
        )
        return as_answer(request, answer)

    async def see_curve(self, request: HttpRequest) -> Response:
        """A curve of a house's topic."""
        _, row = await self._house(request)
        query = query_of(request, Curve)
        since, until = span_of(query.since, query.until, row.zone, self._entrance.now())
        topics: list[TopicRow] = await self._read(self._view.topics, row.number, row.newest)
        found = next((one for one in topics if one.name == query.topic), None)
        if found is None:
            raise Refusal(404, "there is no such topic", "topic")
        points = await self._read(self._view.series, row.number, found.number, since, until, query.buckets)
        return as_answer(request, CurveAnswer(found.name, found.unit, points))

    async def see_months(self, request: HttpRequest) -> Response:
        """Months of the houses that this person may see, beside each other."""
        query = query_of(request, MonthsAsked)
        houses = await self._houses(request)
        now = self._entrance.now()
        since = min((span_of(query.since, None, row.zone, now)[0] for row in houses), default=now)
        return as_answer(request, await self._read(self._view.months, houses, query.topic, since))

    async def export(self, request: HttpRequest) -> Response:
        """All readings of a span, as CSV."""
        by, row = await self._house(request, "owner", "operator")
        query = query_of(request, forms.Span)
        since, until = span_of(query.since, query.until, row.zone, self._entrance.now())
        if until - since > LONGEST * DAY:
            raise Refusal(422, f"at most {LONGEST} days of readings at a time", "from")
        self._fleet.note(f"{by} exports {row.name}")
        lines = _csv(self._view.readings(row.number, since, until))

        async def content() -> AsyncIterator[str]:
            while part := await self._read(next, lines, ""):
                yield part

        headers = {"content-disposition": f'attachment; filename="{row.name}.csv"'}
        return StreamingResponse(content(), headers=headers, media_type="text/csv; charset=utf-8")

    async def see_me(self, request: HttpRequest) -> Response:
        """Who asks, and as what."""
        name = self._entrance.caller(request).name
        person = self._fleet.people.get(name or "")
        return as_answer(request, FleetMe(name if person else None, person.role if person else None))

    # -- changing -----------------------------------------------------------------------------------------------------

    async def ask(self, request: HttpRequest) -> Response:
        """Ask a service of a house, by its bridge."""
        await body_of(request, Nothing)
        by, row = await self._house(request, "installer", "operator")
        verb = request.path_params["verb"]
        if verb not in forms.VERBS:
            raise Refusal(404, f"the page asks for {', '.join(forms.VERBS)}", "verb")
        return as_answer(request, await self._fleet.ask(row.name, request.path_params["instance"], verb, by))

    async def erase(self, request: HttpRequest) -> Response:
        """Delete everything of a house that is out of the fleet."""
        given = await body_of(request, Erasing)
        by, row = await self._house(request, "operator")
        if given.confirm != row.name:
            raise Refusal(422, "write the house's name once more", "confirm")
        if row.name not in self._fleet.gone():
            raise Refusal(409, "it would be filled again: first `constellation fleet revoke`", "house")
        self._fleet.note(f"{by} deletes all of {row.name}")
        return as_answer(request, {"readings": await self._read(self._view.erase, row.number, row.name)})

    async def log_in(self, request: HttpRequest) -> Response:
        """Begin a session."""
        given = await body_of(request, forms.Credentials)
        return await self._entrance.log_in(request, given.name, given.password)

    async def log_out(self, request: HttpRequest) -> Response:
        """End the session."""
        return self._entrance.log_out(request)


def _csv(rows: Iterator[tuple[int, str, float | str, str]]) -> Iterator[str]:
    """Text in parts of some hundred lines (RFC 4180)."""
    text = io.StringIO()
    writer = csv.writer(text)
    writer.writerow(["time", "topic", "value", "unit"])
    for count, (moment, topic, value, unit) in enumerate(rows, 1):
        writer.writerow([format_time(moment), harmless(topic), harmless(value), harmless(unit)])
        if count % 500 == 0:
            yield text.getvalue()
            text.seek(0)
            text.truncate()
    yield text.getvalue()


FLEET_DOORS: Final = (
    Door("GET", "/houses", "Houses by state and proof", FleetDoors.see_houses, list[FleetHouse]),
    Door("GET", "/houses/{house}", "One house, from the engine", FleetDoors.see_house, FleetHouseAnswer),
    Door("GET", "/houses/{house}/curve", "A curve", FleetDoors.see_curve, CurveAnswer, Curve),
    Door("GET", "/houses/{house}/export", "All readings, as CSV", FleetDoors.export, str, forms.Span),
    Door("GET", "/months", "Months beside each other", FleetDoors.see_months, dict[str, list[MonthRow]], MonthsAsked),
    Door("GET", "/me", "Who asks", FleetDoors.see_me, FleetMe, open=True),
    Door("POST", "/login", "Begin a session", FleetDoors.log_in, forms.Me, body=forms.Credentials, open=True),
    Door("POST", "/logout", "End it", FleetDoors.log_out, forms.Me, open=True),
    Door(
        "POST",
        "/houses/{house}/services/{instance}/{verb}",
        "Ask a service of a house",
        FleetDoors.ask,
        Any,
        body=Nothing,
        changes=True,
    ),
    Door("POST", "/houses/{house}/erase", "Delete all of a house", FleetDoors.erase, Any, body=Erasing, changes=True),
)
"""All of them."""
