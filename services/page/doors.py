"""The doors below /api/1: each with the types of its query, body and answer, from which its description is made."""

import functools
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any, Final

from starlette.requests import Request as HttpRequest
from starlette.responses import Response

from bootstrap_lib import Nothing, format_time
from services.page import forms, links
from services.page.answers import Refusal, as_answer, as_csv, body_of, moment_of, query_of, span_of
from services.page.door import Door
from services.page.live import LogLine
from services.page.passkey_doors import PASSKEY_DOORS
from services.page.past import PastAway, Series

if TYPE_CHECKING:
    from services.page.house import PageHouse


class Doors:
    """Answers requests about one house."""

    def __init__(self, house: "PageHouse", readers: ThreadPoolExecutor) -> None:
        """`readers` are the threads that may ask the archive."""
        self.house, self._readers = house, readers

    async def ask(self, question: Callable[..., Any], *arguments: Any) -> Any:
        """Ask the archive in a thread of its own; Refusal 503 where it cannot be read."""
        import asyncio

        call = functools.partial(question, *arguments)
        try:
            return await asyncio.get_running_loop().run_in_executor(self._readers, call)
        except PastAway as error:
            raise Refusal(503, str(error), "archive", Retry_After="5") from None

    def names(self, text: str, where: str = "topics") -> list[str]:
        """Topics that a query names; Refusal 404 where one is none."""
        names = list(dict.fromkeys(name for name in text.split(",") if name))
        if not 1 <= len(names) <= forms.MOST_TOPICS:
            raise Refusal(422, f"name 1 to {forms.MOST_TOPICS} topics", where)
        for name in names:
            if name not in self.house.live.topics:
                raise Refusal(404, f"there is no topic {name[:100]}", where)
        return names

    # -- looking ------------------------------------------------------------------------------------------------

    async def see_house(self, request: HttpRequest) -> Response:
        """The house as it stands, or stood."""
        query = query_of(request, forms.Moment)
        if query.at is None:
            return as_answer(request, self.house.document())
        at = moment_of(query.at, "at", self.house.zone)
        if at > self.house.now():
            raise Refusal(422, "it lies ahead of us", "at")
        return as_answer(request, await self.ask(self.house.document_at, at))

    async def see_topics(self, request: HttpRequest) -> Response:
        """All topics with what stands on them."""
        return as_answer(request, self.house.standing())

    async def see_topic(self, request: HttpRequest) -> Response:
        """One topic."""
        name = self.names(request.path_params["name"], "name")[0]
        return as_answer(request, next(one for one in self.house.standing() if one.name == name))

    async def see_history(self, request: HttpRequest) -> Response:
        """Series of topics over a span."""
        query = query_of(request, forms.History)
        names = self.names(query.topics)
        since, until = span_of(query.since, query.until, self.house.zone, self.house.now())
        series = await self.ask(self.house.series, names, since, until, query.buckets)
        if query.format == "csv":
            return as_csv(request, *_table(series), "house.csv")
        return as_answer(request, forms.HistoryAnswer(since=since, until=until, series=series))

    async def see_curves(self, request: HttpRequest) -> Response:
        """A small curve of each stored topic."""
        query = query_of(request, forms.Curves)
        now = self.house.now()
        until = moment_of(query.until, "to", self.house.zone) if query.until else now
        return as_answer(request, await self.ask(self.house.curves, min(until, now)))

    async def see_phases(self, request: HttpRequest) -> Response:
        """Runs of a state."""
        query = query_of(request, forms.Words)
        name = self.names(query.topic, "topic")[0]
        since, until = span_of(query.since, query.until, self.house.zone, self.house.now())
        return as_answer(request, await self.ask(self.house.words, name, since, until))

    async def see_meters(self, request: HttpRequest) -> Response:
        """What the meters counted."""
        query = query_of(request, forms.Meters)
        at = moment_of(query.at, "at", self.house.zone) if query.at else self.house.now()
        if at > self.house.now():
            raise Refusal(422, "it lies ahead of us", "at")
        return as_answer(request, await self.ask(self.house.meters, query.by, at))

    async def see_alerts(self, request: HttpRequest) -> Response:
        """Alerts that fired within a span, with what happened to each."""
        query = query_of(request, forms.Span)
        since, until = span_of(query.since, query.until, self.house.zone, self.house.now())
        return as_answer(request, await self.ask(self.house.fired, since, until + 1000))

    async def see_why(self, request: HttpRequest) -> Response:
        """What the alerts service itself says of an alert: rule, readings, what holds it back, who was told."""
        found = await self.house.act(request, "alerts", "why", {"rule": self._alert(request)})
        return as_answer(request, next(iter(found.get("alerts", [])), {}))

    async def see_what_if(self, request: HttpRequest) -> Response:
        """When a rule would have fired."""
        query = query_of(request, forms.WhatIf)
        since, until = span_of(query.since, query.until, self.house.zone, self.house.now())
        if until - since > forms.LONGEST_WHAT_IF:
            raise Refusal(422, "a rule is tried over a month at most", "from")
        return as_answer(request, await self.ask(self.house.what_if, query.rule, since, until))

    async def see_proof(self, request: HttpRequest) -> Response:
        """What can be shown of the promise that nothing is lost."""
        return as_answer(request, await self.ask(self.house.proof))

    async def see_log(self, request: HttpRequest) -> Response:
        """Warnings of all services since the page's service started, the newest first."""
        return as_answer(request, self.house.log())

    async def see_me(self, request: HttpRequest) -> Response:
        """Who is asking, and what it may."""
        caller = self.house.caller(request)
        return as_answer(
            request,
            forms.Me(
                name=caller.name,
                may_look=self.house.gate.may_look(caller),
                people=bool(self.house.gate.people),
                passkeys=self.house.has_passkeys,
            ),
        )

    async def describe(self, request: HttpRequest) -> Response:
        """This very description."""
        from services.page.description import description

        return as_answer(request, description(DOORS))

    # -- links in messages --------------------------------------------------------------------------------------

    async def see_link(self, request: HttpRequest) -> Response:
        """What a link permits; nothing is done yet."""
        given = await body_of(request, forms.LinkToken)
        return as_answer(request, links.seen(self.house, given.token))

    async def use_link(self, request: HttpRequest) -> Response:
        """Do it."""
        given = await body_of(request, forms.LinkAct)
        if (given.act == "snooze") != (given.span is not None):
            raise Refusal(422, "for: says how long to snooze, and stands with nothing else", "for")
        arguments = {"for": str(given.span)} if given.span is not None else {}
        return as_answer(request, await links.used(self.house, given.token, given.act, arguments))

    # -- changing -----------------------------------------------------------------------------------------------

    async def log_in(self, request: HttpRequest) -> Response:
        """Begin a session."""
        given = await body_of(request, forms.Credentials)
        return await self.house.log_in(request, given.name, given.password)

    async def log_out(self, request: HttpRequest) -> Response:
        """End the session."""
        return self.house.log_out(request)

    async def acknowledge(self, request: HttpRequest) -> Response:
        """Say that somebody takes care of an alert."""
        await body_of(request, Nothing)
        name = self._alert(request)
        return as_answer(request, await self.house.act(request, "alerts", "acknowledge", {"rule": name}))

    async def snooze(self, request: HttpRequest) -> Response:
        """Hear no more of an alert for a time."""
        given = await body_of(request, forms.Snooze)
        arguments = {"rule": self._alert(request), "for": str(given.span)}
        return as_answer(request, await self.house.act(request, "alerts", "snooze", arguments))

    def _alert(self, request: HttpRequest) -> str:
        name: str = request.path_params["rule"]
        if name not in self.house.live.alerts:
            raise Refusal(404, f"there is no alert {name[:100]}", "rule")
        return name

    async def change_meters(self, request: HttpRequest) -> Response:
        """Listen to one more meter, or to one less."""
        given = await body_of(request, forms.MeterChange)
        instance = request.path_params["instance"]
        facts = self.house.live.services.get(instance)
        if facts is None or facts.listed is None:
            raise Refusal(404, f"{instance[:100]} hears no meters", "instance")
        if (given.add is None) == (given.remove is None):
            raise Refusal(422, "say one meter to add, or one to remove", "add")
        if given.add is None:
            mode, meter = "remove", {"deviceId": given.remove}
        else:
            caller, mode = self.house.caller(request), "add"
            if given.add.key and not (caller.local or caller.secure):
                raise Refusal(403, "a meter's key travels by TLS, or from the machine itself, alone", "key")
            meter = {"deviceId": given.add.number, "manufacturerKey": given.add.maker, "encryptionKey": given.add.key}
        arguments = {"mode": mode, "meters": [meter]}
        return as_answer(request, await self.house.act(request, instance, "meters", arguments))

    async def ask_service(self, request: HttpRequest) -> Response:
        """Ask a service to do something."""
        await body_of(request, Nothing)
        instance, verb = request.path_params["instance"], request.path_params["verb"]
        if instance not in self.house.live.services:
            raise Refusal(404, f"there is no service {instance[:100]}", "instance")
        if verb not in forms.VERBS:
            raise Refusal(404, f"the page asks for {', '.join(forms.VERBS)}", "verb")
        return as_answer(request, await self.house.act(request, instance, verb, {}))


