"""A simulated bluetoothd with batteries that only aiobmsble knows beside those of ours: `python -m tests.redodo --with-bus`."""

import sys
from struct import pack_into
from typing import Any

from services.protocols.battery import GattChannel, Pack, bluetooth_uuid
from services.simulators import bluez

CHANNELS = (GattChannel(bluetooth_uuid(0xFFE0), bluetooth_uuid(0xFFE1), bluetooth_uuid(0xFFE2)),)
ASKED = bytes.fromhex("000004011355aa17")


def answer(request: bytes, pack: Pack) -> bytes | None:
    """Say everything in one frame, whose last byte is the sum of the others; low bytes first."""
    if request != ASKED:
        return None
    frame = bytearray(105)
    frame[2] = len(frame) - 4
    pack_into("<H", frame, 12, round(1000 * pack.voltage))
    pack_into(f"<{len(pack.cell_voltages)}H", frame, 16, *(round(1000 * cell) for cell in pack.cell_voltages))
    pack_into("<i", frame, 48, round(1000 * pack.current))
    pack_into(f"<{len(pack.probe_temperatures)}h", frame, 52, *map(round, pack.probe_temperatures))
    pack_into("<HI", frame, 62, round(100 * pack.remaining_charge), round(100 * pack.nominal_charge))
    pack_into("<HII", frame, 90, round(pack.soc), 98, pack.cycles)
    frame[-1] = sum(frame) & 0xFF
    return bytes(frame)


if __name__ == "__main__":
    itself: Any = sys.modules[__name__]
    bluez.PROTOCOLS["redodo"] = itself
    bluez.main()
