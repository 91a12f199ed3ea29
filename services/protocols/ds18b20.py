"""What a DS18B20 said, from the two lines that the kernel prints of it (data sheet DS18B20, "memory"; w1_therm)."""

from collections.abc import Sequence
from typing import Final

POWER_ON: Final = 85.0
"""°C that the sensor holds before its first conversion; also a temperature that a flue passes every day."""

_NO_CONVERSION: Final = 0x0C
"""Byte 6 of the scratchpad after power-on; a conversion leaves another value there."""

_JUMP: Final = 2.0
"""°C from the last good value beyond which 85.0 is taken for the power-on value."""


class SensorError(ValueError):
    """The sensor gave no temperature; the message says why."""


def decode(lines: Sequence[str], last: float | None = None) -> float:
    """Temperature in °C from the lines of `w1_slave`; SensorError says why there is none.

    `last` is the last good value, in °C, by which a genuine 85.0 is told from the one after power-on.
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
    if celsius == POWER_ON and (
        pad[6:7] == bytes([_NO_CONVERSION]) or (last is not None and abs(last - celsius) > _JUMP)
    ):
        raise SensorError("85 °C is what it says after power-on, before it measured: check its supply")
    if not -55 <= celsius <= 125:  # noqa: PLR2004 (range of the data sheet)
        raise SensorError(f"{celsius:.1f} °C is beyond what it can measure: it was pulled out while it answered")
    return celsius
