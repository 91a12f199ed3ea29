"""The engine with one rule broken at a time: the oracle must find each (`python -m tests.oracle --mutants`)."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from services.alerting.hearing import Signal
from services.alerting.judging import Judge
from services.alerting.outbox import Outbox, Settled
from services.alerting.settings import TellerSettings
from services.alerting.telling import Teller
from services.alerting.told import Told
from services.notices.emergencies import Emergencies


def _pending_explains(self: Teller, alert: Any, _wall: int) -> bool:
    return bool(alert.verdict.met)


def _unheard_explains(self: Teller, alert: Any, wall: int) -> bool:
    told = self.memory.told.get(alert.watch.name)
    return bool(alert.verdict.firing) and not (told is not None and told.snoozed > wall)


def _rests_always(self: Told, rule: Any, wall: int, _usual: float) -> int:
    return max(0, self.ended + int((rule.hold_off or 600.0) * 1000) - wall)


def _never_rests(original: Callable[..., Any]) -> Callable[..., Any]:
    def rests(self: Told, rule: Any, *given: Any) -> Any:
        return 0 if rule.hold_off is None else original(self, rule, *given)

    return rests


def _rings_on(original: Callable[..., Any]) -> Callable[..., Any]:
    def follow(self: Emergencies, *given: Any) -> None:
        original(self, *given)
        self._snoozed.clear()

    return follow


def _escalation_since_it_fires(original: Callable[..., Any]) -> Callable[..., Any]:
    def routes(self: Teller, alert: Any, told: Any, wall: int) -> Any:
        if alert is not None and alert.verdict.firing:
            told.noticed = told.noticed or alert.verdict.since
        return original(self, alert, told, wall)

    return routes


def _nobody_sleeps(_self: TellerSettings, _priority: int, _wall: int) -> bool:
    return False


def _decided_is_told(original: Callable[..., Any]) -> Callable[..., Any]:
    def message(self: Teller, bundle: Any, members: Any, wall: int) -> Any:
        made = original(self, bundle, members, wall)
        for name, track in members:
            if made.kind == "fires":
                track.told.setdefault(made.targets[0], made.members[name].since)
        return made

    return message


def _end_to_all(original: Callable[..., Any]) -> Callable[..., Any]:
    def learn(self: Teller, one: Settled, *given: Any) -> None:
        original(self, one, *given)
        _, member, told, *_ = given
        if one.state == "delivered" and one.message.kind == "fires":
            track = told.tracks[",".join(one.message.route)]
            track.told |= dict.fromkeys(one.message.route, member.since)

    return learn


def _first_value(original: Callable[..., Any]) -> Callable[..., Any]:
    def judge(self: Judge, alert: Any, value: Any, time: int, unseen: int) -> None:
        before = alert.verdict.value, alert.verdict.time, alert.verdict.firing
        original(self, alert, value, time, unseen)
        if before[2] and alert.verdict.firing:
            alert.verdict.value, alert.verdict.time = before[0], before[1]

    return judge


def _over_is_forgotten(original: Callable[..., Any]) -> Callable[..., Any]:
    def kind(self: Teller, *given: Any, **more: Any) -> Any:
        found = original(self, *given, **more)
        return None if found == "went" else found

    return kind


def _emergencies_together(original: Callable[..., Any]) -> Callable[..., Any]:
    def bundle(self: Teller, name: str, alert: Any, told: Any, *given: Any) -> None:
        priority, told.priority = told.priority, 0
        original(self, name, alert, told, *given)
        told.priority = priority

    return bundle


def _for_begins_anew(original: Callable[..., Any]) -> Callable[..., Any]:
    def start(self: Judge, at: int, absent: int) -> None:
        original(self, at, absent)
        for alert in self.alerts.values():
            if alert.verdict.met and not alert.verdict.firing:
                alert.verdict.met = False
                self._met.pop(alert.watch.name, None)

    return start


def _snooze_in_memory(original: Callable[..., Any]) -> Callable[..., Any]:
    def start(self: Teller, *given: Any, **more: Any) -> None:
        original(self, *given, **more)
        for told in self.memory.told.values():
            told.snoozed = 0

    return start


def _own_clock_only(self: Signal, _value: Any, _own: int, _at: int, _fresh: bool | None) -> bool:
    return False


def _no_withdrawal(self: Outbox, message: Any) -> None:
    self.waiting.remove(message)
    self._asked.pop(message.id, None)


def _acknowledged_repeats(original: Callable[..., Any]) -> Callable[..., Any]:
    def kind(self: Teller, alert: Any, told: Any, *given: Any, **more: Any) -> Any:
        acknowledged, told.acknowledged = told.acknowledged, 0
        found = original(self, alert, told, *given, **more)
        told.acknowledged = acknowledged
        return found

    return kind


def _failed_is_lost(original: Callable[..., Any]) -> Callable[..., Any]:
    def learn(self: Teller, one: Settled, *given: Any) -> None:
        original(self, one, *given)
        _, member, told, wall = given
        track = told.tracks[",".join(one.message.route)]
        if one.state == "failed":
            track.fired, track.explained = member.fired, member.fired
            track.not_before = wall + 86_400_000

    return learn


def _rung_once(self: Teller, *_: Any) -> None:
    """An emergency that rang in vain is nobody's concern."""


