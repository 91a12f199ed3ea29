"""Values put into raw registers, as a device holds them: the other way round of services.protocols.registers."""

import struct

from services.protocols import registers
from services.protocols.registers import Register, Value


def encode(register: Register, value: Value, words: dict[int, int]) -> None:
    """Put a value into the raw registers, without touching the fields that share them."""
    before = [words.get(address, 0) for address in register.addresses]
    match register.form:
        case registers.text:
            raw = str(value).encode().ljust(2 * register.length)
        case registers.hexadecimal:
            raw = bytes.fromhex(str(value))
        case registers.version:
            raw = bytes((0, *map(int, str(value).split("."))))
        case registers.floating:
            raw = struct.pack(">f" if len(before) == 2 else ">d", (float(value) - register.offset) / register.scale)  # noqa: PLR2004
        case _:
            number = {word: code for code, word in register.states.items()}.get(str(value), value)
            raw = _number(register, float(number), before)
    parts = [int.from_bytes(raw[at : at + 2], "big") for at in range(0, len(raw), 2)]
    if register.low_first:
        parts.reverse()
    words.update(zip(register.addresses, parts, strict=True))


def _number(register: Register, number: float, before: list[int]) -> bytes:
    length = 2 * len(before)
    whole = round((number - register.offset) / register.scale)
    old = registers.word(before)
    if register.bit is not None:
        mask = 1 << register.bit
        return (old | mask if whole else old & ~mask).to_bytes(length, "big")
    signed = abs(whole) | (0x80 if whole < 0 else 0)
    match register.form:
        case registers.high_byte:
            whole = old & 0x00FF | whole << 8
        case registers.low_byte:
            whole = old & 0xFF00 | whole
        case registers.high_sign_and_magnitude:
            whole = old & 0x00FF | signed << 8
        case registers.low_sign_and_magnitude:
            whole = old & 0xFF00 | signed
    return whole.to_bytes(length, "big", signed=register.form is registers.signed)
