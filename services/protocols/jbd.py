"""The protocol of JBD (Xiaoxiang, Overkill Solar, Liontron …) batteries, so that their frames become named values.

Sources: the vendor's "General Protocol" V4, and V11 of 2023-03-21. All numbers are big endian.

    request   DD A5 command length data checksum 77
    answer    DD command status length data checksum 77     checksum = -(status + length + data) modulo 65536

The battery's Bluetooth module is a transparent serial line: an answer arrives in notifications of any size, usually 20
bytes, answers can be glued together, and 77 is a data byte like any other. Only length and checksum make a frame.
"""

from __future__ import annotations

import datetime as dt
from struct import Struct
from typing import TYPE_CHECKING, Final

import msgspec

from services.protocols import battery
from services.protocols.battery import BatteryError, Channel, Frame, Rejection, Request

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from services.protocols.battery import Pack, Value

START: Final = 0xDD
END: Final = 0x77
READ: Final = 0xA5
WRITE: Final = 0x5A
OVERHEAD: Final = 7
"""Bytes of a frame besides its data."""

BASIC_INFO: Final = 0x03
CELL_VOLTAGES: Final = 0x04
HARDWARE_NAME: Final = 0x05
ERROR_COUNTERS: Final = 0xAA

STATUS: Final = {
    0x80: "the battery does not know this command",
    0x81: "the operation is not allowed (factory mode or password)",
    0x82: "the battery received a wrong checksum",
    0x83: "the password is wrong",
}
"""Statuses other than good (V11, page 3)."""

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

_BASIC = Struct(">HhHHHHHHHBBBBB")
_EXTENSION = Struct(">BHHH")
_COUNTERS_SHORT = 22
_COUNTERS_LONG = 24


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


class ModuleReply(Frame, frozen=True):
    """A reply of the Bluetooth module itself (`FF AA command length data sum`), not of the battery behind it."""


def checksum(data: bytes) -> int:
    """Return the 16-bit checksum of status, length and data (an answer) or command, length and data (a request)."""
    return -sum(data) & 0xFFFF


def _framed(second: int, body: bytes) -> bytes:
    return bytes((START, second)) + body + battery.from_words((checksum(body),)) + bytes((END,))


def encode_request(command: int) -> bytes:
    """Return the frame that reads a register; nothing in this module writes."""
    return _framed(READ, bytes((command, 0)))


def encode_answer(command: int, data: bytes, status: int = 0) -> bytes:
    """Return the frame with which a battery answers; at most 255 bytes of data."""
    return _framed(command, bytes((status, len(data))) + data)


CHANNELS: Final = (
    Channel(*map(battery.bluetooth_uuid, (0xFF00, 0xFF01, 0xFF02))),
    Channel(*map(battery.bluetooth_uuid, (0xFFF0, 0xFFF1, 0xFFF2))),
    Channel(*(f"6e40000{digit}-b5a3-f393-e0a9-e50e24dcca9e" for digit in (1, 3, 2))),
)
"""The usual module, the DH04 boards, and dongles that speak the Nordic UART service."""

REQUESTS: Final = (
    Request("basic info", encode_request(BASIC_INFO)),
    Request("cell voltages", encode_request(CELL_VOLTAGES)),
    Request("error counters", encode_request(ERROR_COUNTERS), optional=True),
    Request("hardware name", encode_request(HARDWARE_NAME), optional=True, once=True),
)


def _module_reply(fragment: bytes) -> ModuleReply | None:
    if len(fragment) < 5 or len(fragment) != fragment[3] + 5 or sum(fragment[2:-1]) & 0xFF != fragment[-1]:  # noqa: PLR2004
        return None
    return ModuleReply(fragment[2], 0, fragment[4:-1])


