"""A DS9490R, the USB master of a 1-wire bus with DS18B20s on it, so that the kernel's own ds2490 and w1_therm read them.

The master's commands are those of the DS2490 data sheet, the sensors' those of the DS18B20 data sheet: what a sensor is
asked for before its conversion has ended is what it held before.
"""

import struct
import time
from enum import Enum

from services.simulators.onewire import POWER_ON_BYTE, POWER_ON_CELSIUS, crc8, scratchpad
from tests.lab.usbip import Device, Stall

CONVERSION = 0.75
"""Seconds at 12 bits."""
ROM_BYTES = 8
MATCH, CONVERT, READ_SCRATCHPAD = 0x55, 0x44, 0xBE


class Sensor:
    """One DS18B20, named as Linux names it (`28-0316a2795f4b`); what `celsius` is when a conversion ends is measured."""

    def __init__(self, name: str, celsius: float) -> None:
        family, serial = name.split("-")
        rom = bytes.fromhex(family) + int(serial, 16).to_bytes(6, "little")
        self.rom = rom + bytes((crc8(rom),))
        self.celsius = celsius
        self.present = True
        self.disturbed = False
        """Whether its bytes arrive with a wrong checksum."""
        self.supplied = True
        """Whether its supply outlasts a conversion; otherwise it starts anew in each: 85 °C, and nothing measured."""
        self._pad = scratchpad(POWER_ON_CELSIUS, POWER_ON_BYTE)
        self._ready = 0.0

    def convert(self) -> None:
        """Begin to measure."""
        self._ready = time.monotonic() + CONVERSION

    def read(self) -> bytes:
        """The scratchpad as it arrives at the master."""
        if not self.supplied:
            self._pad, self._ready = scratchpad(POWER_ON_CELSIUS, POWER_ON_BYTE), 0.0
        elif self._ready and time.monotonic() >= self._ready:
            self._pad, self._ready = scratchpad(self.celsius), 0.0
        return self._pad[:-1] + bytes((self._pad[-1] ^ self.disturbed,))


class Phase(Enum):
    """What the next byte after a reset is."""

    ROM_COMMAND, ROM, COMMAND, DATA = range(4)


class Bus:
    """The sensors on one wire, and how far their conversation with the master has come."""

    def __init__(self, sensors: tuple[Sensor, ...]) -> None:
        self.sensors = sensors
        self.conversions: list[int] = []
        """Of how many sensors each command to convert was."""
        self.reset()

    @property
    def present(self) -> list[Sensor]:
        """The sensors that are plugged in."""
        return [sensor for sensor in self.sensors if sensor.present]

    def reset(self) -> None:
        """Make all sensors listen."""
        self._phase = Phase.ROM_COMMAND
        self._chosen: list[Sensor] = []
        self._rom = b""
        self._answer = b""

    def exchange(self, byte: int) -> int:
        """Send a byte and give what the wire carried: a zero wins over a one."""
        match self._phase:
            case Phase.ROM_COMMAND:
                self._phase = Phase.ROM if byte == MATCH else Phase.COMMAND
                self._chosen = self.present
            case Phase.ROM:
                self._rom += bytes((byte,))
                if len(self._rom) == ROM_BYTES:
                    self._chosen = [sensor for sensor in self.present if sensor.rom == self._rom]
                    self._phase = Phase.COMMAND
            case Phase.COMMAND:
                self._phase = Phase.DATA
                if byte == CONVERT:
                    self.conversions.append(len(self._chosen))
                    for sensor in self._chosen:
                        sensor.convert()
                elif byte == READ_SCRATCHPAD:
                    self._answer = self._chosen[0].read() if self._chosen else b""
            case Phase.DATA:
                carried, self._answer = (self._answer or b"\xff")[0], self._answer[1:]
                return byte & carried
        return byte


class DS9490R(Device):
    """The master: it takes bytes into a buffer, exchanges them with the bus by command and keeps what came back."""

    vendor, product = 0x04FA, 0x2490
    packet = 8
    settings = 4
    endpoints = ((0x81, 3, 16, 1), (0x02, 2, 16, 0), (0x83, 2, 16, 0))
    STATUS, OUT, IN = 1, 2, 3
    IDLE, POWERED = 0x20, 0x08
    CONTROL, COMMUNICATE, MODE = range(3)

    def __init__(self, bus: Bus) -> None:
        self.bus = bus
        self._out = self._in = b""

    def take(self, endpoint: int, data: bytes) -> None:
        """Take bytes that a command will send."""
        self._out += data

    def give(self, endpoint: int, length: int) -> bytes | None:
        """Give the status, or what came back from the bus."""
        if endpoint == self.STATUS:
            return struct.pack("8x8B", self.IDLE | self.POWERED, 0, 0, 0, len(self._out), len(self._in), 0, 0)[:length]
        if not self._in:
            return None
        data, self._in = self._in[:length], self._in[length:]
        return data

    def request(self, request: int, value: int, index: int, data: bytes, length: int) -> bytes:
        """Do a command; which one stands in bits 4 to 7 of the value (data sheet, "communication commands")."""
        if request == self.CONTROL:
            self._out = self._in = b""
        elif request == self.COMMUNICATE:
            self._communicate(value >> 4 & 0xF, value, index)
        elif request != self.MODE:
            raise Stall
        return b""

    def _communicate(self, command: int, value: int, index: int) -> None:
        match command:
            case 0x2:  # one bit, which is 1 at the end of a conversion and for sensors with a supply
                self._in += bytes((value >> 3 & 1,))
            case 0x4:
                self.bus.reset()
            case 0x5:
                self._in += bytes((self.bus.exchange(index & 0xFF),))
            case 0x7:
                sent, self._out = self._out[:index], self._out[index:]
                self._in += bytes(map(self.bus.exchange, sent))
            case 0xF:  # search: where it is to begin was sent, and is always the first
                self._out = b""
                self._in += b"".join(sensor.rom for sensor in sorted(self.bus.present, key=lambda one: one.rom))
