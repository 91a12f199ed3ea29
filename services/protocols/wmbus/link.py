"""The layers below the records: radio blocks and their CRCs, addresses, extended link layer, authentication layer."""

from functools import lru_cache
from typing import Final, Literal, NamedTuple

import msgspec

from services.protocols.wmbus.crc import crc
from services.protocols.wmbus.errors import TelegramError, TelegramRefusal

Framing = Literal["auto", "A", "B", "stripped"]
"""How a telegram carries its block CRCs; dongles strip them, raw receivers do not."""

FIRST_BLOCK: Final = 10
"""L, C, M, A: EN 13757-4, 12.3."""
_BLOCK: Final = 16
_CRC: Final = 2
_SECOND_BLOCK_END: Final = 128
"""Format B: bytes of the first two blocks with their CRC."""


class Address(msgspec.Struct, frozen=True, gc=False):
    """Who a meter is; `raw` is manufacturer, number, version and type as the link layer sends them, 8 bytes."""

    id: str
    manufacturer: str
    version: int
    type: int
    raw: bytes


@lru_cache(maxsize=4096)
def address(raw: bytes) -> Address:
    """Read an address in the order of the link layer: manufacturer (2 bytes), number (4), version, type."""
    code = int.from_bytes(raw[:2], "little")
    letters = "".join(chr((code >> shift & 0x1F) + 64) for shift in (10, 5, 0))
    return Address(raw[5:1:-1].hex().upper(), letters, raw[6], raw[7], raw)


# --- frames ------------------------------------------------------------------------------------------------------


def strip(frame: bytes, framing: Framing = "auto") -> bytes:
    """Return the telegram of a frame: L and the L bytes after it, without block CRCs and without what follows.

    Without a known framing, a frame whose CRCs of format A, else of format B, all match has that format; any other is
    taken as stripped. TelegramError where it is too short, and where a block CRC does not match.
    """
    if len(frame) < FIRST_BLOCK or frame[0] < FIRST_BLOCK - 1:
        raise TelegramError(
            TelegramRefusal.FRAME,
            f"A telegram has at least 10 bytes; here are {len(frame)}, and L is {frame[:1].hex()}.",
        )
    if framing in ("auto", "A"):
        stripped = _format_a(frame, certain=framing == "A")
        if stripped is not None:
            return stripped
    length = frame[0] + 1
    if len(frame) < length:
        raise TelegramError(
            TelegramRefusal.FRAME, f"The telegram is cut short: L announces {length} bytes, here are {len(frame)}."
        )
    if framing in ("auto", "B"):
        stripped = _format_b(frame[:length])
        if stripped is not None:
            return stripped
        if framing == "B":
            raise TelegramError(TelegramRefusal.CHECKSUM, "A block CRC of this frame (format B) does not match.")
    telegram = frame if len(frame) == length else frame[:length]
    return _without_last_crc(telegram) if framing == "auto" else telegram


def _checked(block: bytes) -> bool:
    return crc(block[:-_CRC]) == int.from_bytes(block[-_CRC:], "big")


