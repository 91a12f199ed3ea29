"""The house as the doors see it: what is alive, what is past, who may change it. Shared by the loop and the server."""

import sqlite3
import threading
from collections.abc import Callable, Mapping, Sequence
from datetime import date, datetime, timedelta
from typing import TYPE_CHECKING, Any, Final, Protocol
from zoneinfo import ZoneInfo

import msgspec
from starlette.requests import Request as HttpRequest

from bootstrap_lib import Registry, as_json
from services.page import forms, proof, trial
from services.page.costs import costs
from services.page.diary import Diary, Fired
from services.page.entrance import Entrance
from services.page.gate import Gate
from services.page.live import Live, LogLine, Stand
from services.page.passkey_verifier import is_installed
from services.page.past import Asked, Past, PastAway, Series
from services.page.permits import Permits

if TYPE_CHECKING:
    from services.page.passkeys import Passkeys

CURVE: Final = 4 * 3_600_000
POINTS: Final = 96
"""A small curve: four hours in so many buckets."""

BIG: Final = 6
"""Values that a kiosk shows large."""


class Price(Protocol):
    """What a unit costs from a day (2026-01-01) on."""

    @property
    def since(self) -> str:
        """Its first day."""

    @property
    def price(self) -> float:
        """In the house's currency."""


class Settings(Protocol):
    """What topics.yaml says of the page."""

    @property
    def address(self) -> str | None:
        """URL under which people reach it."""

    @property
    def currency(self) -> str:
        """What prices are in."""

    @property
    def kiosk(self) -> list[str]:
        """Topics that are shown large."""

    @property
    def tariffs(self) -> Mapping[str, Sequence[Price]]:
        """Prices by the topic of a meter."""


Act = Callable[[str, str, dict[str, Any]], Any]
"""Asks a service over MQTT: instance, verb, arguments; awaitable, its answer."""


