"""The protocol of Daly "Smart BMS" batteries with built-in Bluetooth, so that their registers become named values.

It is Modbus RTU over a Bluetooth serial line, with the device address 0xD2. Source: Daly's "Modbus protocol" table, as
published with esphome-daly-bms (docs/protocol-register-map.md); the order of the fault bits was checked on a recorded
frame (a pack at 8.7 % with bit 7 of the second fault register).

    request   D2 03 register(2) count(2) crc(2)
    answer    D2 03 length data crc(2)          a refusal: D2 83 code crc(2)

An answer does not say which registers it holds; each request asks for a different number of them, so the length does.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from services.protocols import battery, modbus
from services.protocols.battery import BatteryError, BatteryRequest, Frame, GattChannel

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from services.protocols.battery import Pack, Value

ADDRESS: Final = 0xD2
READ: Final = 0x03
REFUSED: Final = 0x83
OVERHEAD: Final = 5
"""Bytes of an answer besides its data; a refusal has as many in all."""

MAXIMUM_CELLS: Final = 32
MAXIMUM_PROBES: Final = 8
NO_PROBE: Final = 0x00FF

CELLS: Final = 0x00
PROBES: Final = 0x20
VOLTAGE: Final = 0x28
CURRENT: Final = 0x29
SOC: Final = 0x2A
REMAINING_CHARGE: Final = 0x30
CELL_COUNT: Final = 0x31
PROBE_COUNT: Final = 0x32
CYCLES: Final = 0x33
BALANCER: Final = 0x34
CHARGE_FET: Final = 0x35
DISCHARGE_FET: Final = 0x36
FAULTS: Final = 0x3A
STATUS_COUNT: Final = 0x3E
BALANCING: Final = 0x3E
BALANCE_COUNT: Final = 9
"""Registers that newer boards have behind the status; others refuse them, or are silent."""
BALANCE_CURRENT, FET_TEMPERATURE, BOARD_TEMPERATURE = 2, 4, 5
"""Places among those."""
NO_SENSOR: Final = (0x0000, 0x00FF, 0xFFFF)
NOTHING: Final = 0xFFFF
"""What a register says that has no value."""
RATED_CHARGE: Final = 0x80
SETTINGS_COUNT: Final = 0x29
VERSIONS: Final = 0xA9
VERSIONS_COUNT: Final = 0x20
ZERO_CURRENT: Final = 30000
ZERO_TEMPERATURE: Final = 40

_TWO_LEVELS = (
    *battery.LIMITS,
    "high_soc",
    "low_soc",
    "cell_difference",
    "temperature_difference",
)
_ONE_LEVEL = (
    "charge_mosfet_overtemperature",
    "discharge_mosfet_overtemperature",
    "charge_mosfet_sensor",
    "discharge_mosfet_sensor",
    "charge_mosfet_adhesion",
    "discharge_mosfet_adhesion",
    "charge_mosfet_breakdown",
    "discharge_mosfet_breakdown",
    "frontend_ic_error",
    "cell_wire",
    "probe_failure",
    "memory_failure",
    "clock_failure",
    "precharge_failure",
    "vehicle_link",
    "internal_link",
    "current_module",
    "voltage_module",
    "short_circuit",
    "low_voltage_charge_block",
)
FAULT_BITS: Final = {
    **{2 * index: f"{name}_warning" for index, name in enumerate(_TWO_LEVELS)},
    **{2 * index + 1: f"{name}_alarm" for index, name in enumerate(_TWO_LEVELS)},
    **{32 + index: f"{name}_alarm" for index, name in enumerate(_ONE_LEVEL)},
}
"""Bit of the four fault registers, counted from bit 0 of the first → name; the first level warns, the second acts."""


def encode_request(register: int, count: int) -> bytes:
    """Return the frame that reads `count` registers; nothing in this module writes."""
    return modbus.sealed(bytes((ADDRESS, READ)) + battery.from_words((register, count)))


def encode_answer(registers: Iterable[int]) -> bytes:
    """Return the frame with which a battery answers; at most 127 registers."""
    data = battery.from_words(registers)
    return modbus.sealed(bytes((ADDRESS, READ, len(data))) + data)


CHANNELS: Final = (
    GattChannel(*map(battery.bluetooth_uuid, (0xFFF0, 0xFFF1, 0xFFF2))),
    GattChannel(*map(battery.bluetooth_uuid, (0xFF00, 0xFF01, 0xFF02))),
)
"""Newer modules (DL…, JHB…) offer both, and refuse notifications on the first."""

_STATUS = BatteryRequest("status", encode_request(0, STATUS_COUNT))
_SETTINGS = BatteryRequest("settings", encode_request(RATED_CHARGE, SETTINGS_COUNT), optional=True, once=True)
_VERSIONS = BatteryRequest("versions", encode_request(VERSIONS, VERSIONS_COUNT), optional=True, once=True)
_BALANCE = BatteryRequest("balance and board", encode_request(BALANCING, BALANCE_COUNT), optional=True)
REQUESTS: Final = (_STATUS, _BALANCE, _SETTINGS, _VERSIONS)


class DalyAssembler(battery.FrameAssembler):
    """Finds answers and refusals by length and CRC; never holds more than one frame (259 bytes) between two calls."""

    START = ADDRESS

    def size(self, beginning: bytearray) -> int:
        """Return the bytes of an answer, which has whole registers, or of a refusal."""
        if len(beginning) < 3:  # noqa: PLR2004 - address, function, length
            return OVERHEAD
        function, length = beginning[1:3]
        if function == REFUSED:
            return OVERHEAD
        return OVERHEAD + length if function == READ and length % 2 == 0 else 0

    def read(self, frame: bytes) -> Frame | str:
        """Verify the CRC."""
        said, right = int.from_bytes(frame[-2:], "little"), modbus.crc(frame[:-2])
        if said != right:
            return f"The CRC is {said:04X}, but {right:04X} would be right for these {len(frame)} bytes."
        return Frame(READ, frame[2] if frame[1] == REFUSED else 0, frame[3:-2])


def assembler() -> DalyAssembler:
    """Return an assembler with an empty buffer."""
    return DalyAssembler()


def told(named: dict[str, Value], words: Mapping[str, int]) -> dict[str, Value]:
    """Leave out of what was named that whose register says nothing, and the power where half of it is unknown."""
    silent = {name for name, word in words.items() if word == NOTHING}
    if silent & {"voltage", "current"}:
        silent.add("power")
    return {name: value for name, value in named.items() if name not in silent}


_PLACES: Final = {
    "voltage": VOLTAGE,
    "current": CURRENT,
    "soc": SOC,
    "remaining_charge": REMAINING_CHARGE,
    "cycles": CYCLES,
    "balancer_state": BALANCER,
    "charge_fet_state": CHARGE_FET,
    "discharge_fet_state": DISCHARGE_FET,
}


def _status_measurements(registers: tuple[int, ...]) -> dict[str, Value]:
    cells, probes = registers[CELL_COUNT], registers[PROBE_COUNT]
    if not 1 <= cells <= MAXIMUM_CELLS or probes > MAXIMUM_PROBES:
        raise BatteryError(f"The battery says that it has {cells} cells and {probes} temperature probes: not possible.")
    voltage = registers[VOLTAGE] / 10
    current = (registers[CURRENT] - ZERO_CURRENT) / 10
    faults = sum(word << 16 * index for index, word in enumerate(registers[FAULTS : FAULTS + 4]))
    named: dict[str, Value] = {
        "voltage": voltage,
        "current": current,
        "power": round(voltage * current, 2),
        "soc": registers[SOC] / 10,
        "remaining_charge": registers[REMAINING_CHARGE] / 10,
        "cycles": registers[CYCLES],
        "balancer_state": bool(registers[BALANCER]),
        "charge_fet_state": bool(registers[CHARGE_FET]),
        "discharge_fet_state": bool(registers[DISCHARGE_FET]),
    }
    named = told(named, {name: registers[place] for name, place in _PLACES.items()})
    temperatures = (
        None if raw in (NO_PROBE, NOTHING) else raw - ZERO_TEMPERATURE for raw in registers[PROBES : PROBES + probes]
    )
    if len(registers) >= BALANCING + BALANCE_COUNT:
        named |= _balance_measurements(registers[BALANCING:])
    return (
        named
        | battery.probe_measurements(temperatures)
        | battery.bit_measurements(faults, FAULT_BITS)
        | battery.cell_measurements([raw / 1000 for raw in registers[CELLS : CELLS + cells]])
    )


def _balance_measurements(registers: tuple[int, ...]) -> dict[str, Value]:
    mask = registers[0] | registers[1] << 16
    named: dict[str, Value] = {"balancing_cells_count": mask.bit_count()}
    if registers[BALANCE_CURRENT] not in (0, NOTHING):  # 30000 is none, 0 is not there
        named["balance_current"] = (registers[BALANCE_CURRENT] - ZERO_CURRENT) / 1000
    for name, place in (("mosfet", FET_TEMPERATURE), ("board", BOARD_TEMPERATURE)):
        if registers[place] not in NO_SENSOR:
            named[f"{name}_temperature"] = registers[place] - ZERO_TEMPERATURE
    return named


def measurements(request: BatteryRequest, frame: Frame) -> dict[str, Value] | None:
    """Name what a frame says in answer to a request; None when it answers something else.

    Raises BatteryError when the battery refused, or counts more cells or probes than it can have.
    """
    if frame.status:
        raise BatteryError(f"The battery refused to read its {request.name}: Modbus exception {frame.status}.")
    if len(frame.data) != 2 * int.from_bytes(request.frame[4:6], "big"):
        return None
    registers = battery.to_words(frame.data)
    if request.name == _STATUS.name:
        return _status_measurements(registers)
    if request.name == _BALANCE.name:
        return _balance_measurements(registers)
    if request.name == _SETTINGS.name:
        return told({"nominal_charge": registers[0] / 10}, {"nominal_charge": registers[0]})
    texts = [battery.to_text(piece) for piece in frame.data.split(b"\0") if piece]  # where they begin differs
    return dict(zip(("software_version_text", "hardware_text"), texts, strict=False))


def _status_registers(pack: Pack) -> list[int]:
    registers = [0] * STATUS_COUNT
    registers[CELLS : CELLS + len(pack.cell_voltages)] = (round(1000 * volts) for volts in pack.cell_voltages)
    probes = [round(celsius) + ZERO_TEMPERATURE for celsius in pack.probe_temperatures]
    registers[PROBES : PROBES + len(probes)] = probes
    registers[VOLTAGE] = round(10 * pack.voltage)
    registers[CURRENT] = round(10 * pack.current) + ZERO_CURRENT
    registers[SOC] = round(10 * pack.soc)
    registers[REMAINING_CHARGE] = round(10 * pack.remaining_charge)
    registers[CELL_COUNT] = len(pack.cell_voltages)
    registers[PROBE_COUNT] = len(probes)
    registers[CYCLES] = pack.cycles
    registers[BALANCER] = bool(pack.balancing_cells)
    registers[CHARGE_FET] = pack.charge_fet
    registers[DISCHARGE_FET] = pack.discharge_fet
    for bit, name in FAULT_BITS.items():
        if name.removesuffix("_alarm") in pack.alarms:
            registers[FAULTS + bit // 16] |= 1 << bit % 16
    return registers


def answer(request: bytes, pack: Pack) -> bytes | None:
    """Play the battery: answer the requests above; anything else gets no answer."""
    if request == _BALANCE.frame:
        mask = sum(1 << cell - 1 for cell in pack.balancing_cells)
        celsius = round((pack.probe_temperatures or (20.0,))[0]) + ZERO_TEMPERATURE
        return encode_answer([mask & 0xFFFF, mask >> 16, ZERO_CURRENT, 0, celsius, 0, 0, 0, 0])
    if request == _STATUS.frame:
        return encode_answer(_status_registers(pack))
    if request == _SETTINGS.frame:
        return encode_answer([round(10 * pack.nominal_charge), *[0] * (SETTINGS_COUNT - 1)])
    if request == _VERSIONS.frame:
        text = b"SIM_1.0".ljust(16, b"\0") + pack.name.encode("ascii", "replace")[:16].ljust(48, b"\0")
        return encode_answer(battery.to_words(text))
    return None
