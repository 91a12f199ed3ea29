"""The transport layer: its header, and the contents behind it made plain by the security mode that it names."""

from collections.abc import Mapping
from typing import Final, Literal, NamedTuple

from services.protocols.wmbus.errors import TelegramError, TelegramRefusal
from services.protocols.wmbus.link import Address, Authentication, address
from services.protocols.wmbus.security import BLOCK, chained_decrypt, cmac, decrypting, derive, schedule

FILL: Final = b"\x2f\x2f"

_HeaderKind = Literal["long", "short", "none"]
_ContentKind = Literal["records", "compact", "format", "error", "alarm", "nothing"]
HEADER_SIZES: Final[Mapping[_HeaderKind, int]] = {"long": 12, "short": 4, "none": 0}

CONTENTS: Final[Mapping[int, tuple[_HeaderKind, _ContentKind]]] = {
    0x72: ("long", "records"),
    0x7A: ("short", "records"),
    0x78: ("none", "records"),
    0x73: ("long", "compact"),
    0x7B: ("short", "compact"),
    0x79: ("none", "compact"),
    0x6B: ("long", "format"),
    0x6A: ("short", "format"),
    0x69: ("none", "format"),
    0x6F: ("long", "error"),
    0x6E: ("short", "error"),
    0x70: ("none", "error"),
    0x75: ("long", "alarm"),
    0x74: ("short", "alarm"),
    0x71: ("none", "alarm"),
    0x8B: ("long", "nothing"),
    0x8A: ("short", "nothing"),
}
"""Header and contents by CI field (EN 13757-7, table 2)."""
_STATES: Final = ((), ("busy",), ("application_error",), ("alarm",))
_CONDITIONS: Final = {
    0x04: "power_low",
    0x08: "permanent_error",
    0x10: "temporary_error",
    0x20: "manufacturer_status_5",
    0x40: "manufacturer_status_6",
    0x80: "manufacturer_status_7",
}
_STATUS: Final = tuple(
    (*_STATES[byte & 3], *(word for bit, word in _CONDITIONS.items() if byte & bit)) for byte in range(256)
)
"""Words of the status byte (EN 13757-7, 7.5.6), for each of its values."""

_UNENCRYPTED: Final = 0
_CHAINED: Final = 5
_DERIVED: Final = 7
_DERIVATION: Final = 1
"""KDF-A, from the message counter; 0 uses the meter's key itself."""
_EXTENDED_CONFIGURATION: Final = (7, 13)
_LARGEST_MODE: Final = 15
"""Beyond it the configuration field is the manufacturer's own."""


class Transport(NamedTuple):
    """The transport layer's header, and the contents after it."""

    kind: _ContentKind
    meter: Address
    access: int | None
    status: tuple[str, ...]
    mode: int
    blocks: int
    derivation: int
    contents: bytes


def transport_layer(rest: bytes, link: Address | None) -> Transport:
    """Read the transport layer from its CI field on; TelegramError for contents that this decoder does not read."""
    header, kind = CONTENTS[rest[0]]
    size = HEADER_SIZES[header]
    if len(rest) <= size:
        raise TelegramError(TelegramRefusal.FRAME, f"The telegram ends inside its transport header (CI {rest[0]:02X}).")
    meter = address(rest[5:7] + rest[1:5] + rest[7:9]) if header == "long" else link
    if meter is None:
        raise TelegramError(TelegramRefusal.UNSUPPORTED, f"A wired frame without a meter's address (CI {rest[0]:02X}).")
    if header == "none":
        return Transport(kind, meter, None, (), _UNENCRYPTED, 0, 0, rest[1:])
    configuration = rest[size - 1] | rest[size] << 8
    mode = configuration >> 8 & 0x1F
    start, derivation = size + 1, 0
    if mode in _EXTENDED_CONFIGURATION:
        if len(rest) <= start:
            raise TelegramError(TelegramRefusal.FRAME, "The telegram ends inside its configuration field.")
        derivation = rest[start] >> 4 & 3
        start += 1
    status = () if kind == "error" else _STATUS[rest[size - 2]]
    return Transport(kind, meter, rest[size - 3], status, mode, configuration >> 4 & 0xF, derivation, rest[start:])


# --- security -------------------------------------------------------------------------------------------------------


class Opened(NamedTuple):
    """Contents in plain text, whether a key and a code vouched for them, and whether they may be proprietary."""

    contents: bytes
    decrypted: bool = False
    authenticated: bool = False
    doubtful: bool = False
    public: bool = False
    """The key was one that its maker made public."""


