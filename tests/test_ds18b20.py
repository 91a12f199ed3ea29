"""What a DS18B20 said, from the kernel's two lines: a fault is never a temperature, and a true 85.0 is one."""

import pytest

from services.protocols.ds18b20 import SensorError, decode


def lines(celsius: float, pad: str | None = None, crc: str = "YES") -> list[str]:
    """The two lines of `w1_slave`, as the kernel makes them of a scratchpad."""
    raw = round(celsius * 16) & 0xFFFF
    pad = pad or f"{raw & 0xFF:02x} {raw >> 8:02x} 4b 46 7f ff 0a 10 21"
    return [f"{pad} : crc=21 {crc}\n", f"{pad} t={round(celsius * 1000)}\n"]


AFTER_POWER_ON = "50 05 4b 46 7f ff 0c 10 1c"


@pytest.mark.parametrize("celsius", [-55.0, -10.125, 0.0, 20.0625, 84.9375, 125.0])
def test_a_temperature_is_read(celsius: float) -> None:
    assert decode(lines(celsius)) == pytest.approx(celsius, abs=0.0006)


@pytest.mark.parametrize("last", [83.0, 84.5, 85.0, 86.0, 87.0, None])
def test_85_degrees_that_a_flue_passes_are_a_temperature(last: float | None) -> None:
    assert decode(lines(85.0), last) == 85.0


@pytest.mark.parametrize("last", [20.0, 82.9, 87.1, 120.0])
def test_85_degrees_by_a_jump_are_what_it_says_after_power_on(last: float) -> None:
    with pytest.raises(SensorError, match="after power-on, before it measured"):
        decode(lines(85.0), last)
    assert decode(lines(84.9375), last) == pytest.approx(84.938)  # a jump to anywhere else is a temperature


@pytest.mark.parametrize("last", [None, 20.0, 85.0])
def test_85_degrees_of_a_scratchpad_without_a_conversion_are_none_whatever_was_before(last: float | None) -> None:
    with pytest.raises(SensorError, match="after power-on, before it measured"):
        decode(lines(85.0, AFTER_POWER_ON), last)


@pytest.mark.parametrize(
    ("said", "sentence"),
    [
        ([], "the bus is silent"),
        (lines(20.0)[:1], "the bus is silent"),
        (lines(20.0, crc="NO"), "the checksum is wrong"),
        (lines(0.0, "00 00 00 00 00 00 00 00 00"), "answers only zeros"),
        (lines(127.9375), "127.9 °C is beyond what it can measure"),
        (lines(-55.0625), "-55.1 °C is beyond what it can measure"),
        (["zz : crc=21 YES", "zz t=20000"], "is not understood"),
        ([lines(20.0)[0], "no temperature"], "is not understood"),
    ],
)
def test_each_fault_is_a_sentence_and_never_a_value(said: list[str], sentence: str) -> None:
    with pytest.raises(SensorError, match=sentence):
        decode(said)
