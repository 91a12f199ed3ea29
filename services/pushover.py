"""Messages to a phone by pushover.net, by pushover-complete (docs/services/pushover.md)."""

import io
import logging
import time
from collections.abc import Mapping
from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING, Annotated, Any, Final

import msgspec
from msgspec import Meta, Struct

from bootstrap_lib import Duration, Problem, Registry, state
from bootstrap_lib.bus import Message
from bootstrap_lib.document import reason
from bootstrap_lib.duration import describe
from bootstrap_lib.reading import as_json, format_time
from bootstrap_lib.secrets import secret
from services.links import notifier
from services.links.notifier import Delivered, Notifier, Outcome, Queued, Refused, Unanswered
from services.protocols.notices import EMERGENCY, Notice, shortened

if TYPE_CHECKING:
    from services.links.pushover import Limits, Session

log = logging.getLogger(__name__)

MESSAGE: Final = 1024
TITLE: Final = 250
URL: Final = 512
"""Characters that Pushover takes (pushover.net/api)."""
LEAST_RETRY: Final = 30.0
MOST_EXPIRE: Final = 10_800.0
"""Seconds that Pushover allows for an emergency."""
POLL: Final = 10.0
"""Seconds between two looks at a receipt; Pushover allows 5."""
BLOCKED: Final = 3600.0
"""Seconds without a try once the quota is used up."""
SCARCE: Final = 0.05
"""Part of the quota below which it is said."""


