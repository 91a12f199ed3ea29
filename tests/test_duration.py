"""Times as people write them."""

import pytest

from bootstrap_lib.duration import PATTERN, Duration, describe
from bootstrap_lib.reading import as_json


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("250ms", 0.25),
        ("10s", 10),
        ("1.5s", 1.5),
        ("15m", 900),
        ("2h", 7200),
        ("7d", 604_800),
        ("1h30m", 5400),
        ("0s", 0),
    ],
)
def test_a_number_and_a_unit_are_seconds(text: str, seconds: float) -> None:
    assert Duration.parse(text) == pytest.approx(seconds)


@pytest.mark.parametrize("text", ["10", "", "s", "10 s", "-5s", "10S", "1w", "5m later", "٣s\n", 10, None, True])
def test_what_has_no_unit_or_is_no_time_is_refused_with_what_to_write(text: object) -> None:
    with pytest.raises(ValueError, match="is no duration: write a number and a unit, such as 10s, 15m, 2h or 7d"):
        Duration.parse(text)


def test_a_hundred_years_are_the_longest() -> None:
    assert Duration.parse("36500d") == 36_500 * 86_400
    with pytest.raises(ValueError, match="longer than a hundred years"):
        Duration.parse("36501d")
    with pytest.raises(ValueError, match="longer than a hundred years"):
        Duration.parse("9" * 400 + "d")


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0.25, "250ms"),
        (0.9999, "1000ms"),
        (1, "1s"),
        (59.6, "1m"),
        (200, "3m20s"),
        (7500, "2h5m"),
        (357_000, "4d3h"),
        (86_401, "1d1s"),
    ],
)
def test_people_read_two_units_at_most(seconds: float, text: str) -> None:
    assert describe(seconds) == text
    assert str(Duration(seconds)) == text


def test_what_is_shown_can_be_written() -> None:
    for whole in range(1, 1_000_000, 977):
        shown = describe(whole)
        assert abs(Duration.parse(shown) - whole) < 3600, shown
    assert PATTERN.startswith("^")
    assert PATTERN.endswith("$")


def test_it_is_shown_as_text_unless_a_number_is_asked_for() -> None:
    assert f"{Duration(90)} {Duration(5):>6} {Duration(90):g}" == "1m30s     5s 90"


def test_in_an_answer_it_is_written_as_people_do() -> None:
    assert as_json({"for": Duration(90)}) == b'{"for":"1m30s"}'