class PageHouse(Entrance):
    """One house with its page. Whoever touches `live` holds `lock`."""

    def __init__(  # noqa: PLR0917
        self,
        live: Live,
        past: Past,
        diary: Diary,
        gate: Gate,
        permits: Permits,
        settings: Settings,
        now: Callable[[], int],
        ask: Act,
    ) -> None:
        """`now` is the house's clock (ms), `ask` brings requests to services."""
        super().__init__(gate, now)
        self.live, self.past, self.diary, self.permits = live, past, diary, permits
        self.settings, self._ask = settings, ask
        self.lock = threading.Lock()
        self.gone: int | None = None
        self.ledger = proof.Ledger(now())
        self.backup: Callable[[], Mapping[str, Any]] = dict
        self.passkeys: Passkeys | None = None

    @property
    def registry(self) -> Registry:
        """topics.yaml."""
        return self.live.registry

    @property
    def zone(self) -> ZoneInfo:
        """The house's time zone."""
        return self.registry.timezone

    # -- now and then -------------------------------------------------------------------------------------------

    def document(self) -> forms.HouseAnswer:
        """The house as it stands, as a copy that nobody changes any more."""
        with self.lock:
            answer = self._document()
            answer.values = {name: msgspec.structs.replace(one) for name, one in self.live.values.items()}
            answer.services = {name: msgspec.structs.replace(one) for name, one in self.live.services.items()}
            answer.alerts = dict(self.live.alerts)
        return answer

    def encoded(self) -> bytes:
        """The same as JSON."""
        return as_json(self.document())

    def _document(self) -> forms.HouseAnswer:
        live = self.live
        from importlib.metadata import version

        return forms.HouseAnswer(
            now=self.now(),
            zone=self.registry.zone,
            root=self.registry.root,
            registry=self.registry.digest,
            version=version("constellation"),
            gone=self.gone,
            topics=live.topics,
            values={},
            services={},
            alerts={},
            boilers=live.boilers(),
            batteries=live.batteries(),
            meters=list(live.meters()),
            rules=len(self.registry.document.section("alerts")),
            kiosk=self._kiosk(),
            departures=[],
        )

    def _kiosk(self) -> list[str]:
        chosen = [name for name in self.settings.kiosk if name in self.live.topics]
        if chosen:
            return chosen[:BIG]
        found: dict[str, str] = {}
        for name, topic in self.live.topics.items():
            thing = name.rpartition("/")[0]
            if topic.kind == "gauge" and topic.quantity in ("temperature", "soc", "power") and thing not in found:
                found[thing] = name
        return list(found.values())[:BIG]

    def document_at(self, at: int) -> forms.HouseAnswer:
        """The house as it stood (ms): what was not kept is not there. PastAway."""
        stood = self.past.moment(self._asked(), at)
        answer = self._document()
        answer.at, answer.gone = at, None
        answer.values = {name: Stand(value, time, cleared=cleared) for name, (value, time, cleared) in stood.items()}
        for one in self._fired(at, at + 1):
            if one.since <= at and (one.until is None or one.until > at):
                known = one.acknowledged is not None and one.acknowledged <= at
                answer.alerts[one.name] = {
                    "state": "firing",
                    "since": one.since,
                    "text": one.text,
                    "topic": one.topic,
                    "rule": one.rule,
                    "priority": one.priority,
                    "acknowledged": known,
                }
        return answer

    def standing(self) -> list[forms.TopicAnswer]:
        """All topics with what stands on them."""
        house = self.document()
        return [
            forms.TopicAnswer(
                **msgspec.structs.asdict(topic),
                value=None if stand.cleared else stand.value,
                time=stand.time or None,
                cleared=stand.cleared or None,
            )
            for name, topic in house.topics.items()
            for stand in [house.values.get(name, Stand())]
        ]

    # -- what was -----------------------------------------------------------------------------------------------

    def _asked(self, names: list[str] | None = None) -> list[Asked]:
        topics = self.live.topics
        return [
            Asked(one.name, one.unit, one.kind, round(one.stale * 1000), one.decimals, round(one.every * 1000))
            for one in (topics[name] for name in (names if names is not None else topics))
            if one.stored or names is not None
        ]

    def _offset(self, at: int) -> int:
        shift = datetime.fromtimestamp(at / 1000, self.zone).utcoffset()
        return round(shift.total_seconds() * 1000) if shift else 0

    def series(self, names: list[str], since: int, until: int, buckets: int) -> list[Series]:
        """Series of topics. PastAway."""
        offset = self._offset(since)
        return [self.past.series(one, since, until, buckets, offset) for one in self._asked(names)]

    def curves(self, until: int) -> list[Series]:
        """The last hours of every stored topic. PastAway."""
        since = until - CURVE
        return [
            self.past.series(one, since, until, POINTS, 0) for one in self._asked() if one.kind not in ("state", "text")
        ]

    def words(self, name: str, since: int, until: int) -> list[tuple[str, int, int]]:
        """Runs of a state. PastAway."""
        return self.past.words(self._asked([name])[0], since, until)

    def last_times(self, names: list[str]) -> dict[str, int]:
        """When topics were last stored (ms). PastAway."""
        return self.past.last_times(self._asked(names))

    def fired(self, since: int, until: int) -> forms.AlertsAnswer:
        """Alerts that fired. PastAway."""
        fired = self._fired(since, until)
        return forms.AlertsAnswer(self.diary.begun, fired)

    def _fired(self, since: int, until: int) -> list[Fired]:
        try:
            return self.diary.between(since, until)
        except sqlite3.Error as error:
            raise PastAway(f"what fired cannot be read: {error}") from None

    def log(self) -> list[LogLine]:
        """Warnings of services."""
        with self.lock:
            return list(self.live.log)

    def what_if(self, rule: str, since: int, until: int) -> forms.WhatIfAnswer:
        """When a rule would have fired. PastAway, Refusal."""
        return trial.run(self.registry, self.past, self._asked, rule, since, until)

    # -- meters -------------------------------------------------------------------------------------------------

    def meters(self, by: str, at: int) -> forms.MetersAnswer:
        """What was counted, beside what was counted before. PastAway."""
        meters = [self._today(one, at) if by == "today" else self._periods(one, by, at) for one in self._asked_meters()]
        return forms.MetersAnswer(currency=self.settings.currency, meters=meters)

    def _asked_meters(self) -> list[Asked]:
        return [one for one in self._asked(list(self.live.meters())) if self.live.topics[one.name].stored]

    def _midnight(self, day: date) -> int:
        return round(datetime(day.year, day.month, day.day, tzinfo=self.zone).timestamp() * 1000)

    def _today(self, one: Asked, at: int) -> forms.Meter:
        today = datetime.fromtimestamp(at / 1000, self.zone).date()
        begin, before = self._midnight(today), self._midnight(today - timedelta(1))
        spans = [(begin, at), (before, before + (at - begin)), (before, begin)]
        so_far, by_now, all_of_it = self.past.counted(one, spans)
        stand, shown = self.past.stand(one), self.live.values.get(one.name)
        if (
            stand
            and shown
            and shown.time > stand[1]
            and begin < shown.time <= at
            and isinstance(shown.value, float | int)
        ):
            so_far = (so_far or 0.0) + max(0.0, shown.value - stand[0])
        return forms.Meter(
            topic=one.name,
            unit=one.unit,
            decimals=one.decimals,
            today=None if so_far is None else round(so_far, 6),
            yesterday_by_now=by_now,
            yesterday=all_of_it,
            cost=self._costs(one, [(begin, at)], [so_far])[0],
        )

    def _periods(self, one: Asked, by: str, at: int) -> forms.Meter:
        today = datetime.fromtimestamp(at / 1000, self.zone).date()
        begins = _begins(today, by)
        marks = [self._midnight(day) for day in begins]
        earlier = [self._midnight(_year_before(day)) for day in begins]
        spans = [(begin, min(end, at)) for begin, end in zip(marks, [*marks[1:], at], strict=True)]
        before = list(zip(earlier, [*earlier[1:], earlier[-1] + (at - marks[-1])], strict=True))
        counted = self.past.counted(one, spans + before)
        now, then = counted[: len(spans)], counted[len(spans) :]
        paid = self._costs(one, spans, now)
        periods = [(*span, value, cost, old) for span, value, cost, old in zip(spans, now, paid, then, strict=True)]
        return forms.Meter(topic=one.name, unit=one.unit, decimals=one.decimals, periods=periods)

    def _costs(
        self, one: Asked, spans: Sequence[tuple[int, int]], counted: Sequence[float | None]
    ) -> list[float | None]:
        tariffs = self.settings.tariffs.get(one.name, [])
        prices = [(self._midnight(date.fromisoformat(tariff.since)), tariff.price) for tariff in tariffs]
        return costs(prices, spans, counted, lambda parts: self.past.counted(one, parts))

    # -- proof --------------------------------------------------------------------------------------------------

    def proof(self) -> forms.ProofAnswer:
        """What can be shown now."""
        found: dict[str, Any] = dict(self.backup())
        try:
            found |= self.past.census()
        except PastAway as error:
            found["trouble"] = str(error)
        with self.lock:
            return proof.of(self.live, self.ledger, found, self.now(), self.gone)

    @property
    def address(self) -> str | None:
        """Where the page is reached from outside, behind a proxy."""
        return self.settings.address

    @property
    def has_passkeys(self) -> bool:
        """Whether one may come in by a passkey: its library is there."""
        return self.passkeys is not None and is_installed()

    # -- rights and acts ----------------------------------------------------------------------------------------

    async def act(self, request: HttpRequest, instance: str, verb: str, arguments: dict[str, Any]) -> Any:
        """Ask a service for somebody, and wait for its answer; Refusal 409, 503, 504."""
        return await self.act_for(self.caller(request).name or "somebody", instance, verb, arguments)

    async def act_for(self, name: str, instance: str, verb: str, arguments: dict[str, Any]) -> Any:
        """The same for who is known by another way than a login."""
        if verb in ("acknowledge", "snooze", "why"):
            found = [one for one, facts in self.live.services.items() if facts.service == "alerts"]
            instance = found[0] if found else instance
        answer = await self._ask(instance, verb, arguments | {"by": name})
        if verb in ("acknowledge", "snooze"):  # which has happened now, and not before
            self.diary.step([arguments["rule"]], self.now(), verb, name)
        return answer


def _begins(today: date, by: str) -> list[date]:
    if by == "day":
        return [today - timedelta(days) for days in range(29, -1, -1)]
    if by == "month":
        first = today.year * 12 + today.month - 1
        return [date(number // 12, number % 12 + 1, 1) for number in range(first - 11, first + 1)]
    return [date(today.year - years, 1, 1) for years in range(9, -1, -1)]


def _year_before(day: date) -> date:
    try:
        return day.replace(year=day.year - 1)
    except ValueError:  # 29 February
        return day.replace(year=day.year - 1, day=28)
