"""Alerts that people trust: rules of topics.yaml become alerts, and alerts become messages (docs/alerts.md)."""

import logging
import time
from collections.abc import Iterable, Iterator
from typing import Any, ClassVar, Final

from bootstrap_lib import (
    DocumentError,
    Duration,
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
    format_time,
    nearest,
    reason,
)
from services.alerting import (
    NAMED,
    AlertOptions,
    Outgoing,
    Rule,
    TellerSettings,
    Watch,
    compile_lines,
    explanation_of,
    health_of,
    listed,
    people_of,
    replay,
    scope_of,
    unknown_recipients,
)
from services.alerting.desk import Desk
from services.alerting.requests import Acknowledge, Maintenance, SnoozeSpan, Test
from services.notices.notice import trials

log = logging.getLogger(__name__)

JUMP: Final = 5000
"""Milliseconds by which the wall clock and the monotonic one part company when the former is set."""


class Alerts(Subscriber):
    """Watches readings and services by the rules of `alerts:`, and tells people once what is wrong."""

    NEEDS: ClassVar = Needs(
        rights=("readwrite {root}/alert/#", "readwrite {root}/notify/#"),
        keeps=("alert/+",),
        sections=("alerts",),
    )

    options: AlertOptions
    SECTIONS: ClassVar[dict[str, type]] = {"alerts": Rule}

    def __init__(self, registry: Registry, name: str) -> None:
        """Prepare the instance; nothing is opened yet."""
        super().__init__(registry, name)
        self.watches: list[Watch] = []
        self._desk: Desk | None = None
        self._offset = 0
        self._right = False
        self._untold: set[str] = set()

    @property
    def desk(self) -> Desk:
        """What was opened in `begin`."""
        assert self._desk is not None, "it has not begun"  # noqa: S101 (the base calls begin before all else)
        return self._desk

    def load(self, registry: Registry) -> bool:
        """Take options and rules; DocumentError lists the rules that cannot be used."""
        watches, problems = compile_lines(registry)
        if problems:
            raise DocumentError(problems)
        changed = super().load(registry) or self.watches != watches
        self.watches = watches
        return changed

    @classmethod
    def check(cls, registry: Registry, name: str) -> list[Problem]:
        """Return what is wrong with the options and the rules."""
        problems = super().check(registry, name)
        try:
            if not problems:
                options = registry.options_of(name, AlertOptions)
                problems += unknown_recipients(registry, name, listed(options.notify))
                known = [instance.name for instance in registry.instances.values() if instance.section == "subscribers"]
                section = registry.instances[name].section
                for place, sentence in people_of(registry).problems(known):
                    problems.append(registry.document.problem((section, name, *place), sentence))
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
        return replay(lines, registry.entries("alerts", Rule), scope_of(registry), registry.root)

    def begin(self) -> None:
        """Take up what was so at the last stop."""
        super().begin()
        now, at = self.clock.now(), _monotonic()
        self._offset, self._right = now - at, self.clock.trusted
        desk = Desk(
            (self.state_folder / "alerts.json", self.runtime_folder / "heard.json"), self._publish, self.keep, now
        )
        desk.judge.suspend(at)
        self._desk = desk
        self._take_rules()

    def _publish(self, topic: str, payload: bytes, *, qos: int = 0, retain: bool = False) -> object:
        return self.bus.publish(topic, payload, qos=qos, retain=retain)

    def _take_rules(self) -> None:
        notifiers = self.registry.notifiers
        known = [instance.name for instance in self.registry.instances.values() if instance.section == "subscribers"]
        settings = TellerSettings(self.options, notifiers, self.registry.timezone, known=tuple(known))
        self.desk.take(self.watches, self.options.settle, settings, self.registry.root, _monotonic())

    def on_reloaded(self, changed: bool) -> None:
        """Take over other rules; what fires by a rule that stays goes on firing."""
        if changed:
            self._take_rules()
            self.desk.show_all(*self._moment())

    def subscribe(self, session: bool) -> None:
        """Hear of services and of what became of messages; say everything again."""
        for what in ("status", "health"):
            self.bus.subscribe(f"{self.registry.root}/service/+/{what}", qos=1)
        self.bus.subscribe(f"{self.registry.root}/notify/+/answer", qos=1)
        self.desk.teller.outbox.again()
        self.desk.judge.resume(_monotonic(), session)
        self.desk.show_all(*self._moment())

    def on_reading(self, reading: Reading, topic: Topic[Any]) -> None:  # noqa: ARG002 (the judge knows it)
        """Judge a reading."""
        at, wall = self._moment()
        fresh = self.desk.is_fresh(reading.sequence)
        self.desk.judge.feed(reading.topic, reading.value, reading.time, at, wall - reading.time, fresh)

    def on_cleared(self, name: str, sequence: Sequence | None) -> None:
        """Nobody can measure it any more."""
        if self.desk.is_fresh(sequence) is not False:
            self.desk.judge.clear(name, _monotonic())

    def on_other(self, message: Message) -> None:
        """Hear how a service is, or what became of a message."""
        _, kind, name, what = message.topic.removeprefix(self.registry.root).split("/")
        at, wall = self._moment()
        try:
            if kind == "notify":
                self.desk.hear_report(name, message, wall)
            elif what == "health" and message.payload and name in self.registry.instances:
                self.desk.hear_health(name, message.payload, self.BEATS, at, wall)
            elif message.payload == b"offline":
                self.desk.judge.clear(f"service {name}", at)
        except ValueError as error:
            self.bury(message, f"not what belongs on this topic ({reason(error)})")

    def _moment(self) -> tuple[int, int]:
        """Monotonic and wall time (ms); when a clock that was right is set, the past is moved along."""
        at, wall = _monotonic(), self.clock.now()
        step = wall - at - self._offset
        self._offset += step
        was_right, self._right = self._right, self.clock.trusted
        if abs(step) > JUMP and was_right:
            log.info("the clock was set by %.0f s", step / 1000)
            self.desk.teller.shift(step)
        return at, wall

    def on_tick(self) -> None:
        """Let time pass, keep what is decided, then say it."""
        at, wall = self._moment()
        if not self.bus.online:
            self.desk.judge.suspend(at)
            return
        if said := self.desk.turn(at, wall):
            self.health.counters["messages"] += said
        self._say_what_nobody_heard()

    def _say_what_nobody_heard(self) -> None:
        """An error stands for as long as it is so: nobody was told of something that fires."""
        untold = self.desk.teller.untold()
        for name in untold.keys() - self._untold:
            sentence = f"nobody was told '{name}' so far: {untold[name]}"
            self.error(sentence)
            log.error("%s; it is tried again", sentence)
        if self._untold and not untold:
            log.info("what nobody had been told is told, or over")
            said = self.health.last_error
            if said and said["text"].startswith("nobody was told"):
                self.health.last_error = None
        if bool(untold) != bool(self._untold):
            self.health.enter("degraded" if untold else "running", self.clock.now())
        self._untold = set(untold)

    def flush(self) -> None:
        """Make last what readings brought."""
        self.desk.flush(self.clock.now())

    def end(self) -> None:
        """Keep everything, what has only begun included."""
        self.desk.save(self.clock.now())

    # -- requests -----------------------------------------------------------------------------------------------

    def _named(self, name: str) -> list[str]:
        if found := self.desk.teller.named(name):
            return found
        known = list(dict.fromkeys([*self.desk.judge.alerts, *(watch.owner for watch in self.watches)]))
        raise RequestError(f"no rule is named '{name}'{nearest(name, known)}")

    def _until(self, span: Duration) -> int:
        if span > self.options.longest_snooze:
            longest = Duration(self.options.longest_snooze)
            raise RequestError(f"{Duration(span)} is too long: at most {longest} (longest_snooze in topics.yaml)")
        return round(self.clock.now() + span * 1000) if span else 0

    def request_acknowledge(self, _request: Request, arguments: Acknowledge) -> dict[str, Any]:
        """Someone takes care: it says no more until it is over."""
        found = self.desk.teller.acknowledge(self._named(arguments.rule), self.clock.now())
        self.desk.save_or_fail(self.clock.now())
        log.info("acknowledged: %s", ", ".join(found) or f"{arguments.rule}, which does not fire")
        return {"acknowledged": found}

    def request_snooze(self, _request: Request, arguments: SnoozeSpan) -> dict[str, Any]:
        """Say nothing of a rule for a time; it is on disk before it is answered."""
        names, until = self._named(arguments.rule), self._until(arguments.span)
        self.desk.teller.snooze(names, until or self.clock.now())
        self.desk.save_or_fail(self.clock.now())
        log.info("%s is snoozed until %s", arguments.rule, format_time(until) if until else "now")
        return {"until": format_time(until) if until else None}

    def request_maintenance(self, _request: Request, arguments: Maintenance) -> dict[str, Any]:
        """Say nothing new at all for a time; what still fires afterwards is said then."""
        until = self._until(arguments.span)
        self.desk.teller.memory.maintenance = until
        self.desk.save_or_fail(self.clock.now())
        log.info("maintenance %s", f"until {format_time(until)}" if until else "is over")
        return {"until": format_time(until) if until else None}

    def request_why(self, _request: Request, arguments: Acknowledge) -> dict[str, Any]:
        """Tell all that bears on whether people hear of an alert."""
        at, wall = self._moment()
        names = self._named(arguments.rule)
        firing = set(self.desk.judge.firing())
        names.sort(key=lambda name: (name not in firing, name))
        return {
            "alerts": [explanation_of(self.desk.teller, name, at, wall) for name in names[:NAMED]],
            "more": max(0, len(names) - NAMED),
        }

    def request_test(self, _request: Request, arguments: Test) -> dict[str, Any]:
        """Send one message of each priority on every way to people; the answer names them, for whoever waits."""
        known = scope_of(self.registry).notifiers
        if arguments.notify and arguments.notify not in known:
            raise RequestError(f"no subscriber is named '{arguments.notify}'{nearest(arguments.notify, known)}")
        teller = self.desk.teller
        sent = []
        for route in teller.settings.channels((arguments.notify,) if arguments.notify else ()):
            for notice in trials(format_time(self.clock.now())):
                identity = teller.identity()
                teller.outbox.add(Outgoing(identity, notice, "went", route, list(route)))
                sent.append({"id": identity, "title": notice.title, "notify": " then ".join(route)})
        self.desk.save(self.clock.now())
        return {"messages": sent}

    def on_beat(self) -> None:
        """Tell health what fires and what waits."""
        if self._desk is None:
            return
        self.health.extra["alerts"] = health_of(self.desk.teller, len(self.watches), self._untold, self.clock.now())

    def status(self) -> str:
        """One line: how many rules, what fires."""
        firing = len(self._desk.judge.firing()) if self._desk else 0
        return f"{self.health.state}: {len(self.watches)} rules, {firing} firing"


def _monotonic() -> int:
    return time.monotonic_ns() // 1_000_000
