"""Messages to a phone by pushover.net, by pushover-complete (docs/services/pushover.md)."""

import logging
import time
from functools import partial
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Final

import msgspec
from msgspec import Meta, Struct

from bootstrap_lib import Duration, Message, Needs, Problem, Registry, as_json, format_time, secrets, state
from services.notices.deadman import Switch
from services.notices.emergencies import WEEK, Emergencies, Emergency
from services.notices.notice import Notice, Report
from services.notices.notifier import Notifier
from services.notices.options import NotifierOptions
from services.notices.queued import Delivered, Outcome, Queued

if TYPE_CHECKING:
    from services.notices.accounts import Account

log = logging.getLogger(__name__)

LEAST_RETRY: Final = 30.0
MOST_EXPIRE: Final = 10_800.0
"""Seconds that Pushover allows for an emergency."""
SCARCE: Final = 0.05
"""Part of the quota below which it is said."""


class Options(NotifierOptions, frozen=True, forbid_unknown_fields=True, kw_only=True):
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


class PushoverKept(Struct):
    """What must survive a restart beside the queue."""

    emergencies: dict[str, Emergency] = msgspec.field(default_factory=dict)
    gone_since: Annotated[int, Meta(ge=0, le=4_102_444_800_000)] = 0
    """Since when the broker is gone, where people were told so (wall, ms)."""


