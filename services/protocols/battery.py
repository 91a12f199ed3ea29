"""What a battery protocol module must offer, so that one Bluetooth link and one simulator serve every make.

Here is also what the makes have in common: how frames are found in fragments, words, names of alarms and measurements.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from struct import pack, unpack
from typing import TYPE_CHECKING, Final, Protocol

import msgspec

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

Value = float | int | bool | str
"""A named measurement: volts, amperes, watts, ampere-hours, percent, °C, counts, states, texts."""

BLUETOOTH_BASE: Final = "-0000-1000-8000-00805f9b34fb"
"""Tail of every 16-bit UUID (Bluetooth Core Specification, volume 3, part B, 2.5.1)."""


class BatteryError(ValueError):
    """A battery refused a request, or its answer is not what the protocol says; the text is a sentence."""


class GattChannel(msgspec.Struct, frozen=True):
    """The GATT service of a battery with its two characteristics, as 128-bit UUIDs in lower case."""

    service: str
    notify: str
    write: str


class BatteryRequest(msgspec.Struct, frozen=True):
    """One question to a battery: what is asked, and the bytes that ask it.

    `optional`: not every board knows the answer; silence or a refusal is no failure. `once`: the answer does not change
    while a link lasts.
    """

    name: str
    frame: bytes
    optional: bool = False
    once: bool = False


class Frame(msgspec.Struct, frozen=True):
    """A complete frame whose checksum was right: the command it answers, its status (0 = good) and its data."""

    command: int
    status: int
    data: bytes


class Rejection(msgspec.Struct, frozen=True):
    """Bytes that looked like a frame and are none, with the reason as a sentence."""

    reason: str
    frame: bytes


class FrameAssembler(ABC):
    """Finds frames in notified fragments by length and checksum, and starts again one byte later where there is none.

    Holds no more than one frame between two calls. Bytes that cannot begin a frame are passed over in silence. A
    rejected frame is reported once: what its own bytes might have begun is not reported again.
    """

    START: int
    """The byte that every frame begins with."""

    def __init__(self) -> None:
        self._buffer = bytearray()
        self._reported = 0
        """How many bytes at the start of the buffer belong to a rejection that was reported."""

    @abstractmethod
    def size(self, beginning: bytearray) -> int:
        """Return how many bytes a frame that begins so has at least, all of them once that is known; 0 if it is none."""

    @abstractmethod
    def read(self, frame: bytes) -> Frame | str:
        """Read a frame of the right size; where it is none, return the reason as a sentence."""

    def passed_over(self, beginning: bytearray) -> int:  # noqa: ARG002 - for protocols that can tell
        """Return how many bytes of a beginning are not worth to wait for the rest of their frame."""
        return 0

    def feed(self, fragment: bytes) -> list[Frame | Rejection]:
        """Return what the fragment completed, in order; never raises, whatever the bytes are."""
        self._buffer += fragment
        return self._take(ended=False)

    def finish(self) -> list[Frame | Rejection]:
        """Return what is left when no more fragments will come; an incomplete frame is a rejection."""
        return self._take(ended=True)

    def clear(self) -> None:
        """Forget a frame that has begun, as before each request."""
        self._buffer.clear()
        self._reported = 0

    def _take(self, *, ended: bool) -> list[Frame | Rejection]:
        found: list[Frame | Rejection] = []
        buffer = self._buffer
        while True:
            start = buffer.find(self.START)
            if start:
                self._drop(len(buffer) if start < 0 else start)
            if not buffer:
                return found
            size = self.size(buffer)
            if not size:
                self._drop(1)
                continue
            if len(buffer) >= size:
                read = self.read(bytes(buffer[:size]))
            elif ended:
                read = f"The frame is incomplete: {len(buffer)} of at least {size} bytes came."
            elif passed := self.passed_over(buffer):
                self._drop(passed)
                continue
            else:
                return found
            if isinstance(read, Frame):
                found.append(read)
                self._drop(size)
                self._reported = 0
                continue
            if not self._reported:
                found.append(Rejection(read, bytes(buffer[:size])))
                self._reported = min(size, len(buffer))
            self._drop(1)

    def _drop(self, count: int) -> None:
        del self._buffer[:count]
        self._reported = max(0, self._reported - count)


class Pack(msgspec.Struct, frozen=True, kw_only=True):
    """The state of a battery as its own electronics know it; an encoder makes answers of it.

    Volts, amperes (positive while charging), ampere-hours, °C; cells are counted from 1; `alarms` are names of the
    protocol's bits.
    """

    name: str
    cell_voltages: tuple[float, ...]
    current: float
    remaining_charge: float
    nominal_charge: float
    cycles: int
    probe_temperatures: tuple[float, ...]
    balancing_cells: tuple[int, ...] = ()
    alarms: tuple[str, ...] = ()
    charge_fet: bool = True
    discharge_fet: bool = True

    @property
    def voltage(self) -> float:
        """The voltage of all cells in series, in volts."""
        return sum(self.cell_voltages)

    @property
    def soc(self) -> float:
        """The state of charge in percent."""
        return 100 * self.remaining_charge / self.nominal_charge


class Unlocks(Protocol):
    """What is said to a module that wants a password, before the battery behind it is asked."""

    def next_frame(self) -> bytes | None:
        """Return what is to be sent now, None when the module is open."""

    def take(self, reply: Frame) -> bool:
        """Take what the module said; True when the open step is done with. BatteryError where it refuses."""


class BatteryProtocol(Protocol):
    """A make of battery: one module with these names, and nothing to register."""

    @property
    def CHANNELS(self) -> Sequence[GattChannel]:  # noqa: N802 - a module's constant
        """Where the battery listens and speaks, the usual channel first."""

    @property
    def REQUESTS(self) -> Sequence[BatteryRequest]:  # noqa: N802 - a module's constant
        """What makes a complete sample, in the order to be asked."""

    def assembler(self) -> FrameAssembler:
        """Return an assembler with an empty buffer."""

    def measurements(self, request: BatteryRequest, frame: Frame) -> dict[str, Value] | None:
        """Name what a frame says in answer to a request; None when it answers something else.

        Raises BatteryError when the battery refused or the data make no sense.
        """

    def answer(self, request: bytes, pack: Pack) -> bytes | None:
        """Play the battery: return the frame that answers a request, None where a real one stays silent."""


def bluetooth_uuid(short: int) -> str:
    """Return a 16-bit UUID in its 128-bit form."""
    return f"{short:08x}{BLUETOOTH_BASE}"


def to_words(data: bytes) -> tuple[int, ...]:
    """Read words of 16 bits, high byte first; `data` has an even number of bytes."""
    return unpack(f">{len(data) // 2}H", data)


def from_words(words: Iterable[int]) -> bytes:
    """Write words of 16 bits, high byte first."""
    return b"".join(pack(">H", word) for word in words)


def to_text(data: bytes) -> str:
    """Read ASCII, which ends at a NUL where there is one; other bytes are shown by their number."""
    return data.split(b"\0")[0].decode("ascii", "backslashreplace").strip()


LIMITS: Final = (
    "cell_overvoltage",
    "cell_undervoltage",
    "pack_overvoltage",
    "pack_undervoltage",
    "charge_overtemperature",
    "charge_undertemperature",
    "discharge_overtemperature",
    "discharge_undertemperature",
    "charge_overcurrent",
    "discharge_overcurrent",
)
"""The limits that all makes watch, in the order in which they count their bits."""


def bit_measurements(mask: int, names: Mapping[int, str]) -> dict[str, Value]:
    """Say of each named bit whether it is set; bits are counted from 0."""
    return {name: bool(mask >> bit & 1) for bit, name in names.items()}


def probe_measurements(temperatures: Iterable[float | None]) -> dict[str, Value]:
    """Name the temperatures (°C) of all probes, the first one 1; a probe that is not there keeps its number."""
    return {f"probe_{probe}_temperature": value for probe, value in enumerate(temperatures, 1) if value is not None}


NO_CELL: Final = 0xFFFF / 1000
"""Volts that say that nothing was measured: all ones, in mV."""


def cell_measurements(voltages: Sequence[float]) -> dict[str, Value]:
    """Name the voltages of all cells (V, cell 1 first) and what follows from them.

    A cell at 0 V is kept: dropping it would renumber its neighbours. One that was not measured has no value, and where
    there is one nothing is said of all: it might be the lowest.
    """
    named: dict[str, Value] = {
        f"cell_{cell}_voltage": voltage for cell, voltage in enumerate(voltages, 1) if voltage != NO_CELL
    }
    if len(named) < len(voltages):
        return named
    lowest, highest = min(voltages), max(voltages)
    return named | {
        "lowest_cell_voltage": lowest,
        "lowest_cell_number": voltages.index(lowest) + 1,
        "highest_cell_voltage": highest,
        "highest_cell_number": voltages.index(highest) + 1,
        "average_cell_voltage": round(sum(voltages) / len(voltages), 4),
        "cell_difference_voltage": round(highest - lowest, 3),
    }
