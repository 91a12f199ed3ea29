"""What the answers of a JBD battery are called as measurements, and how fragments are shown to people."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import msgspec

from services.protocols import battery
from services.protocols.battery import BatteryError, BatteryRequest, Frame, Rejection
from services.protocols.jbd.answers import (
    DECODERS,
    MAXIMUM_CELLS,
    PROTECTION,
    WARNING,
    BasicInfo,
    CellVoltages,
    Decoded,
    ErrorCounters,
    HardwareName,
)
from services.protocols.jbd.frames import READ, JbdAssembler, ModuleReply, refusal

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from services.protocols.battery import Value

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


def measurements(request: BatteryRequest, frame: Frame) -> dict[str, Value] | None:
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
    parts, encode = JbdAssembler(), msgspec.json.encode
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
