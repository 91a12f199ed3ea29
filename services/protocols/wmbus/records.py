"""Data records of EN 13757-3: from bytes to named values, for a meter of any make."""

from typing import Final

import msgspec

from services.protocols.wmbus.data import Value, pattern
from services.protocols.wmbus.header import Function, RecordHeader
from services.protocols.wmbus.history import history
from services.protocols.wmbus.layout import RecordLayout

_FILL: Final = b"\x2f"


class DataRecord(msgspec.Struct, frozen=True, gc=False):
    """One value of a telegram. `value` is None where the meter says that it has none, or sends no valid one."""

    name: str
    quantity: str
    unit: str
    value: Value
    function: Function
    storage: int
    tariff: int
    subunit: int


def _record(definition: RecordHeader, value: Value) -> DataRecord:
    return DataRecord(
        definition.name,
        definition.quantity,
        definition.unit,
        value,
        definition.function,
        definition.storage,
        definition.tariff,
        definition.subunit,
    )


def read(data: bytes, layout: RecordLayout) -> list[DataRecord]:
    """Return the values of records that have this layout."""
    records = [  # written out: a call for each record would cost as much as the record
        DataRecord(
            what.name,
            what.quantity,
            what.unit,
            what.convert(data[start:end]),
            what.function,
            what.storage,
            what.tariff,
            what.subunit,
        )
        for what, start, end in layout.parts
    ]
    if layout.profiles:
        names = {record.name for record in records}
        for part in layout.profiles:
            records += [_unlike(_record(*one), names) for one in history(data, part, layout)]
    if layout.manufacturer_data < len(data) and (own := pattern(data[layout.manufacturer_data :].rstrip(_FILL))):
        records.append(DataRecord("manufacturer_data", "text", "", own, "instantaneous", 0, 0, 0))
    return records


def distinguished(records: list[DataRecord]) -> list[DataRecord]:
    """Give records that bear the name of an earlier one names of their own."""
    names: set[str] = set()
    return [_unlike(record, names) for record in records]


def _unlike(record: DataRecord, names: set[str]) -> DataRecord:
    """Return the record under a name that is not among `names` yet, and add it to them."""
    name = record.name
    place = 0
    while name in names:
        place += 1
        name = f"repeated_{place}_{record.name}"
    names.add(name)
    return record if not place else msgspec.structs.replace(record, name=name)
