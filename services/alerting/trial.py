"""A rule on what was measured long ago: when it would have fired, by the machine of the service."""

from collections.abc import Iterable, Iterator
from datetime import datetime, tzinfo
from typing import NamedTuple

import msgspec

from bootstrap_lib import Duration
from services.alerting.condition import Scope, Watch
from services.alerting.replay import Heard, Rehearsal
from services.alerting.rule import Value
from services.alerting.wording import clean, shown


class KeptMinute(NamedTuple):
    """What the archive keeps of a minute of a topic, as far as a rule may look at it; in the order of its columns."""

    mean: float | None
    low: float | None
    high: float | None
    seconds_on: float | None
    starts: int | None
    word: str | None
    last: float | None

    def feared(self, kind: str, *, low: bool) -> Value | None:
        """The value that a rule is afraid of: of a gauge and a switch the extreme, the least where it fears `low`.

        A pulse within a minute, and a peak, would else be seen while single readings are kept, and later no more.
        """
        if kind == "state":
            return self.word
        if kind == "switch" and self.last is not None:  # on all the time, or at any
            return bool(self.last and not self.starts) if low else bool(self.last or self.seconds_on)
        extreme = self.low if low else self.high
        value = self.last if kind != "gauge" else self.mean if extreme is None else extreme
        return None if value is None else float(value)


def fears_low(watches: Iterable[Watch]) -> set[str]:
    """Topics of which the least value of a minute, or that a switch was off, is what the rule is about."""
    return {
        watch.key
        for watch in watches
        if (sign := watch.condition.operator) in ("<", "<=")
        or (isinstance(operand := watch.condition.operand, bool) and operand is (sign == "!="))
    }


class Firing(NamedTuple):
    """One time that it would have fired; `until` is None where it still would. Times in ms."""

    watch: Watch
    since: int
    until: int | None
    worst: Value | None


class Trial(msgspec.Struct):
    """What came of it."""

    firings: list[Firing] = msgspec.field(default_factory=list)
    readings: int = 0
    first: int = 0
    last: int = 0
    end: int = 0
    """Until when somebody listened."""
    messages: int = 0

    def lines(self, timezone: tzinfo) -> Iterator[str]:
        """Say it."""
        if not self.readings:
            yield "the archive holds nothing of it in that time"
            return
        for firing in self.firings:
            end = self.end if firing.until is None else firing.until
            worst = (
                f"  worst {shown(firing.worst, firing.watch.decimals)} {firing.watch.unit}"
                if firing.worst is not None
                else ""
            )
            still = ", and still" if firing.until is None else ""
            topic = f"  {firing.watch.key}" if len({f.watch.key for f in self.firings}) > 1 else ""
            yield clean_line(
                f"{_local(firing.since, timezone)}  for {Duration((end - firing.since) / 1000)}{still}{worst}{topic}"
            )
        span = f"{self.readings} readings from {_local(self.first, timezone)} to {_local(self.last, timezone)}"
        times = f"would have fired {len(self.firings)} time{'s' * (len(self.firings) != 1)}"
        yield f"{times}, with {self.messages} messages; {span}"


def clean_line(text: str) -> str:
    """Text without control characters, with its spaces."""
    return "  ".join(clean(part) for part in text.split("  "))


def try_rule(watches: list[Watch], readings: Iterable[Heard], scope: Scope) -> Trial:
    """Run readings, in the order of time, through what a rule looks at.

    Where ANYTHING is among them, silence while others spoke is told from a time in which nobody listened.
    """
    desk, trial = Rehearsal(watches, gather=5.0), Trial()
    firing: dict[str, int] = {}

    def counted() -> Iterator[Heard]:
        for topic, value, time in readings:
            trial.end = time
            if value is not None:
                trial.readings += 1
                trial.first, trial.last = trial.first or time, time
            yield topic, value, time

    for _, said in desk.run(counted(), scope):
        trial.messages += len(said)
        for name in desk.judge.changed:
            alert = desk.judge.alerts[name]
            verdict = alert.verdict
            if verdict.firing:
                firing[name] = verdict.since
            elif firing.pop(name, None) is not None:
                trial.firings.append(Firing(alert.watch, verdict.since, verdict.until, verdict.worst))
    for name in firing:
        alert = desk.judge.alerts[name]
        trial.firings.append(Firing(alert.watch, alert.verdict.since, None, alert.verdict.worst))
    trial.firings.sort(key=lambda found: found.since)
    return trial


def _local(time: int, timezone: tzinfo) -> str:
    return f"{datetime.fromtimestamp(time / 1000, timezone):%Y-%m-%d %H:%M}"
