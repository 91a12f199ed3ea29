"""What stands behind the transport header: records of one of their forms, an error, an alarm, or why nothing can be read."""

from collections.abc import Mapping
from typing import Final

import msgspec

from services.protocols.wmbus.compact import Formats
from services.protocols.wmbus.crc import crc
from services.protocols.wmbus.errors import TelegramError, TelegramRefusal
from services.protocols.wmbus.layout import RecordLayout, layout_of
from services.protocols.wmbus.link import Address
from services.protocols.wmbus.makers import diehl, family_of, qundis
from services.protocols.wmbus.makers.reading import OwnReading
from services.protocols.wmbus.records import DataRecord, distinguished, read
from services.protocols.wmbus.transport import FILL, Opened, Transport


class Contents(msgspec.Struct, frozen=True, gc=False):
    """What a telegram's contents say."""

    records: list[DataRecord]
    note: str | None = None
    status: tuple[str, ...] = ()
    certain: bool = True
    """Not in a maker's own coding, or in one that has a check; else its values are plausible and no more."""
    meter: Address | None = None
    """Whose values they are, where the contents name another meter than the header."""


_FOREIGN: Final[Mapping[int, str]] = {
    0x66: "SML",
    0x67: "SML",
    0x68: "SML",
    0x7C: "DLMS",
    0x7D: "DLMS",
    0x7E: "OBIS",
    0x7F: "OBIS",
    0x81: "the network layer",
    0x86: "the variable extended link layer",
}
_PROPRIETARY: Final = range(0xA0, 0xB8)
_CRC: Final = 2
_LONGEST_ALARM: Final = 8
_OWN_CODING: Final = "The contents are the manufacturer's own coding (CI {:02X})."
_OWN_SECURITY: Final = "The contents are the manufacturer's own coding or encryption (configuration mode {})."
_OWN_RECORDS: Final = (
    "The contents are the manufacturer's own coding: as records they would say what this meter cannot."
)
_APPLICATION_ERRORS: Final = {
    0: "unspecified",
    1: "unimplemented CI field",
    2: "buffer too long",
    3: "too many records",
    4: "premature end of record",
    5: "more than 10 DIFEs",
    6: "more than 10 VIFEs",
    8: "application too busy",
    9: "too many readouts",
}


def unread(message: bytes) -> str:
    """Why a telegram has no contents to read; TelegramError where that is no fault of the meter."""
    if not message:
        return "The telegram carries no data."
    ci = message[0]
    if ci in _PROPRIETARY:
        return _OWN_CODING.format(ci)
    if ci in _FOREIGN:
        raise TelegramError(
            TelegramRefusal.UNSUPPORTED, f"The contents are {_FOREIGN[ci]} (CI {ci:02X}), which is not supported."
        )
    raise TelegramError(TelegramRefusal.UNSUPPORTED, f"CI {ci:02X} is no contents that a meter sends.")


def contents_of(transport: Transport, plain: Opened, formats: Formats, message: bytes, *, whole: bool) -> Contents:
    """Read the contents of the transport layer of `message`: records, and a note where something is not read.

    `whole`: the layers below have shown that no block CRC is left at the end.
    """
    contents = plain.contents
    match transport.kind:
        case "nothing":
            return Contents([], "The telegram carries no data.")
        case "error":
            code = contents[0] if contents else 0
            return Contents(
                [], f"The meter reports an application error: {_APPLICATION_ERRORS.get(code, f'code {code}')}."
            )
        case "alarm":
            return _alarm(transport, message)
        case "format":
            return Contents([], _learned(contents.removeprefix(FILL), formats))
        case "compact":
            contents = formats.expand(contents.removeprefix(FILL))
    if plain.doubtful:
        return _doubtful(transport, contents, message)
    meter = transport.meter
    profile, own = family_of(meter)
    if own is not None and own.whole is not None:
        found = own.whole(meter, contents, transport.blocks * 16)
        if found is not None:
            return _own(found)
    layout = layout_of(contents, profile)
    if layout.impossible or (not whole and layout.is_strange):
        return Contents([], _OWN_RECORDS)
    records = read(contents, layout)
    if own is not None and own.beside is not None:
        found = own.beside(meter, contents, layout, records)
        if found is not None:
            return _own(found, meter=qundis.adapted(contents))
    if layout.trouble is not None:
        return Contents(records, _behind(layout, transport, contents, whole=whole))
    if transport.kind == "records":
        formats.learn(layout.format, layout.signature)
    return Contents(records)


def _own(found: OwnReading, meter: Address | None = None) -> Contents:
    return Contents(distinguished(found.records), found.note, found.status, found.certain, meter)


def _behind(layout: RecordLayout, transport: Transport, contents: bytes, *, whole: bool) -> str:
    """Say what is not read behind the last record; TelegramError where it may be a block CRC that does not match."""
    behind_blocks = transport.blocks and transport.blocks * 16 == len(contents) - layout.rest
    if layout.rest <= _CRC and not whole and not behind_blocks:
        sentence = f"{layout.trouble} Or a block CRC of format B ends the frame, and does not match."
        raise TelegramError(TelegramRefusal.CHECKSUM, sentence)
    return f"The last {layout.rest} bytes are not read. {layout.trouble}"


def _alarm(transport: Transport, message: bytes) -> Contents:
    if diehl.sends_real_data(transport.meter, message):
        return _doubtful(transport, transport.contents, message)
    if not 0 < len(transport.contents) <= _LONGEST_ALARM:
        raise TelegramError(
            TelegramRefusal.FRAME, f"An alarm has 1 to 8 bytes of flags; this one has {len(transport.contents)}."
        )
    flags = int.from_bytes(transport.contents, "little")
    return Contents([DataRecord("alarm_flags", "flags", "", flags, "instantaneous", 0, 0, 0)])


def _doubtful(transport: Transport, contents: bytes, message: bytes) -> Contents:
    """Read contents under a configuration of the maker's own: Diehl's where its check fits, others where they are flawless."""
    own = Contents([], _OWN_SECURITY.format(transport.mode))
    checked = diehl.sends_real_data(transport.meter, message)
    if checked:
        plain = diehl.real_data(message)
        if plain is None:
            return own
        contents = plain
    try:
        layout = layout_of(contents, family_of(transport.meter).profile)
    except TelegramError:
        return own
    records = read(contents, layout)
    flawless = layout.trouble is None and layout.plausible and not layout.impossible
    if not flawless or (not checked and any(record.value is None for record in records)):
        return own
    return Contents(records)


def _learned(contents: bytes, formats: Formats) -> str:
    """Learn from a format frame: its length, the signature, and the headers that it is the CRC of."""
    for start in (3, 2):
        format_ = contents[start:]
        if len(contents) > start and crc(format_) == int.from_bytes(contents[start - 2 : start], "little"):
            formats.learn(format_)
            return "The telegram tells a format of compact frames."
    raise TelegramError(TelegramRefusal.CHECKSUM, "The signature of this format frame does not match its headers.")
