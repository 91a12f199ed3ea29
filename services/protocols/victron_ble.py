"""What Victron products say in their advertisements ("Instant readout", Victron's "Extra manufacturer data", 2022).

    0 10 | 1 flags | 2 model(2) | 4 record type | 5 counter(2) | 7 first byte of the key | 8 encrypted

AES-128 in counter mode; the counter block is the counter of the advertisement as a little-endian number of 128 bits. Fields lie
bit by bit behind each other, the lowest first. Each has a number that means that there is none.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from services.protocols.vedirect import ALARMS, CHARGING, Value, off_reason

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

COMPANY: Final = 0x02E1
HEADER: Final = 8
INSTANT_READOUT: Final = 0x10
KEY_DIGITS: Final = 32


class Advertisement(NamedTuple):
    """An advertisement before it is decrypted."""

    model: int
    kind: int
    counter: int
    key_byte: int
    secret: bytes


class Bits(NamedTuple):
    """A field: how many bits, its name (empty: passed over), its scale, numbers that are none, whether it has a sign."""

    width: int
    name: str = ""
    scale: float = 1
    none: tuple[int, ...] = ()
    signed: bool = False
    offset: float = 0


class VictronError(ValueError):
    """An advertisement that cannot be read, with the reason as a sentence; empty where nobody needs to know."""


def _volts(name: str, width: int = 16, *, signed: bool = True) -> Bits:
    none = (1 << width - 1) - 1 if signed else (1 << width) - 1
    return Bits(width, f"{name}voltage", 0.01, (none,), signed)


_STATE, _ERROR = Bits(8, "charging_state", none=(255,)), Bits(8, "error_number", none=(255,))
_ALARM, _OFF = Bits(16, "alarm_bits"), Bits(32, "off_bits")
_BATTERY_A = Bits(16, "current", 0.1, (0x7FFF,), signed=True)
_TODAY = Bits(16, "generated_today_energy", 0.01, (0xFFFF,))
_CELSIUS = Bits(7, "battery_temperature", 1, (0x7F,), offset=-40)
_AUX, _AUX_MODE = Bits(16, "aux"), Bits(2, "aux_mode")
_SHUNT_A = Bits(22, "current", 0.001, (0x3FFFFF, 0x1FFFFF), signed=True)
"""Both numbers mean none: the maker's table has one, a Battery Sense sends the other."""

