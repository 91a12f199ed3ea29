"""A JBD battery's side of the talk, for simulators and tests."""

from __future__ import annotations

from typing import TYPE_CHECKING

from services.protocols import battery
from services.protocols.jbd.answers import BASIC, COUNTERS_LONG, PROTECTION, WORD_BITS
from services.protocols.jbd.frames import (
    BASIC_INFO,
    CELL_VOLTAGES,
    ERROR_COUNTERS,
    HARDWARE_NAME,
    OVERHEAD,
    START,
    encode_answer,
    encode_request,
)

if TYPE_CHECKING:
    from services.protocols.battery import Pack


def encode_basic_info(pack: Pack) -> bytes:
    """Return the data of a 0x03 answer for a pack, as a board of software 2.3 writes them."""
    masks = sum(1 << cell - 1 for cell in pack.balancing_cells)
    protection = sum(1 << PROTECTION.index(name) for name in pack.alarms)
    return BASIC.pack(
        round(100 * pack.voltage),
        round(100 * pack.current),
        round(100 * pack.remaining_charge),
        round(100 * pack.nominal_charge),
        pack.cycles,
        24 << 9 | 2 << 5 | 29,
        masks & 0xFFFF,
        masks >> WORD_BITS,
        protection,
        0x23,
        round(pack.soc),
        pack.charge_fet | pack.discharge_fet << 1,
        len(pack.cell_voltages),
        len(pack.probe_temperatures),
    ) + battery.from_words(round(10 * celsius) + 2731 for celsius in pack.probe_temperatures)


def encode_cell_voltages(pack: Pack) -> bytes:
    """Return the data of a 0x04 answer for a pack."""
    return battery.from_words(round(1000 * volts) for volts in pack.cell_voltages)


def answer(request: bytes, pack: Pack) -> bytes | None:
    """Play the battery: answer a read request; a damaged request gets no answer, an unknown one status 0x80."""
    if len(request) != OVERHEAD or request[0] != START or request != encode_request(request[2]):
        return None
    match request[2]:
        case 0x03:
            return encode_answer(BASIC_INFO, encode_basic_info(pack))
        case 0x04:
            return encode_answer(CELL_VOLTAGES, encode_cell_voltages(pack))
        case 0x05:
            return encode_answer(HARDWARE_NAME, pack.name.encode("ascii", "replace")[:31])
        case 0xAA:
            return encode_answer(ERROR_COUNTERS, bytes(COUNTERS_LONG))
        case command:
            return encode_answer(command, b"", status=0x80)
