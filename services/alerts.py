"""Alerts that people trust: rules of topics.yaml become alerts, and alerts become messages (docs/alerts.md)."""

import logging
import secrets
import time
from collections.abc import Iterable, Iterator
from typing import Annotated, Any, ClassVar, Final

import msgspec
from msgspec import Meta, Struct

from bootstrap_lib import Duration, InstanceOptions, Problem, Reading, Registry, Sequence, Subscriber, Topic, state
from bootstrap_lib.bus import Message
from bootstrap_lib.control import Request, RequestError
from bootstrap_lib.document import DocumentError, nearest, reason
from bootstrap_lib.health import BEATS
from bootstrap_lib.reading import as_json, format_time
from services.protocols.notices import Answer, Notice
from services.protocols.rules import (
    Announcement,
    Engine,
    House,
    Lost,
    Memory,
    Outbox,
    Outgoing,
    Rule,
    Watch,
    compile_rules,
    listed,
    replay,
)

log = logging.getLogger(__name__)

NOTIFIERS: Final = ("pushover", "apprise")
"""Services that bring messages to people, in the order in which they are tried."""
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

    options: Options
    SECTIONS: ClassVar[dict[str, type]] = {"alerts": Rule}

    def load(self, registry: Registry) -> bool:
        """Take options and rules; DocumentError lists the rules that cannot be used."""
        watches, problems = _compile(registry)
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
                subscribers = _house(registry).notifiers
                for notifier in listed(registry.options_of(name, Options).notify):
                    if notifier not in subscribers:
                        place = registry.instances[name].section, name, "notify"
                        sentence = f"no subscriber is named '{notifier}'{nearest(notifier, subscribers)}"
                        problems.append(registry.document.problem(place, sentence))
            return problems + _compile(registry)[1]
        except DocumentError as error:
            return problems + list(error.problems)

    @staticmethod
    def replay(registry: Registry, lines: Iterable[bytes]) -> Iterator[str]:
        """Lines that would have been published of recorded readings; DocumentError for wrong rules, ValueError for lines."""
        problems = _compile(registry)[1]
        if problems:
            raise DocumentError(problems)
        return replay(lines, registry.entries("alerts", Rule), _house(registry), registry.root)

    def begin(self) -> None:
        """Take up what was so at the last stop."""
        super().begin()
        self._file = self.state_folder / "alerts.json"
        self._kept = state.load(self._file, Kept, Kept())
        self._outbox = Outbox(self._kept.waiting)
        self._offset = self.clock.now() - _monotonic()
        self._save_at = time.monotonic() + SAVE_EVERY
        self._full = False
        self.engine = Engine(memory=self._kept.memory)
        self.engine.suspend(_monotonic())
        self._take_rules()

    def _take_rules(self) -> None:
        notifiers = tuple(instance.name for service in NOTIFIERS for instance in self.registry.find(service))
        options = self.options
        channels = listed(options.notify) or notifiers
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
        for pattern in ("service/+/status", "service/+/health", "notify/+/answer"):
            self.bus.subscribe(f"{self.registry.root}/{pattern}", qos=1)
        self.engine.resume(_monotonic())
        self._outbox.again()
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
                self._answered(name, msgspec.json.decode(message.payload, type=Answer))
            elif what == "health" and message.payload:
                self._take_health(name, msgspec.json.decode(message.payload))
            elif message.payload == b"offline":
                self.engine.clear(f"service {name}", _monotonic())
        except (msgspec.DecodeError, KeyError, TypeError, ValueError) as error:
            self.bury(message, f"not what belongs on this topic ({type(error).__name__}: {reason(error)})")

    def _take_health(self, service: str, health: dict[str, Any]) -> None:
        at, wall = self._moment()
        self.engine.beat(f"service {service}", BEATS * float(health["beat"]))
        self.engine.pause(service, health["state"] == "paused", at)
        self.engine.feed(f"service {service}", str(health["state"]), wall, at)
        for part in self._parts.get(service, ()):
            value: Any = health
            for word in part.split("."):
                value = value.get(word, 0) if isinstance(value, dict) else 0
            self.engine.feed(f"service {service} {part}", value, wall, at)

    def _answered(self, identity: str, answer: Answer) -> None:
        if answer.state == "failed":
            log.warning("message %s: %s: %s", identity, answer.notifier, answer.text)
        if lost := self._outbox.answer(identity, answer):
            self._lose(lost)
        self._save()

    def _lose(self, lost: Lost) -> None:
        sentence = f"nobody was told '{lost.notice.title}': {lost.reason}"
        self.health.counters["undelivered"] += 1
        self.error(sentence)
        log.error("%s", sentence)

    # -- what is due --------------------------------------------------------------------------------------------

    def _moment(self) -> tuple[int, int]:
        """Monotonic and wall time (ms); when the clock was set, the past is moved along."""
        at, wall = _monotonic(), self.clock.now()
        step = wall - at - self._offset
        self._offset += step
        if abs(step) > JUMP:
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
            self._outbox.add(secrets.token_hex(8), announcement)
            log.info("%s", announcement.notice.title)
        changed, self.engine.changed = self.engine.changed, set()
        lost = self._outbox.lost(at, self.options.fallback)
        if announcements or changed or lost or time.monotonic() >= self._save_at:
            self._save()
        self._publish(changed)
        for entry in lost:
            self._lose(entry)
        for identity, notice in self._outbox.due(at, self.options.fallback):
            self.bus.publish(f"{self.registry.root}/notify/{identity}", as_json(notice), qos=1)
            self.health.counters["messages"] += 1

    def _save(self) -> None:
        """Write everything down; a disk that takes nothing is said, and people are told all the same."""
        self._save_at = time.monotonic() + SAVE_EVERY
        self._kept.waiting = self._outbox.waiting
        try:
            state.save(self._file, self._kept)
        except OSError as error:
            self.error(f"{self._file} cannot be written: {reason(error)}")
            if not self._full:
                log.error("%s cannot be written: %s; a restart may repeat alerts", self._file, reason(error))  # noqa: TRY400
            self._full = True
        else:
            self._full = False

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
        if hasattr(self, "engine"):
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
        channels = (arguments.notify,) if arguments.notify else self.engine.channels
        for priority in range(-2, 3):
            notice = Notice(
                title=f"Test, priority {priority}",
                text="This is a test: all is well.",
                time=format_time(self.clock.now()),
                priority=priority,
            )
            self._outbox.add(secrets.token_hex(8), Announcement(notice, channels))
        self._save()
        return {"notify": list(channels), "messages": 5}

    def on_beat(self) -> None:
        """Tell health what fires and what waits."""
        until = self.engine.memory.maintenance
        self.health.extra["alerts"] = {
            "rules": len(self.watches),
            "firing": len(self.engine.firing()),
            "undelivered": len(self._outbox.waiting),
        } | ({"maintenance_until": format_time(until)} if until > self.clock.now() else {})

    def status(self) -> str:
        """One line: how many rules, what fires."""
        return f"{self.health.state}: {len(self.watches)} rules, {len(self.engine.firing())} firing"


def _monotonic() -> int:
    return time.monotonic_ns() // 1_000_000


def _house(registry: Registry) -> House:
    subscribers = [instance.name for instance in registry.instances.values() if instance.section == "subscribers"]
    return House(registry.topics, list(registry.instances), subscribers)


def _compile(registry: Registry) -> tuple[list[Watch], list[Problem]]:
    watches, problems = compile_rules(registry.entries("alerts", Rule), _house(registry))
    place = registry.document.problem
    return watches, [
        place(("alerts", rule, error.key) if error.key else ("alerts", rule), str(error)) for rule, error in problems
    ]
