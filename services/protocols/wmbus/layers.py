"""The link layers of a telegram taken off in the order of the air, and who a telegram is from, at the cost of a look-up."""

from typing import Final, NamedTuple

from services.protocols.wmbus.crc import crc
from services.protocols.wmbus.errors import TelegramError, TelegramRefusal
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
    extended_link,
    strip,
    wired,
)
from services.protocols.wmbus.makers import diehl
from services.protocols.wmbus.security import counter_mode
from services.protocols.wmbus.transport import CONTENTS, no_key, transport_layer

_FROM_METERS: Final = frozenset((0x08, 0x18, 0x28, 0x38, 0x44, 0x46, 0x47, 0x48))
"""C fields that meters send: RSP-UD with its flow bits, SND-NR, SND-IR, ACC-NR, ACC-DMD."""


class Layers(NamedTuple):
    """A telegram without its link layers: what carries it, and the rest from the CI field of the transport layer on."""

    link: Address | None
    extended: ExtendedLink | None
    rest: bytes
    decrypted: bool


def link_address(frame: bytes) -> Address | None:
    """Who sent a frame, stripped or not, at the cost of a look-up; None if it is too short to say, or wired."""
    if len(frame) < FIRST_BLOCK or wired(frame) is not None:
        return None
    sender = address(frame[2:FIRST_BLOCK])
    return sender if sender.manufacturer not in diehl.MAKERS else diehl.as_printed(sender, frame[FIRST_BLOCK:])


def meter_address(frame: bytes, framing: Framing = "auto") -> Address:
    """Whose values a telegram carries: the meter behind a radio adapter where it can be read without a key.

    TelegramError where the frame is refused before that can be told.
    """
    layers = link_layers(frame, None, framing, peek=True)
    _, rest = authenticated(layers.rest)
    if rest and rest[0] in CONTENTS:
        meter = transport_layer(rest, layers.link).meter
        return diehl.as_printed(meter, rest) if meter is layers.link else meter
    if layers.link is None:
        raise TelegramError(TelegramRefusal.UNSUPPORTED, "This wired frame carries no variable data.")
    return diehl.as_printed(layers.link, rest)


def link_layers(frame: bytes, key: bytes | None, framing: Framing, *, peek: bool = False) -> Layers:
    """Take off the link layers, decrypting where the extended one says so, or ending there for a mere `peek`."""
    content = wired(frame) if framing == "auto" and frame[:1] == b"\x68" else None
    if content is not None:
        if len(content) < 3 or content[0] not in _FROM_METERS:  # noqa: PLR2004 - C, A, CI
            raise TelegramError(TelegramRefusal.UNSUPPORTED, "This wired frame is no response of a meter.")
        return Layers(None, None, content[2:], decrypted=False)
    telegram = strip(frame, framing)
    link = address(telegram[2:FIRST_BLOCK])
    if telegram[1] not in _FROM_METERS:
        raise TelegramError(TelegramRefusal.UNSUPPORTED, f"C field {telegram[1]:02X} is none that a meter sends.")
    if len(telegram) == FIRST_BLOCK:
        return Layers(link, None, b"", decrypted=False)
    extended = extended_link(telegram, FIRST_BLOCK)
    if extended is None:
        return Layers(link, None, telegram[FIRST_BLOCK:], decrypted=False)
    rest = telegram[extended.end :]
    if extended.session is None:
        return Layers(link, extended, rest, decrypted=False)
    if peek:
        return Layers(link, extended, b"", decrypted=False)
    return _unsealed(link, extended, rest, key)


_SEALED: Final = 1


def _unsealed(link: Address, extended: ExtendedLink, rest: bytes, key: bytes | None) -> Layers:
    """Check the payload CRC of the extended link layer, and decrypt with AES-CTR first where that is needed."""
    encryption = (extended.session or b"\0")[-1] >> 5
    if key is not None and encryption == _SEALED:
        for sender in (link.raw, extended.partner):
            if sender is not None:
                plain = counter_mode(key, counter_start(sender, extended), rest)
                if _intact(plain):
                    return Layers(link, extended, plain[2:], decrypted=True)
    if _intact(rest):
        return Layers(link, extended, rest[2:], decrypted=False)
    if encryption == _SEALED:
        raise no_key(key, "the payload CRC does not match after decryption with it")
    if encryption:
        raise TelegramError(
            TelegramRefusal.UNSUPPORTED, f"Encryption {encryption} of the extended link layer is not supported."
        )
    raise TelegramError(TelegramRefusal.CHECKSUM, "The payload CRC of the extended link layer does not match.")


def _intact(payload: bytes) -> bool:
    return crc(payload[2:]) == payload[0] | payload[1] << 8


def authenticated(rest: bytes) -> tuple[Authentication | None, bytes]:
    """Split off the authentication layer, where there is one."""
    if not rest or rest[0] != AUTHENTICATION:
        return None, rest
    layer = authentication(rest, 0)
    return layer, rest[layer.end :]