def _table(series: list[Series]) -> tuple[list[str], list[list[Any]]]:
    head = ["time"]
    rows: dict[int, dict[int, Any]] = {}
    for number, one in enumerate(series):
        head += [f"{one.topic} mean", "low", "high"] if not one.words else [one.topic, "", ""]
        for index, time in enumerate(one.t):
            rows.setdefault(time, {})[number] = (one.mean[index], one.low[index], one.high[index])
        for word, begin, _ in one.words:
            rows.setdefault(begin, {})[number] = (word, None, None)
    empty = (None, None, None)
    lines = [
        [format_time(time), *(cell for number in range(len(series)) for cell in rows[time].get(number, empty))]
        for time in sorted(rows)
    ]
    return head, lines


DOORS: Final = (
    Door("GET", "/house", "The house as it stands, or as it stood", Doors.see_house, forms.HouseAnswer, forms.Moment),
    Door("GET", "/topics", "All topics with what stands on them", Doors.see_topics, list[forms.TopicAnswer]),
    Door("GET", "/topics/{name:path}", "One topic", Doors.see_topic, forms.TopicAnswer),
    Door("GET", "/history", "Series, as JSON or CSV", Doors.see_history, forms.HistoryAnswer, forms.History),
    Door("GET", "/curves", "The last four hours of each topic", Doors.see_curves, list[Series], forms.Curves),
    Door("GET", "/phases", "Runs of a state", Doors.see_phases, list[tuple[str, int, int]], forms.Words),
    Door("GET", "/meters", "What was counted", Doors.see_meters, forms.MetersAnswer, forms.Meters),
    Door("GET", "/alerts", "Alerts that fired", Doors.see_alerts, forms.AlertsAnswer, forms.Span),
    Door("GET", "/alerts/{rule}/why", "Why it fires or not, and who was told", Doors.see_why, dict[str, Any]),
    Door("GET", "/what-if", "When a rule would have fired", Doors.see_what_if, forms.WhatIfAnswer, forms.WhatIf),
    Door("GET", "/proof", "What can be shown", Doors.see_proof, forms.ProofAnswer, Nothing),
    Door("GET", "/log", "Warnings of all services", Doors.see_log, list[LogLine]),
    Door("GET", "/me", "Who asks", Doors.see_me, forms.Me, open=True),
    Door("GET", "/openapi.json", "This description (OpenAPI 3.1)", Doors.describe, dict[str, Any], open=True),
    Door("POST", "/login", "Begin a session", Doors.log_in, forms.Me, body=forms.Credentials, open=True),
    Door("POST", "/logout", "End it", Doors.log_out, forms.Me, open=True),
    Door("POST", "/link", "What a link permits", Doors.see_link, forms.LinkAnswer, body=forms.LinkToken, open=True),
    Door("POST", "/link/use", "Act by it, once", Doors.use_link, list[str], body=forms.LinkAct, open=True),
    Door(
        "POST", "/alerts/{rule}/acknowledge", "Somebody takes care", Doors.acknowledge, Any, body=Nothing, changes=True
    ),
    Door("POST", "/alerts/{rule}/snooze", "Quiet for a time", Doors.snooze, Any, body=forms.Snooze, changes=True),
    Door(
        "POST",
        "/services/{instance}/meters",
        "Listen to a meter, or no more",
        Doors.change_meters,
        list[dict[str, str]],
        body=forms.MeterChange,
        changes=True,
    ),
    Door("POST", "/services/{instance}/{verb}", "Ask a service", Doors.ask_service, Any, body=Nothing, changes=True),
    *PASSKEY_DOORS,
)
"""All of them; the stream (`GET /stream`, server-sent events) stands beside them in `server`."""
