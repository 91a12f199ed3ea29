"""Techem's own coding (TCH): totals of a period that has ended and of the running one, as they were last midnight.

Nothing in it is a check, so that maker, version, type, first byte, length, dates and ranges all have to fit. The number on
the air is the radio's, not always the printed one.
"""

from collections.abc import Callable, Mapping
from datetime import date
from typing import Final

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

MAKER: Final = "TCH"
_CODINGS: Final = range(0xA0, 0xA4)
_SHORTEST: Final = 28
"""Bytes of contents; the shortest that is known has 31."""
_MEGAJOULE: Final = 3.6
"""MJ in a kWh."""


def read(link: Address, message: bytes) -> OwnReading | None:
    """Read a message from its CI field on; None where the coding of this meter is not known. TelegramError as `refused`."""
    kind = _KINDS.get((link.version, link.type))
    if link.manufacturer != MAKER or message[0] not in _CODINGS or kind is None:
        return None
    firsts, layout = kind
    contents = message[1:]
    if len(contents) < _SHORTEST:
        raise refused("Techem", f"{len(contents)} bytes are too short")
    if firsts and contents[0] not in firsts:
        raise refused("Techem", f"first byte {contents[0]:02X}")
    return layout(contents)


def _ended(contents: bytes, at: int = 1) -> date:
    """Date on which the last period ended."""
    bits = number(contents[at : at + 2])
    day = calendar_day(2000 + (bits >> 9), bits >> 5 & 0x0F, bits & 0x1F)
    if day is None:
        raise refused("Techem", "the date of its period is none")
    return date.fromisoformat(day)


def _today(contents: bytes, ended: date) -> str:
    """Today's date, sent without its year: the period's, or the next where it would lie before the period's end."""
    bits = number(contents[5:7])
    month, day = bits >> 9 & 0x0F or 12, bits >> 4 & 0x1F or 1
    today = calendar_day(ended.year + ((month, day) <= (ended.month, ended.day)), month, day)
    if today is None:
        raise refused("Techem", "today's date is none")
    return today


def _totals(name: str, unit: str, previous: float, current: float) -> list[DataRecord]:
    return [
        record(name, name, unit, round(previous + current, 6)),
        record(f"target_{name}", name, unit, round(previous, 6)),
        record(f"period_{name}", name, unit, round(current, 6)),
    ]


def _words(contents: bytes) -> tuple[int, int]:
    """Previous and current period in 16 bits each."""
    return number(contents[3:5]), number(contents[7:9])


def _water_3(contents: bytes) -> OwnReading:
    ended = _ended(contents)
    previous, current = (tenths / 10 for tenths in _words(contents))
    dates = [record("target_date", "date", "", ended.isoformat()), record("date", "date", "", _today(contents, ended))]
    return OwnReading([*_totals("volume", "m³", previous, current), *dates])


def _water_4(contents: bytes) -> OwnReading:
    previous, current = (tenths / 10 for tenths in _words(contents))
    return OwnReading(_totals("volume", "m³", previous, current))


_HALF_MONTHS: Final = 12


def _water_3a(contents: bytes) -> OwnReading:
    """A total in 24 bits, and twelve months of two halves each, the newest first."""
    day = _ended(contents, 2).isoformat()
    months = [sum(contents[8 + 3 * n : 10 + 3 * n]) for n in range(_HALF_MONTHS)]
    total = number(contents[4:7])
    if sum(months) > total:
        raise refused("Techem", "its months are more than their total")
    differences = [
        record(f"month_{n}_difference_volume", "difference", "m³", tenths / 10) for n, tenths in enumerate(months, 1)
    ]
    return OwnReading([record("volume", "volume", "m³", total / 10), record("date", "date", "", day), *differences])


def _heat_vario(contents: bytes) -> OwnReading:
    ended = _ended(contents)
    previous, current = (megajoules / _MEGAJOULE for megajoules in _words(contents))
    dates = [record("target_date", "date", "", ended.isoformat()), record("date", "date", "", _today(contents, ended))]
    return OwnReading([*_totals("energy", "kWh", previous, current), *dates])


def _heat_compact(contents: bytes) -> OwnReading:
    ended = _ended(contents)
    totals = _totals("energy", "kWh", number(contents[3:6]), number(contents[7:10]))
    return OwnReading([*totals, record("target_date", "date", "", ended.isoformat())])


def _costs(temperatures: int | None) -> Callable[[bytes], OwnReading]:
    """Heat cost allocator; its temperatures, room and radiator, stand at a byte of their own, or are not sent."""

    def read(contents: bytes) -> OwnReading:
        ended = _ended(contents)
        previous, current = _words(contents)
        records = [
            record("heat_cost_units", "units", "", current),
            record("target_heat_cost_units", "units", "", previous),
            record("target_date", "date", "", ended.isoformat()),
            record("date", "date", "", _today(contents, ended)),
        ]
        if temperatures is not None:
            records += [
                record(f"{place}_temperature", "temperature", "°C", hundredths(contents[at : at + 2], "Techem"))
                for place, at in (("room", temperatures), ("radiator", temperatures + 2))
            ]
        return OwnReading(records)

    return read


_SMOKE: Final = {0: (), 1: ("smoke",)}


def _smoke(contents: bytes) -> OwnReading:
    state = contents[0]
    alarm = None if state not in _SMOKE else bool(state)
    records = [
        record("smoke_alarm", "alarm", "", alarm),
        record("service_date", "date", "", _ended(contents).isoformat()),
    ]
    return OwnReading(records, _SMOKE.get(state, (f"status_{state:02x}",)))


_Layout = Callable[[bytes], OwnReading]
_KINDS: Final[Mapping[tuple[int, int], tuple[tuple[int, ...], _Layout]]] = {
    **{(0x74, type_): ((0x06,), _water_3) for type_ in (0x62, 0x72)},
    **{(version, type_): ((0x06,), _water_4) for version in (0x95, 0x70) for type_ in (0x62, 0x72)},
    (0x50, 0x72): ((0x0C,), _water_3a),
    **{(0x27, type_): ((0x12,), _heat_vario) for type_ in (0x04, 0xC3)},
    **dict.fromkeys(((69, 4), (69, 195), (69, 67), (34, 67), (57, 67)), ((0, 16), _heat_compact)),
    (0x69, 0x80): ((0x11, 0x0F, 0x01), _costs(9)),
    (0x94, 0x80): ((0x11, 0x0F, 0x01), _costs(10)),
    **{(version, 0x80): ((0x11, 0x0F, 0x01), _costs(None)) for version in (0x61, 0x64)},
    (0x76, 0xF0): ((), _smoke),
}
"""By version and type: the first bytes that were seen, and how the contents lie."""
