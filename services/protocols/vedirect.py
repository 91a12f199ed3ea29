"""VE.Direct, the text that Victron's chargers, monitors and inverters send once a second ("VE.Direct Protocol", 3.33).

    CR LF label TAB value CR LF label TAB value … CR LF Checksum TAB byte

The sum of all bytes of a block, that one included, is 0 modulo 256; it may be any byte, a line's end or a colon too. Hex
messages (`:…` LF) may come anywhere, inside a label also, and are outside the sum. Nothing here writes: one valid hex message
would silence the text for seconds.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Final, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

Value = float | int | bool | str

BAUD_RATE: Final = 19200
LONGEST: Final = 2000
"""Bytes of a block; the longest known has five hundred."""
NOTHING: Final = "---"
_HEXADECIMAL: Final = frozenset(b"0123456789ABCDEFabcdef")
_ENDS: Final = frozenset((0x0A, 0xFE))
"""What ends a hex message; some devices send FE."""
_PRINTABLE: Final = range(0x20, 0x7F)
CR, LF, TAB, COLON = b"\r\n\t:"


class BlockParser:
    """Finds blocks in a stream that may begin anywhere; a damaged one costs itself."""

    def __init__(self) -> None:
        self.damaged = 0
        """Blocks whose sum was wrong, the one in which the stream began included."""
        self._fields: dict[str, str] = {}
        self._label, self._text = bytearray(), bytearray()
        self._in_value = self._in_hex = self._bad = False
        self._sum = self._size = 0

    def feed(self, data: bytes) -> list[dict[str, str]]:
        """Return the blocks that the bytes completed: values by label, as text."""
        return [block for byte in data if (block := self._take(byte))]

    def gap(self) -> None:
        """Forget a block that has begun: nothing came for a while, and the next one begins anew."""
        if self._size:
            self.damaged += 1
        self._begin()

    def _begin(self) -> None:
        self._fields = {}
        self._label.clear()
        self._text.clear()
        self._in_value = self._in_hex = self._bad = False
        self._sum = self._size = 0

    def _take(self, byte: int) -> dict[str, str] | None:
        checksum = self._in_value and self._label == b"Checksum"
        if not checksum:
            if self._in_hex:
                if byte in _HEXADECIMAL:
                    return None
                self._in_hex = False
                if byte in _ENDS:
                    return None
            elif byte == COLON:
                self._in_hex = True
                return None
        self._sum = (self._sum + byte) & 0xFF
        self._size += 1
        if checksum or self._size > LONGEST:
            good, fields = not (self._sum or self._bad) and checksum, self._fields
            self.damaged += not good
            self._begin()
            return fields if good else None
        self._read(byte)
        return None

    def _read(self, byte: int) -> None:
        match byte:
            case 0x0D:  # CR
                if self._in_value:
                    self._fields[self._label.decode("ascii")] = self._text.decode("ascii")
                self._in_value = False
                self._label.clear()
                self._text.clear()
            case 0x0A if not self._label and not self._in_value:  # LF
                pass
            case 0x09 if not self._in_value:  # TAB
                self._in_value = True
            case _ if byte in _PRINTABLE:
                (self._text if self._in_value else self._label).append(byte)
            case _:
                self._bad = True


class LabelMeaning(NamedTuple):
    """What a label means: the measurement's name, its unit, its scale, numbers by which it says that there is none now."""

    name: str
    unit: str = ""
    scale: float = 1
    none: tuple[int, ...] = ()


def _mean(*texts: str) -> dict[str, LabelMeaning]:
    return {
        label: LabelMeaning(name, unit, float(scale)) for label, name, unit, scale in (text.split() for text in texts)
    }


NUMBERS: Final = _mean(
    "V voltage V 0.001", "VS starter_voltage V 0.001", "VM midpoint_voltage V 0.001", "VPV solar_voltage V 0.001",
    "PPV solar_power W 1", "I current A 0.001", "IL load_current A 0.001", "P power W 1", "CE consumed_charge Ah -0.001",
    "SOC soc % 0.1", "T battery_temperature °C 1", "AC_OUT_V output_voltage V 0.01", "AC_OUT_I output_current A 0.1",
    "DC_IN_V input_voltage V 0.01", "DC_IN_I input_current A 0.1", "DC_IN_P input_power W 1",
    "H1 deepest_discharge_charge Ah -0.001", "H2 last_discharge_charge Ah -0.001",
    "H3 average_discharge_charge Ah -0.001", "H6 drawn_throughput Ah -0.001", "H7 lowest_voltage V 0.001",
    "H8 highest_voltage V 0.001", "H9 since_full_duration s 1", "H15 starter_lowest_voltage V 0.001",
    "H16 starter_highest_voltage V 0.001", "H17 discharged_energy kWh 0.01", "H18 charged_energy kWh 0.01",
    "H19 generated_energy kWh 0.01", "H20 generated_today_energy kWh 0.01", "H21 highest_today_power W 1",
    "H22 generated_yesterday_energy kWh 0.01", "H23 highest_yesterday_power W 1",
) | {
    "TTG": LabelMeaning("remaining_duration", "s", 60, (-1,)),
    "H4": LabelMeaning("charge_cycles"), "H5": LabelMeaning("full_discharge_cycles"), "H10": LabelMeaning("synchronisation_count"),
    "H11": LabelMeaning("low_voltage_count"), "H12": LabelMeaning("high_voltage_count"),
    "ERR": LabelMeaning("error_number"), "HSDS": LabelMeaning("day_number"),
}  # fmt: skip
"""Labels of numbers."""

