"""Where the records of a telegram lie: the sequence of headers of one make of telegram, interpreted once.

Telegrams of a known layout are recognised by one masked comparison and cost only their values.
"""

from collections.abc import Iterator, Sequence
from typing import Final, NamedTuple

from services.protocols.wmbus.crc import crc
from services.protocols.wmbus.data import VARIABLE, variable_size
from services.protocols.wmbus.errors import TelegramError, TelegramRefusal
from services.protocols.wmbus.header import RecordHeader, data_size, define, header_end
from services.protocols.wmbus.profiles import Profile

_FILL: Final = 0x2F


class LaidOut(NamedTuple):
    """One record of a layout: what its header says, and where its data lies."""

    definition: RecordHeader
    start: int
    end: int


class RecordLayout(NamedTuple):
    """Where the records of a telegram lie: `mask` selects the headers, which equal `headers` in this layout."""

    mask: int
    headers: int
    parts: tuple[LaidOut, ...]
    profiles: tuple[LaidOut, ...]
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
    impossible: bool
    """A quantity occurs that a meter of this type cannot have: a manufacturer's own coding under the standard's CI field."""
    is_strange: bool
    """The records end in trouble, and one of them has no data: where no checksum held, a manufacturer's own coding."""


_MANUFACTURER_DATA: Final = (0x0F, 0x1F)
_GLOBAL_READOUT: Final = 0x7F
_SPECIAL: Final = 0x0F


def _next(data: bytes, at: int, profile: Profile | None) -> tuple[LaidOut, int]:
    """Read the header of the record at byte `at`: where its data lies, and where what a layout fixes of it ends.

    TelegramError where the record is malformed.
    """
    if data[at] & 0x0F == _SPECIAL:
        raise TelegramError(TelegramRefusal.RECORD, f"DIF {data[at]:02X} at byte {at} of the contents is reserved.")
    cut = TelegramError(TelegramRefusal.RECORD, f"The record at byte {at} of the contents is cut short.")
    try:
        _, start = header_end(data, at)
        length = data[start] if data[at] & 0x0F == VARIABLE else None
    except IndexError:
        raise cut from None
    definition = define(data[at:start], profile)
    size, fixed = data_size(definition.raw), start
    if length is not None:
        fixed += 1
        following = variable_size(length)
        if following is None:
            sentence = f"The record at byte {at} of the contents has the reserved length {length:02X}."
            raise TelegramError(TelegramRefusal.RECORD, sentence)
        size = following + 1
    if size is None or start + size > len(data):
        raise cut
    return LaidOut(definition, start, start + size), fixed


def _walk(data: bytes, profile: Profile | None) -> RecordLayout:
    """Find the records of `data` by reading their headers; TelegramError where not even the first one is a record."""
    mask = bytearray(len(data))
    parts: list[LaidOut] = []
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
        headers.append(part.definition.raw)
        parts.append(part)
        at = part.end
    bits = int.from_bytes(mask, "big")
    joined = b"".join(headers)
    return RecordLayout(
        mask=bits,
        headers=bits & int.from_bytes(data, "big"),
        parts=tuple(_distinguished(parts)),
        profiles=tuple(
            sorted((part for part in parts if part.definition.profile is not None), key=lambda p: p.definition.raw)
        ),
        profile=profile,
        format=joined,
        signature=crc(joined),
        manufacturer_data=min(at + 1, end) if trouble is None else end,
        trouble=trouble,
        rest=0 if trouble is None else end - at,
        plausible=plausible,
        impossible=profile is not None and any(part.definition.quantity in profile.cannot for part in parts),
        is_strange=trouble is not None and any(part.start == part.end for part in parts),
    )


def _distinguished(parts: Sequence[LaidOut]) -> Iterator[LaidOut]:
    """Give records that say the same with other headers, or twice, names of their own, in the order of the headers."""
    by_name: dict[str, list[LaidOut]] = {}
    for part in parts:
        by_name.setdefault(part.definition.name, []).append(part)
    for part in parts:
        same = by_name[part.definition.name]
        if len(same) > 1:
            place = sorted(same, key=lambda other: (other.definition.raw, other.start)).index(part)
            if place:
                name = f"repeated_{place}_{part.definition.name}"
                yield part._replace(definition=part.definition._replace(name=name))
                continue
        yield part


_KEPT: Final = 512
"""Lists of layouts kept; a house has a few dozen."""
_ALIKE: Final = 8
"""Layouts kept of one length and start."""
_layouts: dict[tuple[int, bytes, int], list[RecordLayout]] = {}


def layout_of(data: bytes, profile: Profile | None = None) -> RecordLayout:
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