class Assembler(battery.Assembler):
    """Finds frames by length and checksum; never holds more than one (262 bytes) between two calls.

    A beginning whose status no battery has does not make a good frame behind it wait.
    """

    START = START

    def feed(self, fragment: bytes) -> list[Frame | Rejection]:
        """Return the frames and rejections that the fragment completed; a reply of the module is a fragment alone."""
        if fragment[:2] == b"\xff\xaa" and (reply := _module_reply(fragment)):
            return [reply]
        return super().feed(fragment)

    def size(self, beginning: bytearray) -> int:
        """Return the bytes of a frame; any byte 0xDD may begin one."""
        return beginning[3] + OVERHEAD if len(beginning) > 3 else OVERHEAD  # noqa: PLR2004 - where the length stands

    def read(self, frame: bytes) -> Frame | str:
        """Verify end and checksum."""
        if frame[-1] != END:
            return f"A frame of {len(frame)} bytes ends with {frame[-1]:02X} instead of 77."
        said, right = int.from_bytes(frame[-3:-1], "big"), checksum(frame[2:-3])
        if said != right:
            return f"The checksum is {said:04X}, but {right:04X} would be right for these bytes."
        return Frame(frame[1], frame[2], frame[4:-3])

    def passed_over(self, beginning: bytearray) -> int:
        """Return where a whole frame begins behind an unfinished one that is none; 0 when it is worth to wait."""
        if len(beginning) < 4 or beginning[1] in (READ, WRITE) or beginning[2] in (0, *STATUS):  # noqa: PLR2004
            return 0
        start = beginning.find(START, 1)
        while 0 < start < len(beginning) - 3:
            frame = bytes(beginning[start : start + beginning[start + 3] + OVERHEAD])
            if len(frame) == frame[3] + OVERHEAD and isinstance(self.read(frame), Frame):
                return start
            start = beginning.find(START, start + 1)
        return 0


def assembler() -> Assembler:
    """Return an assembler with an empty buffer."""
    return Assembler()


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
    if len(data) < _BASIC.size:
        raise BatteryError(f"The basic info has {len(data)} bytes of data, fewer than {_BASIC.size}.")
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
    ) = _BASIC.unpack_from(data)
    end = _BASIC.size + 2 * probes
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
        temperatures=tuple((raw - 2731) / 10 for raw in battery.to_words(data[_BASIC.size : end])),
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
    if len(data) not in (_COUNTERS_SHORT, _COUNTERS_LONG):
        raise BatteryError(f"The error counters have {len(data)} bytes of data, neither 22 nor 24.")
    return ErrorCounters(dict(zip(COUNTERS, battery.to_words(data), strict=False)))


Decoded = BasicInfo | CellVoltages | HardwareName | ErrorCounters

DECODERS: Final[dict[int, Callable[[bytes], Decoded]]] = {
    BASIC_INFO: basic_info,
    CELL_VOLTAGES: cell_voltages,
    HARDWARE_NAME: hardware_name,
    ERROR_COUNTERS: error_counters,
}


def refusal(frame: Frame) -> str | None:
    """Say why a frame is no answer with data: an echoed request, or a status other than good; None when it is one."""
    if frame.command in (READ, WRITE):
        return (
            f"This is a request for 0x{frame.status:02X}, not an answer. A battery that echoes its requests wants to "
            "be paired once: run bluetoothctl, then 'pair' with its address and passkey."
        )
    if frame.status:
        meaning = STATUS.get(frame.status, "the protocol does not say what this means")
        return f"Status 0x{frame.status:02X} to command 0x{frame.command:02X}: {meaning}."
    return None


_MEASURED: Final = ("voltage", "current", "power", "soc", "remaining_charge", "nominal_charge", "cycles")
_SWITCHED: Final = ("charge_fet", "discharge_fet", "current_limiter", "heater")
_MEASURED_TOO: Final = ("humidity", "full_charge", "balance_current")
"""Fields of the basic info and of its extension that are measurements and states as they are."""
_ALARM_BITS: Final = {bit: f"{name}_alarm" for bit, name in enumerate(PROTECTION)}
_WARNING_BITS: Final = {bit: f"{name}_warning" for bit, name in enumerate(WARNING)}


def _basic_measurements(info: BasicInfo) -> dict[str, Value]:
    named: dict[str, Value] = {name: getattr(info, name) for name in _MEASURED}
    named |= {f"{name}_state": getattr(info, name) for name in _SWITCHED}
    named |= {
        "balancing_cells_count": len(info.balancing_cells),
        "protection_alarm": bool(info.protection_mask),
        "software_version_text": info.software_version,
    }
    if info.production_date:
        named["production_date_text"] = info.production_date.isoformat()
    named |= battery.bit_measurements(info.protection_mask, _ALARM_BITS)
    named |= {
        f"cell_{cell}_balancing_state": cell in info.balancing_cells
        for cell in range(1, min(info.cell_count, MAXIMUM_CELLS) + 1)
    }
    named |= battery.probe_measurements(info.temperatures)
    extension = info.extension
    if extension.alarm_mask is not None:
        named |= battery.bit_measurements(extension.alarm_mask, _WARNING_BITS)
    extra = {name: getattr(extension, name) for name in _MEASURED_TOO}
    return named | {name: value for name, value in extra.items() if value is not None}


