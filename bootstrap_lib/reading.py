"""The wire format: one measurement as it stands on a topic, in one place for all who write or read it.

    home/data/boiler/water/temperature {"value":61.4,"unit":"°C","time":"2026-11-20T15:01:53.120Z"}

An empty payload clears a topic: whoever measured it no longer can.
"""

import functools
import json
import math
import re
from datetime import UTC, datetime
from typing import Any, Final

import msgspec

from bootstrap_lib.document import plain

Value = bool | int | float | str
"""A number, a word of the topic's states, true or false, or text; never null, never NaN, never a sentinel."""

LONGEST: Final = 4096
"""Bytes of the longest payload accepted on a data topic: a measurement has about 70."""


LAST_NUMBER: Final = 2**63 - 1
"""The last of a stream's numbers: what SQL keeps as an integer."""

TIMES: Final = range(-62_135_596_800_000, 253_402_300_800_000)
"""Milliseconds since 1970 that have a name: the years 1 to 9999 in UTC."""

_SEQUENCE: Final = re.compile(r"([0-9a-z]{1,32}):([0-9]{1,19}):([0-9]{1,19})", re.ASCII)


class ReadingError(ValueError):
    """A payload that is no reading; the message says what is wrong with it."""


class Sequence(msgspec.Struct, frozen=True, gc=False):
    """Place of a reading among those of its source, so that the archive can tell a gap (docs/durability.md).

    `stream` names the run of numbers, `number` is this reading's, `previous` that of the one before it which
    the source still vouches for: what it had to drop is skipped by this link, and is no gap.
    """

    stream: str
    previous: int
    number: int

    def __str__(self) -> str:
        """Return the form in which it travels, as the MQTT 5 user property `seq`."""
        return f"{self.stream}:{self.previous}:{self.number}"

    @classmethod
    def parse(cls, text: str) -> "Sequence":
        """Read the user property; ValueError where it is none."""
        if not (found := _SEQUENCE.fullmatch(text)):
            raise ValueError(f"{text[:60]!r} is no place in a sequence: STREAM:PREVIOUS:NUMBER, in 63 bits")
        stream, previous, number = found.groups()
        place = cls(stream, int(previous), int(number))
        if not place.previous < place.number <= LAST_NUMBER:
            raise ValueError(f"{text[:60]!r}: a number comes after the one before it, and has 63 bits at most")
        return place


class Reading(msgspec.Struct, frozen=True, gc=False):
    """One value of one topic at one time.

    `topic` is the name below `home/data/`, `time` is in milliseconds since 1970 UTC: both together identify a
    reading. `sequence` is there when the source wants the archive to confirm it.
    """

    topic: str
    value: Value
    unit: str
    time: int
    sequence: Sequence | None = None

    def payload(self) -> bytes:
        """Return what stands on its topic; ReadingError for NaN and infinities."""
        return encode(self)


class _Wire(msgspec.Struct, omit_defaults=True):
    value: bool | float | str
    time: str
    unit: str = ""


_decoder = msgspec.json.Decoder(_Wire)


def format_time(time: int) -> str:
    """Milliseconds since 1970 as RFC 3339 in UTC, always with milliseconds."""
    whole, milliseconds = divmod(time, 1000)
    return f"{_second(whole)}.{milliseconds:03d}Z"


@functools.lru_cache(16)
def _second(whole: int) -> str:
    return datetime.fromtimestamp(whole, UTC).isoformat()[:19]  # all readings of a round are of one second, mostly


def parse_time(text: str) -> int:
    """Milliseconds since 1970 of an RFC 3339 time with an offset or Z, always one of TIMES; ReadingError where it is none."""
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        raise ReadingError(f"time {text[:40]!r} is not of the form 2026-11-20T15:01:53.120Z") from None
    if moment.tzinfo is None:
        raise ReadingError(f"time {text[:40]!r} has no offset from UTC: end it with Z")
    try:
        time = round(moment.timestamp() * 1000)
    except (OverflowError, ValueError):  # a day of year 1 or 9999 that another offset puts beyond
        time = TIMES.stop
    if time not in TIMES:  # also one that is rounded up into the year 10000
        raise ReadingError(f"time {text[:40]!r} lies beyond what a computer can name")
    return time


def encode_head(value: Value, unit: str) -> str:
    """Everything of a payload before its time, which may still be corrected while the reading waits."""
    if isinstance(value, float) and not math.isfinite(value):
        raise ReadingError(f"{value} is no value: a failed reading is not published")
    head = f'{{"value":{json.dumps(value, ensure_ascii=False)},'
    return f'{head}"unit":{json.dumps(unit, ensure_ascii=False)},' if unit else head


def encode_tail(head: str, time: int) -> bytes:
    """Complete a payload that `encode_head` began."""
    return f'{head}"time":"{format_time(time)}"}}'.encode()


def encode(reading: Reading) -> bytes:
    """Payload of a reading; ReadingError for NaN and infinities."""
    return encode_tail(encode_head(reading.value, reading.unit), reading.time)


def decode(topic: str, payload: bytes, sequence: Sequence | None = None) -> Reading:
    """Reading of a payload; ReadingError says what is wrong where it is none."""
    if len(payload) > LONGEST:
        raise ReadingError(f"{len(payload)} bytes are too long for a reading (at most {LONGEST})")
    try:
        wire = _decoder.decode(payload)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise ReadingError(f"not a reading ({error}): {excerpt(payload)}") from None
    value: Value = wire.value
    return Reading(topic, value, wire.unit, parse_time(wire.time), sequence)


def excerpt(payload: bytes, length: int = 60) -> str:
    """First characters of a payload, printable, for a message to people."""
    text = payload[: length * 4].decode("utf-8", "replace")
    return f'"{plain(text[:length])}"' + ("…" if len(text) > length else "")


def as_json(value: Any) -> bytes:
    """Compact JSON for every message that is not a reading."""
    return msgspec.json.encode(value, enc_hook=str)  # a duration as people write it
