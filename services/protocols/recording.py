"""Recorded readings as JSON lines: `topic`, `value`, `unit` and `time` in each, as the archive's export writes them."""

from collections.abc import Container, Iterable, Iterator
from datetime import UTC, datetime
from typing import Final

import msgspec

from bootstrap_lib import Value

FIRST: Final = 946_684_800_000
"""The year 2000 (ms since 1970): no recording of a house is older, and a clock that was never set says 1970."""
AHEAD: Final = 60_000
"""Milliseconds by which a reading may be ahead of now, as in the stores."""

_MARK: Final = "\ufeff"


class RecordedLine(msgspec.Struct):
    """One line; what else stands in it is passed over."""

    topic: str
    value: bool | float | str
    time: datetime


def recorded(lines: Iterable[str | bytes], names: Container[str], now: int) -> Iterator[tuple[str, Value, int]]:
    """Topic, value and time (ms since 1970) of each line whose topic is one of `names`.

    ValueError names a line that is no reading, or is of a time that cannot be: before 2000, or ahead of `now` (ms).
    """
    decode, last = msgspec.json.Decoder(RecordedLine).decode, now + AHEAD
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
        yield line.topic, line.value, time
