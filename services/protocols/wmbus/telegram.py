"""One telegram from bytes to named values: every layer in the order of the air, and the reason where one refuses."""

from collections.abc import Mapping
from typing import Final, NamedTuple

import msgspec

from services.protocols.wmbus.compact import Formats
from services.protocols.wmbus.crc import crc
from services.protocols.wmbus.errors import Refusal, TelegramError
from services.protocols.wmbus.link import (
    AUTHENTICATION,
    FIRST_BLOCK,
    Address,
    Authentication,
    ExtendedLink,
    Framing,
    address,
    authentication,
    counter_start,
    diehl_order,
    extended_link,
    strip,
    wired,
)
from services.protocols.wmbus.profiles import PROFILES
from services.protocols.wmbus.records import Record, layout_of, read
from services.protocols.wmbus.security import counter_mode
from services.protocols.wmbus.transport import (
    CONTENTS,
    FILL,
    Opened,
    Transport,
    no_key,
    opened,
    transport_layer,
)

TYPES: Final[Mapping[int, str]] = {
    0x00: "other",
    0x01: "oil",
    0x02: "electricity",
    0x03: "gas",
    0x04: "heat",
    0x05: "steam",
    0x06: "warm water",
    0x07: "water",
    0x08: "heat cost allocation",
    0x09: "compressed air",
    0x0A: "cooling at outlet",
    0x0B: "cooling at inlet",
    0x0C: "heat at inlet",
    0x0D: "heat and cooling",
    0x0E: "bus",
    0x0F: "unknown",
    0x15: "hot water",
    0x16: "cold water",
    0x17: "hot and cold water",
    0x18: "pressure",
    0x19: "converter",
    0x1A: "smoke detector",
    0x1B: "room sensor",
    0x1C: "gas detector",
    0x20: "breaker",
    0x21: "valve",
    0x25: "display",
    0x28: "waste water",
    0x29: "garbage",
    0x2A: "carbon dioxide",
    0x31: "gateway",
    0x32: "unidirectional repeater",
    0x33: "bidirectional repeater",
    0x36: "radio converter of the system",
    0x37: "radio converter of the meter",
}
"""Types of meters (EN 13757-7, table 13)."""
_OWN_TYPES: Final = {
    ("TCH", 0x43): "heat",
    ("TCH", 0xC3): "heat",
    ("TCH", 0x62): "warm water",
    ("TCH", 0x72): "cold water",
    ("TCH", 0x80): "heat cost allocation",
    ("TCH", 0xF0): "smoke detector",
}
"""Types outside the standard, by manufacturer."""


class Telegram(msgspec.Struct, frozen=True, gc=False):
    """What a telegram says. Values have the units of their records; dates and times are the meter's own."""

    id: str
    """Number of the meter, as it is printed on it."""
    manufacturer: str
    version: int
    type: str
    security: str
    """`none`, `ELL-CTR`, or `TPL-` and the security mode; what the telegram declares."""
    status: tuple[str, ...]
    """What the status byte says; empty where all is well."""
    records: list[Record]
    note: str | None = None
    """Why there are no records, where the contents do not follow the standard."""
    meter: Address | None = None
    link: Address | None = None
    """Who sent it: the meter itself, or its radio adapter; None on a wire."""
    access: int | None = None
    """Access number; grows by one with each telegram."""
    counter: int | None = None
    """Message counter (mode 7) or session number (ELL); never goes backwards, so that replays can be told."""
    decrypted: bool = False
    """A key was used, and it was the right one."""
    authenticated: bool = False
    """The message authentication code was verified."""


# --- layers ------------------------------------------------------------------------------------------------------

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
_FROM_METERS: Final = frozenset((0x08, 0x18, 0x28, 0x38, 0x44, 0x46, 0x47, 0x48))
"""C fields that meters send: RSP-UD with its flow bits, SND-NR, SND-IR, ACC-NR, ACC-DMD."""


class _Layers(NamedTuple):
    """A telegram without its link layers: what carries it, and the rest from the CI field of the transport layer on."""

    link: Address | None
    extended: ExtendedLink | None
    rest: bytes
    decrypted: bool


def link_address(frame: bytes) -> Address | None:
    """Who sent a frame, stripped or not, at the cost of a look-up; None if it is too short to say, or wired."""
    return address(frame[2:FIRST_BLOCK]) if len(frame) >= FIRST_BLOCK and wired(frame) is None else None


def meter_address(frame: bytes, framing: Framing = "auto") -> Address:
    """Whose values a telegram carries: the meter behind a radio adapter where it can be read without a key.

    TelegramError where the frame is refused before that can be told.
    """
    layers = _layers(frame, None, framing, peek=True)
    _, rest = _authenticated(layers.rest)
    if rest and rest[0] in CONTENTS:
        return transport_layer(rest, layers.link).meter
    if layers.link is None:
        raise TelegramError(Refusal.UNSUPPORTED, "This wired frame carries no variable data.")
    return layers.link


