"""What of a house stands on its topics and what its archive counts, read by who has no topics.yaml of it."""

from typing import Any, Final

import msgspec

from bootstrap_lib import Poison, ReadingError, Sequence, Value, clock, parse_time

FLEET_ROOT: Final = "home"
"""What stands behind a house's name in its topics at the centre: bridges write it so, whatever house and centre call their own root."""

AHEAD: Final = 60_000
"""Milliseconds that a reading may be ahead of our clock."""


class WireReading(msgspec.Struct, frozen=True, gc=False):
    """A measurement as it stands on its topic."""

    value: Value
    time: str
    unit: str = ""


class HourCounts(msgspec.Struct, frozen=True):
    """What an archive says of a range: a number for each topic and hour."""

    hours: list[str]
    topics: dict[str, list[int]]


class CountAnswer(msgspec.Struct, frozen=True):
    """An archive's answer to `request/counts`."""

    status: str
    data: HourCounts | None = None
    error: str = ""
    id: Any = None


_reading = msgspec.json.Decoder(WireReading)


def read(payload: bytes, now: int) -> tuple[WireReading, int]:
    """A reading and its time (ms); ReadingError or Poison says why it is none."""
    try:
        wire = _reading.decode(payload)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise ReadingError(f"not a reading: {error}") from None
    moment = parse_time(wire.time)
    if moment < clock.BORN:
        raise Poison("its time lies before 2026: the clock of its source was not set")
    if moment > now + AHEAD:
        raise Poison("its time is more than a minute ahead: set the clock of its source")
    return wire, moment


def place(text: str | None) -> Sequence | None:
    """A reading's place among those of its source, or None where it says none."""
    try:
        return Sequence.parse(text) if text else None
    except ValueError:
        return None
