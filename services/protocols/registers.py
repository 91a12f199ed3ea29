"""Modbus registers as a table, so that another device is another table and not another program."""

import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from struct import unpack
from typing import Final

Value = float | int | bool | str
Raw = float | int | str

LONGEST_READ = 125
"""Registers in one answer (MODBUS Application Protocol V1.1b3, function 3)."""
LAST = 0xFFFF
"""Address of the last register."""
INPUTS = 0x10000
"""What the addresses of input registers (function 4) are kept apart by from those of holding registers (function 3)."""


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
    """Return ASCII text without its padding: blanks, zeros, or all ones."""
    return b"".join(part.to_bytes(2, "big") for part in words).strip(b" \0\xff").decode("ascii", "replace")


def hexadecimal(words: Sequence[int]) -> str:
    """Return the registers as hexadecimal digits."""
    return "".join(f"{part:04X}" for part in words)


def version(words: Sequence[int]) -> str:
    """Return a version of three parts: low byte, high byte, low byte of two registers."""
    return f"{low_byte(words)}.{high_byte(words[1:])}.{low_byte(words[1:])}"


def signed(words: Sequence[int]) -> int:
    """Return a number in two's complement, the high register first when it has two."""
    raw = word(words)
    return raw - (1 << 16 * len(words)) if words[0] & 0x8000 else raw


def sign_and_magnitude(words: Sequence[int]) -> int:
    """Return a number whose highest bit is a minus."""
    half = 1 << 16 * len(words) - 1
    raw = word(words)
    return half - raw if raw & half else raw


def floating(words: Sequence[int]) -> float:
    """Return a number of IEEE 754, of 32 or 64 bits."""
    raw = word(words).to_bytes(2 * len(words), "big")
    return float(unpack(">f" if len(words) == 2 else ">d", raw)[0])  # noqa: PLR2004


def decimal(words: Sequence[int]) -> int | str:
    """Return a number of decimal digits, four in a register; nothing where they are none."""
    digits = hexadecimal(words)
    return int(digits) if digits.isdecimal() else ""


SIGNED: Final = (signed,)
"""Forms of which only the highest bit means that nothing is there."""


@dataclass(frozen=True, slots=True)
class Register:
    """A field of a device: its name ends in its quantity; its value is the number times `scale` plus `offset` in `unit`.

    `bit` takes one bit of the number as true or false; `states` turns a number into a word, and a number that is not
    among them into no value. Numbers of `none` are no value, and so is what no device means: all ones, the lowest
    number of two's complement, not a number. `low_first` has the low register first, `swapped` the low byte; `beside`
    are further registers of a number that does not lie in one piece, `power` the one that holds a power of ten.
    """

    name: str
    address: int
    unit: str = ""
    scale: float = 1
    length: int = 1
    form: Callable[[Sequence[int]], Raw] = word
    bit: int | None = None
    states: Mapping[int, str] = field(default_factory=dict)
    function: int = 3
    offset: float = 0
    none: tuple[float, ...] = ()
    low_first: bool = False
    swapped: bool = False
    beside: tuple[int, ...] = ()
    power: int | None = None

    @property
    def addresses(self) -> tuple[int, ...]:
        """Registers of the number, in their order."""
        return (*range(self.address, self.address + self.length), *self.beside)

    def value(self, words: Sequence[int], exponent: int | None = None) -> Value | None:
        """Return what the registers say, or None if they say nothing that is known."""
        if self.swapped:
            words = [(one & 0xFF) << 8 | one >> 8 for one in words]
        if self.low_first:
            words = words[::-1]
        if _nothing(words, self.form in SIGNED):
            return None
        raw = self.form(words)
        if isinstance(raw, str):
            return raw or None
        if raw in self.none or not math.isfinite(raw):
            return None
        if self.bit is not None:
            return bool(int(raw) >> self.bit & 1)
        if self.states:
            return self.states.get(int(raw))
        scale = self.scale
        if self.power is not None:
            if exponent is None or not -10 <= exponent <= 10:  # noqa: PLR2004 (SunSpec)
                return None
            scale *= 10.0**exponent
        return raw if scale == 1 and not self.offset else round(raw * scale + self.offset, 6)


def _nothing(words: Sequence[int], is_signed: bool) -> bool:
    if is_signed:
        return words[0] == 0x8000 and not any(words[1:])  # noqa: PLR2004
    return all(one == 0xFFFF for one in words)  # noqa: PLR2004


@dataclass(frozen=True, slots=True)
class Block:
    """Neighbouring registers that are read with one request."""

    address: int
    length: int
    function: int = 3


def blocks(table: Iterable[Register], *, gap: int = 0, longest: int = LONGEST_READ) -> Iterator[Block]:
    """Give the requests that read a table's registers, no field in two.

    A gap separates, since devices refuse what they do not have, unless it is of `gap` registers at most.
    """
    spans = sorted({span for register in table for span in _spans(register)})
    start = end = function = -1
    for of, first, last in spans:
        if of == function and first <= end + gap + 1 and max(end, last) - start < longest:
            end = max(end, last)
            continue
        if function >= 0:
            yield Block(start, end + 1 - start, function)
        function, start, end = of, first, last
    if function >= 0:
        yield Block(start, end + 1 - start, function)


def _spans(register: Register) -> Iterator[tuple[int, int, int]]:
    first, last = register.address, register.address + register.length - 1
    if register.power is not None:  # a power of ten is true for the numbers that came with it only
        yield register.function, min(first, register.power), max(last, register.power)
    else:
        yield register.function, first, last
    yield from ((register.function, one, one) for one in register.beside)


def halves(block: Block, table: Iterable[Register]) -> tuple[Block, Block] | None:
    """Cut a block into two that tear no field apart; None where it is one field."""
    spans = [span for register in table for span in _spans(register) if span[0] == block.function]
    end = block.address + block.length
    cuts = [first for _, first, _ in spans if block.address < first < end]
    cuts = [cut for cut in cuts if not any(first < cut <= last for _, first, last in spans)]
    if not cuts:
        return None
    cut = min(cuts, key=lambda cut: abs(cut - (block.address + end) / 2))
    before = max((last + 1 for _, first, last in spans if block.address <= first < cut), default=cut)
    return Block(block.address, before - block.address, block.function), Block(cut, end - cut, block.function)


def decode(table: Iterable[Register], words: Mapping[int, int]) -> dict[str, Value]:
    """Return the values of a table by name from raw registers by address; what was not read or is unknown is absent.

    A device that tells other things by function 4 than by 3 has those at address + INPUTS.
    """
    values = {}
    for register in table:
        shift = INPUTS if register.function == 4 else 0  # noqa: PLR2004
        addresses = [address + shift for address in register.addresses]
        if all(address in words for address in addresses):
            exponent = None if register.power is None else words.get(register.power + shift)
            if exponent is not None:
                exponent = signed([exponent])
            value = register.value([words[address] for address in addresses], exponent)
            if value is not None:
                values[register.name] = value
    return values
