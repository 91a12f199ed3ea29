"""How an alert stands: what must be known of it after a restart, and what it looks at."""

from collections.abc import Collection

import msgspec

from services.alerting.condition import Watch
from services.alerting.hearing import Pace, Signal
from services.alerting.limits import FALLING, RISING
from services.alerting.rule import Count, Moment, Value, listed
from services.alerting.window import Window


class Verdict(msgspec.Struct, omit_defaults=True):
    """How one alert stands. Times in reading time (ms)."""

    key: str = ""
    derived: str = ""
    """What it is about: a rule that moved to something else begins anew."""
    armed: bool = False
    """The value has been where `armed_at` wants it."""
    met: bool = False
    since: Moment = 0
    """Since when it is so, or was."""
    firing: bool = False
    began: Moment = 0
    """Since when it was so the last time that it fired, and when that ended."""
    until: Moment = 0
    value: Value | None = None
    """The newest value, and when it was measured."""
    time: Moment = 0
    worst: Value | None = None
    """The worst value of the last time that it fired."""
    worst_time: Moment = 0
    peak: Value | None = None
    """The worst value since it is so."""
    peak_time: Moment = 0
    fired: Count = 0
    """How often it has fired, and for how long in all (ms), the present time left out."""
    fired_for: Count = 0
    window: Window | None = None

    def note_worst(self, sign: str) -> None:
        """Follow the worst value since it is so."""
        value, worst = self.value, self.peak
        if isinstance(value, (bool, str)) or value is None or sign not in RISING + FALLING:
            self.peak = None
            return
        if worst is None or isinstance(worst, str) or (value > worst if sign in RISING else value < worst):
            self.peak, self.peak_time = value, self.time
        if self.firing:
            self.worst, self.worst_time = self.peak, self.peak_time


class JudgeMemory(msgspec.Struct):
    """What must be known after a restart; `alive` is when it was written (wall, ms)."""

    verdicts: dict[str, Verdict] = msgspec.field(default_factory=dict)
    pulses: dict[str, Pace] = msgspec.field(default_factory=dict)
    alive: Moment = 0


class Alert:
    """What a rule says of one thing, and how it stands."""

    def __init__(self, watch: Watch, signal: Signal, verdict: Verdict) -> None:
        """`signal` is that of what it looks at."""
        self.watch, self.signal, self.verdict = watch, signal, verdict
        self.inhibitors: list[Alert] = []
        self.settles = 0
        """Until when (monotonic) its silence proves nothing, as its source has only just come back."""

    def is_armed(self, value: Value) -> bool:
        """Whether it counts: where a rule wants that, only once the value has been on the good side."""
        wanted, verdict = self.watch.rule.armed_at, self.verdict
        if wanted is None or verdict.armed or verdict.met:
            return True
        if not isinstance(value, str):
            verdict.armed = value >= wanted if self.watch.condition.operator in FALLING else value <= wanted
        return verdict.armed

    def derived(self, window: Window) -> float | None:
        """What the rule asks of a stretch of time; None while it does not cover enough."""
        if self.watch.condition.derived == "rate":
            return window.rate()
        if self.watch.condition.operator in RISING or window.covered >= 0.95:  # noqa: PLR2004 (a point's width or more)
            return window.growth(counts=self.watch.counts)
        return None


def explaining(watch: Watch, alerts: Collection[Alert]) -> list[Alert]:
    """Alerts that explain one: of a rule with a pattern, those of the same topic, of its source or of its house."""
    found: list[Alert] = []
    for owner in listed(watch.rule.inhibited_by):
        keys = (watch.key, f"service {watch.source}", f"service {watch.house}")
        all_of = [alert for alert in alerts if alert.watch.owner == owner]
        related = [alert for alert in all_of if alert.watch.key in keys]
        found += all_of if len(all_of) == 1 else related
    return found


def renewed(watch: Watch, before: Verdict | None) -> Verdict:
    """How an alert stood before, or anew; a window of another span begins anew in any case."""
    verdict = before or Verdict(watch.key, watch.condition.derived)
    span = round(watch.condition.span * 1000)
    if span and (verdict.window is None or verdict.window.span != span):
        verdict.window = Window(span)
    return verdict
