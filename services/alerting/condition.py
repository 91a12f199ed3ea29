"""What a rule's `when` and `stale` mean: the condition, and everything in the house that it looks at.

Like the registry it uses its durations and its "did you mean"; nothing here does I/O.
"""

import math
import re
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from typing import Final, Protocol

from bootstrap_lib import Duration
from services.alerting.limits import Condition, clear_of
from services.alerting.matching import LEVELS, matching
from services.alerting.rule import Rule, RuleError, Value, hint

SERVICE_STATES: Final = ("dead", "starting", "running", "paused", "degraded", "stopping")
SERVICE_STALE: Final = 90.0
"""Seconds without a heartbeat after which a service is dead, until a heartbeat says how often they come."""


class Subject(Protocol):
    """What the rules need to know of a topic; the registry's topics are such."""

    @property
    def kind(self) -> str:
        """One of gauge, counter, switch, state, text."""

    @property
    def unit(self) -> str:
        """Unit of its numbers."""

    @property
    def decimals(self) -> int:
        """Digits of its numbers that are worth showing."""

    @property
    def low(self) -> float | None:
        """Least number that it can be."""

    @property
    def high(self) -> float | None:
        """Greatest number that it can be."""

    @property
    def states(self) -> tuple[str, ...]:
        """Words that it may be."""

    @property
    def stale(self) -> float:
        """Seconds of silence after which it is no longer alive."""

    @property
    def source(self) -> str:
        """The instance that measures it."""

    @property
    def label(self) -> str:
        """What people call it."""


@dataclass(frozen=True, slots=True)
class Scope:
    """What rules may speak of: topics and instances by name, and the instances that notify."""

    topics: Mapping[str, Subject]
    services: Collection[str]
    notifiers: Collection[str] = ()
    """Instances, people and groups that can be told."""
    houses: Collection[str] | None = None
    """Houses of a fleet, at its centre: their topics are `HOUSE/place/thing/name`, their services `HOUSE/instance`."""
    concluded: Collection[str] = ()
    """Topics that are concluded from others, and taken back while that cannot be."""


@dataclass(frozen=True, slots=True)
class Watch:
    """One thing that a rule looks at. A pattern makes one for each topic that it matches.

    `name` is the alert's (`home/alert/<name>`), `key` the topic, or `service NAME [what of its health]`; `lasts` and
    `stale` are in seconds. `clear` is the operand from which it is over again.
    """

    name: str
    owner: str
    rule: Rule
    key: str
    condition: Condition
    clear: Value
    lasts: float
    source: str
    stale: float
    label: str
    unit: str
    decimals: int
    counts: bool = False
    """Whether its value only grows, so that a fall is a new start."""
    is_concluded: bool = False
    """Whether its topic is concluded from others: what the living service takes back is not known, and not silent."""

    @property
    def is_silence(self) -> bool:
        """Whether it is about what is not heard."""
        return self.condition.derived == "silence"

    @property
    def of_service(self) -> bool:
        """Whether it looks at a service, and not at a topic."""
        return self.key.startswith("service ")

    @property
    def house(self) -> str:
        """The house of a fleet whose topic or service it looks at; that a house is silent is the centre's own matter."""
        return self.source.partition("/")[0] if "/" in self.source else ""

    def belongs_to(self, source: str) -> bool:
        """Whether it hears nothing while a source is paused, or the link of a house is cut."""
        return source == self.house or (source == self.source and not self.of_service)


_OPERATOR = r"(?P<operator>>=|<=|==|!=|>|<)"
_NUMBER = r"(?P<operand>[-+]?\d+(?:\.\d+)?)"
_TOPIC = r"(?P<topic>[^\s<>=!]+)"
_SPAN = r"(?P<span>\S+)"
_FORMS: Final = tuple(
    (name, re.compile(form))
    for name, form in {
        "rate": rf"rate of {_TOPIC}\s*{_OPERATOR}\s*{_NUMBER} per {_SPAN}",
        "growth": rf"growth of {_TOPIC} over {_SPAN}\s+{_OPERATOR}\s*{_NUMBER}",
        "silence": rf"{_TOPIC} is stale",
        "house": r"house (?P<house>\S+) is silent",
        "service is": r"service (?P<service>\S+) is (?P<operand>\w+)",
        "service": rf"service (?P<service>\S+) (?P<part>[\w.]+)\s*{_OPERATOR}\s*{_NUMBER}",
        "": rf"{_TOPIC}\s*{_OPERATOR}\s*(?P<operand>\S+)",
    }.items()
)
_HOW: Final = (
    "write TOPIC > NUMBER, TOPIC == WORD, rate of TOPIC > NUMBER per 1h, growth of TOPIC over 6h < NUMBER, "
    "TOPIC is stale, service NAME is dead, or service NAME spool.dropped > 0; in a fleet, house NAME is silent"
)


def _read(rule: Rule) -> tuple[str, dict[str, str]]:
    """What a rule says: what is derived, and its words; RuleError where it cannot be read."""
    said = rule.when or f"{rule.stale} is stale"
    derived, match = next(
        ((kind, found) for kind, form in _FORMS if (found := form.fullmatch(" ".join(said.split())))), ("", None)
    )
    if match is None:
        entry = "when" if rule.when else "stale"
        unit = re.fullmatch(rf"{_TOPIC}\s*{_OPERATOR}\s*{_NUMBER}\s*\S+", said)
        raise RuleError(entry, "write the number without its unit" if unit else f"{said!r} cannot be read: {_HOW}")
    return derived, match.groupdict()