RECORDS: Final[dict[int, tuple[Bits, ...]]] = {
    0x01: (
        _STATE, _ERROR, _volts(""), _BATTERY_A, _TODAY, Bits(16, "solar_power", 1, (0xFFFF,)),
        Bits(9, "load_current", 0.1, (0x1FF,)),
    ),
    0x02: (
        Bits(16, "remaining_duration", 60, (0xFFFF,)), _volts(""), _ALARM, _AUX, _AUX_MODE, _SHUNT_A,
        Bits(20, "consumed_charge", 0.1, (0xFFFFF,)), Bits(10, "soc", 0.1, (0x3FF,)),
    ),
    0x03: (
        _STATE, _ALARM, _volts(""), Bits(16, "", 1), _volts("output_", 15, signed=False),
        Bits(11, "output_current", 0.1, (0x7FF,)),
    ),
    0x04: (_STATE, _ERROR, _volts("input_", signed=False), _volts(""), _OFF),
    0x05: (
        Bits(32), Bits(16, "error_number"), *(Bits(7, f"cell_{cell}_voltage", 0.01, (0, 0x7E, 0x7F), offset=2.6) for cell in range(1, 9)),
        _volts("", 12, signed=False), Bits(4), _CELSIUS,
    ),
    0x06: (
        _STATE, _ERROR, _volts(""), _BATTERY_A, Bits(16, "solar_power", 1, (0xFFFF,)), _TODAY,
        Bits(16, "output_power", 1, (0x7FFF,), signed=True),
    ),
    0x08: (
        _STATE, _ERROR,
        *(
            field
            for number in ("", "second_", "third_")
            for field in (_volts(number, 13, signed=False), Bits(11, f"{number}current", 0.1, (0x7FF,)))
        ),
        _CELSIUS, Bits(9, "input_current", 0.1, (0x1FF,)),
    ),
    0x09: (
        _STATE, Bits(8), _ERROR, _ALARM, Bits(16), _volts("input_"), _volts("output_", signed=False), _OFF,
    ),
    0x0A: (
        Bits(8, "error_number"), Bits(16, "remaining_duration", 60, (0xFFFF,)), _volts(""), _BATTERY_A, Bits(16), Bits(18),
        Bits(10, "soc", 0.1, (0x3FF,)), Bits(20, "consumed_charge", 0.1, (0xFFFFF,)), _CELSIUS,
    ),
    0x0B: (
        _STATE, _ERROR, _BATTERY_A, _volts("", 14, signed=False), Bits(2), Bits(16, "input_power", 1, (0x7FFF,), signed=True),
        Bits(16, "output_power", 1, (0x7FFF,), signed=True), Bits(16, "solar_power", 1, (0xFFFF,)), _TODAY,
    ),
    0x0C: (
        _STATE, _ERROR, _BATTERY_A, _volts("", 14, signed=False), Bits(2), Bits(19, "input_power", 1, (0x3FFFF,), signed=True),
        Bits(19, "output_power", 1, (0x3FFFF,), signed=True), Bits(2), _CELSIUS, Bits(7, "soc", 1, (0x7F,)),
    ),
    0x0D: (Bits(16), _volts(""), _ALARM, _AUX, _AUX_MODE, _SHUNT_A),
    0x0F: (
        _STATE, _ERROR, _volts("output_", signed=False), Bits(16, "output_current", 0.1, (0xFFFF,)), _volts("input_", signed=False),
        Bits(16, "input_current", 0.1, (0xFFFF,)), _OFF,
    ),
}  # fmt: skip
"""Fields of each record type: solar charger, battery monitor, inverter, DC-DC, smart lithium, inverter RS, AC charger, battery
protect, Lynx BMS, Multi RS, VE.Bus, DC energy meter, Orion XS."""

_KELVIN: Final = 273.15
_HIGHEST_MIDPOINT: Final = 0xFFFF


def read(data: bytes) -> Advertisement | None:
    """Read the manufacturer's data of an advertisement, behind the company's number; None where it is no readout."""
    if len(data) <= HEADER or data[0] != INSTANT_READOUT or data[4] not in RECORDS:
        return None
    model, counter = int.from_bytes(data[2:4], "little"), int.from_bytes(data[5:7], "little")
    return Advertisement(model, data[4], counter, data[7], data[HEADER:])


def key_of(text: str) -> bytes:
    """Read a key of 32 hexadecimal digits; VictronError says what is wrong with it."""
    digits = text.strip()
    if len(digits) != KEY_DIGITS:
        lost = ": some apps lose a zero at the front" if len(digits) == KEY_DIGITS - 1 else ""
        raise VictronError(f"a key has {KEY_DIGITS} hexadecimal digits, this one has {len(digits)}{lost}")
    try:
        return bytes.fromhex(digits)
    except ValueError:
        raise VictronError("a key has hexadecimal digits only") from None


