"""What a 1-wire thermometer said, from the two lines that the kernel prints of its scratchpad (data sheets; w1_therm).

Family by family: DS18S20 (10), DS1822 (22), DS18B20 (28), DS1825 and MAX31850 with a thermocouple (3b), DS28EA00 (42).
"""

from collections.abc import Sequence
from typing import Final

POWER_ON: Final = 85.0
"""°C that a sensor holds before its first conversion; also a temperature that a flue passes every day."""

_NO_CONVERSION: Final = 0x0C
"""Byte 6 of the scratchpad after power-on."""
_CONVERTED: Final = 0x10
"""Byte 6 after a conversion to whole degrees, as 85 are: the last four bits of the temperature, subtracted."""
_TELLS: Final = ("22", "28")
"""Families whose byte 6 tells the two apart. A DS18S20 counts with it, the others hold 0C for ever; so do some clones
of the DS18B20, whose 85.000 °C is lost between 84.937 and 85.062."""

_JUMP: Final = 2.0
"""°C from the last good value beyond which 85.0 is taken for the power-on value, where byte 6 does not tell."""

_THERMOCOUPLE: Final = 0x80
"""Bit of byte 4 that is set in a MAX31850 and clear in a DS1825, which share a family."""
_COUPLE_FAULTS: Final = {
    1: "the thermocouple is open: look at its terminals",
    2: "the thermocouple touches ground",
    4: "the thermocouple touches the supply",
}
"""Bits of byte 2 of a MAX31850, valid where bit 0 of byte 0 is set."""


class SensorError(ValueError):
    """The sensor gave no temperature; the message says why."""


def decode(lines: Sequence[str], last: float | None = None, family: str = "28") -> float:
    """Temperature in °C from the lines of `w1_slave`; SensorError says why there is none.

    `last` is the last good value, in °C, by which a genuine 85.0 is told from the one after power-on where the
    scratchpad does not tell; `family` are the first two digits of the sensor's id.
    """
    if len(lines) < 2:  # noqa: PLR2004
        raise SensorError("the bus is silent: check the wiring, the sensor's supply and the pull-up")
    if not lines[0].rstrip().endswith("YES"):
        raise SensorError("the checksum is wrong: a long or disturbed cable, or a weak pull-up")
    try:
        pad = bytes.fromhex(lines[0].partition(":")[0])
        celsius = int(lines[1].rpartition("t=")[2]) / 1000
    except ValueError:
        raise SensorError(f"its answer is not understood: {' '.join(lines)[:80]!r}") from None
    if not any(pad):
        raise SensorError("it answers only zeros: the data line is shorted")
    if family == "3b" and len(pad) > 4 and pad[4] & _THERMOCOUPLE:  # noqa: PLR2004
        return _thermocouple(pad)
    if celsius == POWER_ON and _not_measured(family, pad[6:7], last):
        raise SensorError("85 °C is what it says after power-on, before it measured: check its supply")
    if not -55 <= celsius <= 125:  # noqa: PLR2004 (range of the data sheet)
        raise SensorError(f"{celsius:.1f} °C is beyond what it can measure: it was pulled out while it answered")
    return celsius


def _not_measured(family: str, byte_6: bytes, last: float | None) -> bool:
    if family in _TELLS and byte_6 in (bytes([_NO_CONVERSION]), bytes([_CONVERTED])):
        return byte_6[0] == _NO_CONVERSION
    return last is not None and abs(last - POWER_ON) > _JUMP


def _thermocouple(pad: bytes) -> float:
    """Temperature of a MAX31850's thermocouple; the kernel's `t=` holds the fault bit as well."""
    if pad[0] & 1:
        said = [sentence for bit, sentence in _COUPLE_FAULTS.items() if pad[2] & bit]
        raise SensorError(said[0] if said else "the thermocouple has a fault that it does not name")
    celsius = (int.from_bytes(pad[:2], "little", signed=True) & ~3) / 16
    if not -270 <= celsius <= 1800:  # noqa: PLR2004 (type K, and what the converter can say)
        raise SensorError(f"{celsius:.0f} °C is beyond what a thermocouple can measure")
    return celsius
