"""What people read: plain words, whatever a rule's text or a topic's name holds. Nothing here can fail."""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, tzinfo
from typing import Final, Literal

from bootstrap_lib import Duration
from services.alerting.condition import Watch
from services.alerting.rule import Value, parts
from services.alerting.verdict import Verdict

Kind = Literal["fires", "still", "resolved", "went"]
"""It fires; it still does; it is over; it fired and was over before anybody was told."""

WORTH_TELLING: Final = 300_000
"""An alert that began longer ago than this (ms) says since when."""
LINES: Final = 12
"""Alerts that one message lists; more are counted."""
LONGEST: Final = 900
"""Characters of one alert's text: what does not fit a message helps nobody."""

_SAY: Final = {
    "": "{label} is {value} {unit}",
    "rate": "{label} changes by {value} {unit} per {span}",
    "growth": "{label} grew by {value} {unit} in {span}",
    "silence": "{label} has been silent for {age}",
}


@dataclass(frozen=True, slots=True)
class Mention:
    """What is to be said of one alert. Times in ms; `times` and `lasted` (ms) are what people have not heard of yet."""

    title: str
    kind: Kind
    text: str
    verdict: Verdict | None
    watch: Watch | None
    begun: int = 0
    times: int = 1
    lasted: int = 0


def title_of(name: str) -> str:
    """Name of an alert for people."""
    return name.replace("_", " ").capitalize()


def clean(text: str) -> str:
    """Text in one line, with control characters shown and not sent; cut where it is too long."""
    plain = " ".join(text.split())
    shown = "".join(c if c.isprintable() else f"\\x{ord(c):02x}" for c in plain)
    return shown if len(shown) <= LONGEST else shown[: LONGEST - 1] + "…"


def fill(say: str, values: dict[str, str]) -> str:
    """Text of a rule with its values. A name without a value stays as it is written."""
    return clean("".join(text + (values.get(name, f"{{{name}}}") if name else "") for text, name in parts(say)))


def rendered_with_made_up_values(watch: Watch) -> str:
    """What it would say; RuleError where that cannot be said."""
    return text_of(watch, 61.4 if watch.unit or watch.decimals else "on", 600_000)


def text_of(watch: Watch, value: Value | None, age: int) -> str:
    """What an alert says of a value; `age` (ms) is since when."""
    say = watch.rule.say or _SAY[watch.condition.derived].replace("{span}", str(Duration(watch.condition.span)))
    values = {
        "value": shown(value, watch.decimals),
        "unit": watch.unit,
        "topic": watch.key,
        "label": watch.label,
        "rule": watch.name,
        "age": str(Duration(max(0, age) / 1000)),
    }
    return fill(say, values)


def shown(value: Value | None, decimals: int) -> str:
    """A value as people read it."""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, float):
        text = f"{value:.{decimals}f}"
        return text.rstrip("0").rstrip(".") if "." in text else text
    return "" if value is None else str(value)


class Wording:
    """Titles and texts of messages, with the times that people's clocks showed."""

    def __init__(self, timezone: tzinfo, wall: int) -> None:
        """`wall` is now (ms)."""
        self._timezone, self._wall = timezone, wall

    def clock(self, time: int) -> str:
        """A time (ms) as short as it can be told."""
        moment, now = (datetime.fromtimestamp(t / 1000, self._timezone) for t in (time, self._wall))
        return f"{moment:%H:%M}" if moment.date() == now.date() else f"{moment:%d.%m. %H:%M}"

    def line(self, item: Mention) -> str:
        """What is said of one alert."""
        if item.kind == "resolved":
            return self._end(item)
        verdict, watch = item.verdict, item.watch
        if verdict is None or watch is None:
            return item.text
        notes = []
        if verdict.value is not None and not watch.is_silence:
            notes.append(self.clock(verdict.time))
        notes += self._worst(verdict, watch)
        if item.kind != "went" and self._wall - verdict.since > WORTH_TELLING:
            notes.append(f"since {self.clock(verdict.since)}")
        if item.times > 1:
            over = ", over now" if item.kind == "went" else ""
            notes.append(f"{item.times} times, for {Duration(item.lasted / 1000)} in all{over}")
        elif item.kind == "went":
            notes.append(f"over after {Duration((verdict.until - verdict.began) / 1000)}")
        return f"{item.text} ({'; '.join(notes)})" if notes else item.text

    def _end(self, item: Mention) -> str:
        verdict = item.verdict
        if verdict is None:
            return f"{item.title}: no longer watched, its rule is gone or is about something else"
        notes = self._worst(verdict, item.watch) if item.watch else []
        if item.times > 1:
            notes.append(f"{item.times} times, for {Duration(item.lasted / 1000)} in all")
        more = f" ({'; '.join(notes)})" if notes else ""
        return f"{item.title}: over after {Duration(max(0, verdict.until - item.begun) / 1000)}{more}"

    def _worst(self, verdict: Verdict, watch: Watch) -> list[str]:
        if verdict.worst is None or (worst := shown(verdict.worst, watch.decimals)) == shown(
            verdict.value, watch.decimals
        ):
            return []
        return [clean(f"worst {worst} {watch.unit} at {self.clock(verdict.worst_time)}")]

    def text(self, items: Iterable[Mention]) -> str:
        """Lines of a message."""
        lines = [self.line(item) for item in items]
        more = [f"and {len(lines) - LINES} more"] if lines[LINES:] else []
        return "\n".join(lines[:LINES] + more)

    @staticmethod
    def title(items: list[Mention], *, meanwhile: bool = False) -> str:
        """Title of a message: the alert's, or how many there are."""
        kind = items[0].kind
        if len(items) == 1 and not meanwhile:
            form = {"fires": "{}", "still": "Still: {}", "resolved": "Over: {}", "went": "Came and went: {}"}[kind]
            if items[0].times > 1 and kind in ("fires", "went"):
                form = "Flaps: {}" if kind == "fires" else "Flapped: {}"
            return form.format(items[0].title)
        count = f"{len(items)} alert{'s' * (len(items) > 1)}"
        if meanwhile:
            return f"{count} meanwhile, all over"
        return {
            "fires": count,
            "still": f"Still: {count}",
            "resolved": f"{len(items)} over",
            "went": f"{count} came and went",
        }[kind]
