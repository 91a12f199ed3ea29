"""Header of a record (DIB and VIB): what its value is called and measured in, by EN 13757-3 and the meter's profile.

A name is built from the header alone, so it never depends on the order of records.
"""

import re
from fractions import Fraction
from functools import lru_cache
from typing import Final, Literal, NamedTuple

from services.protocols.wmbus.data import SIZES, Convert, Value, converter, nothing, variable, variable_pattern
from services.protocols.wmbus.errors import TelegramError, TelegramRefusal
from services.protocols.wmbus.profiles import BetterName, Profile
from services.protocols.wmbus.vif import EXTENSION_FB, EXTENSION_FD, PRIMARY, CodeMeaning
from services.protocols.wmbus.vife import NON_METRIC, PROFILES, QUALIFIERS, QUALIFIERS_FC, RECORD_ERRORS, Qualifier

Function = Literal["instantaneous", "maximum", "minimum", "error"]
FUNCTIONS: Final[tuple[Function, ...]] = ("instantaneous", "maximum", "minimum", "error")

MOST_EXTENSIONS: Final = 10
"""DIFEs and VIFEs that one record may have (EN 13757-3, 6.3.4)."""
EXTENDED: Final = 0x80
TEXT_VIF: Final = 0x7C
INVALID: Final = "invalid_"
"""Begins the name of a record by which a meter says that it has no value: the plain name is that of the one with a value."""
_TEXTS: Final = {"co2": CodeMeaning("co2", "co2", "ppm"), "ppm": CodeMeaning("co2", "co2", "ppm")}
"""Quantities that meters write out as text, because the tables have no code for them."""
_MANUFACTURER_VIF: Final = 0x7F


class RecordHeader(NamedTuple):
    """What the header of a record says, and how its data becomes a value."""

    raw: bytes
    name: str
    quantity: str
    unit: str
    function: Function
    storage: int
    tariff: int
    subunit: int
    convert: Convert
    profile: int | None
    """Where in the header the VIFE stands that makes the data a compact profile."""
    known: bool
    """Nothing in the header is reserved."""


class _Vib(NamedTuple):
    meaning: CodeMeaning
    words: tuple[str, ...]
    """Before the name."""
    suffixes: tuple[str, ...]
    unit: str
    factor: Fraction
    offset: Fraction
    profile: int | None
    """Where in the VIB the VIFE of a compact profile stands."""
    error: str | None
    known: bool


def _slug(text: str) -> str:
    return "_".join(re.findall("[a-z0-9]+", text.lower()))


def _manufacturer(codes: bytes) -> str:
    return f"manufacturer_{codes.hex()}" if codes else "manufacturer"


def _interpret(vib: bytes) -> _Vib:
    """Read a value information block: one VIF, its extension or text, and the VIFEs after it."""
    first, at = vib[0], 1
    code = first & 0x7F
    known = True
    meaning: CodeMeaning | None
    if first in (0xFB, 0xFD) and at < len(vib):
        table = EXTENSION_FB if first == 0xFB else EXTENSION_FD  # noqa: PLR2004 - the extension codes themselves
        meaning = table.get(vib[at] & 0x7F)
        at += 1
    elif code == TEXT_VIF:
        end = 2 + vib[1]
        text = vib[2:end][::-1].decode("latin-1").strip()
        slug = _slug(text)
        unit = text if text.isprintable() else ""
        meaning = _TEXTS.get(slug) or CodeMeaning(f"custom_{slug}" if slug else "custom", "value", unit)
        at = end
    elif first == _MANUFACTURER_VIF | EXTENDED:
        meaning, at = CodeMeaning(_manufacturer(vib[1:]), "value"), len(vib)
    else:
        meaning = PRIMARY.get(code)
    if meaning is None:
        meaning, known = CodeMeaning(f"vif_{bytes((*vib[: at - 1], vib[at - 1] & 0x7F)).hex()}", "value"), False
    words: list[str] = []
    suffixes: list[str] = []
    unit, content_known = "", known
    factor, offset = Fraction(1), Fraction(0)
    profile: int | None = None
    error: str | None = None
    becomes: CodeMeaning | None = None
    while at < len(vib):
        code = vib[at] & 0x7F
        at += 1
        if code == _MANUFACTURER_VIF and vib[at - 1] & EXTENDED:
            words.append(_manufacturer(vib[at:]))
            break
        if code == TEXT_VIF and vib[at - 1] & EXTENDED and at < len(vib):
            qualifier = QUALIFIERS_FC.get(vib[at] & 0x7F)
            spelling = f"vife_fc{vib[at] & 0x7F:02x}"
            at += 1
        else:
            qualifier = QUALIFIERS.get(code)
            spelling = f"vife_{code:02x}"
            error = error or RECORD_ERRORS.get(code)
            if code in RECORD_ERRORS:
                continue
            profile = at - 1 if code in PROFILES else profile
            content_known = content_known and code != NON_METRIC
        if qualifier is None:
            qualifier, known = Qualifier(before=spelling), False
        if qualifier.before:
            words.append(qualifier.before)
        if qualifier.after:
            suffixes.append(qualifier.after)
        unit += qualifier.unit
        factor *= qualifier.factor
        offset += qualifier.offset
        if qualifier.becomes is not None:
            becomes = qualifier.becomes
        if qualifier.content is not None and meaning.content == "number":
            meaning = meaning._replace(content=qualifier.content)
    if becomes is not None:
        if meaning.name != becomes.name:
            words.append(meaning.name)
        meaning, unit = becomes, ""
        if becomes.content in ("date", "moment"):
            suffixes.clear()
    return _Vib(
        meaning,
        tuple(words),
        tuple(suffixes),
        (meaning.unit if content_known else "") + unit,
        meaning.factor * factor,
        meaning.step * offset,
        profile,
        error,
        known,
    )


