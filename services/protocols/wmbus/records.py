"""Data records of EN 13757-3: from bytes to named values, for a meter of any make.

The sequence of headers of a telegram is interpreted once into a `Layout`; telegrams of a known layout are recognised by
one masked comparison and cost only their values.
"""

from collections.abc import Iterator, Sequence
from typing import Final, NamedTuple

import msgspec

from services.protocols.wmbus.crc import crc
from services.protocols.wmbus.data import INTEGERS, SIZES, VARIABLE, Value, pattern, variable_size
from services.protocols.wmbus.errors import Refusal, TelegramError
from services.protocols.wmbus.header import (
    EXTENDED,
    FUNCTIONS,
    MOST_EXTENSIONS,
    TEXT_VIF,
    Definition,
    Function,
    data_size,
    define,
    header_end,
)
from services.protocols.wmbus.profiles import Profile
from services.protocols.wmbus.vif import INVERSE_PROFILE

_FILL: Final = 0x2F


class Record(msgspec.Struct, frozen=True, gc=False):
    """One value of a telegram. `value` is None where the meter says that it has none, or sends no valid one."""

    name: str
    quantity: str
    unit: str
    value: Value
    function: Function
    storage: int
    tariff: int
    subunit: int


def _record(definition: Definition, value: Value) -> Record:
    return Record(
        definition.name,
        definition.quantity,
        definition.unit,
        value,
        definition.function,
        definition.storage,
        definition.tariff,
        definition.subunit,
    )


class _Part(NamedTuple):
    definition: Definition
    start: int
    end: int


class Layout(NamedTuple):
    """Where the records of a telegram lie: `mask` selects the headers, which equal `headers` in this layout."""

    mask: int
    headers: int
    parts: tuple[_Part, ...]
    profiles: tuple[_Part, ...]
    """Compact profiles, in the order of their headers, because what they add must not depend on that of the telegram."""
    profile: Profile | None
    format: bytes
    """All headers one after the other, as the format signature of compact frames counts them."""
    signature: int
    manufacturer_data: int
    """Where the manufacturer's own data starts; the length of the content where there is none."""
    trouble: TelegramError | None
    """Why the records end before the contents do."""
    rest: int
    """Bytes after the last record that could be read, where there is trouble."""
    plausible: bool
    """Nothing reserved occurs: with valid values, these are records and not a manufacturer's own coding."""


_MANUFACTURER_DATA: Final = (0x0F, 0x1F)
_GLOBAL_READOUT: Final = 0x7F
_SPECIAL: Final = 0x0F


def _next(data: bytes, at: int, profile: Profile | None) -> tuple[_Part, int]:
    """Read the header of the record at byte `at`: where its data lies, and where what a layout fixes of it ends.

    TelegramError where the record is malformed.
    """
    if data[at] & 0x0F == _SPECIAL:
        raise TelegramError(Refusal.RECORD, f"DIF {data[at]:02X} at byte {at} of the contents is reserved.")
    cut = TelegramError(Refusal.RECORD, f"The record at byte {at} of the contents is cut short.")
    try:
        _, start = header_end(data, at)
        length = data[start] if data[at] & 0x0F == VARIABLE else None
    except IndexError:
        raise cut from None
    definition = define(data[at:start], profile)
    size, fixed = data_size(definition.header), start
    if length is not None:
        fixed += 1
        following = variable_size(length)
        if following is None:
            sentence = f"The record at byte {at} of the contents has the reserved length {length:02X}."
            raise TelegramError(Refusal.RECORD, sentence)
        size = following + 1
    if size is None or start + size > len(data):
        raise cut
    return _Part(definition, start, start + size), fixed


def _walk(data: bytes, profile: Profile | None) -> Layout:
    """Find the records of `data` by reading their headers; TelegramError where not even the first one is a record."""
    mask = bytearray(len(data))
    parts: list[_Part] = []
    headers: list[bytes] = []
    at, end, plausible = 0, len(data), True
    trouble: TelegramError | None = None
    while at < end:
        dif = data[at]
        if dif in _MANUFACTURER_DATA:
            mask[at] = 0xFF
            headers.append(data[at : at + 1])
            break
        if dif in (_FILL, _GLOBAL_READOUT):
            mask[at] = 0xFF
            at += 1
            continue
        try:
            part, fixed = _next(data, at, profile)
        except TelegramError as error:
            if not parts or not plausible:
                raise
            trouble = error
            mask[at:] = b"\xff" * (end - at)
            break
        plausible = plausible and part.definition.known
        mask[at:fixed] = b"\xff" * (fixed - at)
        headers.append(part.definition.header)
        parts.append(part)
        at = part.end
    bits = int.from_bytes(mask, "big")
    joined = b"".join(headers)
    return Layout(
        mask=bits,
        headers=bits & int.from_bytes(data, "big"),
        parts=tuple(_distinguished(parts)),
        profiles=tuple(
            sorted((part for part in parts if part.definition.profile is not None), key=lambda p: p.definition.header)
        ),
        profile=profile,
        format=joined,
        signature=crc(joined),
        manufacturer_data=min(at + 1, end) if trouble is None else end,
        trouble=trouble,
        rest=0 if trouble is None else end - at,
        plausible=plausible,
    )


