"""What the four answers of a JBD battery say, field by field, whether or not a topic is made of it.

Sources: the vendor's "General Protocol" V4, and V11 of 2023-03-21. All numbers are big endian.
"""

from __future__ import annotations

import datetime as dt
from struct import Struct
from typing import TYPE_CHECKING, Final

import msgspec

from services.protocols import battery
from services.protocols.battery import BatteryError
from services.protocols.jbd.frames import BASIC_INFO, CELL_VOLTAGES, ERROR_COUNTERS, HARDWARE_NAME

if TYPE_CHECKING:
    from collections.abc import Callable

PROTECTION: Final = (
    *battery.LIMITS,
    "short_circuit",
    "frontend_ic_error",
    "mosfet_software_lock",
    "charge_mosfet_breakdown",
    "discharge_mosfet_breakdown",
)
"""Protection bits from bit 0 (V4; 13 and 14 from V11)."""

WARNING: Final = (*battery.LIMITS, "cell_difference", "low_capacity")
"""Alarm bits of the V11 extension from bit 0: the thresholds that come before the protection."""

COUNTERS: Final = (
    "short_circuit",
    "charge_overcurrent",
    "discharge_overcurrent",
    "cell_overvoltage",
    "cell_undervoltage",
    "charge_overtemperature",
    "charge_undertemperature",
    "discharge_overtemperature",
    "discharge_undertemperature",
    "pack_overvoltage",
    "pack_undervoltage",
    "restarts",
)
"""Error counters in their order; boards before V10 leave out the restarts."""

WORD_BITS: Final = 16
MAXIMUM_CELLS: Final = 32
COARSE_UNITS: Final = 0x80
"""Bit of the FET byte (V9): current and charge come in 0.1 A and 0.1 Ah instead of 0.01."""

BASIC = Struct(">HhHHHHHHHBBBBB")
_EXTENSION = Struct(">BHHH")
_COUNTERS_SHORT = 22
COUNTERS_LONG = 24


class Extension(
    msgspec.Struct,
    frozen=True,
    omit_defaults=True,
    rename={"full_charge": "full_ah", "remaining_charge": "remaining2_ah"},
):
    """What V11 boards add to the basic info: humidity in %, alarm bits, charges in Ah, balance current in A."""

    humidity: int | None = None
    alarm_mask: int | None = None
    full_charge: float | None = None
    remaining_charge: float | None = None
    balance_current: float | None = None


class BasicInfo(
    msgspec.Struct,
    frozen=True,
    rename={
        "extension": "ext",
        "remaining_charge": "remaining_ah",
        "nominal_charge": "nominal_ah",
        "software_version": "sw_version",
        "probe_count": "ntc_count",
    },
):
    """The answer to 0x03: V, A (positive while charging), W, Ah, %, °C; masks count cells and bits from bit 0.

    `production_date` is None when the board holds no valid date; `extra` is the hex of all bytes after the probes.
    """

    voltage: float
    current: float
    power: float
    extension: Extension
    remaining_charge: float
    nominal_charge: float
    cycles: int
    production_date: dt.date | None
    balance_mask: int
    balancing_cells: tuple[int, ...]
    protection_mask: int
    alarms: tuple[str, ...]
    software_version: str
    soc: int
    charge_fet: bool
    discharge_fet: bool
    current_limiter: bool
    heater: bool
    cell_count: int
    probe_count: int
    temperatures: tuple[float, ...]
    extra: str


class CellVoltages(msgspec.Struct, frozen=True, rename={"difference": "delta_v"}):
    """The answer to 0x04: volts from cell 1 on, their difference, and which cell is lowest and highest."""

    cell_voltages: tuple[float, ...]
    difference: float
    min_cell: int
    max_cell: int


class HardwareName(msgspec.Struct, frozen=True):
    """The answer to 0x05."""

    name: str


class ErrorCounters(msgspec.Struct, frozen=True):
    """The answer to 0xAA: how often each protection has acted, by name."""

    error_counters: dict[str, int]


def _bits(mask: int) -> tuple[int, ...]:
    return tuple(bit for bit in range(mask.bit_length()) if mask >> bit & 1)


