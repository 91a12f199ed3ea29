"""Lines of rtl_wmbus, so that a cheap television receiver can stand in for a radio dongle.

`MODE;CRC_OK;3OUTOF6OK;TIMESTAMP;PACKET_RSSI;CURRENT_RSSI;LINK_LAYER_IDENT_NO;0xTELEGRAM`: the telegram without block
CRCs. Two decoders run side by side in rtl_wmbus, so a telegram may come twice.
"""

from dataclasses import dataclass
from typing import Final

_FIELDS: Final = 8


@dataclass(frozen=True, slots=True)
class ReceivedLine:
    """One received telegram: radio mode, whether all its checks passed, and the strength as rtl_wmbus counts it."""

    mode: str
    intact: bool
    time: str
    strength: int
    telegram: bytes


def parse(line: str) -> ReceivedLine:
    """Read one line; ValueError, a sentence with the reason, if it is none of rtl_wmbus."""
    fields = line.strip().split(";")
    if len(fields) != _FIELDS:
        raise ValueError(f"A line of rtl_wmbus has {_FIELDS} fields between semicolons; this one has {len(fields)}.")
    mode, crc_ok, symbols_ok, time, packet_strength, _, _, telegram = fields
    if not telegram.startswith("0x"):
        raise ValueError("The last field of a line of rtl_wmbus is the telegram and starts with 0x; this one does not.")
    try:
        return ReceivedLine(
            mode, crc_ok == "1" and symbols_ok == "1", time, int(packet_strength), bytes.fromhex(telegram[2:])
        )
    except ValueError:
        raise ValueError(
            "This line of rtl_wmbus has a strength that is no number, or a telegram that is no hex."
        ) from None


def encode(received: ReceivedLine) -> str:
    """Return the line of a received telegram, without its end."""
    intact = "1" if received.intact else "0"
    number = received.telegram[4:8][::-1].hex()
    fields = (received.mode, intact, intact, received.time, received.strength, received.strength, number)
    return ";".join(map(str, fields)) + f";0x{received.telegram.hex()}"
