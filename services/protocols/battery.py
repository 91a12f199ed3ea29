"""What a battery protocol module must offer, so that one Bluetooth link and one simulator serve every make."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, Protocol

import msgspec

if TYPE_CHECKING:
    from collections.abc import Sequence

Value = float | int | bool | str
"""A named measurement: volts, amperes, watts, ampere-hours, percent, °C, counts, states, texts."""

BLUETOOTH_BASE: Final = "-0000-1000-8000-00805f9b34fb"
"""Tail of every 16-bit UUID (Bluetooth Core Specification, volume 3, part B, 2.5.1)."""


class BatteryError(ValueError):
    """A battery refused a request, or its answer is not what the protocol says; the text is a sentence."""


class Channel(msgspec.Struct, frozen=True):
    """The GATT service of a battery with its two characteristics, as 128-bit UUIDs in lower case."""

    service: str
    notify: str
    write: str


class Request(msgspec.Struct, frozen=True):
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


class Assembler(Protocol):
    """Puts notified fragments together; holds no more than one frame between two calls."""

    def feed(self, fragment: bytes) -> list[Frame | Rejection]:
        """Return what the fragment completed, in order; never raises, whatever the bytes are."""

    def clear(self) -> None:
        """Forget a frame that has begun, as before each request."""


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


class BatteryProtocol(Protocol):
    """A make of battery: one module with these names, and nothing to register."""

    @property
    def CHANNELS(self) -> Sequence[Channel]:  # noqa: N802 - a module's constant
        """Where the battery listens and speaks, the usual channel first."""

    @property
    def REQUESTS(self) -> Sequence[Request]:  # noqa: N802 - a module's constant
        """What makes a complete sample, in the order to be asked."""

    def assembler(self) -> Assembler:
        """Return an assembler with an empty buffer."""

    def measurements(self, request: Request, frame: Frame) -> dict[str, Value] | None:
        """Name what a frame says in answer to a request; None when it answers something else.

        Raises BatteryError when the battery refused or the data make no sense.
        """

    def answer(self, request: bytes, pack: Pack) -> bytes | None:
        """Play the battery: return the frame that answers a request, None where a real one stays silent."""


def bluetooth_uuid(short: int) -> str:
    """Return a 16-bit UUID in its 128-bit form."""
    return f"{short:08x}{BLUETOOTH_BASE}"


def cell_measurements(voltages: Sequence[float]) -> dict[str, Value]:
    """Name the voltages of all cells (V, cell 1 first) and what follows from them.

    A cell at 0 V is kept: dropping it would renumber its neighbours.
    """
    lowest, highest = min(voltages), max(voltages)
    named: dict[str, Value] = {f"cell_{cell}_voltage": voltage for cell, voltage in enumerate(voltages, 1)}
    return named | {
        "lowest_cell_voltage": lowest,
        "lowest_cell_number": voltages.index(lowest) + 1,
        "highest_cell_voltage": highest,
        "highest_cell_number": voltages.index(highest) + 1,
        "average_cell_voltage": round(sum(voltages) / len(voltages), 4),
        "cell_difference_voltage": round(highest - lowest, 3),
    }
