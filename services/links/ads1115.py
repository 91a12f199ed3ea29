"""The ADS1115 through Adafruit's driver, in the one order of calls that gives true values and always comes back.

The driver's traps (version 3.0.5) and the way round each:
- Continuous mode keeps the multiplexer of the last single conversion: one single conversion selects the input first.
- The first fast read after it returns whatever register was read last: one full read moves the pointer.
- The last result is unsigned: it is made signed here.
- A single conversion is awaited for ever: every transfer passes a deadline.
- After a brown-out continuous mode repeats one old value: the configuration is read back behind each window.
"""

import contextlib
import functools
import time
from typing import TYPE_CHECKING, Any

from services.protocols.rms import Samples

if TYPE_CHECKING:
    from collections.abc import Callable

    from services.links.i2c import I2C

Input = tuple[int] | tuple[int, int]
"""A pin against ground, `(3,)`, or the difference of two, `(0, 3)`."""

MULTIPLEXER: dict[Input, int] = {
    (0, 1): 0, (0, 3): 1, (1, 3): 2, (2, 3): 3, (0,): 4, (1,): 5, (2,): 6, (3,): 7,
}  # fmt: skip
FULL_SCALE = {2 / 3: 6.144, 1: 4.096, 2: 2.048, 4: 1.024, 8: 0.512, 16: 0.256}
"""Volts at the converter's limit for each gain."""
DATA_RATE = 860
LIMITS = (0x7FFF, -0x8000)
CONFIG = b"\x01"
SELECTION = 0x7F00
"""The bits of the configuration that say input, gain and mode (SBAS444, config register)."""
TRANSFERS = ("writeto", "readfrom_into", "writeto_then_readfrom")
REPEATS = 3
"""Of a transfer that the chip did not acknowledge."""
PATIENCE = 0.5
"""Seconds that a chip may take beyond the window itself."""
HELD_UP = 3 / DATA_RATE
"""Seconds between two samples after which the process was held up: nobody knows when such a value was true."""
MAINS_CYCLE = 1 / 50
"""Seconds that a break costs besides its own length, because windows are cut to whole cycles."""


class ChipError(OSError):
    """A chip is missing, stuck or lost its configuration; the text says which and what to look at."""


class Deadline:
    """A bus whose transfers fail after a moment in time, because the driver waits for a stuck chip for ever.

    A transfer that was refused is repeated: one disturbed acknowledgement must not cost a window of 0.2 s. All that
    the driver sends may be said twice.
    """

    def __init__(self, bus: "I2C") -> None:
        self.bus = bus
        self.end = 0.0

    def __getattr__(self, name: str) -> Any:
        """Give any call of the bus, as long as there is time."""
        if name != "unlock" and time.monotonic() > self.end:
            raise TimeoutError
        call = getattr(self.bus, name)
        return functools.partial(_repeated, call) if name in TRANSFERS else call


def _repeated(transfer: "Callable[..., None]", *arguments: Any, **named: Any) -> None:
    for _ in range(REPEATS):
        with contextlib.suppress(OSError):
            return transfer(*arguments, **named)
    return transfer(*arguments, **named)


class Chip:
    """One ADS1115 on a bus, at 0x48 to 0x4B, for one thread.

    Nothing is touched before the first window. After a failure the driver is built anew, so a chip that was plugged
    in again is found.
    """

    def __init__(self, bus: "I2C", address: int = 0x48) -> None:
        self._bus = Deadline(bus)
        self._address = address
        self._driver: Any = None

    def sample(self, input_: Input, gain: float, seconds: float) -> Samples:
        """Sample an input for a time (s) at 860 per second; volts, and times of the monotonic clock.

        Where the process is held up the window grows by what was lost, by a quarter of a second at most.
        ChipError, at most half a second late, if the chip is missing, stuck, or lost its configuration meanwhile;
        ValueError if the chip has no such input or gain.
        """
        if input_ not in MULTIPLEXER or gain not in FULL_SCALE:
            raise ValueError(f"An ADS1115 has the inputs {list(MULTIPLEXER)} and the gains {list(FULL_SCALE)}.")
        self._bus.end = time.monotonic() + seconds + PATIENCE
        try:
            times, codes = self._window(input_, gain, seconds)
        except (OSError, ValueError) as error:
            self._driver = None
            raise ChipError(f"The ADS1115 at {self._address:#04x} {_reason(error)}.") from error
        volts = FULL_SCALE[gain] / 0x8000
        saturated = any(code in LIMITS for code in codes)
        return Samples(tuple(times), tuple(code * volts for code in codes), saturated)

    def _window(self, input_: Input, gain: float, seconds: float) -> tuple[list[float], list[int]]:
        from adafruit_ads1x15 import ADS1115, AnalogIn
        from adafruit_ads1x15.ads1x15 import Mode

        if self._driver is None:
            self._driver = ADS1115(self._bus, gain=gain, data_rate=DATA_RATE, address=self._address)
        driver = self._driver
        if driver.gain != gain:
            driver.gain = gain
        driver.mode = Mode.SINGLE
        _ = AnalogIn(driver, *input_).value
        driver.mode = Mode.CONTINUOUS
        time.sleep(2 / DATA_RATE)
        driver.get_last_result()
        times, codes = [], []
        due = time.monotonic()
        end = due + seconds
        latest = end + PATIENCE / 2
        while (before := time.monotonic()) < end:
            code = driver.get_last_result(fast=True)
            after = time.monotonic()
            if after - before < HELD_UP:
                times.append(before)
                codes.append(_signed(code))
            if after - due > HELD_UP:
                end = min(end + after - due + MAINS_CYCLE, latest)
            due = max(due + 1 / DATA_RATE, after)
            time.sleep(max(0.0, due - time.monotonic()))
        self._verify(input_, gain)
        driver.mode = Mode.SINGLE
        return times, codes

    def _verify(self, input_: Input, gain: float) -> None:
        """Read back what the chip was converting: that input, with that gain, continuously."""
        config = bytearray(2)
        while not self._bus.try_lock():
            time.sleep(0)
        try:
            self._bus.writeto_then_readfrom(self._address, CONFIG, config)
        finally:
            self._bus.unlock()
        wanted = MULTIPLEXER[input_] << 12 | list(FULL_SCALE).index(gain) << 9
        if (found := int.from_bytes(config, "big") & SELECTION) != wanted:
            raise ValueError(found, wanted)


def _signed(code: int) -> int:
    return code - 0x10000 if code > LIMITS[0] else code


def _reason(error: OSError | ValueError) -> str:
    match error:
        case TimeoutError():
            return "does not finish its conversions: it is stuck, or the bus is held; take its power away and look"
        case ValueError(args=(int(found), int(wanted))):
            return (
                f"lost its configuration during the reading ({found:#06x} instead of {wanted:#06x}): "
                "its supply fails now and then, or another program uses it"
            )
        case ValueError():
            return "is not on the bus: look at its supply, SDA, SCL and the address pin"
        case _:
            return f"does not answer ({error.strerror or error}): look at its supply, SDA and SCL"
