"""Heat cost allocators in codings of their own: BFW 240 radio (BFW), and Hydroclima of BMeters (BMP)."""

from typing import Final

from services.protocols.wmbus.data import calendar_date
from services.protocols.wmbus.layout import RecordLayout
from services.protocols.wmbus.link import Address
from services.protocols.wmbus.makers.reading import (
    OwnReading,
    calendar_day,
    hundredths,
    number,
    record,
    refused,
)
from services.protocols.wmbus.records import DataRecord

_BFW_VERSION: Final = 0x02
_BFW_SIZE: Final = 40
_FILL: Final = b"\x2f\x2f"
_MONTHS: Final = range(10, 37, 3)
"""Where the pairs of months begin, from the oldest on."""


def bfw(meter: Address, contents: bytes) -> OwnReading | None:
    """Read a BFW 240, contents and all; None for another version. TelegramError as `refused`."""
    if meter.version != _BFW_VERSION:
        return None
    if len(contents) != _BFW_SIZE or not contents.startswith(_FILL):
        raise refused("BFW", f"{len(contents)} bytes instead of {_BFW_SIZE}, or no 2F2F before them")
    digits = contents[37:40].hex()
    day = calendar_day(2000 + int(digits[4:]), int(digits[2:4]), int(digits[:2])) if digits.isdigit() else None
    if day is None:
        raise refused("BFW", "the date of sending is none")
    previous, current = int.from_bytes(contents[4:6], "big"), int.from_bytes(contents[6:8], "big")
    months: list[int] = []
    for at in _MONTHS:
        low, shared, high = contents[at : at + 3]
        months += [(shared >> 4) << 8 | low, (shared & 0x0F) << 8 | high]
    totals = (("", current), ("target_", previous), *((f"month_{n}_", one) for n, one in enumerate(months[::-1], 1)))
    records = [record(f"{words}heat_cost_units", "units", "", units) for words, units in totals]
    return OwnReading([*records, record("date", "date", "", day)])


_HYDROCLIMA: Final = {0x53: (0x10, 23), 0x85: (0x11, 47)}
"""By version: first byte of the block behind the records, and bytes that are needed."""
_NO_TEMPERATURE: Final = b"\x00\x80"


def hydroclima(meter: Address, contents: bytes, layout: RecordLayout, records: list[DataRecord]) -> OwnReading | None:
    """Put what the block behind the records says in its place; None for another version. TelegramError as `refused`.

    What is doubtful stays unread: the units of version 53, whose factor nobody is sure of, and counters.
    """
    known = _HYDROCLIMA.get(meter.version)
    block = contents[layout.manufacturer_data :]
    if known is None or not block:
        return None
    first, size = known
    if block[0] != first:
        raise refused("Hydroclima", f"first byte {block[0]:02X}")
    if len(block) < size:
        raise refused("Hydroclima", f"{len(block)} bytes are too short")
    day = calendar_date(block[5], block[6])
    if day is None:
        raise refused("Hydroclima", "its date is none")
    own = [record("date", "date", "", day), record("error_flags", "flags", "", number(block[1:3]))]
    own += _first_form(block) if first == _HYDROCLIMA[0x53][0] else _second_form(block)
    return OwnReading([*(one for one in records if one.name != "manufacturer_data"), *own])


def _temperature(name: str, data: bytes) -> DataRecord:
    value = None if data == _NO_TEMPERATURE else hundredths(data, "Hydroclima")
    return record(f"{name}_temperature", "temperature", "°C", value)


def _first_form(block: bytes) -> list[DataRecord]:
    places = (("average_room", 7), ("maximum_room", 9), ("month_average_room", 15), ("month_average_heater", 17))
    return [_temperature(name, block[at : at + 2]) for name, at in places]


def _second_form(block: bytes) -> list[DataRecord]:
    places = (
        ("average_heater", 9),
        ("average_room", 11),
        ("maximum_room", 13),
        ("month_average_heater", 17),
        ("month_average_room", 19),
        *((f"set_date_{n}_room", 27 + 2 * n) for n in (1, 2, 3)),
    )
    past = [
        record(f"set_date_{n}_heat_cost_units", "units", "", number(block[19 + 2 * n : 21 + 2 * n]))
        for n in (1, 2, 3, 4)
    ]
    total = record("total_heat_cost_units", "units", "", number(block[44:47]))
    return [*(_temperature(name, block[at : at + 2]) for name, at in places), *past, total]
