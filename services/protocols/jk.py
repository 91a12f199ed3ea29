"""The protocol of JK (Jikong) batteries and active balancers, so that their frames become named values.

There is no document of the maker's; facts are those of esphome-jk-bms, aiobmsble and batmon-ha, checked on recorded frames.
All numbers are little endian.

    request   AA 55 90 EB command length thirteen-bytes sum         20 bytes
    answer    55 AA EB 90 type counter … sum                        300 bytes; more may follow, and is passed over

The module is a serial bridge: notifications begin and end anywhere. The sum has 8 bits only, so a frame must also have a
known type. Three layouts share the type of the answer with the cells; which one it is follows from its contents, since a
wrong one shows right cells and garbage behind them.
"""

from __future__ import annotations

from struct import pack_into, unpack_from
from typing import TYPE_CHECKING, Final

import msgspec

from services.protocols import battery
from services.protocols.battery import BatteryError, BatteryRequest, Frame, GattChannel

if TYPE_CHECKING:
    from services.protocols.battery import Pack, Value

HEAD: Final = bytes.fromhex("55AAEB90")
ASKING: Final = bytes.fromhex("AA5590EB")
SIZE: Final = 300
SETTINGS, CELLS, INFORMATION, LOGBOOK = 1, 2, 3, 5
"""Types of answers."""
NO_PROBE: Final = -2000
"""Tenths of °C where no probe is."""

ALARMS: Final = {
    0: "wire_resistance", 1: "fet_overtemperature", 2: "cell_count", 5: "pack_overvoltage", 6: "charge_overcurrent",
    7: "charge_short_circuit", 8: "charge_overtemperature", 9: "charge_undertemperature", 10: "internal_link",
    11: "cell_undervoltage", 12: "pack_undervoltage", 13: "discharge_overcurrent", 14: "discharge_short_circuit",
    15: "discharge_overtemperature", 16: "charge_mosfet_breakdown", 17: "discharge_mosfet_breakdown", 18: "gps_lost",
    20: "discharge_on_failed", 21: "battery_overtemperature", 22: "probe_failure", 23: "parallel_module",
    24: "short_circuit_release", 25: "discharge_overcurrent_2", 26: "discharge_overcurrent_3",
    27: "discharge_undertemperature",
}  # fmt: skip
"""Bits of the alarms; 4 says that the battery is full, 19 reminds of the password: neither is an alarm."""
FULL: Final = 4
ALARM_BITS: Final = {bit: f"{name}_alarm" for bit, name in ALARMS.items()}


class JkLayout(msgspec.Struct, frozen=True):
    """Where the answer with the cells holds what; the part behind the cells is moved as a whole."""

    cells: int
    enabled: int
    fet: int
    voltage: int
    alarms: str
    probes: tuple[int, ...]

    def unpack(self, form: str, frame: bytes, offset: int) -> int:
        """Read a number at a place that counts from the voltage."""
        return int(unpack_from(form, frame, self.voltage + offset)[0])


SHORT: Final = JkLayout(24, 54, 134, 118, "<H", (130, 132))
"""JK02 with 24 places for cells: software 6 to 10."""
LONG: Final = JkLayout(32, 70, 144, 150, "<I", (162, 164, 258, 256))
"""JK02 with 32 places: software 11 and later, whatever the number of cells."""


def sum8(data: bytes | bytearray) -> int:
    """Return the sum of bytes, modulo 256."""
    return sum(data) & 0xFF


def encode_request(command: int) -> bytes:
    """Return the frame that asks for something; nothing in this module writes."""
    body = ASKING + bytes((command, 0)) + bytes(13)
    return body + bytes((sum8(body),))


CHANNELS: Final = (
    GattChannel(*map(battery.bluetooth_uuid, (0xFFE0, 0xFFE1, 0xFFE1))),
    GattChannel(*map(battery.bluetooth_uuid, (0xFFE0, 0xFFE1, 0xFFE2))),
)
"""One characteristic for both, or two of one UUID, told apart by what they can; some write to ffe2."""

_INFORMATION = BatteryRequest("device information", encode_request(0x97), optional=True, once=True)
_SETTINGS = BatteryRequest("settings", encode_request(0x96), optional=True, once=True)
_CELLS = BatteryRequest("cells", encode_request(0x96))
REQUESTS: Final = (_INFORMATION, _SETTINGS, _CELLS)
"""The information first: some boards give nothing else before; the second question is answered twice, settings and cells."""
_ANSWERS: Final = {_INFORMATION.name: INFORMATION, _SETTINGS.name: SETTINGS, _CELLS.name: CELLS}


