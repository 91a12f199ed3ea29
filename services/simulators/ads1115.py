"""A register-level ADS1115 on an I²C bus, so that the real driver and the real arithmetic run where no wire is.

Registers, multiplexer, amplifier, data rates and the OS bit follow the data sheet (Texas Instruments SBAS444). The
inputs are functions of time in volts; a JSON file can describe them and may change while the bus is in use:

    {"0x48": {"inputs": {"A0": {"amperes": 3.2}, "A3": {"volts": 1.65}}, "noise": 1.0, "fault": null}}
"""

import errno
import math
import os
import random
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import msgspec

Analogue = Callable[[float], float]
"""An input: volts against ground at a time in seconds."""
Fault = Literal["absent", "stuck"]
"""`absent` acknowledges nothing; `stuck` answers, but no conversion ever ends."""

CONVERSION, CONFIG, LOW_THRESHOLD, HIGH_THRESHOLD = range(4)
POWER_ON = {CONVERSION: 0x0000, CONFIG: 0x0583, LOW_THRESHOLD: 0x8000, HIGH_THRESHOLD: 0x7FFF}
IDLE = 0x8000  # the OS bit: written, it starts a conversion; read, it says that none is running
SINGLE_SHOT = 0x0100
MULTIPLEXER = ((0, 1), (0, 3), (1, 3), (2, 3), (0, None), (1, None), (2, None), (3, None))
FULL_SCALE = (6.144, 4.096, 2.048, 1.024, 0.512, 0.256, 0.256, 0.256)
DATA_RATE = (8, 16, 32, 64, 128, 250, 475, 860)
WAKE_UP = 25e-6  # seconds from power-down to the start of a conversion
WRITE = 3  # bytes of a register write: pointer, high byte, low byte
LATENCY = 100e-6  # seconds of a transfer of four bytes at 400 kHz
REREAD = 0.05  # seconds between two looks at the describing file


@dataclass(frozen=True, slots=True)
class Clamp:
    """The output of a current clamp around its bias; `amperes` is the true RMS, with the harmonics (order: part)."""

    amperes: float
    volts_per_ampere: float = 1 / 30
    bias: float = 1.65
    hertz: float = 50.0
    harmonics: Mapping[int, float] = field(default_factory=dict)

    def __call__(self, seconds: float) -> float:
        """Volts at that time."""
        angle = 2 * math.pi * self.hertz * seconds
        shape = math.sin(angle) + sum(part * math.sin(order * angle) for order, part in self.harmonics.items())
        fundamental = math.sqrt(2 / (1 + sum(part * part for part in self.harmonics.values())))
        return self.bias + self.amperes * self.volts_per_ampere * fundamental * shape


class SimulatedChip:
    """One ADS1115: four inputs, noise in codes (RMS), the oscillator's relative error (the data sheet allows 0.1)."""

    def __init__(
        self,
        inputs: Sequence[Analogue],
        *,
        noise: float = 1.0,
        oscillator_error: float = 0.0,
        clock: Callable[[], float] = time.monotonic,
        seed: int = 1,
    ) -> None:
        self.inputs = inputs
        self.noise = noise
        self.oscillator_error = oscillator_error
        self.fault: Fault | None = None
        self.clock = clock
        self.random = random.Random(seed)
        self.registers: dict[int, int] = {}
        self.pointer = CONVERSION
        self.started: float | None = None
        """When the running conversion, or the first of the continuous ones, began."""
        self.converted = 0
        """Continuous conversions since then."""
        self.power_on()

    def power_on(self) -> None:
        """Start as after power-up or a brown-out: default configuration, powered down, nothing converted."""
        self.registers = dict(POWER_ON)
        self.pointer = CONVERSION
        self.started, self.converted = None, 0

    def write(self, data: bytes) -> None:
        """Take a transfer to the chip: the pointer, and two bytes of a register behind it."""
        self._convert()
        if data:
            self.pointer = data[0] & 0b11
        if len(data) < WRITE or self.pointer == CONVERSION:
            return
        value = int.from_bytes(data[1:WRITE], "big")
        if self.pointer == CONFIG:
            if not value & SINGLE_SHOT or value & IDLE:
                self.started, self.converted = self.clock(), 0
            value &= ~IDLE
        self.registers[self.pointer] = value

    def read(self) -> bytes:
        """Give the two bytes of the register that the pointer names."""
        self._convert()
        value = self.registers[self.pointer]
        if self.pointer == CONFIG and self.started is None:
            value |= IDLE
        return value.to_bytes(2, "big")

    def _convert(self) -> None:
        """Bring the conversion register up to now."""
        if self.started is None or self.fault == "stuck":
            return
        config = self.registers[CONFIG]
        period = 1 / (DATA_RATE[config >> 5 & 0b111] * (1 + self.oscillator_error))
        elapsed = self.clock() - self.started
        if config & SINGLE_SHOT:
            if elapsed >= WAKE_UP + period:
                self.registers[CONVERSION] = self._code(config, self.started + WAKE_UP + period)
                self.started = None
        elif (finished := int(elapsed / period)) > self.converted:
            self.converted = finished
            self.registers[CONVERSION] = self._code(config, self.started + finished * period)

    def _code(self, config: int, seconds: float) -> int:
        positive, negative = MULTIPLEXER[config >> 12 & 0b111]
        volts = self.inputs[positive](seconds) - (0.0 if negative is None else self.inputs[negative](seconds))
        code = round(volts / FULL_SCALE[config >> 9 & 0b111] * 0x8000 + self.random.gauss(0.0, self.noise))
        return max(-0x8000, min(0x7FFF, code)) & 0xFFFF


