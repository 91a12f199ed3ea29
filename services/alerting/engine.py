"""The alerts themselves: what is wrong, since when, and what people were told of it.

Everything is decided by comparing what is true with what people were told, so nothing that comes twice (a retained
value, a repeated delivery, a restart) can speak twice, and everything that was said is taken back exactly once.

Three times are told apart. *Reading time* (ms since 1970) is when something was measured: `for` and windows run on it,
carried on between readings by what passed since the last one came. `at` (ms, monotonic) is when it came. `wall` (ms
since 1970) is what people's clocks show: hold-off, repeat, snooze and maintenance run on it.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, tzinfo
from typing import TYPE_CHECKING, Final, Literal

import msgspec

from bootstrap_lib import describe
from services.alerting.rule import COMPARE, Value, Watch, listed
from services.alerting.window import Window
from services.notices.notice import Notice

if TYPE_CHECKING:
    from collections.abc import Iterable

LATE: Final = 60_000
"""A reading that comes later than this (ms) may be part of a backlog."""
BEHIND: Final = 10_000
"""A backlog has ended when nothing more came of it for this long (ms)."""
WENT_BACK: Final = 600_000
"""A source that for this long (ms) sends only readings older than its newest has had its clock set back."""
WORTH_TELLING: Final = 300_000
"""An alert that began longer ago than this (ms) says since when."""
LINES: Final = 12
"""Alerts that one message lists; more are counted."""

Kind = Literal["fires", "still", "resolved"]


class Standing(msgspec.Struct, omit_defaults=True):
    """What one alert must know after a restart. Times in ms: `since`, `begun`, `until` are reading time, others wall."""

    met: bool = False
    since: int = 0
    """Since when it is so, or was."""
    firing: bool = False
    until: int = 0
    """When it last ceased to be so."""
    value: Value | None = None
    time: int = 0
    """The newest reading that was judged."""
    told: bool = False
    """People know that it fires, and not yet that it is over."""
    begun: int = 0
    """When that of which they were told began."""
    spoken: int = 0
    ended: int = 0
    """When they were told that it is over: the hold-off counts from here."""
    acknowledged: int = 0
    snoozed: int = 0
    window: Window | None = None


class Missed(msgspec.Struct):
    """An alert that came and went before its readings arrived (reading time, ms)."""

    title: str
    since: int
    until: int


class Memory(msgspec.Struct):
    """What the engine must know after a restart."""

    standings: dict[str, Standing] = msgspec.field(default_factory=dict)
    missed: list[Missed] = msgspec.field(default_factory=list)
    maintenance: int = 0


class Announcement(msgspec.Struct, frozen=True):
    """A notice with the notifiers that are tried for it, in order."""

    notice: Notice
    channels: tuple[str, ...]


@dataclass(slots=True)
class _Signal:
    """What is heard of one topic or service, and the alerts that look at it."""

    stale: int
    alerts: list[_Alert] = field(default_factory=list)
    silences: list[_Alert] = field(default_factory=list)
    time: int = 0
    at: int = 0
    heard: int = 0
    cleared: bool = False
    lag: int | None = None
    behind: int = 0
    older: int = 0
    older_time: int = 0

    def now(self, at: int) -> int:
        """Reading time at a moment: that of the newest reading, carried on."""
        return self.time + at - self.at


@dataclass(slots=True, eq=False)
class _Alert:
    watch: Watch
    signal: _Signal
    standing: Standing
    inhibitors: list[_Alert] = field(default_factory=list)

    @property
    def title(self) -> str:
        """Its name for people."""
        return self.watch.name.replace("_", " ").capitalize()


class Engine:
    """All alerts of a house. It never looks at a clock or a file: it is told."""

    def __init__(
        self, settle: float = 0.0, gather: float = 0.0, memory: Memory | None = None, *, absent: bool = True
    ) -> None:
        """`settle` and `gather` are those of `configure`; `absent` tells whether what was never heard is silent."""
        self.configure(settle, gather)
        self._absent = absent
        self.memory = memory or Memory()
        self.changed: set[str] = set()
        """Alerts whose document changed since the caller emptied this."""
        self._alerts: dict[str, _Alert] = {}
        self._signals: dict[str, _Signal] = {}
        self._active: dict[str, _Alert] = {}
        self._gathering: dict[tuple[str, tuple[str, ...]], int] = {}
        self._paused: set[str] = set()
        self._at = self._offset = 0
        self._resumed = 0
        self._suspended = False
        self._silence_at = 0

    def configure(self, settle: float, gather: float, channels: tuple[str, ...] = (), timezone: tzinfo = UTC) -> None:
        """Set how long silence is not believed after a connection, and how long what is one message is gathered (s).

        `channels` are the notifiers of rules that name none, `timezone` is people's.
        """
        self._settle, self._gather = round(settle * 1000), round(gather * 1000)
        self.channels, self.timezone = channels, timezone

    def load(self, watches: Iterable[Watch]) -> list[str]:
        """Take a new set of rules; what both have goes on undisturbed. Returns the alerts that are no more."""
        old_signals, known = self._signals, self.memory.standings
        self._signals, self._alerts, self._active = {}, {}, {}
        for watch in watches:
            if watch.key not in self._signals:
                before = old_signals.get(watch.key, _Signal(0, heard=self._at))
                stale = before.stale if watch.key.startswith("service ") and before.stale else round(watch.stale * 1000)
                self._signals[watch.key] = replace(before, stale=stale, alerts=[], silences=[])
            signal = self._signals[watch.key]
            standing = known.setdefault(watch.name, Standing())
            span = round(watch.condition.span * 1000)
            if span and (standing.window is None or standing.window.span != span):
                standing.window = Window(span)
            signal.time = max(signal.time, standing.time)
            alert = self._alerts[watch.name] = _Alert(watch, signal, standing)
            (signal.silences if watch.condition.derived == "silence" else signal.alerts).append(alert)
            if standing.met or standing.told:
                self._active[watch.name] = alert
        for alert in self._alerts.values():
            alert.inhibitors = self._inhibitors(alert.watch)
        self._silence_at = 0
        gone = [name for name in known if name not in self._alerts]
        for name in gone:
            del known[name]
        self.changed &= self._alerts.keys()
        return gone

    def _inhibitors(self, watch: Watch) -> list[_Alert]:
        """Alerts that explain this one: of a rule with a pattern, those of the same topic or of its source."""
        found: list[_Alert] = []
        for owner in listed(watch.rule.inhibited_by):
            all_of = [alert for alert in self._alerts.values() if alert.watch.owner == owner]
            related = [alert for alert in all_of if alert.watch.key in (watch.key, f"service {watch.source}")]
            found += all_of if len(all_of) == 1 else related
        return found

    # -- what is heard ------------------------------------------------------------------------------------------

    def knows(self, key: str) -> bool:
        """Whether any rule looks at it."""
        return key in self._signals

    def feed(self, key: str, value: Value, time: int, at: int, lag: int | None = None) -> None:
        """Take a reading of `time`, which came at `at`; `lag` (ms) is by how much it was late, where that is known."""
        signal = self._signals.get(key)
        if signal is None or (time <= signal.time and not self._went_back(signal, time, at)):
            return
        gap = time - (signal.now(at) if signal.at else signal.time or time)
        unseen = gap if gap > signal.stale else 0
        if lag is not None:
            self._follow_backlog(signal, time, at, lag)
        if not signal.at:
            self._silence_at = min(self._silence_at, at)
        signal.time, signal.at, signal.heard, signal.cleared, signal.older = time, at, at, False, 0
        for alert in signal.alerts:
            self._judge(alert, value, time, unseen)
        for alert in signal.silences:
            if alert.standing.met:
                self._end(alert, at + self._offset)
                self._silence_at = min(self._silence_at, at)

    def _went_back(self, signal: _Signal, time: int, at: int) -> bool:
        """Whether older readings keep coming at the pace at which they are measured: no repeat does that."""
        if not signal.older or abs(time - signal.older_time - (at - signal.older)) > LATE:
            signal.older, signal.older_time = at, time
        if at - signal.older < WENT_BACK:
            return False
        for alert in signal.alerts:
            if alert.standing.window:
                alert.standing.window = Window(alert.standing.window.span)
        return True

    @staticmethod
    def _follow_backlog(signal: _Signal, time: int, at: int, lag: int) -> None:
        """A late reading is of a backlog when the readings come faster than they were measured, or is the first."""
        faster = signal.lag is None or (signal.lag - lag) * 2 > time - signal.time
        signal.behind = at + BEHIND if lag > LATE and faster else 0
        signal.lag = lag

    def _judge(self, alert: _Alert, value: Value, time: int, unseen: int) -> None:
        standing, watch = alert.standing, alert.watch
        condition = watch.condition
        standing.time = time
        if standing.window is not None:
            if isinstance(value, str):
                return
            standing.window.take(time, value)
            derived = self._derived(watch, standing.window)
            if derived is None:
                return
            value = derived
        try:
            met = COMPARE[condition.operator](value, watch.clear if standing.met else condition.operand)
        except TypeError:  # a word where a number was meant: not what the rule speaks of
            return
        if met:
            if not standing.firing:
                standing.value = value
            if not standing.met:
                standing.met, standing.since = True, time
                self._active[watch.name] = alert
            elif unseen and not standing.firing:
                standing.since += unseen  # time in which nobody measured is not counted
            if not standing.firing and time - standing.since >= watch.lasts * 1000:
                self._fire(alert)
        elif standing.met:
            standing.value = value
            self._end(alert, time)

    @staticmethod
    def _derived(watch: Watch, window: Window) -> float | None:
        if watch.condition.derived == "rate":
            return window.rate()
        if watch.condition.operator in (">", ">=") or window.covered >= 0.95:  # noqa: PLR2004 (a point's width or more)
            return window.growth(counts=watch.counts)
        return None

    def _fire(self, alert: _Alert) -> None:
        alert.standing.firing = True
        self.changed.add(alert.watch.name)

    def _end(self, alert: _Alert, time: int) -> None:
        standing = alert.standing
        standing.met, standing.until = False, max(time, standing.since)
        if standing.firing:
            standing.firing, standing.acknowledged = False, 0
            self.changed.add(alert.watch.name)
            if alert.signal.behind and not standing.told:
                self.memory.missed.append(Missed(alert.title, standing.since, standing.until))

    def clear(self, key: str, at: int) -> None:
        """Take note that nobody can measure a topic any more, or that a service said goodbye."""
        if signal := self._signals.get(key):
            signal.cleared = True
            signal.behind = 0
            self._silence_at = min(self._silence_at, at)

    def beat(self, key: str, seconds: float) -> None:
        """Learn how long a service may be silent (s)."""
        if signal := self._signals.get(key):
            signal.stale = round(seconds * 1000)
            self._silence_at = 0

    def pause(self, source: str, paused: bool, at: int) -> None:
        """Take note that a source was paused or resumed: nothing of it alarms anybody meanwhile."""
        if paused == (source in self._paused):
            return
        self._paused ^= {source}
        self._silence_at = min(self._silence_at, at)
        for alert in self._alerts.values():
            if alert.watch.source == source and not alert.watch.key.startswith("service "):
                alert.signal.heard = at
                alert.signal.cleared = False
                if paused and alert.standing.met and not alert.standing.firing:
                    self._end(alert, self._now(alert, at))

    def suspend(self, at: int) -> None:
        """Nothing can be heard from here on (the broker is gone): silence proves nothing."""
        if not self._suspended:
            self._suspended, self._resumed = True, at

    def resume(self, at: int) -> None:
        """Listen again: the time between is nobody's silence, and counts for nothing."""
        absent = at - self._resumed if self._suspended else 0
        for signal in self._signals.values():
            signal.at += absent if signal.at else 0
            signal.heard = at
            for alert in signal.silences:
                if alert.standing.met and not alert.standing.firing:
                    self._end(alert, alert.standing.since)
        self._resumed, self._suspended, self._at = at, False, at
        self._silence_at = at

    def shift(self, step: int) -> None:
        """The clock that stamps the readings and the wall clock were set by `step` ms: the past moves with them."""
        for signal in self._signals.values():
            signal.time += step if signal.time else 0
        for standing in self.memory.standings.values():
            for name in ("since", "until", "time", "begun", "spoken", "ended", "acknowledged", "snoozed"):
                if moment := getattr(standing, name):
                    setattr(standing, name, moment + step)
            if standing.window:
                standing.window.times = [moment + step for moment in standing.window.times]
        if self.memory.maintenance:
            self.memory.maintenance += step

    # -- what people want ---------------------------------------------------------------------------------------

    def named(self, name: str) -> list[str]:
        """Alerts of a name or of a rule."""
        if name in self._alerts:
            return [name]
        return [alert.watch.name for alert in self._alerts.values() if alert.watch.owner == name]

    def names(self) -> list[str]:
        """All alerts, and the rules that make several."""
        return list(dict.fromkeys([*self._alerts, *(alert.watch.owner for alert in self._alerts.values())]))

    def acknowledge(self, names: Iterable[str], wall: int) -> list[str]:
        """Someone takes care: no more repeats until it is over. Returns those that were firing."""
        found = [name for name in names if name in self._alerts and self._alerts[name].standing.firing]
        for name in found:
            self._alerts[name].standing.acknowledged = wall
        self.changed.update(found)
        return found

    def snooze(self, names: Iterable[str], until: int) -> None:
        """Say nothing of these until then (wall, ms); what still fires then is said again."""
        for name in names:
            self._alerts[name].standing.snoozed = until
            self._active[name] = self._alerts[name]
            self.changed.add(name)

    # -- what is due --------------------------------------------------------------------------------------------

    def tick(self, at: int, wall: int) -> list[Announcement]:
        """Let time pass, and return what people must now be told. What is returned counts as told: keep it first."""
        self._at, self._offset = at, wall - at
        if self._suspended:
            return []
        if at >= self._silence_at and at >= self._resumed + self._settle:
            self._look_for_silence(at)
        if not self._active and not self.memory.missed:
            return []
        due: dict[tuple[str, tuple[str, ...]], list[tuple[_Alert, Kind]]] = {}
        for alert in list(self._active.values()):
            self._carry_on(alert, at)
            if kind := self._due(alert, at, wall):
                key = alert.watch.rule.group or "", listed(alert.watch.rule.notify) or self.channels
                due.setdefault(key, []).append((alert, kind))
        self._gathering = {key: self._gathering.get(key, at) for key in due}
        said = []
        for key, members in due.items():
            if at - self._gathering[key] >= self._gather:
                said.append(self._announce(members, key[1], at, wall))
                del self._gathering[key]
        return said + self._summary(at, wall)

    def _look_for_silence(self, at: int) -> None:
        self._silence_at = at + 3_600_000
        for signal in self._signals.values():
            unmet = [alert for alert in signal.silences if not (alert.standing.met or self._is_paused(alert))]
            if not unmet or not (signal.at or self._absent):
                continue
            deadline = at if signal.cleared else signal.heard + signal.stale
            if deadline > at:
                self._silence_at = min(self._silence_at, deadline)
                continue
            for alert in unmet:
                alert.standing.met, alert.standing.since = True, self._now(alert, at)
                self._active[alert.watch.name] = alert

    def _now(self, alert: _Alert, at: int) -> int:
        """Reading time for an alert: silence has no readings and runs on the wall clock."""
        return at + self._offset if alert.watch.condition.derived == "silence" else alert.signal.now(at)

    def _carry_on(self, alert: _Alert, at: int) -> None:
        """Between readings `for` runs on: a sensor that dies above its limit still alarms."""
        standing, signal = alert.standing, alert.signal
        if standing.firing or not standing.met or signal.behind > at or self._is_paused(alert):
            return
        known = signal.at or alert.watch.condition.derived == "silence"
        if known and self._now(alert, at) - standing.since >= alert.watch.lasts * 1000:
            self._fire(alert)

    def _is_paused(self, alert: _Alert) -> bool:
        return alert.watch.source in self._paused and not alert.watch.key.startswith("service ")

    def _due(self, alert: _Alert, at: int, wall: int) -> Kind | None:
        standing, rule = alert.standing, alert.watch.rule
        if alert.signal.behind > at:
            return None
        alert.signal.behind = 0
        quiet = wall < max(standing.snoozed, self.memory.maintenance) or self._is_paused(alert)
        woken = 0 < standing.snoozed <= wall
        if woken:
            standing.snoozed = 0
            self.changed.add(alert.watch.name)
        if standing.told and not standing.firing:
            return "resolved"
        if not standing.firing:
            if not standing.met and not standing.snoozed:
                del self._active[alert.watch.name]
            return None
        if quiet or self._is_inhibited(alert, at):
            return None
        if not standing.told:
            return None if 0 <= wall - standing.ended < rule.hold_off * 1000 else "fires"
        repeated = rule.repeat is not None and wall - standing.spoken >= rule.repeat * 1000
        return "still" if (repeated or woken) and not standing.acknowledged else None

    def _is_inhibited(self, alert: _Alert, at: int) -> bool:
        """While what explains it holds, and for the time of settling after."""
        return any(
            other.standing.met
            or (other.standing.until and 0 <= self._now(other, at) - other.standing.until < self._settle)
            for other in alert.inhibitors
        )

    def _announce(
        self, members: list[tuple[_Alert, Kind]], channels: tuple[str, ...], at: int, wall: int
    ) -> Announcement:
        lines: dict[str, list[str]] = {"fires": [], "still": [], "resolved": []}
        told = sorted(members, key=lambda member: (member[1] == "resolved", -member[0].watch.rule.priority))
        for alert, kind in told:
            standing = alert.standing
            if kind == "resolved":
                standing.told, standing.ended = False, wall
                lasted = describe(max(0, standing.until - standing.begun) / 1000)
                lines[kind].append(f"{alert.title}: over after {lasted}")
            else:
                if kind == "fires":
                    standing.told, standing.begun = True, standing.since
                old = wall - standing.begun > WORTH_TELLING
                since = f" (since {self._clock(standing.begun, wall)})" if old else ""
                lines[kind].append(self.text(alert.watch.name, at) + since)
            standing.spoken = wall
        everything = [line for kind in lines.values() for line in kind]
        wrong = [alert.watch.rule for alert, kind in told if kind != "resolved"]
        first = told[0][0].watch.rule
        notice = Notice(
            title=_title(told, len(wrong)),
            text="\n".join(
                everything[:LINES] + ([f"and {len(everything) - LINES} more"] if everything[LINES:] else [])
            ),
            time=_format(wall),
            priority=max((rule.priority for rule in wrong), default=min(0, first.priority)),
            sound=first.sound if wrong else None,
            url=first.url,
            picture=next((rule.picture for rule in (wrong or [first]) if rule.picture), None),
            rules=tuple(alert.watch.name for alert, kind in told if kind != "resolved"),
        )
        return Announcement(notice, channels)

    def _summary(self, at: int, wall: int) -> list[Announcement]:
        """Everything that came and went in a backlog, in one quiet message, once the backlog is through."""
        missed = self.memory.missed
        if not missed or any(signal.behind > at for signal in self._signals.values()):
            return []
        lines = [f"{m.title}: {self._clock(m.since, wall)} for {describe((m.until - m.since) / 1000)}" for m in missed]
        self.memory.missed = []
        more = [f"and {len(lines) - LINES} more"] if lines[LINES:] else []
        title = f"{len(lines)} alert{'s' * (len(lines) > 1)} meanwhile, all over"
        notice = Notice(title=title, text="\n".join(lines[:LINES] + more), time=_format(wall), priority=-1)
        return [Announcement(notice, self.channels)]

    # -- what is shown ------------------------------------------------------------------------------------------

    def text(self, name: str, at: int) -> str:
        """What an alert says now."""
        alert = self._alerts[name]
        watch, standing, signal = alert.watch, alert.standing, alert.signal
        value = standing.value
        age = at - signal.heard if watch.condition.derived == "silence" else self._now(alert, at) - standing.since
        shown = _number(value, watch.decimals) if isinstance(value, float) else _word(value)
        filled = {"value": shown, "unit": watch.unit, "topic": watch.key, "label": watch.label, "rule": name}
        return " ".join(watch.text.format_map(filled | {"age": describe(max(0, age) / 1000)}).split())

    def document(self, name: str, at: int) -> dict[str, object]:
        """What `home/alert/<name>` shows."""
        alert = self._alerts[name]
        standing = alert.standing
        since = standing.since if standing.firing else standing.until
        value = standing.value
        shown: dict[str, object | None] = {
            "state": "firing" if standing.firing else "ok",
            "since": _format(since) if since else None,
            "rule": alert.watch.owner,
            "topic": alert.watch.key,
            "value": round(value, alert.watch.decimals) if isinstance(value, float) else value,
            "unit": alert.watch.unit or None,
            "text": self.text(name, at) if standing.firing else None,
            "priority": alert.watch.rule.priority,
            "acknowledged": bool(standing.acknowledged),
            "snoozed_until": _format(standing.snoozed) if standing.snoozed else None,
        }
        return {key: content for key, content in shown.items() if content is not None}

    def shown(self) -> list[str]:
        """Alerts that have a topic: all of rules on one thing, and of patterns those that ever fired."""
        return [
            name for name, a in self._alerts.items() if name == a.watch.owner or a.standing.firing or a.standing.until
        ]

    def firing(self) -> list[str]:
        """Alerts that fire."""
        return [name for name, alert in self._active.items() if alert.standing.firing]

    def _clock(self, time: int, wall: int) -> str:
        moment, now = (datetime.fromtimestamp(t / 1000, self.timezone) for t in (time, wall))
        return f"{moment:%H:%M}" if moment.date() == now.date() else f"{moment:%d.%m. %H:%M}"


def _title(told: list[tuple[_Alert, Kind]], wrong: int) -> str:
    if len(told) == 1:
        alert, kind = told[0]
        return {"fires": "{}", "still": "Still: {}", "resolved": "Over: {}"}[kind].format(alert.title)
    parts = [f"{wrong} alert{'s' * (wrong > 1)}"] if wrong else []
    parts += [f"{len(told) - wrong} over"] if len(told) > wrong else []
    return ", ".join(parts)


def _number(value: float, decimals: int) -> str:
    text = f"{value:.{decimals}f}"
    return text.rstrip("0").rstrip(".") if "." in text else text


def _word(value: Value | None) -> str:
    return "" if value is None else str(value).lower() if isinstance(value, bool) else str(value)


def _format(time: int) -> str:
    return datetime.fromtimestamp(time / 1000, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
