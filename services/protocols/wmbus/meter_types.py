"""What kinds of meters there are: the standard's table, and what makers use beside it."""

from collections.abc import Mapping
from typing import Final

from services.protocols.wmbus.link import Address

TYPES: Final[Mapping[int, str]] = {
    0x00: "other",
    0x01: "oil",
    0x02: "electricity",
    0x03: "gas",
    0x04: "heat",
    0x05: "steam",
    0x06: "warm water",
    0x07: "water",
    0x08: "heat cost allocation",
    0x09: "compressed air",
    0x0A: "cooling at outlet",
    0x0B: "cooling at inlet",
    0x0C: "heat at inlet",
    0x0D: "heat and cooling",
    0x0E: "bus",
    0x0F: "unknown",
    0x15: "hot water",
    0x16: "cold water",
    0x17: "hot and cold water",
    0x18: "pressure",
    0x19: "converter",
    0x1A: "smoke detector",
    0x1B: "room sensor",
    0x1C: "gas detector",
    0x20: "breaker",
    0x21: "valve",
    0x25: "display",
    0x28: "waste water",
    0x29: "garbage",
    0x2A: "carbon dioxide",
    0x31: "gateway",
    0x32: "unidirectional repeater",
    0x33: "bidirectional repeater",
    0x36: "radio converter of the system",
    0x37: "radio converter of the meter",
}
"""Types of meters (EN 13757-7, table 13)."""
OWN_TYPES: Final = {
    ("TCH", 0x43): "heat",
    ("TCH", 0xC3): "heat",
    ("TCH", 0x62): "warm water",
    ("TCH", 0x72): "cold water",
    ("TCH", 0x80): "heat cost allocation",
    ("TCH", 0xF0): "smoke detector",
}
"""Types outside the standard, by manufacturer."""


def type_of(meter: Address) -> str:
    """Return what a meter measures, in words."""
    return TYPES.get(meter.type) or OWN_TYPES.get((meter.manufacturer, meter.type), f"type {meter.type:02X}")
