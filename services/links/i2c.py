"""The I²C bus as CircuitPython drivers expect it, without `board`, which would drag every GPIO library in."""

import threading
from pathlib import Path
from typing import Protocol


class I2C(Protocol):
    """The calls that `adafruit_bus_device` makes; addresses have 7 bits, failures are OSError."""

    def try_lock(self) -> bool:
        """Take the bus if nobody has it."""

    def unlock(self) -> None:
        """Give the bus back."""

    def deinit(self) -> None:
        """Close the bus."""

    def writeto(self, address: int, buffer: bytes | bytearray, *, start: int = 0, end: int | None = None) -> None:
        """Send bytes to a chip."""

    def readfrom_into(self, address: int, buffer: bytearray, *, start: int = 0, end: int | None = None) -> None:
        """Read bytes from a chip into part of a buffer."""

    def writeto_then_readfrom(
        self,
        address: int,
        out_buffer: bytes | bytearray,
        in_buffer: bytearray,
        *,
        out_start: int = 0,
        out_end: int | None = None,
        in_start: int = 0,
        in_end: int | None = None,
    ) -> None:
        """Write, then read after a repeated start."""


class LinuxBus:
    """`/dev/i2c-N` through Adafruit's PureIO; its speed is set in config.txt (`dtparam=i2c_arm_baudrate=400000`)."""

    def __init__(self, number: int) -> None:
        from Adafruit_PureIO.smbus import SMBus

        self._bus = SMBus(number)
        self._lock = threading.Lock()

    def try_lock(self) -> bool:
        """Take the bus if no other thread has it."""
        return self._lock.acquire(blocking=False)

    def unlock(self) -> None:
        """Give the bus back."""
        self._lock.release()

    def deinit(self) -> None:
        """Close the device."""
        self._bus.close()

    def writeto(self, address: int, buffer: bytes | bytearray, *, start: int = 0, end: int | None = None) -> None:
        """Send bytes to a chip."""
        self._bus.write_bytes(address, buffer[start:end])

    def readfrom_into(self, address: int, buffer: bytearray, *, start: int = 0, end: int | None = None) -> None:
        """Read bytes from a chip into part of a buffer."""
        length = len(buffer[start:end])
        buffer[start : start + length] = self._bus.read_bytes(address, length)

    def writeto_then_readfrom(
        self,
        address: int,
        out_buffer: bytes | bytearray,
        in_buffer: bytearray,
        *,
        out_start: int = 0,
        out_end: int | None = None,
        in_start: int = 0,
        in_end: int | None = None,
    ) -> None:
        """Write, then read after a repeated start, as one transfer."""
        length = len(in_buffer[in_start:in_end])
        data = self._bus.read_i2c_block_data(address, out_buffer[out_start:out_end], length)
        in_buffer[in_start : in_start + length] = data


def open_bus(spec: str) -> I2C:
    """Open a bus: `i2c:1` is /dev/i2c-1, `sim:PATH` the simulated one that a JSON file describes.

    ValueError where the words are none of these; OSError with the remedy where the bus cannot be opened.
    """
    kind, _, where = spec.partition(":")
    if kind == "sim" and where:
        from services.simulators.ads1115 import DescribedBus

        return DescribedBus(Path(where))
    if kind != "i2c" or not where.isdecimal():
        raise ValueError(f'The I²C bus "{spec}" is not known; write "i2c:1" for /dev/i2c-1 or "sim:FILE".')
    try:
        return LinuxBus(int(where))
    except FileNotFoundError as error:
        remedy = 'add "dtparam=i2c_arm=on" to /boot/firmware/config.txt, load i2c-dev and start again'
        raise OSError(error.errno, f"There is no /dev/i2c-{where}: {remedy}.") from error
    except PermissionError as error:
        raise OSError(error.errno, f"/dev/i2c-{where} may not be opened: the service needs the group i2c.") from error
