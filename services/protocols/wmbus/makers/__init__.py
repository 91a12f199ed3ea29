"""Makers' own codings, in the order in which people own them: each a table and a function, with a check of its own.

What passes no check gives no values. Told by maker, version, type and CI field, before anything is taken for records.
"""

from collections.abc import Callable
from typing import Final, NamedTuple

from services.protocols.wmbus.layout import RecordLayout
from services.protocols.wmbus.link import Address
from services.protocols.wmbus.makers import allocators, apator, bmeters, diehl, qundis, techem
from services.protocols.wmbus.makers.reading import OwnReading
from services.protocols.wmbus.profiles import BY_TYPE, PROFILES, Profile
from services.protocols.wmbus.records import DataRecord

_Message = Callable[[Address, bytes], OwnReading | None]
_MESSAGES: Final[dict[str, _Message]] = {
    **dict.fromkeys(diehl.MAKERS, diehl.prios),
    techem.MAKER: techem.read,
    "APT": apator.thirds,
}


def of_message(link: Address, message: bytes) -> OwnReading | None:
    """Read a message whose CI field is the maker's own; None where nobody knows its coding. TelegramError where it is not plausible."""
    read = _MESSAGES.get(link.manufacturer)
    return None if read is None else read(link, message)


class OwnCoding(NamedTuple):
    """How a family of meters uses the standard's CI fields for what is its own."""

    whole: Callable[[Address, bytes, int], OwnReading | None] | None = None
    """Reads all of the contents, of which so many bytes were encrypted, before they are taken for records."""
    beside: Callable[[Address, bytes, RecordLayout, list[DataRecord]], OwnReading | None] | None = None
    """Reads what stands beside or behind the records."""


def _registers(_meter: Address, contents: bytes, sealed: int) -> OwnReading | None:
    fill = len(contents) - len(contents.lstrip(b"\x2f"))
    return apator.registers(contents[fill:], sealed - fill)


def _bfw(meter: Address, contents: bytes, _sealed: int) -> OwnReading | None:
    return allocators.bfw(meter, contents)


_APATOR: Final = OwnCoding(whole=_registers)
_QUNDIS: Final = OwnCoding(beside=qundis.read)
_HYDRODIGIT: Final = OwnCoding(beside=bmeters.read)
_CODINGS: Final[dict[tuple[str, int], OwnCoding]] = {
    **{("APA", type_): _APATOR for type_ in (0x06, 0x07)},
    **{(maker, type_): _QUNDIS for maker in qundis.MAKERS for type_ in range(0x40)},
    **{("BMT", type_): _HYDRODIGIT for type_ in (0x06, 0x07)},
    ("BFW", 0x08): OwnCoding(whole=_bfw),
    ("BMP", 0x08): OwnCoding(beside=allocators.hydroclima),
}
"""By manufacturer and type of meter."""


class Family(NamedTuple):
    """What is known of a family of meters."""

    profile: Profile | None = None
    own: OwnCoding | None = None


_OF_TYPE: Final = {type_: Family(profile) for type_, profile in BY_TYPE.items()}
_UNKNOWN: Final = Family()
_FAMILIES: Final = {
    (maker, type_): Family(PROFILES.get((maker, type_)) or BY_TYPE.get(type_), _CODINGS.get((maker, type_)))
    for maker, type_ in {*PROFILES, *_CODINGS}
}


def family_of(meter: Address) -> Family:
    """Return what is known of a meter's family, else of its type: one look-up for most telegrams."""
    return _FAMILIES.get((meter.manufacturer, meter.type)) or _OF_TYPE.get(meter.type, _UNKNOWN)


PUBLIC_KEYS: Final[dict[str, bytes]] = {
    **dict.fromkeys(diehl.MAKERS, bytes.fromhex("51728910E66D83F8") * 2),
    "APA": bytes(16),
}
"""Keys of security mode 5 that makers use where the owner has none: anybody can read, and anybody can forge."""
