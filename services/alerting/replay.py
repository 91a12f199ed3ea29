"""Recorded readings in, published lines out: what the service would have said, for tuning rules and for tests."""

import itertools
import time
from collections.abc import Iterable, Iterator, Mapping
from operator import itemgetter
from typing import Final

import msgspec

from bootstrap_lib import Duration
from services.alerting.check import compile_rules
from services.alerting.condition import Scope, Subject, Watch
from services.alerting.documents import document_of
from services.alerting.judging import Judge
from services.alerting.rule import Rule, Value
from services.alerting.settings import AlertOptions, TellerSettings
from services.alerting.telling import Teller
from services.notices.notice import Notice
from services.protocols.recording import LATE_MS, ordered, recorded

UNSEEN: Final = 300_000
"""A topic that skips more than this (ms), and more than its `stale`, was not looked at by anybody meanwhile."""
ANYTHING: Final = ""
"""Stands for a topic that no rule looks at: a sign that somebody listened then."""

Heard = tuple[str, Value | None, int]
"""A topic, its value and when (ms); without a value it was cleared, or was ANYTHING."""


class Rehearsal:
    """The machine of the service without a broker: every message is delivered at once."""

    def __init__(self, watches: Iterable[Watch], gather: float) -> None:
        """Rules on services see nothing here; `gather` in seconds."""
        numbers = itertools.count(1)
        self.judge = Judge()
        self.teller = Teller(self.judge, identity=lambda: str(next(numbers)))
        self.teller.take(TellerSettings(AlertOptions(gather=Duration(gather))))
        self.judge.load(watch for watch in watches if not watch.of_service)

    def tick(self, at: int) -> list[tuple[str, Notice]]:
        """Let time pass (ms since 1970); what people would have been sent."""
        self.teller.tick(at, at)
        return self.teller.publish(at, at)

    def run(self, given: Iterable[Heard], scope: Scope) -> Iterator[tuple[int, list[tuple[str, Notice]]]]:
        """Feed readings at their own pace; yields each time at which something happened, and what was sent.

        `judge.changed` holds what changed since the last one.
        """
        at = ticked = 0
        paces: dict[str, tuple[int, int, int]] = {}
        quickest = min((topic.stale for topic in scope.topics.values()), default=0.0)
        for name, value, moment in given:
            topic = ANYTHING if value is None else name
            at = at or moment
            sign, signed, _ = paces.get(ANYTHING, (moment, at, at))
            now = max(at, signed + moment - sign) if topic else at
            before, own, seen = paces.get(topic, (moment, now, now))
            step = moment - before
            longest = max(UNSEEN, (scope.topics[topic].stale if topic else quickest) * 1000)
            if step > longest:
                if (unseen := step - (now - seen)) > longest:  # the other topics stood still too
                    self.judge.suspend(at)
                    now += unseen
                    self.judge.resume(now)
                own = now
            else:
                own += max(0, step)
            at = max(at, own)
            paces[topic] = moment, own, at
            if at > ticked:
                yield from self._told(at - 1)
                ticked = at
            if value is not None:
                self.judge.feed(topic, value, moment, at)
            elif name:
                self.judge.clear(name, at)
            if self.judge.changed:
                yield at, []
        yield from self._told(at)

    def _told(self, at: int) -> Iterator[tuple[int, list[tuple[str, Notice]]]]:
        said = self.tick(at)
        yield at, said
        self.judge.changed.clear()
        self.judge.moved.clear()


def replay(
    lines: Iterable[str | bytes],
    rules: Mapping[str, Rule],
    scope: Scope,
    root: str = "home",
    gather: float = 10.0,
    *,
    messages: bool = False,
) -> Iterator[str]:
    """Run readings as JSON lines (`topic`, `value`, `unit`, `time`) through the rules.

    What comes out are lines as `mosquitto_sub -v` prints them: `home/alert/<rule>`, and with `messages` also
    `home/notify/<id>`. Rules on services see nothing here. RuleError, ValueError name what cannot be used.
    """
    watches, problems = compile_rules(rules, scope)
    if problems:
        raise problems[0][1]
    desk = Rehearsal(watches, gather)
    shown: dict[str, object] = {}
    for at, said in desk.run(readings(lines, scope, f"{root}/data/"), scope):
        for name in sorted(desk.judge.changed):
            state = document_of(desk.teller, name, at)
            if shown.get(name, "ok") != state["state"]:
                shown[name] = state["state"]
                yield f"{root}/alert/{name} {msgspec.json.encode(state).decode()}"
        for identity, notice in said if messages else ():
            yield f"{root}/notify/{identity} {msgspec.json.encode(notice).decode()}"


def readings(lines: Iterable[str | bytes], scope: Scope, prefix: str) -> Iterator[tuple[str, Value, int]]:
    """Topic, value and time (ms) of each line that is a reading of the house, as the archive would have them in order.

    ValueError names a line that is none, or with which a topic begins long before what was read already. Topics may be
    written with or without `prefix`.
    """
    names = {*scope.topics, *(f"{prefix}{name}" for name in scope.topics)}
    read = recorded(lines, names, time.time_ns() // 1_000_000)
    for said, value, moment in ordered(read, LATE_MS, itemgetter(2)):
        name = said.removeprefix(prefix)
        if believable(scope.topics[name], value):
            yield name, value, moment


def believable(topic: Subject, value: Value) -> bool:
    """Whether a source would have published the value: old recordings hold -1 and worse in place of a reading."""
    if topic.kind in ("gauge", "counter"):
        if isinstance(value, (bool, str)):
            return False
        return (topic.low is None or value >= topic.low) and (topic.high is None or value <= topic.high)
    return isinstance(value, bool) if topic.kind == "switch" else topic.kind == "text" or value in topic.states
