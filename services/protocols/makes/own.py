"""A table of registers as people write it in topics.yaml, from what stands in their device's manual."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Annotated, Final, Literal

from msgspec import Meta, Struct, field

from services.protocols import registers as forms
from services.protocols.registers import LAST, LONGEST_READ, Raw, Register

TYPES: Final[dict[str, tuple[int, Callable[[Sequence[int]], Raw]]]] = {
    "u16": (1, forms.word),
    "i16": (1, forms.signed),
    "u32": (2, forms.word),
    "i32": (2, forms.signed),
    "u64": (4, forms.word),
    "i64": (4, forms.signed),
    "f32": (2, forms.floating),
    "f64": (4, forms.floating),
    "sign16": (1, forms.sign_and_magnitude),
    "bcd16": (1, forms.decimal),
    "bcd32": (2, forms.decimal),
    "string": (1, forms.text),
    "hex": (1, forms.hexadecimal),
}
"""Registers and form of each type; texts say their length."""


class OwnError(ValueError):
    """A field that cannot be meant so; `name` is the field's."""

    def __init__(self, name: str, sentence: str) -> None:
        super().__init__(sentence)
        self.name = name


Place = Annotated[int, Meta(ge=0, le=0x1FFFF)]


class OwnRegister(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """One field: where it stands, what kind of number it is, what it means."""

    address: Annotated[Place | list[Place], Meta(description="Its first register, or each, where it is in pieces.")]
    first: Annotated[int, Meta(ge=0, description="Number of the manual's first register: 0, 1, 30001 or 40001.")] = 0
    function: Annotated[Literal[3, 4], Meta(description="3 holding registers, 4 input registers.")] = 3
    type: Literal[
        "u16", "i16", "u32", "i32", "u64", "i64", "f32", "f64", "sign16", "bcd16", "bcd32", "string", "hex"
    ] = "u16"
    length: Annotated[int, Meta(ge=1, le=64, description="Registers of a string or hex.")] | None = None
    order: Annotated[Literal["high", "low"], Meta(description="Which register comes first.")] = "high"
    bytes: Annotated[Literal["high", "low"], Meta(description="Which byte of a register comes first.")] = "high"
    scale: Annotated[float, Meta(description="What the number is multiplied with.")] = 1.0
    offset: Annotated[float, Meta(description="What is added then.")] = 0.0
    power: Annotated[Place, Meta(description="The register that holds a power of ten.")] | None = None
    none: Annotated[list[float], Meta(description="Numbers that mean that there is no value.")] = field(
        default_factory=list
    )
    unit: Annotated[str, Meta(description="Unit of the value.")] = ""
    bit: Annotated[int, Meta(ge=0, le=63, description="Take this bit as true or false.")] | None = None
    states: Annotated[dict[int, str], Meta(description="Words for numbers.")] = field(default_factory=dict)


def registers(table: Mapping[str, OwnRegister]) -> tuple[Register, ...]:
    """Make registers of a table; OwnError names the field that cannot be meant so."""
    return tuple(_registers(table))


def _registers(table: Mapping[str, OwnRegister]) -> Iterator[Register]:
    for name, own in table.items():
        pieces = own.address if isinstance(own.address, list) else [own.address]
        length, form = TYPES[own.type]
        length = own.length or length
        first, *beside = [address - own.first for address in pieces] or [-1]
        if min(first, *beside, LAST) < 0 or max(first, *beside, 0) + length - 1 > LAST:
            raise OwnError(name, f"there is no register {own.address} where the first one is {own.first}")
        if beside and len(pieces) != length:
            raise OwnError(name, f"a {own.type} has {length} registers, and {len(pieces)} are named")
        if own.length and own.type not in ("string", "hex"):
            raise OwnError(name, f"a {own.type} has {TYPES[own.type][0]} registers: leave length out")
        if own.bit is not None and own.bit >= 16 * length:
            raise OwnError(name, f"a {own.type} has no bit {own.bit}: the last one is {16 * length - 1}")
        if not own.scale:
            raise OwnError(name, "times 0 everything is 0: leave scale out, or write what the manual says")
        yield Register(
            name,
            first,
            own.unit,
            own.scale,
            1 if beside else length,
            form,
            own.bit,
            own.states,
            own.function,
            own.offset,
            tuple(own.none),
            own.order == "low",
            own.bytes == "low",
            tuple(beside),
            None
            if own.power is None
            else _power(name, own, own.power, range(first, first + (1 if beside else length))),
        )


def _power(name: str, own: OwnRegister, named: int, number: range) -> int:
    """Place of a power of ten, which has to be read with its number in one request."""
    power = named - own.first
    if not 0 <= power <= LAST:
        raise OwnError(name, f"there is no register {named} where the first one is {own.first}")
    if max(power, number[-1]) - min(power, number[0]) >= LONGEST_READ:
        raise OwnError(
            name,
            f"its power of ten is too far away: {LONGEST_READ} registers are read at once, and {own.address} to {named} are more",
        )
    return power
