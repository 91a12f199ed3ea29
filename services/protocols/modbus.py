"""Frames of Modbus, as masters send and devices answer them (MODBUS over Serial Line V1.02, Messaging on TCP/IP V1.0b).

An answer of Modbus RTU says its unit, its function and its length, but not which registers it holds: a late one is told
from the one that is waited for by these three only, and by nobody else having been asked meanwhile.
"""

from __future__ import annotations

import json
import struct
from typing import TYPE_CHECKING, Final, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

HOLDING, INPUT = 3, 4
"""Functions that read registers."""
REFUSED: Final = 0x80
"""Bit of the function in a refusal."""
SHORTEST: Final = 5
"""Bytes of a refusal, and of an answer around its registers: unit, function, length or code, CRC."""
NOT_THERE: Final = (1, 2, 3)
"""Codes of refusals that will be the same the next time: unknown function, address, number."""
NOT_REACHED: Final = (10, 11)
"""Codes by which a gateway answers in place of a unit that it cannot reach, or that did not answer it."""
HEADER: Final = struct.Struct(">HHHB")
"""Of Modbus TCP: transaction, protocol, length of what follows, unit."""


def _table() -> tuple[int, ...]:
    table = []
    for value in range(256):
        for _ in range(8):
            value = value >> 1 ^ 0xA001 * (value & 1)  # noqa: PLW2901 - the register of a CRC
        table.append(value)
    return tuple(table)


_CRC: Final = _table()


def crc(data: bytes) -> int:
    """Return the CRC-16/MODBUS of the data."""
    register = 0xFFFF
    for byte in data:
        register = register >> 8 ^ _CRC[(register ^ byte) & 0xFF]
    return register


def sealed(body: bytes) -> bytes:
    """Return a frame: the body and its CRC, low byte first."""
    return body + crc(body).to_bytes(2, "little")


def question(function: int, address: int, count: int) -> bytes:
    """Return what is asked, without unit and CRC: registers from an address on, which counts from 0."""
    return struct.pack(">BHH", function, address, count)


class Answer(NamedTuple):
    """A frame whose CRC was right: whose, to which function, its registers, or the code of a refusal."""

    unit: int
    function: int
    words: tuple[int, ...]
    refused: int = 0


def answer_of(unit: int, body: bytes) -> Answer | None:
    """Read an answer from its function on, without CRC; None where it is none."""
    function = body[0]
    if function & REFUSED:
        return Answer(unit, function ^ REFUSED, (), body[1]) if len(body) == 2 else None  # noqa: PLR2004 (function, code)
    if function not in (HOLDING, INPUT) or len(body) != 2 + body[1] or body[1] % 2:
        return None
    return Answer(unit, function, struct.unpack(f">{body[1] // 2}H", body[2:]))


def find_answer(buffer: bytearray) -> Answer | None:
    """Take the first whole answer out of what came, with all that lies before it; None if there is none yet."""
    for start in range(len(buffer) - SHORTEST + 1):
        function, length = buffer[start + 1 : start + 3]
        size = SHORTEST if function & REFUSED else SHORTEST + length
        if function & ~REFUSED not in (HOLDING, INPUT) or start + size > len(buffer):
            continue
        frame = bytes(buffer[start : start + size])
        if sealed(frame[:-2]) == frame and (answer := answer_of(frame[0], frame[1:-2])):
            del buffer[: start + size]
            return answer
    return None


def orders(words: Sequence[int]) -> dict[str, list[int | float]]:
    """Read two registers in the four orders that devices have, so that people see which one is sane."""
    high, low = (word.to_bytes(2, "big") for word in words)
    shown: dict[str, list[int | float]] = {}
    for name, raw in (
        ("ABCD", high + low),
        ("CDAB", low + high),
        ("BADC", high[::-1] + low[::-1]),
        ("DCBA", low[::-1] + high[::-1]),
    ):
        value = struct.unpack(">f", raw)[0]
        shown[name] = [int.from_bytes(raw, "big"), int.from_bytes(raw, "big", signed=True)]
        if abs(value) < 1e9 and (abs(value) > 1e-6 or value == 0):  # noqa: PLR2004 (what a measurement can be)
            shown[name].append(round(value, 6))
    return shown


def decode_lines(lines: Iterable[str]) -> Iterator[str]:
    """Decode answers of Modbus RTU, one a line in hex; yield a JSON line for each, each pair of registers in four orders."""
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        try:
            buffer = bytearray.fromhex(line)
        except ValueError:
            yield json.dumps({"error": f"Line {number} is not hexadecimal: write two digits for each byte."})
            continue
        found = find_answer(buffer)
        if found is None:
            yield json.dumps({"error": f"Line {number} holds no answer to function 3 or 4 with a right CRC."})
        elif found.refused:
            yield json.dumps({"unit": found.unit, "function": found.function, "refused": found.refused})
        else:
            words = found.words
            pairs = [orders(words[at : at + 2]) for at in range(0, len(words) - 1, 2)]
            yield json.dumps({"unit": found.unit, "function": found.function, "words": words, "pairs": pairs})