class JkAssembler(battery.FrameAssembler):
    """Finds frames by their head, type and sum; never holds more than one (300 bytes) between two calls."""

    START = HEAD[0]

    def size(self, beginning: bytearray) -> int:
        """Return the bytes of a frame: all have as many."""
        known = len(beginning) < 5 or beginning[4] in (SETTINGS, CELLS, INFORMATION, LOGBOOK)  # noqa: PLR2004 - the type
        return SIZE if known and HEAD.startswith(bytes(beginning[:4])) else 0

    def read(self, frame: bytes) -> Frame | str:
        """Verify the sum."""
        said, right = frame[-1], sum8(frame[:-1])
        if said != right:
            return f"The sum is {said:02X}, but {right:02X} would be right for these {len(frame)} bytes."
        return Frame(frame[4], 0, frame)


def assembler() -> JkAssembler:
    """Return an assembler with an empty buffer."""
    return JkAssembler()


def layout_of(frame: bytes) -> JkLayout | None:
    """Return the layout that a frame with cells has by what it says; None for JK04, the active balancers'.

    BatteryError where no layout makes sense: then nothing of it may be believed.
    """
    if all(0.5 <= volts <= 5 for volts in unpack_from("<ff", frame, 6)):  # noqa: PLR2004 - what a cell can have
        return None
    for layout in (LONG, SHORT):
        cells = _cells(frame, layout)
        volts = layout.unpack("<I", frame, 0) / 1000
        if cells and volts and abs(volts - sum(cells.values())) <= 0.02 * volts + 0.1:
            return layout
    raise BatteryError("The cells do not add up to the voltage in any layout that is known of this make.")


def _cells(frame: bytes, layout: JkLayout) -> dict[int, float]:
    enabled = unpack_from("<I", frame, layout.enabled)[0] & (1 << layout.cells) - 1
    millivolts = unpack_from(f"<{layout.cells}H", frame, 6)
    return {place + 1: millivolts[place] / 1000 for place in range(layout.cells) if enabled >> place & 1}


def _cell_measurements(frame: bytes) -> dict[str, Value]:
    layout = layout_of(frame)
    if layout is None:
        return _balancer_measurements(frame)
    cells = _cells(frame, layout)
    voltage, current = layout.unpack("<I", frame, 0) / 1000, layout.unpack("<i", frame, 8) / 1000
    alarms = int(unpack_from(layout.alarms, frame, layout.voltage + (16 if layout is LONG else 18))[0])
    behind = 20
    named: dict[str, Value] = {
        "voltage": voltage,
        "current": current,
        "power": round(voltage * current, 3),
        "balance_current": layout.unpack("<h", frame, behind) / 1000,
        "balancer_state": layout.unpack("<B", frame, behind + 2) != 0,
        "soc": layout.unpack("<B", frame, behind + 3),
        "remaining_charge": layout.unpack("<I", frame, behind + 4) / 1000,
        "full_charge": layout.unpack("<I", frame, behind + 8) / 1000,
        "cycles": layout.unpack("<I", frame, behind + 12),
        "total_throughput": layout.unpack("<I", frame, behind + 16) / 1000,
        "health_level": layout.unpack("<B", frame, behind + 20),
        "operating_runtime": layout.unpack("<I", frame, behind + 24),
        "charge_fet_state": layout.unpack("<B", frame, behind + 28) == 1,
        "discharge_fet_state": layout.unpack("<B", frame, behind + 29) == 1,
        "full_state": bool(alarms >> FULL & 1),
        "protection_alarm": bool(alarms & sum(1 << bit for bit in ALARMS)),
    }
    fitted = layout.unpack("<B", frame, behind + 44)
    probes = [unpack_from("<h", frame, place)[0] for place in layout.probes]
    # The third and fourth exist on later boards only; those of software 11 say 0 there.
    shown = [
        None if raw == NO_PROBE or not fitted >> number & 1 or (number > 2 and not raw) else raw / 10  # noqa: PLR2004
        for number, raw in enumerate(probes, 1)
    ]
    fet = unpack_from("<h", frame, layout.fet)[0]
    if fet not in (NO_PROBE, 0) or fitted & 1:
        named |= {"mosfet_temperature": fet / 10} if fet != NO_PROBE else {}
    bits = {bit: name for bit, name in ALARM_BITS.items() if layout is LONG or bit < 16}  # noqa: PLR2004
    return named | battery.probe_measurements(shown) | battery.bit_measurements(alarms, bits) | _numbered(cells)


