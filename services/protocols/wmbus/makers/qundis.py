"""Qundis (QDS, LSE): the record of 53 bytes that its walk-by telegrams carry under the standard's CI field."""

from collections.abc import Callable
from typing import Final, NamedTuple

from services.protocols.wmbus.data import calendar_date, decimal
from services.protocols.wmbus.layout import RecordLayout
from services.protocols.wmbus.link import Address, address
from services.protocols.wmbus.makers.reading import OwnReading, number, record
from services.protocols.wmbus.records import DataRecord

MAKERS: Final = frozenset(("QDS", "LSE"))
_HEADER: Final = bytes.fromhex("0DFF5F")
_SIZE: Final = 53
_ADAPTED: Final = bytes.fromhex("0779")
"""Header of the record by which a radio adapter names its meter."""
_NO_DIFFERENCE: Final = 0x8000
_NO_DATE: Final = b"\xff\xff"
_MONTHS: Final = 12
_SEALED: Final = "The walk-by record (0DFF5F) is encrypted or of another kind, and not read."


class _Measured(NamedTuple):
    name: str
    quantity: str
    unit: str
    scale: Callable[[int], float]


_MEASURED: Final = {
    0x13: _Measured("volume", "volume", "m³", lambda litres: litres / 1000),
    0x05: _Measured("energy", "energy", "kWh", lambda tenths: tenths / 10),
    0x06: _Measured("energy", "energy", "kWh", lambda whole: whole),
    0x0D: _Measured("energy", "energy", "kWh", lambda tenths: round(tenths / 36, 6)),
    0x0E: _Measured("energy", "energy", "kWh", lambda megajoules: round(megajoules / 3.6, 6)),
    0x6E: _Measured("heat_cost_units", "units", "", lambda units: units),
}
"""What the values are, by the standard's code at byte 9."""


def read(_meter: Address, contents: bytes, layout: RecordLayout, records: list[DataRecord]) -> OwnReading | None:
    """Put the values of a walk-by record in its place; None where there is none. An encrypted one is left out, and said."""
    for part in layout.parts:
        if part.definition.raw == _HEADER:
            own = _values(contents[part.start + 1 : part.end])
            others = [one for one in records if one.name != part.definition.name]
            if own is None:
                return OwnReading(others, note=_SEALED, certain=True)
            return OwnReading([*own, *others], certain=True)
    return None


def adapted(contents: bytes) -> Address | None:
    """The meter behind a radio adapter, which names it in the first record; None where it does not."""
    start = len(_ADAPTED)
    if not contents.startswith(_ADAPTED) or len(contents) < start + 8:
        return None
    own = contents[start : start + 8]
    return address(own[4:6] + own[:4] + own[6:8])


def _values(data: bytes) -> list[DataRecord] | None:
    measured = _MEASURED.get(data[9]) if len(data) == _SIZE else None
    if measured is None:
        return None
    name, quantity, unit, scale = measured
    records = [record("error_date", "date", "", calendar_date(data[10], data[11]))]
    for words, at in (("", 12), ("target_year_", 18), ("target_", 24)):
        total = decimal(data[at : at + 4])
        if total is None or total < 0:
            return None
        records.append(record(f"{words}{name}", quantity, unit, scale(total)))
        if words:
            day = calendar_date(data[at - 2], data[at - 1])
            if day is None and data[at - 2 : at] != _NO_DATE:
                return None
            records.append(record(f"{words}date", "date", "", day))
    for n in range(_MONTHS):
        difference = number(data[28 + 2 * n : 30 + 2 * n])
        value = None if difference == _NO_DIFFERENCE else scale(difference)
        records.append(record(f"month_{n + 1}_difference_{name}", "difference", unit, value))
    return records
