"""The wire format: what stands on a topic, and what is refused there."""

from typing import Any

import pytest

from bootstrap_lib.reading import (
    LONGEST,
    Reading,
    ReadingError,
    Sequence,
    decode,
    encode,
    excerpt,
    format_time,
    parse_time,
)

TOPIC, MOMENT = "boiler/water/temperature", 1_795_186_913_120


@pytest.mark.parametrize(
    ("value", "unit", "payload"),
    [
        (61.4, "°C", '{"value":61.4,"unit":"°C","time":"2026-11-20T15:01:53.120Z"}'),
        (True, "", '{"value":true,"time":"2026-11-20T15:01:53.120Z"}'),
        ("keep_fire", "", '{"value":"keep_fire","time":"2026-11-20T15:01:53.120Z"}'),
        (12, "kWh", '{"value":12,"unit":"kWh","time":"2026-11-20T15:01:53.120Z"}'),
    ],
)
def test_a_reading_has_its_keys_in_order_no_spaces_and_comes_back(value: Any, unit: str, payload: str) -> None:
    reading = Reading(TOPIC, value, unit, MOMENT)
    assert encode(reading).decode() == payload
    back = decode(TOPIC, payload.encode())
    assert back == reading
    assert type(back.value) is type(value) or isinstance(back.value, float)


@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf")])
def test_what_is_no_number_is_never_published(value: float) -> None:
    with pytest.raises(ReadingError, match="a failed reading is not published"):
        encode(Reading(TOPIC, value, "°C", MOMENT))


@pytest.mark.parametrize("milliseconds", [0, 1, 20, 999])
def test_times_are_utc_and_have_milliseconds_always(milliseconds: int) -> None:
    text = format_time(1_795_186_913_000 + milliseconds)
    assert text == f"2026-11-20T15:01:53.{milliseconds:03d}Z"
    assert parse_time(text) == 1_795_186_913_000 + milliseconds


@pytest.mark.parametrize(
    ("text", "moment"),
    [("2026-11-20T16:01:53.12+01:00", MOMENT), ("2026-11-20T15:01:53.120000Z", MOMENT), ("1970-01-01T00:00:00Z", 0)],
)
def test_other_offsets_and_digits_are_read(text: str, moment: int) -> None:
    assert parse_time(text) == moment


@pytest.mark.parametrize("text", ["0001-01-01T00:00:00.000Z", "9999-12-31T23:59:59.999Z"])
def test_each_time_that_is_read_has_a_name(text: str) -> None:
    assert format_time(parse_time(text)) == text


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("2026-11-20T15:01:53.120", "has no offset from UTC: end it with Z"),
        ("yesterday", "is not of the form"),
        ("", "is not of the form"),
        ("2026-13-20T15:01:53Z", "is not of the form"),
        ("0001-01-01T00:00:00+00:01", "lies beyond what a computer can name"),
        ("9999-12-31T23:59:59.9996Z", "lies beyond what a computer can name"),
        ("9999-12-31T23:00:00-01:00", "lies beyond what a computer can name"),
    ],
)
def test_a_time_that_is_none_or_that_may_be_anywhere_is_refused(text: str, sentence: str) -> None:
    with pytest.raises(ReadingError, match=sentence):
        parse_time(text)


@pytest.mark.parametrize(
    "payload",
    [
        b"",
        b"61.4",
        b"{",
        b"\xff",
        b'{"time":"2026-11-20T15:01:53.120Z"}',
        b'{"value":61.4}',
        b'{"value":null,"time":"2026-11-20T15:01:53.120Z"}',
        b'{"value":[1],"time":"2026-11-20T15:01:53.120Z"}',
        b'{"value":NaN,"time":"2026-11-20T15:01:53.120Z"}',
        b'{"value":1,"unit":7,"time":"2026-11-20T15:01:53.120Z"}',
    ],
)
def test_what_is_no_reading_is_refused_with_its_beginning(payload: bytes) -> None:
    with pytest.raises(ReadingError, match="not a reading"):
        decode(TOPIC, payload)


def test_a_reading_is_bounded() -> None:
    frame = b'{"value":"%s","time":"2026-11-20T15:01:53.120Z"}'
    room = LONGEST - len(frame) + 2
    assert decode(TOPIC, frame % (b"x" * room)).value == "x" * room
    with pytest.raises(ReadingError, match=f"{LONGEST + 1} bytes are too long for a reading"):
        decode(TOPIC, frame % (b"x" * (room + 1)))


def test_the_place_in_a_sequence_travels_as_text() -> None:
    sequence = Sequence("ab12", 6, 9)
    assert str(sequence) == "ab12:6:9"
    assert Sequence.parse("ab12:6:9") == sequence
    for wrong in ("", "ab12:6", "ab12:6:nine", "a:b:c:d"):
        with pytest.raises(ValueError, match=r"no place in a sequence"):
            Sequence.parse(wrong)


def test_an_excerpt_can_be_printed_whatever_it_is_of() -> None:
    assert excerpt(b"\x1b[31mred\n") == '"\\x1b[31mred\\n"'
    assert excerpt("\x9b2J\x7f\u202e °C".encode()) == '"\\x9b2J\\x7f\\u202e °C"'
    assert excerpt(b"\xff" * 100).endswith("…")
    assert len(excerpt(b"x" * 10_000)) < 70
