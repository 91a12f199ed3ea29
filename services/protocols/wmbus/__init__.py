"""Wireless M-Bus (EN 13757-3, -4, -7, OMS): telegrams of any meter to named values, without input or output."""

from services.protocols.wmbus.compact import Formats
from services.protocols.wmbus.errors import TelegramError, TelegramRefusal
from services.protocols.wmbus.header import INVALID
from services.protocols.wmbus.layers import link_address, meter_address
from services.protocols.wmbus.lines import decode_lines
from services.protocols.wmbus.link import Address, Framing
from services.protocols.wmbus.records import DataRecord
from services.protocols.wmbus.telegram import Telegram, decode

__all__ = [
    "INVALID",
    "Address",
    "DataRecord",
    "Formats",
    "Framing",
    "Telegram",
    "TelegramError",
    "TelegramRefusal",
    "decode",
    "decode_lines",
    "link_address",
    "meter_address",
]