def _numbered(cells: dict[int, float]) -> dict[str, Value]:
    """Name cells by their places; what follows from all counts those that there are."""
    named = battery.cell_measurements(list(cells.values()))
    places = dict(enumerate(cells, 1))
    renamed: dict[str, Value] = {}
    for name, value in named.items():
        word, _, rest = name.partition("_")
        number = rest.partition("_")[0]
        if word == "cell" and number.isdecimal():
            renamed[f"cell_{places[int(number)]}_voltage"] = value
        else:
            renamed[name] = places[int(value)] if name.endswith("_number") else value
    return renamed


def _balancer_measurements(frame: bytes) -> dict[str, Value]:
    """Name what an active balancer says: cells, and the current that it moves. It knows no current of the pack."""
    enabled = unpack_from("<I", frame, 214)[0] & 0xFFFFFF
    volts = unpack_from("<24f", frame, 6)
    cells = {place + 1: round(volts[place], 4) for place in range(24) if enabled >> place & 1}
    if not cells or not all(0 <= one <= 6 for one in cells.values()):  # noqa: PLR2004
        raise BatteryError("The balancer shows cells that no cell can be.")
    return _numbered(cells) | {
        "voltage": round(sum(cells.values()), 3),
        "balancer_state": frame[220] != 0,
        "balance_current": round(unpack_from("<f", frame, 222)[0], 3),
        "operating_runtime": unpack_from("<I", frame, 286)[0],
    }


def _text(frame: bytes, start: int, length: int) -> str:
    return battery.to_text(frame[start : start + length])


def measurements(request: BatteryRequest, frame: Frame) -> dict[str, Value] | None:
    """Name what a frame says in answer to a request; None when it answers something else, as the stream of cells does.

    Raises BatteryError when the cells make no sense. Passcodes, which every frame of information holds, are left alone.
    """
    if frame.command != _ANSWERS.get(request.name):
        return None
    data = frame.data
    if frame.command == CELLS:
        return _cell_measurements(data)
    if frame.command == INFORMATION:
        named = {"hardware_text": (6, 16), "software_version_text": (30, 8), "serial_text": (86, 11)}
        return {name: text for name, place in named.items() if (text := _text(data, *place))}
    nominal = unpack_from("<I", data, 130)[0] / 1000
    return {"nominal_charge": nominal} if 0 < nominal < 10_000 else {}  # noqa: PLR2004 - Ah; a balancer has other settings


def _framed(kind: int, frame: bytearray) -> bytes:
    frame[:6] = HEAD + bytes((kind, 1))
    frame[-1] = sum8(frame[:-1])
    return bytes(frame)


def _play_cells(pack: Pack) -> bytes:
    frame = bytearray(SIZE)
    for place, volts in enumerate(pack.cell_voltages):
        pack_into("<H", frame, 6 + 2 * place, round(1000 * volts))
    pack_into("<I", frame, LONG.enabled, (1 << len(pack.cell_voltages)) - 1)
    celsius = [round(10 * one) for one in pack.probe_temperatures]
    probes = celsius + [NO_PROBE] * (4 - len(celsius))
    for place, raw in zip(LONG.probes, probes, strict=False):
        pack_into("<h", frame, place, raw)
    pack_into("<h", frame, LONG.fet, (celsius or [200])[0])
    alarms = sum(1 << bit for bit, name in ALARMS.items() if name in pack.alarms)
    at = LONG.voltage
    pack_into("<I", frame, at, round(1000 * pack.voltage))
    pack_into("<i", frame, at + 8, round(1000 * pack.current))
    pack_into("<I", frame, at + 16, alarms)
    pack_into("<BB", frame, at + 22, bool(pack.balancing_cells), round(pack.soc))
    pack_into(
        "<IIII", frame, at + 24, round(1000 * pack.remaining_charge), round(1000 * pack.nominal_charge), pack.cycles, 0
    )
    frame[at + 40] = 100
    frame[at + 48], frame[at + 49], frame[at + 64] = pack.charge_fet, pack.discharge_fet, 0xFF
    return _framed(CELLS, frame)


def answer(request: bytes, pack: Pack) -> bytes | None:
    """Play the battery: what it is, or its settings and cells; anything else gets no answer."""
    if request == _INFORMATION.frame:
        frame = bytearray(SIZE)
        frame[6 : 6 + 12] = b"JK-SIMULATED"
        frame[30 : 30 + 5] = b"15.38"
        frame[86 : 86 + 11] = pack.name.encode("ascii", "replace")[:11].ljust(11, b"\0")
        return _framed(INFORMATION, frame) + b"AT\r\n"
    if request == _CELLS.frame:
        settings = bytearray(SIZE)
        pack_into("<I", settings, 130, round(1000 * pack.nominal_charge))
        return _framed(SETTINGS, settings) + _play_cells(pack)
    return None
