"""Apator (APA, APT): the registers of the AT-WMBUS-16-2 (162), and the totals of 172 and 08.

The registers of the 162 end with the CRC of EN 13757 over all of them, which no maker's page tells: it makes the reading
certain, and tells a wrong key and a register of unknown length apart.
"""

from typing import Final

from services.protocols.wmbus.crc import crc
from services.protocols.wmbus.errors import TelegramError, TelegramRefusal
from services.protocols.wmbus.link import Address
from services.protocols.wmbus.makers.reading import OwnReading, number, record, refused
from services.protocols.wmbus.records import DataRecord

_CHECKED: Final = 0x0F
_UNCHECKED: Final = 0x80
_FIRST: Final = 8
"""Bytes before the registers: 0F or 80, counter, date, status."""
_TOTAL: Final = 0x10
_FILL: Final = 0xFF
_CRC: Final = 2
_SIZES: Final = {
    0x00: 4,
    0x01: 3,
    _TOTAL: 4,
    0x11: 2,
    0x40: 6,
    0x41: 2,
    0x42: 4,
    0x43: 2,
    0x44: 3,
    **{0x70 | n: 1 + 4 * (n + 1) for n in range(1, 13)},
    **dict.fromkeys((0x80, 0x81, 0x82, 0x83, 0x84, 0x86, 0x87), 10),
    **dict.fromkeys((0x85, 0x88, 0x8F), 11),
    0x8A: 9,
    0x8B: 6,
    0x8C: 6,
    0x8E: 7,
    **dict.fromkeys((0xA0, 0xA1, 0xA4), 4),
    **dict.fromkeys((0xA2, 0xA5, 0xA9, 0xAF), 1),
    0xA3: 7,
    0xA6: 3,
    **dict.fromkeys((0xA7, 0xA8, 0xAA, 0xAB, 0xAC, 0xAD), 2),
    0xB0: 5,
    0xB1: 8,
    0xB2: 16,
    0xB3: 8,
    0xB4: 2,
    0xB5: 16,
    **dict.fromkeys((*range(0xB6, 0xC8), 0xD0, 0xD3), 3),
    0xF0: 4,
}
"""Bytes of each register."""


def registers(contents: bytes, sealed: int) -> OwnReading | None:
    """Read the registers behind the 0F that begins `contents`, of which `sealed` bytes were encrypted; None for others.

    TelegramError where their CRC does not match, or the walk does not reach a total. Contents that begin with 80 have no
    CRC, so that every register must be known, and nothing but fill may follow.
    """
    if not contents or contents[0] not in (_CHECKED, _UNCHECKED):
        return None
    if contents[0] == _UNCHECKED:
        if contents[_walk(contents) : -_CRC].strip(b"\xff"):
            raise refused("Apator", "what follows its registers is no fill")
        return OwnReading([_total(contents)])
    for end in {len(contents), sealed}:
        if _FIRST + _CRC <= end <= len(contents):
            body, check = contents[: end - _CRC], contents[end - _CRC : end]
            if crc(body) == int.from_bytes(check, "big"):
                return OwnReading([_total(body)], certain=True)
    raise TelegramError(
        TelegramRefusal.CHECKSUM, "The CRC of Apator's registers does not match: another key, or damage."
    )


def _walk(body: bytes, wanted: int = _FILL) -> int:
    """Return where a register begins, or the fill; TelegramError where one has no known length or is cut short."""
    at = _FIRST
    while at < len(body) and body[at] not in (wanted, _FILL):
        size = _SIZES.get(body[at])
        if size is None:
            raise refused("Apator", f"register {body[at]:02X} has no known length")
        at += 1 + size
    if at > len(body):
        raise refused("Apator", "its last register is cut short")
    return at


def _total(body: bytes) -> DataRecord:
    at = _walk(body, _TOTAL)
    litres = body[at + 1 : at + 5]
    if body[at : at + 1] != bytes((_TOTAL,)) or len(litres) < _SIZES[_TOTAL]:
        raise refused("Apator", "no register holds a total")
    return record("volume", "volume", "m³", number(litres) / 1000)


_THIRDS: Final = {(0x04, 0x11): 3, (0x03, 0x03): 3000, (0x0F, 0x0F): 3000}
"""By version and type: what of the counter makes a m³."""
_COUNTED: Final = 18
_CODING: Final = 0xA0


def thirds(link: Address, message: bytes) -> OwnReading | None:
    """Read the total of a 172 or 08, which counts in thirds; None for another meter. TelegramError as `refused`."""
    divisor = _THIRDS.get((link.version, link.type)) if link.manufacturer == "APT" else None
    if divisor is None or message[0] != _CODING:
        return None
    contents = message[1:]
    if len(contents) != _COUNTED:
        raise refused("Apator", f"{len(contents)} bytes instead of {_COUNTED}")
    total, earlier = number(contents[:4]), number(contents[-4:])
    if earlier > total:
        raise refused("Apator", "an earlier total is more than today's")
    return OwnReading([record("volume", "volume", "m³", round(total / divisor, 6))])
