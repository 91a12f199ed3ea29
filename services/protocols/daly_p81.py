"""The P81 dialect of Daly's packs (ESS-DL-BMS …): Modbus RTU whose answers bear another address than their requests.

    request   81 03 register(2) count(2) crc(2)
    answer    51 03 length data crc(2)

An answer does not say which registers it holds; each request asks for a different number, so the length does. Source: the
register map of esphome-daly-bms, checked on one recording; what its faults mean is not known, and they are not read.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from services.protocols import battery, daly, modbus
from services.protocols.battery import BatteryError, BatteryRequest, Frame

if TYPE_CHECKING:
    from collections.abc import Iterable

    from services.protocols.battery import Pack, Value

ASKED, ANSWERING = 0x81, 0x51
CELLS_COUNT, STATUS, STATUS_COUNT = 0x40, 0x41, 0x3E
MAXIMUM_CELLS: Final = 48
PROBES, VOLTAGE, CURRENT, SOC, HEARTBEAT, CELL_COUNT, PROBE_COUNT = 0x30, 0x38, 0x39, 0x3A, 0x3B, 0x3C, 0x3D
REMAINING, CYCLES, BALANCER, BALANCE_CURRENT, MASKS = 0x4B, 0x4C, 0x4D, 0x4E, 0x4F
SWITCHES: Final = {0x52: "charge_fet", 0x53: "discharge_fet", 0x54: "precharge_fet", 0x55: "heater"}
FET_TEMPERATURE, BOARD_TEMPERATURE = 0x5A, 0x5B


def encode_request(register: int, count: int) -> bytes:
    """Return the frame that reads registers; nothing in this module writes."""
    return modbus.sealed(bytes((ASKED, daly.READ)) + battery.from_words((register, count)))


def encode_answer(registers: Iterable[int]) -> bytes:
    """Return the frame with which a battery answers."""
    data = battery.from_words(registers)
    return modbus.sealed(bytes((ANSWERING, daly.READ, len(data))) + data)


CHANNELS: Final = daly.CHANNELS
_CELLS = BatteryRequest("cells", encode_request(0, CELLS_COUNT))
_STATUS = BatteryRequest("status", encode_request(STATUS, STATUS_COUNT))
REQUESTS: Final = (_CELLS, _STATUS)


class P81Assembler(daly.DalyAssembler):
    """Finds answers as the older dialect's are found."""

    START = ANSWERING


def assembler() -> P81Assembler:
    """Return an assembler with an empty buffer."""
    return P81Assembler()


def measurements(request: BatteryRequest, frame: Frame) -> dict[str, Value] | None:
    """Name what a frame says in answer to a request; None when it answers something else.

    Raises BatteryError when the battery refused, or counts more cells or probes than it can have.
    """
    if frame.status:
        raise BatteryError(f"The battery refused to read its {request.name}: Modbus exception {frame.status}.")
    if len(frame.data) != 2 * int.from_bytes(request.frame[4:6], "big"):
        return None
    registers = battery.to_words(frame.data)
    return _cells(registers) if request.name == _CELLS.name else _status(registers)


def _cells(registers: tuple[int, ...]) -> dict[str, Value]:
    cells, probes = registers[CELL_COUNT], registers[PROBE_COUNT]
    if not 1 <= cells <= MAXIMUM_CELLS or probes > daly.MAXIMUM_PROBES:
        raise BatteryError(f"The battery says that it has {cells} cells and {probes} temperature probes: not possible.")
    voltage, current = registers[VOLTAGE] / 10, (registers[CURRENT] - daly.ZERO_CURRENT) / 10
    named: dict[str, Value] = {
        "voltage": voltage,
        "current": current,
        "power": round(voltage * current, 2),
        "soc": registers[SOC] / 10,
        "heartbeat_number": registers[HEARTBEAT],
    }
    places = {"voltage": VOLTAGE, "current": CURRENT, "soc": SOC}
    return (
        daly.told(named, {name: registers[place] for name, place in places.items()})
        | battery.probe_measurements(_celsius(raw) for raw in registers[PROBES : PROBES + probes])
        | battery.cell_measurements([raw / 1000 for raw in registers[:cells]])
    )


def _status(registers: tuple[int, ...]) -> dict[str, Value]:
    at = {STATUS + place: word for place, word in enumerate(registers)}
    mask = sum(at[MASKS + part] << 16 * part for part in range(3))
    named: dict[str, Value] = {
        "remaining_charge": at[REMAINING] / 10,
        "cycles": at[CYCLES],
        "balancer_state": bool(at[BALANCER]),
        "balancing_cells_count": mask.bit_count(),
    }
    if at[BALANCE_CURRENT] not in (0, daly.NOTHING):  # 30000 is none, 0 is not there
        named["balance_current"] = (at[BALANCE_CURRENT] - daly.ZERO_CURRENT) / 1000
    named |= {f"{name}_state": bool(at[place]) for place, name in SWITCHES.items()}
    places = {"remaining_charge": REMAINING, "cycles": CYCLES, "balancer_state": BALANCER}
    places |= {f"{name}_state": place for place, name in SWITCHES.items()}
    named = daly.told(named, {name: at[place] for name, place in places.items()})
    temperatures = {"mosfet": at[FET_TEMPERATURE], "board": at[BOARD_TEMPERATURE]}
    return named | {
        f"{name}_temperature": celsius for name, raw in temperatures.items() if (celsius := _celsius(raw)) is not None
    }


def _celsius(raw: int) -> int | None:
    return None if raw in daly.NO_SENSOR else raw - daly.ZERO_TEMPERATURE


def answer(request: bytes, pack: Pack) -> bytes | None:
    """Play the battery: answer the two requests above; anything else gets no answer."""
    if request == _CELLS.frame:
        registers = [round(1000 * volts) for volts in pack.cell_voltages] + [0] * CELLS_COUNT
        probes = [round(celsius) + daly.ZERO_TEMPERATURE for celsius in pack.probe_temperatures]
        registers[PROBES : PROBES + len(probes)] = probes
        registers[VOLTAGE], registers[SOC] = round(10 * pack.voltage), round(10 * pack.soc)
        registers[CURRENT] = round(10 * pack.current) + daly.ZERO_CURRENT
        registers[CELL_COUNT], registers[PROBE_COUNT] = len(pack.cell_voltages), len(probes)
        return encode_answer(registers[:CELLS_COUNT])
    if request == _STATUS.frame:
        registers = [0] * STATUS_COUNT
        mask = sum(1 << cell - 1 for cell in pack.balancing_cells)
        shown = {REMAINING: round(10 * pack.remaining_charge), CYCLES: pack.cycles, BALANCER: bool(mask)}
        shown |= {BALANCE_CURRENT: daly.ZERO_CURRENT, MASKS: mask & 0xFFFF, MASKS + 1: mask >> 16}
        shown |= {0x52: pack.charge_fet, 0x53: pack.discharge_fet, FET_TEMPERATURE: 60}
        for place, word in shown.items():
            registers[place - STATUS] = word
        return encode_answer(registers)
    return None
