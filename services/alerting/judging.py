"""What is so: which alerts fire, since when, with which value. What people were told of it is `telling`'s.

Three times are told apart. *Reading time* (ms since 1970) is when something was measured: `for` and windows run on it,
carried on between readings by what passed since the last one came. `at` (ms, monotonic) is when it came. `wall` (ms
since 1970) is what people's clocks show.
"""

from collections.abc import Iterable
from typing import Final

from services.alerting.condition import Watch
from services.alerting.hearing import Pace, Signal
from services.alerting.limits import COMPARE
from services.alerting.rule import Value
from services.alerting.verdict import Alert, JudgeMemory, explaining, renewed

STILL_GOOD: Final = 600_000
"""What was so when the process ended goes on without a reading if it was away for no longer than this (ms)."""
AN_HOUR: Final = 3_600_000
MOST_UNWATCHED: Final = 50_000
"""Values of what no rule speaks of yet that are remembered for the rules to come."""


class Judge:
    """All alerts of a house. It never looks at a clock or a file: it is told."""

    def __init__(self, memory: JudgeMemory | None = None, settle: float = 0.0) -> None:
        """`settle` is how long silence is not believed after a connection (s)."""
        self.memory = memory or JudgeMemory()
        self.settle = round(settle * 1000)
        self.alerts: dict[str, Alert] = {}
        self.changed: set[str] = set()
        """Alerts that began or ceased to fire, until the caller empties this."""
        self.moved: set[str] = set()
        """Alerts that fire by another reading."""
        self.unsaved = False
        """Whether something began or ended that a restart must know; the caller puts it back."""
        self.signals: dict[str, Signal] = {}
        self._watching: dict[str, list[Alert]] = {}
        self._latest: dict[str, tuple[Value, int, int]] = {}
        self._met: dict[str, Alert] = {}
        self._paused: set[str] = set()
        self._at = self._offset = self._resumed = self._silence_at = 0
        self._suspended = False

    def load(self, watches: Iterable[Watch]) -> list[str]:
        """Take a new set of rules; what both have goes on undisturbed. Returns the alerts that are no more."""
        old, verdicts, pulses = self.signals, self.memory.verdicts, self.memory.pulses
        self.signals, self._watching, self.alerts, self._met = {}, {}, {}, {}
        again: list[Alert] = []
        for watch in watches:
            signal = self.signals.get(watch.key) or self._signal(watch, old)
            before = verdicts.get(watch.name)
            known = before is not None and (before.key, before.derived) == (watch.key, watch.condition.derived)
            verdict = verdicts[watch.name] = renewed(watch, before if known else None)
            if before is not None and not known:
                verdict.fired, verdict.fired_for = before.fired, before.fired_for
                self.changed.add(watch.name)
            alert = self.alerts[watch.name] = Alert(watch, signal, verdict)
            self._watching.setdefault(watch.key, []).append(alert)
            if verdict.met:
                self._met[watch.name] = alert
            if verdict.fired and not old:
                self.changed.add(watch.name)
            again.append(alert)
        for alert in self.alerts.values():
            alert.inhibitors = explaining(alert.watch, self.alerts.values())
        self.memory.pulses = {key: pulse for key, pulse in pulses.items() if key in self.signals}
        gone = [name for name in verdicts if name not in self.alerts]
        for name in gone:
            del verdicts[name]
        self.changed &= self.alerts.keys()
        self._silence_at, self.unsaved = 0, True
        for alert in again:  # what is measured already is judged by the new rules at once
            if alert.signal.value is not None and not alert.watch.is_silence and alert.verdict.window is None:
                self._judge(alert, alert.signal.value, alert.signal.pulse.time, 0)
        return gone

    def _signal(self, watch: Watch, old: dict[str, Signal]) -> Signal:
        stale = round(watch.stale * 1000)
        signal = old.get(watch.key)
        if signal is None:
            signal = Signal(watch.key, self.memory.pulses.setdefault(watch.key, Pace()), stale, self._at)
            if watch.key in self._latest and not signal.at:
                value, time, at = self._latest[watch.key]
                signal.take(value, time, at, None, None)
        elif not watch.of_service:
            signal.stale = stale
        self.signals[watch.key] = signal
        return signal

    # -- what is heard ------------------------------------------------------------------------------------------

    def feed(  # noqa: PLR0917 (a reading, and how it came)
        self, key: str, value: Value, time: int, at: int, lag: int | None = None, fresh: bool | None = None
    ) -> None:
        """Take a reading of `time`, which came at `at`; `lag` (ms) is by how much it was late, where that is known.

        `fresh` tells whether it was never heard before, by its place among those of its source, where it has one.
        """
        signal = self.signals.get(key)
        if signal is None:
            self._latest[key] = value, time, at
            if len(self._latest) > MOST_UNWATCHED:
                del self._latest[next(iter(self._latest))]
            return
        was_silent, patience = signal.is_silent(at), signal.patience
        taken = signal.take(value, time, at, lag, fresh)
        if taken is None:
            if time == signal.pulse.own and fresh is None and signal.at and not signal.cleared:
                signal.heard = at  # the same again, by who does not number what it says: it lives
            return
        moment, unseen = taken
        if was_silent or signal.patience != patience:
            self._silence_at = min(self._silence_at, at)
        if was_silent and key.startswith("service "):
            self._came_back(key.removeprefix("service ").partition(" ")[0], at)
        for alert in self._watching[key]:
            if not alert.watch.is_silence:
                self._judge(alert, value, moment, unseen)
            elif alert.verdict.met:
                self._end(alert, at + self._offset)

    def _came_back(self, source: str, at: int) -> None:
        """Give the topics of a service, or all of a house, that is heard again time to speak."""
        for alert in self.alerts.values():
            if alert.watch.is_silence and alert.watch.belongs_to(source):
                alert.signal.heard, alert.settles = at, at + self.settle

    def _judge(self, alert: Alert, value: Value, time: int, unseen: int) -> None:
        verdict, condition = alert.verdict, alert.watch.condition
        if verdict.window is not None:
            if isinstance(value, str) or (verdict.window.times and time <= verdict.window.times[-1]):
                return
            verdict.window.take(time, value)
            derived = alert.derived(verdict.window)
            if derived is None:
                return
            value = derived
        if not alert.is_armed(value):
            return
        try:
            met = COMPARE[condition.operator](value, alert.watch.clear if verdict.met else condition.operand)
        except TypeError:  # a word where a number was meant: not what the rule speaks of
            return
        if not met and not verdict.met:
            return
        if (value, time) != (verdict.value, verdict.time) and verdict.firing:
            self.moved.add(alert.watch.name)
        verdict.value, verdict.time = value, time
        if not met:
            self._end(alert, time)
            return
        if not verdict.met:
            verdict.met, verdict.since, verdict.peak, self.unsaved = True, time, None, True
            self._met[alert.watch.name] = alert
        elif unseen and not verdict.firing:
            verdict.since += unseen  # time in which nobody measured is not counted
        verdict.note_worst(condition.operator)
        if not verdict.firing and time - verdict.since >= alert.watch.lasts * 1000:
            self._fire(alert)

    def _fire(self, alert: Alert) -> None:
        verdict = alert.verdict
        verdict.firing, verdict.began = True, verdict.since
        verdict.worst, verdict.worst_time = verdict.peak, verdict.peak_time
        verdict.fired += 1
        self.changed.add(alert.watch.name)

    def _end(self, alert: Alert, time: int) -> None:
        verdict = alert.verdict
        verdict.met, self.unsaved = False, True
        self._met.pop(alert.watch.name, None)
        self._silence_at = 0
        if verdict.firing:
            verdict.firing, verdict.until = False, max(time, verdict.since)
            verdict.fired_for += verdict.until - verdict.since
            self.changed.add(alert.watch.name)

    def clear(self, key: str, at: int) -> None:
        """Take note that nobody can measure a topic any more, or that a service said goodbye."""
        self._latest.pop(key, None)
        if signal := self.signals.get(key):
            signal.cleared, signal.behind = True, 0
            self._silence_at = min(self._silence_at, at)
            for alert in self._watching[key]:
                signal.pulse.untold |= alert.watch.is_concluded
                if signal.pulse.untold and alert.watch.is_silence and alert.verdict.met:
                    self._end(alert, at + self._offset)

    def beat(self, key: str, seconds: float) -> None:
        """Learn how long a service may be silent (s)."""
        if (signal := self.signals.get(key)) and signal.stale != round(seconds * 1000):
            signal.stale = round(seconds * 1000)
            self._silence_at = 0

    def pause(self, source: str, paused: bool, at: int) -> None:
        """Take note that a source was paused or resumed, or a house cut off: nothing of it alarms anybody meanwhile."""
        if paused == (source in self._paused):
            return
        self._paused ^= {source}
        self._silence_at = min(self._silence_at, at)
        for alert in self.alerts.values():
            if alert.watch.belongs_to(source):
                alert.signal.heard = at
                alert.signal.cleared = False
                if paused and alert.verdict.met and not alert.verdict.firing:
                    self._end(alert, self._now(alert, at))

    def start(self, at: int, absent: int) -> None:
        """Go on after a restart; `absent` is how long nobody looked (ms): it counts for nothing."""
        self._at = at
        for signal in self.signals.values():
            signal.heard = at
            if signal.pulse.time and absent <= STILL_GOOD:
                signal.at = at
        self._grant(absent)

    def suspend(self, at: int) -> None:
        """Nothing can be heard from here on (the broker is gone): silence proves nothing."""
        if not self._suspended:
            self._suspended, self._resumed = True, at

    def resume(self, at: int, session: bool = True) -> None:
        """Listen again; without a `session` what was said meanwhile is lost, and no silence is held against anybody."""
        absent = at - self._resumed if self._suspended else 0
        for signal in self.signals.values():
            signal.at += absent if signal.at else 0
            signal.heard = at
        if session:
            self._grant(absent)
        else:
            for alert in list(self._met.values()):
                if alert.watch.is_silence and not alert.verdict.firing:
                    self._end(alert, alert.verdict.since)
        self._resumed, self._suspended, self._at = at, False, at
        self._silence_at = at

    def _grant(self, absent: int) -> None:
        for alert in self._met.values():
            if alert.watch.is_silence and not alert.verdict.firing:
                alert.verdict.since += absent

    def shift(self, step: int) -> None:
        """The clock that stamps the readings and the wall clock were set by `step` ms: the past moves with them."""
        for pulse in self.memory.pulses.values():
            pulse.time = max(1, pulse.time + step) if pulse.time else 0
            pulse.own = max(1, pulse.own + step) if pulse.own else 0
        for verdict in self.memory.verdicts.values():
            for name in ("since", "began", "until", "time", "worst_time", "peak_time"):
                if moment := getattr(verdict, name):
                    setattr(verdict, name, max(1, moment + step))
            if verdict.window:
                verdict.window.times = [moment + step for moment in verdict.window.times]

    # -- what time brings ---------------------------------------------------------------------------------------

    def tick(self, at: int, wall: int) -> bool:
        """Let time pass; False while nothing can be heard."""
        self._at, self._offset = at, wall - at
        if self._suspended:
            return False
        settled = at >= self._resumed + self.settle
        if settled and at >= self._silence_at:
            self._look_for_silence(at)
        for alert in list(self._met.values()):
            silence = alert.watch.is_silence
            if alert.verdict.firing or alert.signal.behind > at or self.is_paused(alert):
                continue
            known = settled if silence else alert.signal.at  # between readings `for` runs on: a sensor may die
            if known and self._now(alert, at) - alert.verdict.since >= alert.watch.lasts * 1000:
                self._fire(alert)
        return True

    def _look_for_silence(self, at: int) -> None:
        self._silence_at = at + AN_HOUR
        for alert in self.alerts.values():
            signal = alert.signal
            if not alert.watch.is_silence or alert.verdict.met or self.is_paused(alert) or not signal.pulse.time:
                continue
            if signal.is_silent(at):
                alert.verdict.met, alert.verdict.since, self.unsaved = True, self._now(alert, at), True
                self._met[alert.watch.name] = alert
            elif (patience := signal.patience) is not None and not signal.pulse.untold:
                self._silence_at = min(self._silence_at, signal.heard + patience)

    def _now(self, alert: Alert, at: int) -> int:
        """Reading time for an alert: silence has no readings and runs on the wall clock."""
        return at + self._offset if alert.watch.is_silence else alert.signal.now(at)

    def is_paused(self, alert: Alert) -> bool:
        """Whether it is about a source that is paused, or a house that is cut off."""
        watch = alert.watch
        return watch.house in self._paused or (watch.source in self._paused and not watch.of_service)

    def firing(self) -> list[str]:
        """Alerts that fire."""
        return [name for name, alert in self._met.items() if alert.verdict.firing]
