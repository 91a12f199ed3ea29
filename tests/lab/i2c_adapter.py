"""An i2c-tiny-usb adapter (Till Harbaum's, firmware/main.c), so that a simulated chip sits behind a real /dev/i2c-N."""

import struct
from collections.abc import Mapping
from enum import IntEnum

from services.simulators.ads1115 import SimulatedChip
from tests.lab.usbip import Device, Stall

TRANSFERS = range(4, 8)  # a message, without or with a start and a stop
I2C_AND_EMULATED_SMBUS = 0x0EFF0009
READ = 1  # flag of a message


class Acknowledge(IntEnum):
    """What became of the address that was sent last."""

    IDLE, YES, NO = range(3)


class TinyI2C(Device):
    """The adapter and the chips on its bus, by address; one whose fault is `absent` acknowledges nothing."""

    vendor, product = 0x0403, 0xC631

    def __init__(self, chips: Mapping[int, SimulatedChip]) -> None:
        self.chips = chips
        self._status = Acknowledge.IDLE

    def request(self, request: int, value: int, index: int, data: bytes, length: int) -> bytes:
        """Answer one of the firmware's five commands; the value is a message's flags, the index its address."""
        if request in TRANSFERS:
            chip = self.chips.get(index)
            if chip is None or chip.fault == "absent":
                self._status = Acknowledge.NO
                return b"\xff" * length
            self._status = Acknowledge.YES
            if value & READ:
                return chip.read().ljust(length, b"\xff")[:length]
            chip.write(data)
            return b""
        match request:
            case 0:  # echo
                return struct.pack("<H", value)
            case 1:  # what the adapter can do
                return struct.pack("<I", I2C_AND_EMULATED_SMBUS)
            case 2:  # delay of the clock
                return b""
            case 3:
                return bytes((self._status,))
        raise Stall
