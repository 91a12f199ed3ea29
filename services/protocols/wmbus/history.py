"""Compact profiles (EN 13757-3, annex F): one record that holds a whole history of values."""

from collections.abc import Iterator
from typing import Final

from services.protocols.wmbus.data import INTEGERS, SIZES, Value
from services.protocols.wmbus.errors import TelegramError, TelegramRefusal
from services.protocols.wmbus.header import (
    EXTENDED,
    FUNCTIONS,
    MOST_EXTENSIONS,
    TEXT_VIF,
    RecordHeader,
    define,
    header_end,
)
from services.protocols.wmbus.layout import LaidOut, RecordLayout
from services.protocols.wmbus.profiles import Profile
from services.protocols.wmbus.vife import INVERSE_PROFILE

_ABSOLUTE, _INCREMENT, _DECREMENT, _DIFFERENCE = range(4)
_PROFILE_START: Final = 3
"""Bytes before the elements: LVAR, spacing control, spacing value."""


def _element(definition: RecordHeader, place: int, storage: int, kind: int, names: Profile | None) -> RecordHeader:
    """Define one element of a compact profile: as the profile itself, but for storage, data type and the VIFE."""
    dib = [FUNCTIONS.index(definition.function) << 4 | (storage & 1) << 6 | kind]
    storage, tariff, subunit = storage >> 1, definition.tariff, definition.subunit
    while storage or tariff or subunit:
        dib[-1] |= EXTENDED
        dib.append((subunit & 1) << 6 | (tariff & 3) << 4 | storage & 0x0F)
        storage, tariff, subunit = storage >> 4, tariff >> 2, subunit >> 1
    if len(dib) > MOST_EXTENSIONS + 1:
        raise TelegramError(TelegramRefusal.RECORD, "A compact profile reaches beyond the last storage number.")
    middle, end = header_end(definition.raw, 0)
    vib = bytearray(definition.raw[middle:])
    place -= middle
    if place == end - middle - 1:
        after_text = vib[0] & 0x7F == TEXT_VIF and place == 2 + vib[1]
        vib[0 if after_text else place - 1] &= 0x7F
    del vib[place]
    return define(bytes(dib) + bytes(vib), names)


def _change(definition: RecordHeader, element: bytes, *, counted: bool) -> Value:
    """Return one element; a counted one has no sign, so one more byte keeps its top bit from being read as one."""
    if not counted:
        return definition.convert(element)
    return None if element == b"\xff" * len(element) else definition.convert(element + b"\0")


def history(data: bytes, part: LaidOut, layout: RecordLayout) -> Iterator[tuple[RecordHeader, Value]]:
    """Yield the values of a compact profile (EN 13757-3, annex F) as those of the storages after its own.

    Elements are values, or changes from one to the next that start at the record with the profile's own storage;
    in an inverse profile each element is older than the one before it. After a missing element no sum is known.
    """
    content = data[part.start : part.end]
    own = part.definition
    if len(content) <= _PROFILE_START or own.profile is None:
        return
    mode, kind = content[1] >> 6, content[1] & 0x0F
    size = SIZES[kind]
    if not size:
        return
    total: Value = None
    if mode != _ABSOLUTE:
        base = _element(own, own.profile, own.storage, kind, layout.profile).name
        for other in layout.parts:
            if other.definition.name == base:
                total = other.definition.convert(data[other.start : other.end])
    inverse = own.raw[own.profile] & 0x7F == INVERSE_PROFILE
    sign = -1 if (mode == _DECREMENT) != inverse else 1
    counted = mode in (_INCREMENT, _DECREMENT) and kind in INTEGERS
    for n, at in enumerate(range(_PROFILE_START, len(content) - size + 1, size), start=1):
        definition = _element(own, own.profile, own.storage + n, kind, layout.profile)
        element = content[at : at + size]
        if mode == _ABSOLUTE:
            total = definition.convert(element)
        elif isinstance(total, int | float):
            change = _change(definition, element, counted=counted)
            total = round(total + sign * change, 9) if isinstance(change, int | float) else None
        else:
            total = None
        yield definition, total