def _production_date(word: int) -> dt.date | None:
    try:
        return dt.date(2000 + (word >> 9), word >> 5 & 0x0F, word & 0x1F)
    except ValueError:
        return None


def _extension(data: bytes, units: int) -> Extension:
    """Decode the bytes after the probes; boards that send seven of the nine leave out the balance current."""
    if len(data) < _EXTENSION.size:
        return Extension()
    humidity, alarms, full, remaining = _EXTENSION.unpack_from(data)
    balance = data[_EXTENSION.size : _EXTENSION.size + 2]
    return Extension(
        humidity,
        alarms,
        full / units,
        remaining / units,
        int.from_bytes(balance, "big") / 1000 if len(balance) > 1 else None,
    )


def basic_info(data: bytes) -> BasicInfo:
    """Decode the data of a 0x03 answer; raises BatteryError when they are too short for what they announce."""
    if len(data) < BASIC.size:
        raise BatteryError(f"The basic info has {len(data)} bytes of data, fewer than {BASIC.size}.")
    (
        voltage,
        current,
        remaining,
        nominal,
        cycles,
        date,
        balance_low,
        balance_high,
        protection,
        version,
        soc,
        fets,
        cells,
        probes,
    ) = BASIC.unpack_from(data)
    end = BASIC.size + 2 * probes
    if len(data) < end:
        raise BatteryError(f"The basic info announces {probes} temperature probes, but has only {len(data)} bytes.")
    units = 10 if fets & COARSE_UNITS else 100
    balance = balance_low | balance_high << WORD_BITS
    return BasicInfo(
        voltage=voltage / 100,
        current=current / units,
        power=round(voltage * current / (100 * units), 3),
        extension=_extension(data[end:], units),
        remaining_charge=remaining / units,
        nominal_charge=nominal / units,
        cycles=cycles,
        production_date=_production_date(date),
        balance_mask=balance,
        balancing_cells=tuple(bit + 1 for bit in _bits(balance)),
        protection_mask=protection,
        alarms=tuple(PROTECTION[bit] if bit < len(PROTECTION) else f"reserved_{bit}" for bit in _bits(protection)),
        software_version=f"{version >> 4}.{version & 15}",
        soc=soc,
        charge_fet=bool(fets & 1),
        discharge_fet=bool(fets & 2),
        current_limiter=bool(fets & 4),
        heater=bool(fets & 8),
        cell_count=cells,
        probe_count=probes,
        temperatures=tuple((raw - 2731) / 10 for raw in battery.to_words(data[BASIC.size : end])),
        extra=data[end:].hex(),
    )


def cell_voltages(data: bytes) -> CellVoltages:
    """Decode the data of a 0x04 answer; raises BatteryError unless they are one word for each of 1 to 32 cells."""
    if not data or len(data) % 2 or len(data) > 2 * MAXIMUM_CELLS:
        raise BatteryError(f"The cell voltages have {len(data)} bytes of data, not two for each of 1 to 32 cells.")
    millivolts = battery.to_words(data)
    lowest, highest = min(millivolts), max(millivolts)
    return CellVoltages(
        tuple(millivolt / 1000 for millivolt in millivolts),
        (highest - lowest) / 1000,
        millivolts.index(lowest) + 1,
        millivolts.index(highest) + 1,
    )


def hardware_name(data: bytes) -> HardwareName:
    """Decode the data of a 0x05 answer: ASCII, ended by a NUL where there is one."""
    return HardwareName(battery.to_text(data))


def error_counters(data: bytes) -> ErrorCounters:
    """Decode the data of a 0xAA answer; raises BatteryError unless they are 11 or 12 counters."""
    if len(data) not in (_COUNTERS_SHORT, COUNTERS_LONG):
        raise BatteryError(f"The error counters have {len(data)} bytes of data, neither 22 nor 24.")
    return ErrorCounters(dict(zip(COUNTERS, battery.to_words(data), strict=False)))


Decoded = BasicInfo | CellVoltages | HardwareName | ErrorCounters

DECODERS: Final[dict[int, Callable[[bytes], Decoded]]] = {
    BASIC_INFO: basic_info,
    CELL_VOLTAGES: cell_voltages,
    HARDWARE_NAME: hardware_name,
    ERROR_COUNTERS: error_counters,
}