class Options(notifier.Options, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """The account, and what to do when things go wrong."""

    token: Annotated[str, Meta(pattern="^secret:", description="Reference to the application's token.")] = (
        "secret:pushover.token"  # noqa: S105 (a reference)
    )
    user: Annotated[str, Meta(pattern="^secret:", description="Reference to the key of the user or group.")] = (
        "secret:pushover.user"
    )
    device: Annotated[str, Meta(description="Names of devices, with commas; all without it.")] | None = None
    api_url: Annotated[str, Meta(description="Another address that speaks Pushover's API.")] = (
        "https://api.pushover.net/1/"
    )
    timeout: Annotated[Duration, Meta(description="How long Pushover may take to answer.")] = Duration(10)
    retry: Annotated[Duration, Meta(description="How often an emergency rings; 30s or more.")] = Duration(60)
    expire: Annotated[Duration, Meta(description="How long an emergency rings; 3h or less.")] = Duration(3600)
    broker_gone: Annotated[
        Duration, Meta(description="It speaks by itself when the broker is gone for so long; 0s: never.")
    ] = Duration(300)
    ping: (
        Annotated[
            str, Meta(description="Dead man's switch: an address, or secret:NAME, that is asked while all is well.")
        ]
        | None
    ) = None
    ping_every: Annotated[Duration, Meta(description="How often it is asked.")] = Duration(300)


class Emergency(Struct):
    """A message that rings until acknowledged; `rules` are the alerts that it speaks of, `until` is wall time (ms)."""

    rules: list[str]
    until: int
    acknowledged: bool = False


class Kept(Struct):
    """What must survive a restart beside the queue."""

    emergencies: dict[str, Emergency] = msgspec.field(default_factory=dict)
    gone_since: int = 0
    """Since when the broker is gone, where people were told so (wall, ms)."""


class Pushover(Notifier):
    """Messages to a phone."""

    options: Options

    @classmethod
    def check(cls, registry: Registry, name: str) -> list[Problem]:
        """Also find times that Pushover refuses."""
        problems = super().check(registry, name)
        if not problems:
            options = registry.options_of(name, Options)
            place = registry.instances[name].section, name
            if options.retry < LEAST_RETRY:
                problems.append(registry.document.problem((*place, "retry"), "Pushover rings every 30s at most"))
            if options.expire > MOST_EXPIRE:
                problems.append(registry.document.problem((*place, "expire"), "Pushover rings for 3h at most"))
        return problems

    def begin(self) -> None:
        """Take up what waits, and the account; SecretError where its secrets are missing."""
        super().begin()
        self._token, self._user = secret(self.options.token), secret(self.options.user)
        ping = self.options.ping
        self._ping = secret(ping) if ping and ping.startswith("secret:") else ping
        self._own_file = self.state_folder / "pushover.json"
        self.own = state.load(self._own_file, Kept, Kept())
        self._session: Session | None = None
        self._limits: Limits | None = None
        self._scarce = False
        self._blocked = 0.0
        self._gone = time.monotonic()
        self._polled: dict[str, float] = {}
        self._over: set[str] = set()
        self._pinged = 0.0
        self._alerts_online = True

    def renew(self) -> None:
        """Let go of a connection that hangs."""
        self._session = None

    def _keep(self) -> None:
        try:
            state.save(self._own_file, self.own)
        except OSError as error:
            self.error(f"{self._own_file} cannot be written: {reason(error)}")

    # -- one message, in the courier's thread -------------------------------------------------------------------

    def _open(self) -> tuple[Any, "Session"]:
        from pushover_complete import PushoverAPI  # noqa: PLC0415 (8 MB, only once there is a message)

        from services.links.pushover import Session  # noqa: PLC0415 (as above)

        if self._session is None:
            self._session = Session(self.options.api_url, self.options.timeout)
        self._session.answer = None
        return PushoverAPI(self._token), self._session

    def deliver(self, entry: Queued, picture: bytes | None) -> Outcome:
        """Send a message and judge the answer by its status, never by what the library raises."""
        if time.monotonic() < self._blocked:
            return Refused("the month's quota of Pushover is used up")
        api, session = self._open()
        notice, emergency = entry.notice, entry.notice.priority == EMERGENCY
        try:
            body = api._send_message(  # noqa: SLF001 (made for it: its documentation says "feel free to call directly")
                self._user,
                shortened(entry.text, MESSAGE),
                device=self.options.device,
                title=shortened(notice.title, TITLE) or None,
                url=notice.url if notice.url and len(notice.url) <= URL else None,
                image=io.BytesIO(picture) if picture else None,
                priority=notice.priority,
                retry=round(self.options.retry) if emergency else None,
                expire=round(self.options.expire) if emergency else None,
                timestamp=entry.time // 1000,
                sound=notice.sound,
                html=None,
                session=session,
            )
        except Exception as error:  # noqa: BLE001 (it raises TypeError and more: what counts is the answer)
            return self._judge(session, error)
        self._limits = session.limits or self._limits
        return Delivered(str(body.get("receipt", "")))

    def _judge(self, session: "Session", error: Exception) -> Outcome:
        status = session.status
        said = reason(error).replace(self._token, "…").replace(self._user, "…")[:200]
        if status is None:
            return Unanswered(f"Pushover does not answer: {said}", lost=not session.never_sent(error))
        self._limits = session.limits or self._limits
        if status == 429:  # noqa: PLR2004 (HTTP: too many requests)
            self._blocked = time.monotonic() + BLOCKED
            return Refused("the month's quota of Pushover is used up")
        if 400 <= status < 500 or (status == 200 and said.startswith("200:")):  # noqa: PLR2004 (the library's own words)
            return Refused(f"Pushover refuses it: {said}")
        return Unanswered(f"Pushover is in trouble ({status})", lost=status == 200)  # noqa: PLR2004

    def on_delivered(self, entry: Queued, outcome: Delivered) -> None:
        """Follow an emergency's receipt; watch the quota."""
        if outcome.receipt:
            until = round(self.clock.now() + self.options.expire * 1000)
            self.own.emergencies[outcome.receipt] = Emergency(list(entry.notice.rules), until)
            self._keep()
        if limits := self._limits:
            self.health.extra["quota"] = msgspec.to_builtins(limits)
            scarce = limits.remaining < limits.limit * SCARCE
            if scarce and not self._scarce:
                log.warning("only %d of %d messages are left this month at Pushover", limits.remaining, limits.limit)
            self._scarce = scarce

    # -- besides messages ---------------------------------------------------------------------------------------

    def subscribe(self, session: bool) -> None:
        """Hear of messages, and of alerts that are over or acknowledged elsewhere."""
        super().subscribe(session)
        self.bus.subscribe(f"{self.registry.root}/alert/+", qos=1)
        if self._alerts:
            self.bus.subscribe(f"{self.registry.root}/service/{self._alerts}/status")

    @property
    def _alerts(self) -> str | None:
        found = self.registry.find("alerts")
        return found[0].name if found else None

    def on_other(self, message: Message) -> None:
        """Take a message; stop the ringing of an alert that is over or acknowledged."""
        kind, *_, name = message.topic.removeprefix(f"{self.registry.root}/").split("/")
        if kind == "alert":
            self._follow_alert(name, message.payload)
        elif name == "status":
            self._alerts_online = message.payload == b"online"
        else:
            super().on_other(message)

    def _follow_alert(self, name: str, payload: bytes) -> None:
        try:
            shown = msgspec.json.decode(payload) if payload else {}
        except msgspec.DecodeError:
            return
        if isinstance(shown, Mapping) and (shown.get("state") != "firing" or shown.get("acknowledged")):
            self._over.add(name)
        else:
            self._over.discard(name)

    def on_tick(self) -> None:
        """Look whether the broker is there, then deliver."""
        self._watch_broker()
        super().on_tick()

    def _watch_broker(self) -> None:
        now = time.monotonic()
        if self.bus.online:
            self._gone = now
            if since := self.own.gone_since:
                self.own.gone_since = 0
                self._speak(f"The broker is back after {describe((self.clock.now() - since) / 1000)}.", priority=0)
        elif self.options.broker_gone and not self.own.gone_since and now - self._gone >= self.options.broker_gone:
            away = now - self._gone
            self.own.gone_since = round(self.clock.now() - away * 1000)
            why = self.bus.trouble or "it does not answer"
            self._speak(
                f"The broker is gone for {describe(away)}: no alert can be heard. {why[0].upper()}{why[1:]}", priority=1
            )

    def _speak(self, text: str, priority: int) -> None:
        now = self.clock.now()
        self.enqueue(f"{self.name}_{now}", Notice(title="Broker", text=text, time=format_time(now), priority=priority))
        self._save()
        self._keep()

    def idle(self) -> None:
        """Look at receipts, stop what rings in vain, tell the dead man's switch that all is well; one at a time."""
        now = time.monotonic()
        for receipt, emergency in self.own.emergencies.items():
            if emergency.acknowledged:
                if self.bus.online:
                    self._pass_on(receipt, emergency)
                    return
            elif emergency.rules and self._over.issuperset(emergency.rules):
                self.courier.run(partial(self._cancel, receipt), partial(self._forget, receipt))
                return
            elif now - self._polled.get(receipt, 0.0) >= POLL:
                self._polled[receipt] = now
                self.courier.run(partial(self._check, receipt), partial(self._look, receipt))
                return
        if self._ping and self.bus.online and self._alerts_online and now - self._pinged >= self.options.ping_every:
            self._pinged = now
            self.courier.run(self._ask_switch, self._asked_switch)

    def _check(self, receipt: str) -> dict[str, Any] | None:
        """Ask what became of an emergency; None where there is no answer."""
        api, session = self._open()
        try:
            return dict(api._generic_get("receipts/{}.json", receipt, session=session))  # noqa: SLF001 (as above)
        except Exception:  # noqa: BLE001 (as above)
            return {"expired": 1} if session.status and 400 <= session.status < 500 else None  # noqa: PLR2004

    def _cancel(self, receipt: str) -> None:
        """Stop the ringing; where there is no answer, it ends by itself."""
        api, session = self._open()
        with suppress(Exception):
            api._generic_post("receipts/{}/cancel.json", receipt, session=session)  # noqa: SLF001 (as above)

    def _look(self, receipt: str, body: Any) -> None:
        emergency = self.own.emergencies[receipt]
        if body and body.get("acknowledged"):
            log.info("acknowledged on the phone: %s", ", ".join(emergency.rules) or "a test")
            emergency.acknowledged = True
            self._keep()
        elif (body and body.get("expired")) or self.clock.now() > emergency.until + 600_000:
            self._forget(receipt)

    def _pass_on(self, receipt: str, emergency: Emergency) -> None:
        for rule in emergency.rules if self._alerts else ():
            request = as_json({"rule": rule, "id": f"{receipt}_{rule}"[-100:]})
            self.bus.publish(f"{self.registry.root}/service/{self._alerts}/request/acknowledge", request, qos=1)
        self._forget(receipt)

    def _forget(self, receipt: str, _answer: object = None) -> None:
        self.own.emergencies.pop(receipt, None)
        self._polled.pop(receipt, None)
        self._keep()

    def _ask_switch(self) -> str:
        import requests  # noqa: PLC0415 (as above)

        try:
            requests.get(str(self._ping), timeout=float(self.options.timeout)).raise_for_status()
        except requests.RequestException as error:
            return type(error).__name__  # the address is a secret, and stands in the text
        return ""

    def _asked_switch(self, trouble: str | None) -> None:
        if trouble != "":
            self.health.counters["ping_failed"] += 1
            self.error(f"the dead man's switch does not answer ({trouble or 'no answer'})")
