"""What stands behind the transport header: records of one of their forms, an error, an alarm, or why nothing can be read."""

from collections.abc import Mapping
from typing import Final

from services.protocols.wmbus.compact import Formats
from services.protocols.wmbus.crc import crc
from services.protocols.wmbus.errors import Refusal, TelegramError
from services.protocols.wmbus.layout import layout_of
from services.protocols.wmbus.profiles import PROFILES
from services.protocols.wmbus.records import DataRecord, read
from services.protocols.wmbus.transport import FILL, Opened, Transport

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
            Refusal.UNSUPPORTED, f"The contents are {_FOREIGN[ci]} (CI {ci:02X}), which is not supported."
        )
    raise TelegramError(Refusal.UNSUPPORTED, f"CI {ci:02X} is no contents that a meter sends.")


def contents_of(
    transport: Transport, plain: Opened, formats: Formats, *, whole: bool
) -> tuple[list[DataRecord], str | None]:
    """Read the contents of the transport layer: records, and a note where there are none.

    `whole`: the layers below have shown that no block CRC is left at the end.
    """
    contents, meter = plain.contents, transport.meter
    match transport.kind:
        case "nothing":
            return [], "The telegram carries no data."
        case "error":
            code = contents[0] if contents else 0
            return [], f"The meter reports an application error: {_APPLICATION_ERRORS.get(code, f'code {code}')}."
        case "alarm":
            if not 0 < len(contents) <= _LONGEST_ALARM:
                raise TelegramError(Refusal.FRAME, f"An alarm has 1 to 8 bytes of flags; this one has {len(contents)}.")
            flags = int.from_bytes(contents, "little")
            return [DataRecord("alarm_flags", "flags", "", flags, "instantaneous", 0, 0, 0)], None
        case "format":
            return [], _learned(contents.removeprefix(FILL), formats)
        case "compact":
            contents = formats.expand(contents.removeprefix(FILL))
    try:
        layout = layout_of(contents, PROFILES.get((meter.manufacturer, meter.type)))
    except TelegramError:
        if plain.doubtful:
            return [], _OWN_SECURITY.format(transport.mode)
        raise
    records = read(contents, layout)
    if plain.doubtful and (
        layout.trouble is not None or not layout.plausible or any(record.value is None for record in records)
    ):
        return [], _OWN_SECURITY.format(transport.mode)
    if layout.trouble is not None:
        if layout.rest <= _CRC and not whole:
            sentence = f"{layout.trouble} Or a block CRC of format B ends the frame, and does not match."
            raise TelegramError(Refusal.CHECKSUM, sentence)
        return records, f"The last {layout.rest} bytes are not read. {layout.trouble}"
    if transport.kind == "records":
        formats.learn(layout.format, layout.signature)
    return records, None


def _learned(contents: bytes, formats: Formats) -> str:
    """Learn from a format frame: its length, the signature, and the headers that it is the CRC of."""
    for start in (3, 2):
        format_ = contents[start:]
        if len(contents) > start and crc(format_) == int.from_bytes(contents[start - 2 : start], "little"):
            formats.learn(format_)
            return "The telegram tells a format of compact frames."
    raise TelegramError(Refusal.CHECKSUM, "The signature of this format frame does not match its headers.")