def pattern_of(rule: Rule) -> str | None:
    """The topic, or pattern of topics, that a rule speaks of; None where it speaks of something else, or cannot be read."""
    try:
        return _read(rule)[1].get("topic")
    except RuleError:
        return None


def watches_of(name: str, rule: Rule, scope: Scope) -> Iterator[Watch]:
    """Everything that a rule looks at; RuleError where it cannot be read, or speaks of what is not there."""
    derived, part = _read(rule)
    span = _span(part["span"]) if "span" in part else 0.0
    lasts = 60.0 if rule.lasts is None and _is_silence(derived, part) else float(rule.lasts or 0.0)
    if "service" in part:
        yield from _service_watches(name, rule, scope, part, lasts)
        return
    if "house" in part:
        yield from _house_watches(name, rule, scope, part["house"], lasts)
        return
    pattern = part["topic"]
    for topic_name in matching(pattern, scope.topics, "when" if rule.when else "stale", scope.houses, LEVELS):
        topic = scope.topics[topic_name]
        try:
            condition = _condition(derived, part, span, topic)
        except RuleError:
            if topic_name.count("/") < LEVELS:
                raise
            continue  # what one house says of a topic costs no other house its rule
        yield Watch(
            name=name if pattern == topic_name else f"{name}_{topic_name.replace('/', '_')}",
            owner=name,
            rule=rule,
            key=topic_name,
            condition=condition,
            clear=clear_of(rule, condition),
            lasts=lasts,
            source=topic.source,
            stale=topic.stale,
            label=topic.label,
            unit=topic.unit,
            decimals=topic.decimals,
            counts=topic.kind == "counter",
            is_concluded=topic_name in scope.concluded,
        )


def _is_silence(derived: str, part: Mapping[str, str]) -> bool:
    return derived in ("silence", "house") or (derived == "service is" and part["operand"] == "dead")


def _service_watches(name: str, rule: Rule, scope: Scope, part: Mapping[str, str], lasts: float) -> Iterator[Watch]:
    pattern, operand, what = part["service"], part["operand"], part.get("part")
    for service in matching(pattern, scope.services, "when", scope.houses, 1):
        if what:
            key, condition = f"service {service} {what}", Condition(part["operator"], float(operand))
        elif operand not in SERVICE_STATES:
            raise RuleError("when", f"a service is never '{operand}'{hint(operand, SERVICE_STATES)}")
        elif operand == "dead":
            key, condition = f"service {service}", Condition("==", "dead", "silence")
        else:
            key, condition = f"service {service} state", Condition("==", operand)
        yield Watch(
            name=name if pattern == service else f"{name}_{service.replace('/', '_')}",
            owner=name,
            rule=rule,
            key=key,
            condition=condition,
            clear=clear_of(rule, condition),
            lasts=lasts,
            source=service,
            stale=SERVICE_STALE,
            label=key,
            unit="",
            decimals=0,
        )


def _house_watches(name: str, rule: Rule, scope: Scope, pattern: str, lasts: float) -> Iterator[Watch]:
    if scope.houses is None:
        raise RuleError("when", "there are no houses: the alerts of a fleet's centre have `houses:` (docs/fleet.md)")
    found = matching(pattern, scope.houses, "when", None, 0) if scope.houses else ()
    condition = Condition("==", "silent", "silence")
    for house in found:
        alert = name if pattern == house else f"{name}_{house}"
        key, label = f"service {house}", f"house {house}"
        clear = clear_of(rule, condition)
        yield Watch(alert, name, rule, key, condition, clear, lasts, house, SERVICE_STALE, label, "", 0)


def _condition(derived: str, part: Mapping[str, str], span: float, topic: Subject) -> Condition:
    if derived == "silence":
        return Condition("==", "stale", derived)
    sign, operand = part["operator"], part["operand"]
    numeric = topic.kind in ("gauge", "counter")
    if derived and not numeric:
        raise RuleError("when", f"a {topic.kind} has no {derived}: only numbers do")
    if numeric:
        try:
            number = float(operand)
            if not math.isfinite(number):
                raise ValueError
            return Condition(sign, number, derived, span)
        except ValueError:
            raise RuleError(
                "when", f"'{operand}' is no number, and {topic.label} is one; write it without its unit"
            ) from None
    if sign not in ("==", "!="):
        raise RuleError("when", f"a {topic.kind} is neither more nor less: write == or !=")
    if topic.kind == "switch":
        if operand not in ("true", "false"):
            raise RuleError("when", f"'{operand}' is neither true nor false")
        return Condition(sign, operand == "true")
    if topic.kind == "state" and operand not in topic.states:
        raise RuleError("when", f"it is never '{operand}'{hint(operand, topic.states)}")
    return Condition(sign, operand)


def _span(text: str) -> float:
    try:
        span = float(Duration.parse(text))
    except ValueError as error:
        raise RuleError("when", str(error)) from None
    if span <= 0:
        raise RuleError("when", "a stretch of time is longer than nothing")
    return span