def _crypt(counter: int, key: bytes, data: bytes) -> bytes:
    from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes  # 3 MB

    blocks = -(-len(data) // 16)
    stream = Cipher(algorithms.AES(key), modes.ECB()).encryptor()  # noqa: S305 - the blocks of a counter that grows at its low end
    pad = b"".join(
        stream.update(((counter + block) & (1 << 128) - 1).to_bytes(16, "little")) for block in range(blocks)
    )
    return bytes(one ^ other for one, other in zip(data, pad, strict=False))


def decrypt(advertisement: Advertisement, key: bytes) -> bytes:
    """Return the record; VictronError where the key is another product's."""
    if advertisement.key_byte != key[0]:
        raise VictronError("its key is another one: it changes when the PIN is reset (VictronConnect, product info)")
    return _crypt(advertisement.counter, key, advertisement.secret)


def encrypt(model: int, kind: int, counter: int, key: bytes, record: bytes) -> bytes:
    """Return the manufacturer's data with a record, as a product advertises it."""
    head = bytes((INSTANT_READOUT, 0)) + model.to_bytes(2, "little") + bytes((kind,)) + counter.to_bytes(2, "little")
    return head + key[:1] + _crypt(counter, key, record)


def fields(kind: int, record: bytes) -> dict[str, int]:
    """Cut a record into its named fields, as raw numbers; those that are none, or not whole, are left out."""
    raw, size, at = int.from_bytes(record, "little"), 8 * len(record), 0
    found: dict[str, int] = {}
    for field in RECORDS[kind]:
        if at + field.width > size:
            break
        number = raw >> at & (1 << field.width) - 1
        at += field.width
        if field.name and number not in field.none:
            found[field.name] = number - (1 << field.width) if field.signed and number >> field.width - 1 else number
    return found


ENDLESS: Final = "remaining_duration"


def measurements(kind: int, record: bytes) -> dict[str, Value | None]:
    """Name what a record says; what it says is none is left out, but for the time that is left: None while it is endless."""
    raw = fields(kind, record)
    scales = {field.name: field for field in RECORDS[kind]}
    named: dict[str, Value | None] = {ENDLESS: None} if ENDLESS in scales else {}
    for name, number in raw.items():
        special: Callable[[int], dict[str, Value]] | None = _SPECIAL.get(name)
        if special:
            named |= special(number)
        elif name not in ("aux", "aux_mode"):
            field = scales[name]
            value = number * field.scale + field.offset
            named[name] = number if field.scale == 1 and not field.offset else round(value, 3) + 0.0
    return named | _aux(raw)


def _state(number: int) -> dict[str, Value]:
    word = CHARGING.get(number)
    return {"charging_state": word} if word else {}


def _alarms(number: int) -> dict[str, Value]:
    return {f"{name}_alarm": bool(number >> bit & 1) for bit, name in enumerate(ALARMS)}


def _off(number: int) -> dict[str, Value]:
    return {"off_reason_text": off_reason(number)}


_SPECIAL: Final[dict[str, Callable[[int], dict[str, Value]]]] = {
    "charging_state": _state,
    "alarm_bits": _alarms,
    "off_bits": _off,
}


def _aux(raw: dict[str, int]) -> dict[str, Value]:
    """What hangs at the auxiliary input: a starter battery, the middle of the bank, a temperature, or nothing."""
    number = raw.get("aux", 0)
    match raw.get("aux_mode"):
        case 0 if number != 0x7FFF:  # noqa: PLR2004
            return {"starter_voltage": round((number - 0x10000 if number & 0x8000 else number) * 0.01, 2)}
        case 1 if number != _HIGHEST_MIDPOINT:
            return {"midpoint_voltage": round(number * 0.01, 2)}
        case 2 if number != 0xFFFF:  # noqa: PLR2004
            return {"battery_temperature": round(number * 0.01 - _KELVIN, 2)}
        case _:
            return {}


def _names() -> Iterator[str]:
    for record in RECORDS.values():
        for field in record:
            if field.name and field.name not in ("alarm_bits", "off_bits", "aux", "aux_mode"):
                yield field.name
    yield from ("off_reason_text", "starter_voltage", "midpoint_voltage", "battery_temperature")
    yield from (f"{name}_alarm" for name in ALARMS)


NAMES: Final = tuple(dict.fromkeys(_names()))
"""Every measurement that a product may have."""


def decode_lines(lines: Iterable[str], key: bytes | None = None) -> Iterator[str]:
    """Decode manufacturer's data in hex, one a line, each with its own key behind it or all with one; yield JSON lines."""
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        said: dict[str, Any]
        data, _, own = line.strip().partition(" ")
        try:
            heard = read(bytes.fromhex(data))
            if heard is None:
                said = {"error": f"Line {number} is no readout of a type that is known."}
            else:
                said = {"model": f"{heard.model:04X}", "record": heard.kind, "counter": heard.counter}
                said["values"] = measurements(heard.kind, decrypt(heard, key if key and not own else key_of(own)))
        except VictronError as error:
            said = {"error": f"Line {number}: {error}."}
        except ValueError:
            said = {"error": f"Line {number} is not hexadecimal: write two digits for each byte, a blank, and the key."}
        yield json.dumps(said, ensure_ascii=False)