TEXTS: Final = {
    "PID": "product_text",
    "FW": "firmware_text",
    "FWE": "firmware_text",
    "SER#": "serial_text",
    "BMV": "model_text",
}
SWITCHES: Final = {"LOAD": "load_active", "Relay": "relay_active", "Alarm": "device_alarm"}
CHARGING: Final = {
    0: "off", 1: "low_power", 2: "fault", 3: "bulk", 4: "absorption", 5: "float", 6: "storage", 7: "equalize",
    9: "inverting", 11: "power_supply", 245: "starting", 246: "repeated_absorption", 247: "auto_equalize",
    248: "battery_safe", 249: "active", 252: "external_control",
}  # fmt: skip
TRACKING: Final = {0: "off", 1: "limited", 2: "tracking"}
MODES: Final = {1: "charger", 2: "inverter", 4: "off", 5: "eco", 253: "hibernate"}
STATES: Final = {
    "CS": ("charging_state", CHARGING),
    "MPPT": ("tracker_state", TRACKING),
    "MODE": ("device_mode", MODES),
}
OFF_REASONS: Final = (
    "no_input", "switch", "mode_register", "remote", "protection", "paygo", "bms", "engine", "analysing_input", "temperature",
)  # fmt: skip
ALARMS: Final = (
    "low_voltage", "high_voltage", "low_soc", "low_starter_voltage", "high_starter_voltage", "low_temperature",
    "high_temperature", "mid_voltage", "overload", "ripple", "low_output_voltage", "high_output_voltage", "short_circuit",
    "bms_lockout",
)  # fmt: skip
"""Bits of AR and WARN."""


def off_reason(bits: int) -> str:
    """Say why a charger is off; bits combine."""
    return ", ".join(name for bit, name in enumerate(OFF_REASONS) if bits >> bit & 1) or "none"


def measurements(fields: Mapping[str, str]) -> dict[str, Value | None]:
    """Name what a block says; None is no value now, as the time that is left while a battery charges.

    `---` is no value, and unknown labels and codes are nothing.
    """
    named: dict[str, Value | None] = {}
    for label, text in fields.items():
        if text == NOTHING:
            continue
        try:
            named |= _named(label, text)
        except (ValueError, OverflowError):
            continue
    return named


def _named(label: str, text: str) -> Mapping[str, Value | None]:
    if label in NUMBERS:
        name, _, scale, none = NUMBERS[label]
        number = int(text)
        if number in none:
            return {name: None}
        return {name: number if scale == 1 else round(number * scale, 4) + 0.0}
    if label in TEXTS:
        return {TEXTS[label]: text}
    if label in SWITCHES:
        return {SWITCHES[label]: text.upper() == "ON"}
    if label in STATES:
        name, words = STATES[label]
        word = words.get(int(text))
        return {name: word} if word else {}
    if label == "OR":
        return {"off_reason_text": off_reason(int(text, 16))}
    if label in ("AR", "WARN"):
        kind, bits = ("alarm" if label == "AR" else "warning"), int(text)
        return {f"{name}_{kind}": bool(bits >> bit & 1) for bit, name in enumerate(ALARMS)}
    return {}


NAMES: Final[dict[str, tuple[str, tuple[str, ...]]]] = {
    **{meaning.name: (meaning.unit, ()) for meaning in NUMBERS.values()},
    **dict.fromkeys((*TEXTS.values(), *SWITCHES.values(), "off_reason_text"), ("", ())),
    **{name: ("", tuple(words.values())) for name, words in STATES.values()},
    **{f"{name}_{kind}": ("", ()) for name in ALARMS for kind in ("alarm", "warning")},
}
"""Unit, and words where it is a state, of every measurement that a product may have."""


def encode_block(fields: Mapping[str, str]) -> bytes:
    """Return a block as a product sends it."""
    body = b"".join(f"\r\n{label}\t{text}".encode("ascii") for label, text in fields.items()) + b"\r\nChecksum\t"
    return body + bytes((-sum(body) & 0xFF,))


def decode_lines(lines: Iterable[str]) -> Iterator[str]:
    """Decode a recorded stream, in hex, cut into lines anywhere; yield a JSON line for each block."""
    parser = BlockParser()
    for number, line in enumerate(lines, 1):
        try:
            data = bytes.fromhex(line)
        except ValueError:
            yield json.dumps({"error": f"Line {number} is not hexadecimal: write two digits for each byte."})
            continue
        for block in parser.feed(data):
            yield json.dumps({"fields": block, "values": measurements(block)}, ensure_ascii=False)
    parser.gap()
    if parser.damaged:
        yield json.dumps({"error": f"{parser.damaged} blocks were damaged or not whole."})