def _rule_gone_end_gone(original: Callable[..., Any]) -> Callable[..., Any]:
    def look(self: Teller, name: str, *given: Any) -> None:
        if name not in self.judge.alerts:
            self.memory.told.pop(name, None)
            return
        original(self, name, *given)

    return look


MUTANTS: dict[str, tuple[type, str, Any, bool]] = {
    "1 what only begins explains": (Teller, "explains", _pending_explains, False),
    "1 what nobody hears explains": (Teller, "explains", _unheard_explains, False),
    "1 an emergency has a hold-off": (Told, "rests", _rests_always, False),
    "2 decided is told": (Teller, "_message", _decided_is_told, True),
    "2 the end goes to everybody": (Teller, "_learn", _end_to_all, True),
    "2 what nobody delivered is lost": (Teller, "_learn", _failed_is_lost, True),
    "2 what is no longer true is not taken back": (Outbox, "withdraw", _no_withdrawal, False),
    "2 a rule that is gone takes its end along": (Teller, "_look", _rule_gone_end_gone, True),
    "3 the first value stays": (Judge, "_judge", _first_value, True),
    "4 what is over is not told": (Teller, "_kind", _over_is_forgotten, True),
    "4 an emergency that flaps has no hold-off": (Told, "rests", _never_rests, True),
    "5 emergencies come together": (Teller, "_bundle", _emergencies_together, True),
    "5 an acknowledgement is forgotten": (Teller, "_kind", _acknowledged_repeats, True),
    "5 rang in vain": (Teller, "_rang_in_vain", _rung_once, False),
    "5 a snoozed emergency rings on": (Emergencies, "follow", _rings_on, True),
    "6 for begins anew with the process": (Judge, "start", _for_begins_anew, True),
    "6 a snooze is only in memory": (Teller, "__init__", _snooze_in_memory, True),
    "6 only the source's clock counts": (Signal, "_is_live", _own_clock_only, False),
    "9 escalation counts from when it fires": (Teller, "_routes", _escalation_since_it_fires, True),
    "9 nobody sleeps": (TellerSettings, "is_quiet", _nobody_sleeps, False),
}
"""Name, and what is replaced: a method, by a function or by what makes one of the original."""


@contextmanager
def mutated(name: str) -> Iterator[None]:
    """The engine with one rule broken."""
    owner, method, replacement, wraps = MUTANTS[name]
    original = getattr(owner, method)
    setattr(owner, method, replacement(original) if wraps else replacement)
    try:
        yield
    finally:
        setattr(owner, method, original)