class SimulatedBus:
    """The I²C bus as CircuitPython drivers see it, with chips by address; each transfer takes `latency` seconds."""

    def __init__(self, chips: Mapping[int, SimulatedChip], latency: float = LATENCY) -> None:
        self.chips = chips
        self.latency = latency
        self.transfers = 0
        self._lock = threading.Lock()

    def try_lock(self) -> bool:
        """Take the bus if nobody has it."""
        return self._lock.acquire(blocking=False)

    def unlock(self) -> None:
        """Give the bus back."""
        self._lock.release()

    def deinit(self) -> None:
        """Close the bus: there is nothing to close."""

    def writeto(self, address: int, buffer: bytes | bytearray, *, start: int = 0, end: int | None = None) -> None:
        """Send bytes to a chip; an address that nobody acknowledges is an OSError, as on Linux."""
        self._chip(address).write(bytes(buffer[start:end]))

    def readfrom_into(self, address: int, buffer: bytearray, *, start: int = 0, end: int | None = None) -> None:
        """Read bytes from a chip into part of a buffer."""
        length = len(buffer[start:end])
        buffer[start : start + length] = self._chip(address).read()[:length].ljust(length, b"\xff")

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
        self.writeto(address, out_buffer, start=out_start, end=out_end)
        self.readfrom_into(address, in_buffer, start=in_start, end=in_end)

    def _chip(self, address: int) -> SimulatedChip:
        self.transfers += 1
        time.sleep(self.latency)
        chip = self.chips.get(address)
        if chip is None or chip.fault == "absent":
            raise OSError(errno.EREMOTEIO, os.strerror(errno.EREMOTEIO))
        return chip


class Input(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What is wired to a pin: a clamp that carries `amperes` (true RMS), or plain `volts`; neither is the bias."""

    amperes: float | None = None
    volts: float | None = None
    volts_per_ampere: float = 1 / 30
    harmonics: dict[int, float] = {}

    def analogue(self, bias: float, hertz: float) -> Analogue:
        """Return the input as a function of time."""
        if self.amperes is not None:
            return Clamp(self.amperes, self.volts_per_ampere, bias, hertz, self.harmonics)
        volts = bias if self.volts is None else self.volts
        return lambda _: volts


class Description(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A chip in the describing file."""

    inputs: dict[Literal["A0", "A1", "A2", "A3"], Input] = {}
    bias: float = 1.65
    hertz: float = 50.0
    noise: float = 1.0
    oscillator_error: float = 0.0
    fault: Fault | None = None

    def apply(self, chip: SimulatedChip) -> None:
        """Wire a chip as described, without touching its registers."""
        pins: tuple[Literal["A0", "A1", "A2", "A3"], ...] = ("A0", "A1", "A2", "A3")
        chip.inputs = [self.inputs.get(pin, Input()).analogue(self.bias, self.hertz) for pin in pins]
        chip.noise, chip.oscillator_error, chip.fault = self.noise, self.oscillator_error, self.fault


class DescribedBus(SimulatedBus):
    """A bus whose chips stand in a JSON file by their address; a changed file is taken over while the bus runs.

    A file that cannot be read at first is an error; later, half written, it leaves everything as it was.
    """

    def __init__(self, path: Path, latency: float = LATENCY) -> None:
        super().__init__({}, latency)
        self.chips: dict[int, SimulatedChip] = {}
        self.path = path
        self._changed = 0
        self._looked = -math.inf
        self._look()

    def _look(self) -> None:
        self._looked = time.monotonic()
        changed = self.path.stat().st_mtime_ns
        if changed == self._changed:
            return
        try:
            described = msgspec.json.decode(self.path.read_bytes(), type=dict[str, Description])
        except msgspec.DecodeError:
            if self._changed:
                return
            raise
        known = self.chips
        self.chips = {}
        for name, description in described.items():
            address = int(name, 0)
            self.chips[address] = chip = known.get(address) or SimulatedChip(())
            description.apply(chip)
        self._changed = changed

    def _chip(self, address: int) -> SimulatedChip:
        if time.monotonic() - self._looked > REREAD:
            self._look()
        return super()._chip(address)


def describe(path: Path, chips: Mapping[int, Description]) -> None:
    """Write the describing file in one step, so that a reader sees the old one or the new one."""
    new = path.with_name(f".{path.name}.new")
    new.write_bytes(msgspec.json.encode({f"{address:#04x}": chip for address, chip in chips.items()}))
    new.replace(path)
