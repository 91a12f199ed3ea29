"""BMeters (BMT): what a Hydrodigit says behind its standard records: battery, fraud, backflow, and the twelve months."""

from typing import Final

import msgspec

from services.protocols.wmbus.layout import RecordLayout
from services.protocols.wmbus.link import Address
from services.protocols.wmbus.makers.reading import OwnReading, calendar_day, number, record, refused
from services.protocols.wmbus.records import DataRecord

VERSIONS: Final = frozenset((0x13, 0x15, 0x17))
_BATTERY, _FRAUD, _BACKFLOW, _MONTHLY, _LEAK = 0x01, 0x02, 0x04, 0x10, 0x80
_RESERVED: Final = 0xFF & ~(_BATTERY | _FRAUD | _BACKFLOW | _MONTHLY | _LEAK)
_VOLTS: Final = (3.7, 1.9, 2.1, 2.2, 2.3, 2.4, 2.5, 2.65, 2.8, 2.9, 3.05, 3.2, 3.35, 3.5, 3.7, 3.7)
_FRAUDS: Final = {0x80: "magnetic_fraud", 0x40: "sensor_fraud", 0x20: "removed"}
_MONTHS: Final = (
    *("january", "february", "march", "april", "may", "june"),
    *("july", "august", "september", "october", "november", "december"),
)
_NO_MONTH: Final = 10_000_000
_BELOW_ZERO: Final = 99_990
"""m³ of a meter that ran backwards from 0, where it says that it ran backwards."""
_FULL_TURN: Final = 100_000
_FILL: Final = b"\x2f\0"
_MOST_BEHIND: Final = 2
"""Bytes behind the fill: those that a receiver left of a CRC."""


class _Bytes:
    """The block, taken from its front."""

    def __init__(self, data: bytes) -> None:
        self._data, self._at = data, 0

    def take(self, count: int) -> bytes:
        if self._at + count > len(self._data):
            raise refused("BMeters", "it is shorter than its first byte announces")
        self._at += count
        return self._data[self._at - count : self._at]

    def rest(self) -> bytes:
        return self._data[self._at :]


def _bcd(byte: int) -> int:
    return (byte >> 4) * 10 + (byte & 0x0F)


def _date(data: bytes) -> str | None:
    return calendar_day(2000 + _bcd(data[0]), _bcd(data[1]), _bcd(data[2]))


def read(meter: Address, contents: bytes, layout: RecordLayout, records: list[DataRecord]) -> OwnReading | None:
    """Put what the block behind the records says in its place; None where there is none. TelegramError as `refused`."""
    if meter.version not in VERSIONS or layout.manufacturer_data >= len(contents):
        return None
    block = _Bytes(contents[layout.manufacturer_data :])
    present = block.take(1)[0]
    if present & _RESERVED:
        raise refused("BMeters", f"its first byte {present:02X} announces what nobody knows")
    status: list[str] = []
    own: list[DataRecord] = []
    if present & _BATTERY:
        own.append(record("voltage", "voltage", "V", _VOLTS[block.take(1)[0] & 0x0F]))
    if present & _FRAUD:
        kind = block.take(1)[0]
        status += [word for bit, word in _FRAUDS.items() if kind & bit]
        own.append(record("fraud_date", "date", "", _date(block.take(3))))
    if present & _LEAK:
        status.append("leak")
        own.append(record("leak_date", "date", "", _date(block.take(3))))
    backwards = number(block.take(4)) / 1000 if present & _BACKFLOW else 0
    if present & _BACKFLOW:
        own.append(record("backward_volume", "volume", "m³", backwards))
    if present & _MONTHLY:
        for month in _MONTHS:
            hundredths = number(block.take(3))
            value = hundredths / 100 if hundredths < _NO_MONTH else None
            own.append(record(f"{month}_volume", "volume", "m³", value))
    if len(block.rest().lstrip(_FILL)) > _MOST_BEHIND:
        raise refused("BMeters", "it is longer than its first byte announces")
    kept = [_turned(one, backwards) for one in records if one.name != "manufacturer_data"]
    return OwnReading([*kept, *own], tuple(status), certain=True)


def _turned(one: DataRecord, backwards: float) -> DataRecord:
    """A total just below the full turn is one below zero, where the meter says that it ran backwards."""
    if one.name != "volume" or not backwards or not isinstance(one.value, int | float) or one.value < _BELOW_ZERO:
        return one
    return msgspec.structs.replace(one, value=round(one.value - _FULL_TURN, 3))
