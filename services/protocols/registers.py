"""Modbus registers as a table, so that another device is another table and not another program."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

Value = float | int | bool | str
Raw = int | str

LONGEST_READ = 125
"""Registers in one answer (MODBUS Application Protocol V1.1b3, function 3)."""


def word(words: Sequence[int]) -> int:
    """Return an unsigned number, the high register first when it has two."""
    return int.from_bytes(b"".join(part.to_bytes(2, "big") for part in words), "big")


def high_byte(words: Sequence[int]) -> int:
    """Return the upper byte, unsigned."""
    return words[0] >> 8


def low_byte(words: Sequence[int]) -> int:
    """Return the lower byte, unsigned."""
    return words[0] & 0xFF


def high_sign_and_magnitude(words: Sequence[int]) -> int:
    """Return the upper byte, whose bit 7 is a minus."""
    return _sign_and_magnitude(high_byte(words))


def low_sign_and_magnitude(words: Sequence[int]) -> int:
    """Return the lower byte, whose bit 7 is a minus."""
    return _sign_and_magnitude(low_byte(words))


def _sign_and_magnitude(byte: int) -> int:
    return -(byte & 0x7F) if byte & 0x80 else byte


def text(words: Sequence[int]) -> str:
    """Return ASCII text without its padding."""
    return b"".join(part.to_bytes(2, "big") for part in words).decode("ascii", "replace").strip(" \0")


def hexadecimal(words: Sequence[int]) -> str:
    """Return the registers as hexadecimal digits."""
    return "".join(f"{part:04X}" for part in words)


def version(words: Sequence[int]) -> str:
    """Return a version of three parts: low byte, high byte, low byte of two registers."""
    return f"{low_byte(words)}.{high_byte(words[1:])}.{low_byte(words[1:])}"


@dataclass(frozen=True, slots=True)
class Register:
    """A field of a device: its name ends in its quantity, its scaled value is in `unit`.

    `bit` takes one bit of the number as true or false; `states` turns a number into a word, and a number that is not
    among them into no value.
    """

    name: str
    address: int
    unit: str = ""
    scale: float = 1
    length: int = 1
    form: Callable[[Sequence[int]], Raw] = word
    bit: int | None = None
    states: Mapping[int, str] = field(default_factory=dict)

    def value(self, words: Sequence[int]) -> Value | None:
        """Return what the registers say, or None if they say nothing that is known."""
        raw = self.form(words)
        if isinstance(raw, str):
            return raw or None
        if self.bit is not None:
            return bool(raw >> self.bit & 1)
        if self.states:
            return self.states.get(raw)
        return raw if self.scale == 1 else round(raw * self.scale, 6)


@dataclass(frozen=True, slots=True)
class Block:
    """Neighbouring registers that are read with one request."""

    address: int
    length: int


def blocks(table: Iterable[Register]) -> Iterator[Block]:
    """Give the requests that read a table's registers; a gap separates, since devices refuse what they do not have."""
    addresses = sorted({register.address + offset for register in table for offset in range(register.length)})
    start = previous = None
    for address in addresses:
        if start is None or previous is None:
            start = address
        elif address != previous + 1 or address - start == LONGEST_READ:
            yield Block(start, previous + 1 - start)
            start = address
        previous = address
    if start is not None and previous is not None:
        yield Block(start, previous + 1 - start)


def decode(table: Iterable[Register], words: Mapping[int, int]) -> dict[str, Value]:
    """Return the values of a table by name from raw registers by address; what was not read or is unknown is absent."""
    values = {}
    for register in table:
        addresses = range(register.address, register.address + register.length)
        if all(address in words for address in addresses):
            value = register.value([words[address] for address in addresses])
            if value is not None:
                values[register.name] = value
    return values
