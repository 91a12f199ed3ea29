"""Diehl (HYD, DME, EWT, SPL) and Sappel (SAP): IZAR meters in PRIOS, and real data under the standard's CI fields.

PRIOS hides its contents behind a shift register that starts from public keys, the address and the header; their first
byte 4B, the date, and that the last month's total is no more than today's show that it was undone.
"""

from typing import Final

from services.protocols.wmbus.data import calendar_date
from services.protocols.wmbus.link import Address, address
from services.protocols.wmbus.makers.reading import OwnReading, number, record, refused
from services.protocols.wmbus.records import DataRecord

_SAPPEL: Final = "SAP"
MAKERS: Final = frozenset(("HYD", "DME", "EWT", "SPL", _SAPPEL))
PRIOS: Final = range(0xA0, 0xA8)
_KEYS: Final = (0x39BC8A10 ^ 0xE66D83F8, 0x51728910 ^ 0xE66D83F8)
"""The two public keys, each folded to the 32 bits that the register takes."""
_START: Final = 0x4B
_HEADER: Final = 5
"""CI, three bytes in clear, and the frame check."""
_DATED: Final = 11
_TOTAL: Final = 5
_MOST_LITRES: Final = 10**9
_HALF_YEAR: Final = 365.2422 / 2
"""In days: the battery's life is told in half years."""
_ALARMS: Final = (
    (1, 0x80, "general_alarm"),
    (2, 0x80, "leak"),
    (2, 0x40, "leak_earlier"),
    (2, 0x20, "blocked"),
    (3, 0x80, "backflow"),
    (3, 0x40, "underflow"),
    (3, 0x20, "overflow"),
    (3, 0x10, "submerged"),
    (3, 0x08, "sensor_fraud"),
    (3, 0x04, "sensor_fraud_earlier"),
    (3, 0x02, "mechanical_fraud"),
    (3, 0x01, "mechanical_fraud_earlier"),
)
"""Byte of the message, bit, and word."""


def prios(link: Address, message: bytes) -> OwnReading | None:
    """Read a message in PRIOS, from its CI field on; `link` is the address as sent. None for another coding.

    TelegramError where no public key opens it.
    """
    if link.manufacturer not in MAKERS or message[0] not in PRIOS:
        return None
    if len(message) < _HEADER + _TOTAL:
        raise refused("Diehl", f"{len(message)} bytes are too short for PRIOS")
    start = 0
    for word in (link.raw[:4], link.raw[4:], message[:4]):
        start ^= int.from_bytes(word, "big")
    for key in _KEYS:
        plain = _undone(key ^ start, message[_HEADER : _HEADER + _DATED])
        if plain[0] == _START and (totals := _totals(plain)) is not None:
            alarms = tuple(word for at, bit, word in _ALARMS if message[at] & bit)
            return OwnReading([*totals, *_about(link, message)], alarms)
    raise refused("Diehl", "neither of its public keys opens them")


def _undone(register: int, data: bytes) -> bytes:
    plain = bytearray()
    for byte in data:
        for _ in range(8):
            bit = (register >> 1 ^ register >> 2 ^ register >> 11 ^ register >> 31) & 1
            register = (register << 1 | bit) & 0xFFFFFFFF
        plain.append(byte ^ register & 0xFF)
    return bytes(plain)


def _totals(plain: bytes) -> list[DataRecord] | None:
    """Read today's total and, where the telegram is long enough, that of the last month; None where they cannot be true."""
    total = number(plain[1:5])
    if total > _MOST_LITRES:
        return None
    records = [record("volume", "volume", "m³", total / 1000)]
    if len(plain) >= _DATED:
        last, day = number(plain[5:9]), calendar_date(plain[9], plain[10])
        if last > total or day is None:
            return None
        records += [record("target_volume", "volume", "m³", last / 1000), record("target_date", "date", "", day)]
    return records


def _about(link: Address, message: bytes) -> list[DataRecord]:
    records = [
        record("battery_days", "days", "d", round((message[2] & 0x1F) * _HALF_YEAR, 1)),
        record("transmission_interval", "duration", "s", 1 << (message[1] & 0x0F) + 2),
    ]
    if link.manufacturer == _SAPPEL:
        records.append(record("printed_number", "text", "", _printed(link.raw)))
    return records


def _printed(raw: bytes) -> str:
    """Number on the dial of a Sappel meter: supplier, year, type, size, serial number."""
    low, high, first, second = raw[2:4], raw[4:6], raw[6], raw[7]
    digits = f"{(high[1] & 3) << 24 | high[0] << 16 | low[1] << 8 | low[0]:08d}"
    supplier, kind, size = (second & 0x0F) << 1 | first >> 7, (first & 0x7C) >> 2, (first & 3) << 3 | high[1] >> 5
    return f"{chr(64 + supplier)}{digits[:2]}{chr(64 + kind)}{chr(64 + size)}{digits[2:]}"


_ALARM: Final = 0x71
_SHORT: Final = 0x7A
_REAL: Final = 0x10
"""Bit of the configuration field's high byte that says real data."""
_CHECKED: Final = 0xEF
"""Bits of the sum that the header repeats: the remaining one says that these are real data."""


def real_data(message: bytes) -> bytes | None:
    """Return the records behind a header of real data whose check fits; None where it does not, as where they are encrypted."""
    contents = message[_HEADER:]
    return contents if contents and not (sum(contents) ^ message[4]) & _CHECKED else None


def sends_real_data(sender: Address, message: bytes) -> bool:
    """Tell Diehl's real data, which take CI fields of the standard, from what the standard means by these."""
    if sender.manufacturer not in MAKERS or len(message) <= _HEADER:
        return False
    return bool(message[4] & _REAL) if message[0] == _SHORT else message[0] == _ALARM and real_data(message) is not None


_OWN: Final = range(0xA0, 0xB8)
_WATER: Final = b"\0\x07"


def as_printed(sender: Address, message: bytes) -> Address:
    """Return who sent a message by the number that is printed on it.

    In Diehl's own codings version and type come before the number; Sappel's numbers go on where those should be.
    """
    raw = sender.raw
    if sender.manufacturer == _SAPPEL:
        return address(raw[:6] + _WATER) if message[:1] and message[0] in PRIOS else sender
    if sender.manufacturer in MAKERS and message and (message[0] in _OWN or sends_real_data(sender, message)):
        return address(raw[:2] + raw[4:8] + raw[2:4])
    return sender
