"""Recorded readings as JSON lines: `topic`, `value`, `unit` and `time` in each, as the archive's export writes them."""

from collections.abc import Callable, Container, Iterable, Iterator
from datetime import UTC, datetime
from typing import Final, TypeVar

import msgspec

from bootstrap_lib import Value

FIRST: Final = 946_684_800_000
"""The year 2000 (ms since 1970): no recording of a house is older, and a clock that was never set says 1970."""
AHEAD: Final = 60_000
"""Milliseconds by which a reading may be ahead of now, as in the stores."""

ALONE: Final = 50
"""Lines of a topic that begins in the past, without another's between them, that show that a file is not in the order of time."""

LATE_MS: Final = 2 * 3_600_000
"""Readings that are late by up to this (ms) are put in order first, as the archive would have them."""

_MARK: Final = "\ufeff"
_Reading = TypeVar("_Reading")


class RecordedLine(msgspec.Struct):
    """One line; what else stands in it is passed over."""

    topic: str
    value: bool | float | str
    time: datetime


def recorded(
    lines: Iterable[str | bytes], names: Container[str], now: int, *, in_order: bool = True
) -> Iterator[tuple[str, Value, int]]:
    """Topic, value and time (ms since 1970) of each line whose topic is one of `names`.

    ValueError names a line that is no reading, or is of a time that cannot be: before 2000, or ahead of `now` (ms). It
    also names the line with which a topic begins long before what was read already: then the file is no recording in the
    order of time, but one topic after the other, and each would be silent while the next one speaks. Who sorts everything himself does not
    ask for it (`in_order`).
    """
    decode, last = msgspec.json.Decoder(RecordedLine).decode, now + AHEAD
    begun: set[str] = set()
    newest = alone = 0
    begins = ""
    for number, text in enumerate(lines, 1):
        if number == 1:  # what some editors put at the beginning of a file
            text = text.removeprefix(_MARK) if isinstance(text, str) else text.removeprefix(_MARK.encode())  # noqa: PLW2901
        if not text.strip():
            continue
        try:
            line = decode(text)
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            raise ValueError(
                f"line {number}: {error}: give one JSON object a line with topic, value, unit and time"
            ) from None
        if line.topic not in names:
            continue
        moment = line.time if line.time.tzinfo else line.time.replace(tzinfo=UTC)
        time = round(moment.timestamp() * 1000)
        if not FIRST <= time <= last:
            raise ValueError(f"line {number}: {line.time} {'lies ahead of now' if time > last else 'is before 2000'}")
        if line.topic not in begun and time < newest - LATE_MS:
            begins, alone = f"line {number}: {line.topic}", 0
        elif not begins.endswith(f": {line.topic}"):
            begins = ""  # others go on meanwhile: it is late, or a clock was set
        alone += 1
        if in_order and begins and alone >= ALONE:
            raise ValueError(
                f"{begins} begins more than two hours before what was read already: give the readings"
                " of all topics in the order of time"
            )
        begun.add(line.topic)
        newest = max(newest, time)
        yield line.topic, line.value, time


def ordered(readings: Iterable[_Reading], late_ms: int, time: Callable[[_Reading], int]) -> Iterator[_Reading]:
    """Sort readings by their time (ms) within a span; what is later still comes as it came."""
    if late_ms <= 0:
        yield from readings
        return
    waiting: list[_Reading] = []
    newest = limit = 0
    for reading in readings:
        waiting.append(reading)
        if (moment := time(reading)) > newest:
            newest = moment
            if not limit:
                limit = newest + 2 * late_ms
            if newest >= limit:
                waiting.sort(key=time)
                ready = newest - late_ms
                cut = next(i for i, r in enumerate(waiting) if time(r) > ready)
                yield from waiting[:cut]
                del waiting[:cut]
                limit = newest + late_ms
    waiting.sort(key=time)
    yield from waiting