class Pushover(Notifier):
    """Messages to a phone."""

    NEEDS: ClassVar = Needs(
        extra="pushover",
        libraries=("pushover_complete", "requests"),
        network="internet",
        notifies=True,
        rights=("read {root}/alert/#", "write {root}/service/+/request/acknowledge"),
        simulator="services.simulators.staging:pushover",
    )

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

    def __init__(self, registry: Registry, name: str) -> None:
        """Prepare the instance; nothing is opened yet."""
        super().__init__(registry, name)
        self._token, self._user = secrets.Secret(), secrets.Secret()
        self._switch: Switch | None = None
        self._own_file = self.state_folder / "pushover.json"
        self.own = PushoverKept()
        self._emergencies = Emergencies(self.own.emergencies)
        self._account: Account | None = None
        self._scarce = False
        self._gone = time.monotonic()
        self._alerts_online = False

    def begin(self) -> None:
        """Take up what waits, and the account; SecretError where its secrets are missing."""
        super().begin()
        self._token, self._user = secrets.resolve(self.options.token), secrets.resolve(self.options.user)
        options, ping = self.options, self.options.ping
        address = secrets.resolve(ping) if ping and ping.startswith("secret:") else ping
        self._switch = Switch(address, options.ping_every, options.timeout) if address else None
        self.own = state.load(self._own_file, PushoverKept, PushoverKept())
        self._emergencies = Emergencies(self.own.emergencies)
        self._gone = time.monotonic()

    def renew(self) -> None:
        """Let go of a connection that hangs."""
        if self._account:
            self._account.renew()
        if self._switch:
            self._switch.renew()

    def _keep_own(self) -> None:
        self.keep(self._own_file, self.own)

    # -- one message, in the courier's thread -------------------------------------------------------------------

    def _open(self) -> "Account":
        from services.notices.accounts import Account  # 8 MB, only once there is a message

        if self._account is None:
            options = self.options
            self._account = Account(options.api_url, options.timeout, self._token, self._user, options.device)
        return self._account

    def deliver(self, entry: Queued, picture: bytes | None) -> Outcome:
        """Send a message."""
        return self._open().send(entry, picture, retry=self.options.retry, expire=self.options.expire)

    def _look(self, receipt: str) -> dict[str, Any] | None:
        return self._open().look(receipt)

    def _cancel(self, receipt: str) -> bool:
        return self._open().cancel(receipt)

    def on_delivered(self, entry: Queued, outcome: Delivered) -> None:
        """Follow an emergency's receipt; watch the quota."""
        if outcome.receipt:
            until = round(self.clock.now() + self.options.expire * 1000)
            self.own.emergencies[outcome.receipt] = Emergency(list(entry.notice.rules), until, message=entry.id)
            self._keep_own()
        if self._account and (limits := self._account.limits):
            self.health.extra["quota"] = msgspec.to_builtins(limits)
            scarce = limits.remaining < limits.limit * SCARCE
            if scarce and not self._scarce:
                log.warning("only %d of %d messages are left this month at Pushover", limits.remaining, limits.limit)
            self._scarce = scarce

    # -- besides messages ---------------------------------------------------------------------------------------

    def subscribe(self, session: bool) -> None:
        """Hear of messages, and of alerts that are over or acknowledged elsewhere."""
        super().subscribe(session)
        self._alerts_online = not self._alerts  # until its topic says so: a broker may have lost its memory
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
            self._emergencies.follow(name, message.payload)
        elif name == "status":
            self._alerts_online = message.payload == b"online"
        else:
            super().on_other(message)

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
                self._speak(f"The broker is back after {Duration((self.clock.now() - since) / 1000)}.", priority=0)
        elif self.options.broker_gone and not self.own.gone_since and now - self._gone >= self.options.broker_gone:
            away = now - self._gone
            self.own.gone_since = round(self.clock.now() - away * 1000)
            why = self.bus.trouble or "it does not answer"
            self._speak(
                f"The broker is gone for {Duration(away)}: no alert can be heard. {why[0].upper()}{why[1:]}", priority=1
            )

    def _speak(self, text: str, priority: int) -> None:
        now = self.clock.now()
        self.enqueue(f"{self.name}_{now}", Notice(title="Broker", text=text, time=format_time(now), priority=priority))
        self.keep(self._file, self.kept)
        self._keep_own()

    def idle(self) -> None:
        """Look at receipts, stop what rings in vain, tell the dead man's switch that all is well; one at a time."""
        task, receipt = self._emergencies.due(time.monotonic(), online=self.bus.online) or (None, "")
        switch = self._switch
        if task == "pass_on":
            self._pass_on(receipt)
        elif task == "rang_in_vain":
            self._tell_in_vain(receipt)
        elif task == "cancel":
            self.courier.run(partial(self._cancel, receipt), partial(self._cancelled, receipt))
        elif task == "look":
            self.courier.run(partial(self._look, receipt), partial(self._looked, receipt))
        elif switch and self.bus.online and self._alerts_online and switch.due():
            self.courier.run(switch.ask, self._asked_switch)

    def _cancelled(self, receipt: str, confirmed: bool | None) -> None:
        """Try on until it is confirmed, or has ended by itself."""
        emergency = self.own.emergencies.get(receipt)
        if emergency and (confirmed or self.clock.now() > emergency.until):
            self._forget(receipt)

    def _looked(self, receipt: str, answer: Any) -> None:
        if self._emergencies.learn(receipt, answer, self.clock.now()):
            emergency = self.own.emergencies[receipt]
            what = "acknowledged on the phone" if emergency.acknowledged else "rang in vain"
            log.info("%s: %s", what, ", ".join(emergency.rules) or "a test")
            self._keep_own()

    def _pass_on(self, receipt: str) -> None:
        """Ask the alerts service to take note, again and again until its topics show that it has."""
        emergency = self.own.emergencies[receipt]
        confirmed = not emergency.rules or not self._alerts or self._emergencies.is_over(emergency)
        if confirmed or self.clock.now() > emergency.until + WEEK:
            self._forget(receipt)
            return
        for rule in emergency.rules:
            request = as_json({"rule": rule, "id": f"{receipt}_{rule}_{self.clock.now()}"[-100:]})
            self.bus.publish(f"{self.registry.root}/service/{self._alerts}/request/acknowledge", request, qos=1)

    def _tell_in_vain(self, receipt: str) -> None:
        emergency = self.own.emergencies[receipt]
        if emergency.message and emergency.rules:
            report = Report(self.name, "expired", "nobody has acknowledged it")
            self.bus.publish(f"{self.registry.root}/notify/{emergency.message}/answer", as_json(report), qos=1)
        self._forget(receipt)

    def _forget(self, receipt: str) -> None:
        self._emergencies.forget(receipt)
        self._keep_own()

    def _asked_switch(self, trouble: str | None) -> None:
        if trouble != "":
            self.health.counters["ping_failed"] += 1
            self.error(f"the dead man's switch does not answer ({trouble or 'no answer'})")