def _format_a(frame: bytes, *, certain: bool) -> bytes | None:
    """Strip format A: a CRC after the first 10 bytes and after each 16; None if this is not that format."""
    content = frame[0] + 1
    total = content + _CRC * (1 + -(-(content - FIRST_BLOCK) // _BLOCK))
    if len(frame) < total:
        if certain:
            raise TelegramError(
                TelegramRefusal.FRAME, f"The frame is cut short: {total} bytes announced, here are {len(frame)}."
            )
        return None
    starts = range(FIRST_BLOCK + _CRC, total, _BLOCK + _CRC)
    blocks = [frame[: FIRST_BLOCK + _CRC], *(frame[at : min(at + _BLOCK + _CRC, total)] for at in starts)]
    good = [_checked(block) for block in blocks] if certain or len(frame) == total else [_checked(blocks[0])]
    if all(good) and len(good) < len(blocks):
        good += [_checked(block) for block in blocks[1:]]
    if not any(good) and not certain:
        return None
    if not all(good):
        sentence = f"The CRC of block {good.index(False) + 1} of {len(good)} (format A) does not match."
        raise TelegramError(TelegramRefusal.CHECKSUM, sentence)
    return b"".join([block[:-_CRC] for block in blocks])


def _format_b(frame: bytes) -> bytes | None:
    """Strip format B, whose L counts its CRCs: one at byte 126 at the latest, one at the end of what follows."""
    blocks = [block for block in (frame[:_SECOND_BLOCK_END], frame[_SECOND_BLOCK_END:]) if block]
    if len(frame) < FIRST_BLOCK + _CRC or not all(len(block) > _CRC and _checked(block) for block in blocks):
        return None
    content = b"".join([block[:-_CRC] for block in blocks])
    return bytes((len(content) - 1,)) + content[1:]


def _without_last_crc(telegram: bytes) -> bytes:
    """Take off the last block CRC of format A: some receivers strip all but that one, and count it in L."""
    size = len(telegram) - _CRC
    start = FIRST_BLOCK + (size - FIRST_BLOCK - 1) // _BLOCK * _BLOCK
    if size <= FIRST_BLOCK or not _checked(telegram[start:]):
        return telegram
    return bytes((size - 1,)) + telegram[1:size]


_WIRED_START: Final = 0x68
_WIRED_STOP: Final = 0x16
_WIRED_AROUND: Final = 6
"""Bytes of a wired frame that its length does not count: start, length twice, start, checksum, stop."""


def wired(frame: bytes) -> bytes | None:
    """Return the telegram inside a long frame of the wired M-Bus, from its C field on; None if this is none."""
    if len(frame) < _WIRED_AROUND or frame[0] != _WIRED_START or frame[3] != _WIRED_START or frame[1] != frame[2]:
        return None
    length = frame[1]
    if len(frame) < length + _WIRED_AROUND or frame[length + 5] != _WIRED_STOP:
        return None
    content = frame[4 : length + 4]
    return content if sum(content) & 0xFF == frame[length + 4] else None


# --- extended link layer -----------------------------------------------------------------------------------------


class ExtendedLink(NamedTuple):
    """The extended link layer: communication control, access number, partner, session number, and where it ends."""

    control: int
    access: int
    partner: bytes | None
    session: bytes | None
    end: int


_EXTENDED_LINKS: Final = {0x8C: (False, False), 0x8D: (False, True), 0x8E: (True, False), 0x8F: (True, True)}
"""By CI: whether a partner's address, and whether a session number follows (EN 13757-4, 13.2)."""
_RELAYED: Final = 0x10
_REPEATED: Final = 0x02


def extended_link(telegram: bytes, at: int) -> ExtendedLink | None:
    """Read the extended link layer whose CI stands at byte `at`; None if there is none."""
    kind = _EXTENDED_LINKS.get(telegram[at])
    if kind is None:
        return None
    has_partner, has_session = kind
    end = at + 3 + 8 * has_partner + 4 * has_session
    if len(telegram) < end + 2 * has_session:
        raise TelegramError(TelegramRefusal.FRAME, "The telegram ends inside its extended link layer.")
    partner = telegram[at + 3 : at + 11] if has_partner else None
    session = telegram[end - 4 : end] if has_session else None
    return ExtendedLink(telegram[at + 1], telegram[at + 2], partner, session, end)


def counter_start(sender: bytes, link: ExtendedLink) -> bytes:
    """Return the start of the AES counter: what a repeater changes in the communication control does not enter."""
    return sender + bytes((link.control & ~(_RELAYED | _REPEATED),)) + (link.session or b"") + b"\0\0"


# --- authentication and fragmentation layer ----------------------------------------------------------------------


class Authentication(NamedTuple):
    """The authentication layer: what its code covers before the message, the counter, the code, and where it ends."""

    covered: bytes
    counter: bytes | None
    code: bytes
    end: int


AUTHENTICATION: Final = 0x90
_MORE_FRAGMENTS: Final = 0x4000
_FRAGMENT: Final = 0x00FF
_CODE_LENGTHS: Final = {3: 2, 4: 4, 5: 8, 6: 12, 7: 16}
"""Bytes of the code by authentication type (OMS volume 2, table 19)."""


def _short_authentication() -> TelegramError:
    return TelegramError(TelegramRefusal.FRAME, "The telegram ends inside its authentication layer.")


def authentication(telegram: bytes, at: int) -> Authentication:
    """Read the authentication and fragmentation layer (EN 13757-7, 6) whose CI stands at byte `at`."""
    end = at + 2 + telegram[at + 1] if len(telegram) >= at + 4 else at
    if not at + 4 <= end <= len(telegram):
        raise _short_authentication()
    flags = int.from_bytes(telegram[at + 2 : at + 4], "little")
    if flags & _MORE_FRAGMENTS or flags & _FRAGMENT > 1:
        sentence = f"This is fragment {flags & _FRAGMENT} of a longer message; fragments are not put together."
        raise TelegramError(TelegramRefusal.UNSUPPORTED, sentence)
    place = at + 4

    def take(present: int, size: int) -> bytes:
        nonlocal place
        if not flags & present:
            return b""
        place += size
        if place > end:
            raise _short_authentication()
        return telegram[place - size : place]

    control = take(0x2000, 1)
    take(0x0200, 2)
    counter = take(0x0800, 4)
    code = take(0x0400, _CODE_LENGTHS.get(control[0] & 0x0F, 0) if control else 0)
    length = take(0x1000, 2)
    return Authentication(control + counter + length, counter or None, code, end)
