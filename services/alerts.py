"""Alerts that people trust: rules of topics.yaml become alerts, and alerts become messages (docs/alerts.md)."""

import logging
import time
from collections.abc import Iterable, Iterator
from typing import Annotated, Any, ClassVar, Final

import msgspec
from msgspec import Meta, Struct

from bootstrap_lib import (
    DocumentError,
    Duration,
    InstanceOptions,
    Message,
    Needs,
    Problem,
    Reading,
    Registry,
    Request,
    RequestError,
    Sequence,
    Subscriber,
    Topic,
    as_json,
    format_time,
    nearest,
    reason,
    state,
)
from bootstrap_lib import health as heartbeats
from services.alerting import (
    Announcement,
    Engine,
    Memory,
    Outgoing,
    Rule,
    compile_lines,
    heartbeat,
    house_of,
    listed,
    notifiers_of,
    replay,
    unknown_notifiers,
)
from services.alerting.messages import Messages
from services.notices.notice import PRIORITIES, trials

log = logging.getLogger(__name__)

JUMP: Final = 5000
"""Milliseconds by which the wall clock and the monotonic one part company when the former is set."""
SAVE_EVERY: Final = 900.0
"""Seconds after which windows of rates and growths are written down, that a power cut does not begin them anew."""


class Options(InstanceOptions, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """How alerts become messages."""

    every: Annotated[Duration, Meta(description="How often it looks at the time.")] = Duration(1)
    notify: Annotated[
        str | list[str], Meta(description="Notifiers of rules that name none: the next where one fails.")
    ] = msgspec.field(default_factory=list)
    settle: Annotated[Duration, Meta(description="After a connection, how long silence proves nothing.")] = Duration(60)
    gather: Annotated[Duration, Meta(description="What falls due within this time is one message.")] = Duration(5)
    fallback: Annotated[Duration, Meta(description="How long a notifier may take until the next is asked.")] = Duration(
        300
    )


class Kept(Struct):
    """What must survive a restart; it is on disk before a message goes out."""

    memory: Memory = msgspec.field(default_factory=Memory)
    waiting: list[Outgoing] = msgspec.field(default_factory=list)
    published: set[str] = msgspec.field(default_factory=set)


class Acknowledge(Struct, forbid_unknown_fields=True):
    """Payload of `request/acknowledge`: {"rule":"hot"}, an alert or a rule."""

    rule: str


class Snooze(Struct, forbid_unknown_fields=True):
    """Payload of `request/snooze`: {"rule":"hot","for":"2h"}."""

    rule: str
    span: Duration = msgspec.field(name="for")


class Maintenance(Struct, forbid_unknown_fields=True):
    """Payload of `request/maintenance`: {"for":"2h"}; 0s ends it."""

    span: Duration = msgspec.field(name="for")


class Test(Struct, forbid_unknown_fields=True):
    """Payload of `request/test`: {} or {"notify":"apprise"}."""

    notify: str = ""


class Alerts(Subscriber):
    """Watches readings and services by the rules of `alerts:`, and tells people once what is wrong."""

    NEEDS: ClassVar = Needs(
        rights=("readwrite {root}/alert/#", "readwrite {root}/notify/#"),
        keeps=("alert/+",),
        sections=("alerts",),
    )

    options: Options
    SECTIONS: ClassVar[dict[str, type]] = {"alerts": Rule}

    def load(self, registry: Registry) -> bool:
        """Take options and rules; DocumentError lists the rules that cannot be used."""
        watches, problems = compile_lines(registry)
        if problems:
            raise DocumentError(problems)
        changed = super().load(registry) or getattr(self, "watches", None) != watches
        self.watches = watches
        return changed

    @classmethod
    def check(cls, registry: Registry, name: str) -> list[Problem]:
        """Return what is wrong with the options and the rules."""
        problems = super().check(registry, name)
        try:
            if not problems:
                problems += unknown_notifiers(registry, name, listed(registry.options_of(name, Options).notify))
            return problems + compile_lines(registry)[1]
        except DocumentError as error:
            return problems + list(error.problems)

    @classmethod
    def owns(cls, registry: Registry, topic: str) -> bool:
        """Whether a rule has made an alert; one with a pattern makes one for each topic."""
        made = tuple(f"{rule}_" for rule in registry.document.section("alerts"))
        return f"{topic.rpartition('/')[2]}_".startswith(made)

    @staticmethod
    def replay(registry: Registry, lines: Iterable[bytes]) -> Iterator[str]:
        """Lines that would have been published of recorded readings; DocumentError for wrong rules, ValueError for lines."""
        if problems := compile_lines(registry)[1]:
            raise DocumentError(problems)
        return replay(lines, registry.entries("alerts", Rule), house_of(registry), registry.root)

    def begin(self) -> None:
        """Take up what was so at the last stop."""
        super().begin()
        self._file = self.state_folder / "alerts.json"
        self._kept = state.load(self._file, Kept, Kept())
        self._messages = Messages(self, self._kept.waiting)
        self._offset, self._right = self.clock.now() - _monotonic(), self.clock.trusted
        self._save_at = time.monotonic() + SAVE_EVERY
        self.engine = Engine(memory=self._kept.memory)
        self.engine.suspend(_monotonic())
        self._take_rules()

    def _take_rules(self) -> None:
        options = self.options
        channels = listed(options.notify) or notifiers_of(self.registry)
        self.engine.configure(options.settle, options.gather, channels, self.registry.timezone)
        for name in self.engine.load(self.watches):
            log.info("the alert %s is no more", name)
        self._parts: dict[str, list[str]] = {}
        for watch in self.watches:
            if watch.key.startswith("service "):
                _, service, *part = watch.key.split()
                self._parts.setdefault(service, []).extend(part)

    def on_reloaded(self, changed: bool) -> None:
        """Take over other rules; what fires by a rule that stays goes on firing."""
        if changed:
            self._take_rules()
            self._publish(self.engine.shown())

    # -- what is heard ------------------------------------------------------------------------------------------

    def subscribe(self, session: bool) -> None:  # noqa: ARG002 (the same for both)
        """Hear of services and of what became of messages; say everything again."""
        for what in ("status", "health"):
            self.bus.subscribe(f"{self.registry.root}/service/+/{what}", qos=1)
        self._messages.subscribe()
        self.engine.resume(_monotonic())
        self._publish(self.engine.shown())

    def on_reading(self, reading: Reading, topic: Topic[Any]) -> None:  # noqa: ARG002 (the engine knows it)
        """Judge a reading."""
        if self.engine.knows(reading.topic):
            at, wall = self._moment()
            self.engine.feed(reading.topic, reading.value, reading.time, at, wall - reading.time)

    def on_cleared(self, name: str, sequence: Sequence | None) -> None:  # noqa: ARG002 (for stores)
        """Nobody can measure it any more."""
        self.engine.clear(name, _monotonic())

    def on_other(self, message: Message) -> None:
        """Hear how a service is, or what became of a message."""
        _, kind, name, what = message.topic.removeprefix(self.registry.root).split("/")
        try:
            if kind == "notify":
                if self._messages.hear(name, message.payload):
                    self._save()
            elif what == "health" and message.payload and name in self.registry.instances:
                self._take_health(name, message.payload)
            elif message.payload == b"offline":
                self.engine.clear(f"service {name}", _monotonic())
        except ValueError as error:
            self.bury(message, f"not what belongs on this topic ({reason(error)})")

    def _take_health(self, service: str, payload: bytes) -> None:
        health = heartbeat.read(payload, self._parts.get(service, ()))
        at, wall = self._moment()
        self.engine.beat(f"service {service}", heartbeats.BEATS * health.beat)
        self.engine.pause(service, health.state == "paused", at)
        self.engine.feed(f"service {service}", health.state, wall, at)
        for part, value in health.parts.items():
            self.engine.feed(f"service {service} {part}", value, wall, at)

    # -- what is due --------------------------------------------------------------------------------------------

    def _moment(self) -> tuple[int, int]:
        """Monotonic and wall time (ms); when a clock that was right is set, the past is moved along."""
        at, wall = _monotonic(), self.clock.now()
        step = wall - at - self._offset
        self._offset += step
        was_right, self._right = self._right, self.clock.trusted
        if abs(step) > JUMP and was_right:
            log.info("the clock was set by %.0f s", step / 1000)
            self.engine.shift(step)
        return at, wall

    def on_tick(self) -> None:
        """Let time pass, keep what is decided, then say it."""
        at, wall = self._moment()
        if not self.bus.online:
            self.engine.suspend(at)
            return
        announcements = self.engine.tick(at, wall)
        for announcement in announcements:
            log.info("%s", announcement.notice.title)
        self._messages.add(announcements)
        changed, self.engine.changed = self.engine.changed, set()
        lost = self._messages.give_up(at, self.options.fallback)
        if announcements or changed or lost or time.monotonic() >= self._save_at:
            self._save()
        self._publish(changed)
        self._messages.send(at, self.options.fallback)

    def _save(self) -> None:
        """Write everything down; a disk that takes nothing is said, and people are told all the same."""
        self._save_at = time.monotonic() + SAVE_EVERY
        self._kept.waiting = self._messages.waiting
        self.keep(self._file, self._kept)

    def _publish(self, names: Iterable[str]) -> None:
        at, root = _monotonic(), self.registry.root
        for name in names:
            self.bus.publish(f"{root}/alert/{name}", as_json(self.engine.document(name, at)), qos=1, retain=True)
        gone = self._kept.published - set(self.engine.shown())
        for name in gone:
            self.bus.publish(f"{root}/alert/{name}", b"", qos=1, retain=True)
        if gone or not self._kept.published.issuperset(names):
            self._kept.published = set(self.engine.shown())
            self._save()

    def flush(self) -> None:
        """Nothing of a reading must last but what it changed, and that is kept before it is said."""

    def end(self) -> None:
        """Keep everything, what has only begun included."""
        self._save()

    # -- requests -----------------------------------------------------------------------------------------------

    def _named(self, name: str) -> list[str]:
        if found := self.engine.named(name):
            return found
        raise RequestError(f"no rule is named '{name}'{nearest(name, self.engine.names())}")

    def request_acknowledge(self, _request: Request, arguments: Acknowledge) -> dict[str, Any]:
        """Someone takes care: it says no more until it is over."""
        found = self.engine.acknowledge(self._named(arguments.rule), self.clock.now())
        log.info("acknowledged: %s", ", ".join(found) or f"{arguments.rule}, which does not fire")
        return {"acknowledged": found}

    def request_snooze(self, _request: Request, arguments: Snooze) -> dict[str, Any]:
        """Say nothing of a rule for a time."""
        until = round(self.clock.now() + arguments.span * 1000)
        self.engine.snooze(self._named(arguments.rule), until)
        return {"until": format_time(until)}

    def request_maintenance(self, _request: Request, arguments: Maintenance) -> dict[str, Any]:
        """Say nothing new at all for a time; what still fires afterwards is said then."""
        until = round(self.clock.now() + arguments.span * 1000) if arguments.span else 0
        self.engine.memory.maintenance = until
        self._save()
        log.info("maintenance %s", f"until {format_time(until)}" if until else "is over")
        return {"until": format_time(until) if until else None}

    def request_test(self, _request: Request, arguments: Test) -> dict[str, Any]:
        """Send one message of each priority."""
        known = house_of(self.registry).notifiers
        if arguments.notify and arguments.notify not in known:
            raise RequestError(f"no subscriber is named '{arguments.notify}'{nearest(arguments.notify, known)}")
        channels = (arguments.notify,) if arguments.notify else self.engine.channels
        self._messages.add(Announcement(notice, channels) for notice in trials(format_time(self.clock.now())))
        self._save()
        return {"notify": list(channels), "messages": len(PRIORITIES)}

    def on_beat(self) -> None:
        """Tell health what fires and what waits."""
        until = self.engine.memory.maintenance
        self.health.extra["alerts"] = {
            "rules": len(self.watches),
            "firing": len(self.engine.firing()),
            "undelivered": len(self._messages.waiting),
        } | ({"maintenance_until": format_time(until)} if until > self.clock.now() else {})

    def status(self) -> str:
        """One line: how many rules, what fires."""
        return f"{self.health.state}: {len(self.watches)} rules, {len(self.engine.firing())} firing"


def _monotonic() -> int:
    return time.monotonic_ns() // 1_000_000