def _distinguished(parts: Sequence[_Part]) -> Iterator[_Part]:
    """Give records that say the same with other headers, or twice, names of their own, in the order of the headers."""
    by_name: dict[str, list[_Part]] = {}
    for part in parts:
        by_name.setdefault(part.definition.name, []).append(part)
    for part in parts:
        same = by_name[part.definition.name]
        if len(same) > 1:
            place = sorted(same, key=lambda other: (other.definition.header, other.start)).index(part)
            if place:
                name = f"repeated_{place}_{part.definition.name}"
                yield part._replace(definition=part.definition._replace(name=name))
                continue
        yield part


_KEPT: Final = 512
"""Lists of layouts kept; a house has a few dozen."""
_ALIKE: Final = 8
"""Layouts kept of one length and start."""
_layouts: dict[tuple[int, bytes, int], list[Layout]] = {}


def layout_of(data: bytes, profile: Profile | None = None) -> Layout:
    """Return the layout of these records, from memory where it is known; TelegramError where they are none at all."""
    key = (len(data), data[:2], id(profile))
    candidates = _layouts.get(key)
    number = int.from_bytes(data, "big")
    if candidates is not None:
        for layout in candidates:
            if number & layout.mask == layout.headers:
                return layout
    layout = _walk(data, profile)
    if candidates is None:
        if len(_layouts) >= _KEPT:
            _layouts.clear()
        candidates = _layouts[key] = []
    candidates.insert(0, layout)
    del candidates[_ALIKE:]
    return layout


def read(data: bytes, layout: Layout) -> list[Record]:
    """Return the values of records that have this layout."""
    records = [_record(definition, definition.convert(data[start:end])) for definition, start, end in layout.parts]
    if layout.profiles:
        names = {record.name for record in records}
        for part in layout.profiles:
            records += [_unlike(record, names) for record in _history(data, part, layout)]
    if layout.manufacturer_data < len(data):
        own = pattern(data[layout.manufacturer_data :])
        records.append(Record("manufacturer_data", "text", "", own, "instantaneous", 0, 0, 0))
    return records


# --- compact profiles --------------------------------------------------------------------------------------------

_ABSOLUTE, _INCREMENT, _DECREMENT, _DIFFERENCE = range(4)
_PROFILE_START: Final = 3
"""Bytes before the elements: LVAR, spacing control, spacing value."""


def _element(definition: Definition, place: int, storage: int, kind: int, names: Profile | None) -> Definition:
    """Define one element of a compact profile: as the profile itself, but for storage, data type and the VIFE."""
    dib = [FUNCTIONS.index(definition.function) << 4 | (storage & 1) << 6 | kind]
    storage, tariff, subunit = storage >> 1, definition.tariff, definition.subunit
    while storage or tariff or subunit:
        dib[-1] |= EXTENDED
        dib.append((subunit & 1) << 6 | (tariff & 3) << 4 | storage & 0x0F)
        storage, tariff, subunit = storage >> 4, tariff >> 2, subunit >> 1
    if len(dib) > MOST_EXTENSIONS + 1:
        raise TelegramError(Refusal.RECORD, "A compact profile reaches beyond the last storage number.")
    middle, end = header_end(definition.header, 0)
    vib = bytearray(definition.header[middle:])
    place -= middle
    if place == end - middle - 1:
        after_text = vib[0] & 0x7F == TEXT_VIF and place == 2 + vib[1]
        vib[0 if after_text else place - 1] &= 0x7F
    del vib[place]
    return define(bytes(dib) + bytes(vib), names)


def _change(definition: Definition, element: bytes, *, counted: bool) -> Value:
    """Return one element; a counted one has no sign, so one more byte keeps its top bit from being read as one."""
    if not counted:
        return definition.convert(element)
    return None if element == b"\xff" * len(element) else definition.convert(element + b"\0")


def _history(data: bytes, part: _Part, layout: Layout) -> Iterator[Record]:
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
    inverse = own.header[own.profile] & 0x7F == INVERSE_PROFILE
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
        yield _record(definition, total)


def _unlike(record: Record, names: set[str]) -> Record:
    """Return the record under a name that is not among `names` yet, and add it to them."""
    name = record.name
    place = 0
    while name in names:
        place += 1
        name = f"repeated_{place}_{record.name}"
    names.add(name)
    return record if not place else msgspec.structs.replace(record, name=name)
