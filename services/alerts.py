"""Alerts that people trust: rules of topics.yaml become alerts, and alerts become messages (docs/alerts.md)."""

import logging
import time
from collections.abc import Iterable, Iterator
from datetime import UTC, tzinfo
from typing import Any, ClassVar, Final

from bootstrap_lib import (
    DocumentError,
    Message,
    Needs,
    Problem,
    Reading,
    Registry,
    Sequence,
    Subscriber,
    Topic,
    reason,
)
from services.alerting import (
    AlertOptions,
    Rule,
    TellerSettings,
    Watch,
    compile_lines,
    health_of,
    listed,
    people_of,
    replay,
    scope_of,
    unknown_recipients,
)
from services.alerting.answering import AlertRequests
from services.alerting.desk import Desk
from services.alerting.houses import Listener, WatchedHouses

log = logging.getLogger(__name__)

LOOK: Final = 5000
"""Milliseconds between two looks at the roster of a fleet."""

JUMP: Final = 5000
"""Milliseconds by which the wall clock and the monotonic one part company when the former is set."""


class Alerts(Subscriber):
    """Watches readings and services by the rules of `alerts:`, and tells people once what is wrong."""

    NEEDS: ClassVar = Needs(
        rights=(
            "readwrite {root}/alert/#",
            "readwrite {root}/notify/#",
            "read +/home/data/#",
            "read +/home/service/registry",
            "read +/home/service/+/status",
            "read +/home/service/+/health",
            "read +/link",
        ),
        keeps=("alert/+",),
        sections=("alerts",),
    )

    options: AlertOptions
    SECTIONS: ClassVar[dict[str, type]] = {"alerts": Rule}

    def __init__(self, registry: Registry, name: str) -> None:
        """Prepare the instance; nothing is opened yet."""
        super().__init__(registry, name)
        self.watches: list[Watch] = []
        self._people: tuple[tuple[str, ...], tuple[str, ...], tzinfo] = (), (), UTC
        """Who is told where nobody is named, all instances that can be told, and the time by which people live."""
        self._desk: Desk | None = None
        self._offset = 0
        self._right = False
        self._untold: set[str] = set()
        self._houses = WatchedHouses(self.state_folder / "houses.json", self.keep)
        self._roster_at = 0.0

    @property
    def desk(self) -> Desk:
        """What was opened in `begin`."""
        assert self._desk is not None, "it has not begun"  # noqa: S101 (the base calls begin before all else)
        return self._desk

    def load(self, registry: Registry) -> bool:
        """Take options and rules; DocumentError lists the rules that cannot be used."""
        scope = scope_of(registry)
        if scope.houses is not None:
            self._houses.take(registry.entries("alerts", Rule), scope.houses)
            scope = self._houses.scope(scope)
        watches, problems = compile_lines(registry, scope)
        if problems:
            raise DocumentError(problems)
        known = tuple(instance.name for instance in registry.instances.values() if instance.section == "subscribers")
        people = registry.notifiers, known, registry.timezone
        changed = super().load(registry) or (self.watches, self._people) != (watches, people)
        self.watches, self._people = watches, people
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
        self._houses.begin()
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
        notifiers, known, timezone = self._people
        settings = TellerSettings(self.options, notifiers, timezone, known=known)
        self.desk.take(self.watches, self.options.settle, settings, self.registry.root, _monotonic())

    def on_reloaded(self, changed: bool) -> None:
        """Take over other rules; what fires by a rule that stays goes on firing."""
        if changed:
            self._take_rules()
            self.desk.show_all(*self.moment())
            self._hear_houses(anew=False)

    def _hear_houses(self, *, anew: bool) -> None:
        if self.options.houses is not None:
            self._houses.subscribe(self.bus, anew=anew)

    def _follow_houses(self, at: int) -> None:
        """Read rules anew when houses came, went, or told of other topics."""
        due = self._houses.is_due(at)
        try:
            if at >= self._roster_at:
                self._roster_at = at + LOOK
                due = due or scope_of(self.registry).houses != self._houses.names
            if due:
                self.on_reloaded(self.load(self.registry))
        except DocumentError as error:
            self.error(str(error.problems[0]))

    def subscribe(self, session: bool) -> None:
        """Hear of services and of what became of messages; say everything again."""
        for what in ("status", "health"):
            self.bus.subscribe(f"{self.registry.root}/service/+/{what}", qos=1)
        self.bus.subscribe(f"{self.registry.root}/notify/+/answer", qos=1)
        self._hear_houses(anew=True)
        self.desk.teller.outbox.again()
        self.desk.judge.resume(_monotonic(), session)
        self.desk.show_all(*self.moment())

    def on_reading(self, reading: Reading, topic: Topic[Any]) -> None:  # noqa: ARG002 (the judge knows it)
        """Judge a reading."""
        at, wall = self.moment()
        fresh = self.desk.is_fresh(reading.sequence)
        self.desk.judge.feed(reading.topic, reading.value, reading.time, at, wall - reading.time, fresh)

    def on_cleared(self, name: str, sequence: Sequence | None) -> None:
        """Nobody can measure it any more."""
        if self.desk.is_fresh(sequence) is not False:
            self.desk.judge.clear(name, _monotonic())

    def on_other(self, message: Message) -> None:
        """Hear how a service is, or what became of a message."""
        at, wall = self.moment()
        try:
            if not message.topic.startswith(f"{self.registry.root}/"):
                self._houses.hear(message, Listener(self.desk, self.BEATS, at, wall))
                return
            _, kind, name, what = message.topic.removeprefix(self.registry.root).split("/")
            if kind == "notify":
                self.desk.hear_report(name, message, wall)
            elif what == "health" and message.payload and name in self.registry.instances:
                self.desk.hear_health(name, message.payload, self.BEATS, at, wall)
            elif message.payload == b"offline":
                self.desk.judge.clear(f"service {name}", at)
        except ValueError as error:
            self.bury(message, f"not what belongs on this topic ({reason(error)})")

    def moment(self) -> tuple[int, int]:
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
        at, wall = self.moment()
        if not self.bus.online:
            self.desk.judge.suspend(at)
            return
        if self.options.houses is not None:
            self._follow_houses(at)
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

    def request_owners(self) -> Iterable[object]:
        """What people ask is answered beside."""
        return (self, AlertRequests(self))

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