def _extent(data: bytes, at: int, limit: int = MOST_EXTENSIONS) -> int:
    """Return the end of a chain of bytes that starts at `at` and goes on while the top bit is set."""
    for end in range(at, at + limit + 1):
        if not data[end] & EXTENDED:
            return end + 1
    raise TelegramError(TelegramRefusal.RECORD, f"The record at byte {at} has more than {limit} extensions.")


def header_end(data: bytes, at: int) -> tuple[int, int]:
    """Return where the DIB and the VIB of the record at byte `at` end; IndexError where they are cut short."""
    middle = _extent(data, at)
    if data[middle] & 0x7F == TEXT_VIF:
        end = middle + 2 + data[middle + 1]
        if data[middle] & EXTENDED:
            end = _extent(data, end)
        elif end > len(data):
            raise IndexError
        return middle, end
    return middle, _extent(data, middle)


def data_size(header: bytes) -> int | None:
    """Bytes of data after this header; None where they start with their own length."""
    return SIZES[header[0] & 0x0F]


@lru_cache(maxsize=2048)
def define(header: bytes, profile: Profile | None) -> RecordHeader:
    """Interpret a whole header; a profile may give its value another name and meaning."""
    dib_end, _ = header_end(header, 0)
    dif = header[0]
    storage, tariff, subunit = dif >> 6 & 1, 0, 0
    for n, dife in enumerate(header[1:dib_end]):
        storage |= (dife & 0x0F) << 4 * n + 1
        tariff |= (dife >> 4 & 0x03) << 2 * n
        subunit |= (dife >> 6 & 0x01) << n
    function = FUNCTIONS[dif >> 4 & 3]
    vib = _interpret(header[dib_end:])
    stored = f"storage_{storage}"
    if profile is not None:
        stored = profile.storages.get(storage, stored)
    words = (
        *([function] if function != "instantaneous" else ()),
        *([stored] if storage else ()),
        *([f"tariff_{tariff}"] if tariff else ()),
        *([f"subunit_{subunit}"] if subunit else ()),
        *vib.words,
    )
    name = "_".join((*words, vib.meaning.name, *vib.suffixes))
    kind = dif & 0x0F
    size = SIZES[kind]
    convert = (
        variable(vib.meaning.content, vib.factor, vib.offset)
        if size is None
        else converter(kind, size, vib.meaning.content, vib.factor, vib.offset)
    )
    if vib.profile is not None and size is None:
        convert = variable_pattern
    quantity, unit = vib.meaning.quantity, vib.unit
    field = profile.fields.get(name) if profile is not None else None
    if field is not None:
        name, quantity, unit, convert = _renamed(field, name, quantity, unit, convert)
    if profile is not None and (invalid := profile.nothing.get(quantity)):
        convert = _unless(invalid, convert)
    if vib.error is not None:
        name, convert = f"{INVALID}{name}", nothing
    profiled_at = None if vib.profile is None else dib_end + vib.profile
    return RecordHeader(
        header, name, quantity, unit, function, storage, tariff, subunit, convert, profiled_at, vib.known
    )


def _unless(invalid: frozenset[float], convert: Convert) -> Convert:
    """Give no value for numbers that stand for none."""

    def read(data: bytes) -> Value:
        value = convert(data)
        return None if value in invalid else value

    return read


def _renamed(field: BetterName, name: str, quantity: str, unit: str, convert: Convert) -> tuple[str, str, str, Convert]:
    """Apply what a profile knows better than the standard."""
    if field.read is not None:
        convert = field.read
    return field.name or name, field.quantity or quantity, field.unit if field.unit is not None else unit, convert