def _layers(frame: bytes, key: bytes | None, framing: Framing, *, peek: bool = False) -> _Layers:
    """Take off the link layers, decrypting where the extended one says so, or ending there for a mere `peek`."""
    content = wired(frame) if framing == "auto" and frame[:1] == b"\x68" else None
    if content is not None:
        if len(content) < 3 or content[0] not in _FROM_METERS:  # noqa: PLR2004 - C, A, CI
            raise TelegramError(Refusal.UNSUPPORTED, "This wired frame is no response of a meter.")
        return _Layers(None, None, content[2:], decrypted=False)
    telegram = strip(frame, framing)
    link = address(telegram[2:FIRST_BLOCK])
    if telegram[1] not in _FROM_METERS:
        raise TelegramError(Refusal.UNSUPPORTED, f"C field {telegram[1]:02X} is none that a meter sends.")
    if len(telegram) == FIRST_BLOCK:
        return _Layers(link, None, b"", decrypted=False)
    extended = extended_link(telegram, FIRST_BLOCK)
    if extended is None:
        return _Layers(link, None, telegram[FIRST_BLOCK:], decrypted=False)
    rest = telegram[extended.end :]
    if extended.session is None:
        return _Layers(link, extended, rest, decrypted=False)
    if peek:
        return _Layers(link, extended, b"", decrypted=False)
    return _unsealed(link, extended, rest, key)


_SEALED: Final = 1


def _unsealed(link: Address, extended: ExtendedLink, rest: bytes, key: bytes | None) -> _Layers:
    """Check the payload CRC of the extended link layer, and decrypt with AES-CTR first where that is needed."""
    encryption = (extended.session or b"\0")[-1] >> 5
    if key is not None and encryption == _SEALED:
        for sender in (link.raw, extended.partner):
            if sender is not None:
                plain = counter_mode(key, counter_start(sender, extended), rest)
                if _intact(plain):
                    return _Layers(link, extended, plain[2:], decrypted=True)
    if _intact(rest):
        return _Layers(link, extended, rest[2:], decrypted=False)
    if encryption == _SEALED:
        raise no_key(key, "the payload CRC does not match after decryption with it")
    if encryption:
        raise TelegramError(
            Refusal.UNSUPPORTED, f"Encryption {encryption} of the extended link layer is not supported."
        )
    raise TelegramError(Refusal.CHECKSUM, "The payload CRC of the extended link layer does not match.")


def _intact(payload: bytes) -> bool:
    return crc(payload[2:]) == payload[0] | payload[1] << 8


def _authenticated(rest: bytes) -> tuple[Authentication | None, bytes]:
    """Split off the authentication layer, where there is one."""
    if not rest or rest[0] != AUTHENTICATION:
        return None, rest
    layer = authentication(rest, 0)
    return layer, rest[layer.end :]


# --- contents ----------------------------------------------------------------------------------------------------

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


def decode(
    frame: bytes, key: bytes | None = None, *, formats: Formats | None = None, framing: Framing = "auto"
) -> Telegram:
    """Decode one frame of the radio, or a long frame of the wire.

    `key` has 16 bytes; telegrams that are not encrypted are read without regard to it (see `decrypted`). `formats`
    expands compact frames and learns from full ones; without it the known formats serve. Bytes after the end that L
    announces are dropped. TelegramError, a sentence with the reason, for a telegram that gives no values.
    """
    layers = _layers(frame, key, framing)
    layer, message = _authenticated(layers.rest)
    link, extended = layers.link, layers.extended
    access = None if extended is None else extended.access
    counter = None
    if extended is not None and extended.session is not None:
        counter = int.from_bytes(extended.session, "little") >> 4 & 0x1FFFFFF
    if layer is not None and layer.counter is not None:
        counter = int.from_bytes(layer.counter, "little")
    security = "none" if extended is None or extended.session is None or extended.session[-1] >> 5 == 0 else "ELL-CTR"
    if not message or message[0] not in CONTENTS:
        if link is None:
            raise TelegramError(Refusal.UNSUPPORTED, "This wired frame carries no variable data.")
        unread = _unread(message)
        meter = diehl_order(link) if message else link
        return _telegram(
            meter, link, security, [], note=unread, access=access, counter=counter, decrypted=layers.decrypted
        )
    transport = transport_layer(message, link)
    if transport.mode:
        security = f"TPL-{transport.mode}"
    plain = opened(transport, layer, message, key)
    whole = plain.decrypted or (extended is not None and extended.session is not None)
    records, note = _contents(transport, plain, formats if formats is not None else _KNOWN, whole=whole)
    proprietary = plain.doubtful and note is not None
    return _telegram(
        diehl_order(transport.meter) if proprietary else transport.meter,
        link,
        security,
        records,
        status=transport.status,
        note=note,
        access=access if transport.access is None else transport.access,
        counter=counter,
        decrypted=layers.decrypted or plain.decrypted,
        authenticated=plain.authenticated,
    )


_KNOWN: Final = Formats()


def _telegram(
    meter: Address,
    link: Address | None,
    security: str,
    records: list[Record],
    *,
    status: tuple[str, ...] = (),
    note: str | None = None,
    access: int | None = None,
    counter: int | None = None,
    decrypted: bool = False,
    authenticated: bool = False,
) -> Telegram:
    type_ = TYPES.get(meter.type) or _OWN_TYPES.get((meter.manufacturer, meter.type), f"type {meter.type:02X}")
    return Telegram(
        meter.id,
        meter.manufacturer,
        meter.version,
        type_,
        security,
        status,
        records,
        note,
        meter,
        link,
        access,
        counter,
        decrypted,
        authenticated,
    )


def _unread(message: bytes) -> str:
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


def _contents(transport: Transport, plain: Opened, formats: Formats, *, whole: bool) -> tuple[list[Record], str | None]:
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
            return [Record("alarm_flags", "flags", "", flags, "instantaneous", 0, 0, 0)], None
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
