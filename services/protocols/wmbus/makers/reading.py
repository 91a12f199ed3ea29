"""What a maker's own coding gives: records under the names of the standard, and how sure it is of them."""

from datetime import date
from typing import Final, NamedTuple

from services.protocols.wmbus.data import Value
from services.protocols.wmbus.errors import TelegramError, TelegramRefusal
from services.protocols.wmbus.records import DataRecord


class OwnReading(NamedTuple):
    """Values of one telegram in a maker's own coding."""

    records: list[DataRecord]
    status: tuple[str, ...] = ()
    note: str | None = None
    certain: bool = False
    """A checksum vouches for the values; else only that they are plausible does."""


def record(name: str, quantity: str, unit: str, value: Value) -> DataRecord:
    """Make a record as the standard's decoder would."""
    return DataRecord(name, quantity, unit, value, "instantaneous", 0, 0, 0)


def refused(maker: str, why: str) -> TelegramError:
    """Return the error for contents that do not pass the checks of a maker's coding."""
    return TelegramError(TelegramRefusal.RECORD, f"The contents do not pass the checks of {maker}'s own coding: {why}.")


def number(data: bytes) -> int:
    """Read an unsigned integer, low byte first."""
    return int.from_bytes(data, "little")


def calendar_day(year: int, month: int, day: int) -> str | None:
    """Return a date as ISO 8601, or None where there is no such day."""
    try:
        return date(year, month, day).isoformat()
    except ValueError:
        return None


_LOWEST: Final = -20.0
_HIGHEST: Final = 120.0


def hundredths(data: bytes, maker: str) -> float:
    """Read a temperature in hundredths of a °C; TelegramError for one that no room or radiator has."""
    value = int.from_bytes(data, "little", signed=True) / 100
    if not _LOWEST <= value <= _HIGHEST:
        raise refused(maker, f"{value} °C is no temperature of a room or radiator")
    return value