def opened(
    transport: Transport,
    layer: Authentication | None,
    message: bytes,
    key: bytes | None,
    public: bytes | None = None,
) -> Opened:
    """Decrypt the contents by the security mode of their header; TelegramError where they cannot be.

    `public` is the maker's own key, tried in mode 5 where the owner gave none.
    """
    mode, contents = transport.mode, transport.contents
    if layer is not None and layer.code and mode != _DERIVED:
        sentence = f"An authentication code is verified in security mode 7 only; this is mode {mode}."
        raise TelegramError(TelegramRefusal.UNSUPPORTED, sentence)
    if mode == _UNENCRYPTED or (not contents and mode != _DERIVED):
        return Opened(contents)
    if mode > _LARGEST_MODE:
        return Opened(contents, doubtful=True)
    if mode == _CHAINED:
        return _chained(transport, key, public)
    if mode == _DERIVED:
        return _derived(transport, layer, message, key)
    raise TelegramError(TelegramRefusal.UNSUPPORTED, f"Security mode {mode} is not supported; modes 0, 5 and 7 are.")


def no_key(key: bytes | None, evidence: str) -> TelegramError:
    """Return the error that says that there is no key, or by what `evidence` it is not the right one."""
    if key is None:
        return TelegramError(TelegramRefusal.KEY, "The telegram is encrypted and no key was given.")
    return TelegramError(TelegramRefusal.KEY, f"The key is not this meter's, or the telegram is damaged: {evidence}.")


def _chained(transport: Transport, key: bytes | None, public: bytes | None) -> Opened:
    """Mode 5: AES-CBC, the initialisation vector made of the address and the access number."""
    contents = transport.contents
    tried = key or (None if contents.startswith(FILL) else public)
    if tried is not None:
        size = _sealed_size(transport)
        start = transport.meter.raw + bytes((transport.access or 0,)) * 8
        plain = chained_decrypt(schedule(tried).backwards, start, contents[:size]) + contents[size:]
        if size and plain.startswith(FILL):
            return Opened(plain, decrypted=True, public=key is None)
    if contents.startswith(FILL):
        return Opened(contents)
    if not transport.blocks and key is None:
        return Opened(contents, doubtful=True)
    raise no_key(key, "the decrypted contents do not start with 2F2F")


def _derived(transport: Transport, layer: Authentication | None, message: bytes, key: bytes | None) -> Opened:
    """Mode 7: the code is verified, then AES-CBC from zero, both with keys of this message alone."""
    contents = transport.contents
    if key is None:
        if contents.startswith(FILL) or not contents:
            return Opened(contents)
        raise no_key(None, "")
    if not transport.derivation:
        encryption = authentication = key
    elif transport.derivation != _DERIVATION:
        raise TelegramError(
            TelegramRefusal.UNSUPPORTED, f"Key derivation {transport.derivation} of mode 7 is not supported."
        )
    elif layer is None or layer.counter is None:
        raise TelegramError(
            TelegramRefusal.UNSUPPORTED, "Mode 7 derives its keys from a message counter; this telegram has none."
        )
    else:
        encryption, authentication = derive(key, layer.counter, transport.meter.raw[2:6])
    if layer is None or not layer.code:
        raise TelegramError(
            TelegramRefusal.MAC, "Mode 7 without an authentication code: anybody could have changed the message."
        )
    if cmac(authentication, layer.covered + message)[: len(layer.code)] != layer.code:
        sentence = "The message authentication code does not match: another key, or a message that was changed."
        raise TelegramError(TelegramRefusal.MAC, sentence)
    size = _sealed_size(transport)
    plain = chained_decrypt(decrypting(encryption), bytes(BLOCK), contents[:size]) + contents[size:]
    if size and not plain.startswith(FILL):
        raise no_key(key, "the decrypted contents do not start with 2F2F")
    return Opened(plain, decrypted=True, authenticated=True)


def _sealed_size(transport: Transport) -> int:
    """Bytes of the contents that are encrypted: as many blocks as announced, all whole ones where none are."""
    available = len(transport.contents) // BLOCK
    if transport.blocks > available:
        sentence = f"{transport.blocks} encrypted blocks are announced, {available} are here."
        raise TelegramError(TelegramRefusal.FRAME, sentence)
    return (transport.blocks or (available if transport.mode == _CHAINED else 0)) * BLOCK