def measurements(request: Request, frame: Frame) -> dict[str, Value] | None:
    """Name what a frame says in answer to a request; None when it answers something else, as a late answer does.

    Raises BatteryError when the battery refused, echoes its requests, or the data are not as long as they must be.
    """
    if isinstance(frame, ModuleReply) or frame.command not in (request.frame[2], READ):
        return None
    if reason := refusal(frame):
        raise BatteryError(reason)
    decoded = DECODERS[frame.command](frame.data)
    match decoded:
        case BasicInfo():
            return _basic_measurements(decoded)
        case CellVoltages():
            return battery.cell_measurements(decoded.cell_voltages)
        case HardwareName():
            return {"hardware_text": decoded.name}
        case ErrorCounters():
            return {f"{name}_count": count for name, count in decoded.error_counters.items()}


class _Described(msgspec.Struct, frozen=True, omit_defaults=True):
    """A line of `decode_lines` that is not one of the four answers: keys as in recorded cases."""

    error: str | None = None
    frame: str | None = None
    auth: bool | None = None
    cmd: int | None = None
    status: int | None = None
    data: str | None = None


def describe(found: Frame | Rejection) -> Decoded | _Described:
    """Return what one line of `decode_lines` says: the decoded answer, or why there is none."""
    if isinstance(found, Rejection):
        return _Described(error=found.reason, frame=found.frame.hex())
    if isinstance(found, ModuleReply):
        return _Described(auth=True, cmd=found.command, data=found.data.hex())
    if reason := refusal(found):
        return _Described(error=reason, cmd=found.command, status=found.status)
    decoder = DECODERS.get(found.command)
    if decoder is None:
        return _Described(cmd=found.command, status=found.status, data=found.data.hex())
    try:
        return decoder(found.data)
    except BatteryError as error:
        return _Described(error=str(error), cmd=found.command, status=found.status, data=found.data.hex())


def decode_lines(lines: Iterable[str]) -> Iterator[str]:
    """Decode notified fragments, one a line in hex; yield one JSON line for each frame and for each rejected one."""
    parts, encode = Assembler(), msgspec.json.encode
    for number, line in enumerate(lines, 1):
        try:
            fragment = bytes.fromhex(line)
        except ValueError:
            text = line.strip()
            yield encode(
                {"error": f"Line {number} is not hexadecimal: write two digits for each byte.", "line": text[:80]}
            ).decode()
            continue
        for found in parts.feed(fragment):
            yield encode(describe(found)).decode()
    for found in parts.finish():
        yield encode(describe(found)).decode()


def encode_basic_info(pack: Pack) -> bytes:
    """Return the data of a 0x03 answer for a pack, as a board of software 2.3 writes them."""
    masks = sum(1 << cell - 1 for cell in pack.balancing_cells)
    protection = sum(1 << PROTECTION.index(name) for name in pack.alarms)
    return _BASIC.pack(
        round(100 * pack.voltage),
        round(100 * pack.current),
        round(100 * pack.remaining_charge),
        round(100 * pack.nominal_charge),
        pack.cycles,
        24 << 9 | 2 << 5 | 29,
        masks & 0xFFFF,
        masks >> WORD_BITS,
        protection,
        0x23,
        round(pack.soc),
        pack.charge_fet | pack.discharge_fet << 1,
        len(pack.cell_voltages),
        len(pack.probe_temperatures),
    ) + battery.from_words(round(10 * celsius) + 2731 for celsius in pack.probe_temperatures)


def encode_cell_voltages(pack: Pack) -> bytes:
    """Return the data of a 0x04 answer for a pack."""
    return battery.from_words(round(1000 * volts) for volts in pack.cell_voltages)


def answer(request: bytes, pack: Pack) -> bytes | None:
    """Play the battery: answer a read request; a damaged request gets no answer, an unknown one status 0x80."""
    if len(request) != OVERHEAD or request[0] != START or request != encode_request(request[2]):
        return None
    match request[2]:
        case 0x03:
            return encode_answer(BASIC_INFO, encode_basic_info(pack))
        case 0x04:
            return encode_answer(CELL_VOLTAGES, encode_cell_voltages(pack))
        case 0x05:
            return encode_answer(HARDWARE_NAME, pack.name.encode("ascii", "replace")[:31])
        case 0xAA:
            return encode_answer(ERROR_COUNTERS, bytes(_COUNTERS_LONG))
        case command:
            return encode_answer(command, b"", status=0x80)
