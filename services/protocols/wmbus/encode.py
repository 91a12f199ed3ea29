"""Telegrams as a meter sends them, for simulated meters and for tests: what `decode` takes apart, put together."""

from collections.abc import Sequence
from typing import Final, NamedTuple

from services.protocols.wmbus.crc import crc
from services.protocols.wmbus.security import BLOCK, chained_encrypt, cmac, counter_mode, derive, encrypting

FIRST_BLOCK: Final = 10
_SECOND_BLOCK: Final = 126
_SEND_NO_REPLY: Final = 0x44
_FULL: Final = 0x78
_COMPACT: Final = 0x79
_SHORT: Final = 0x7A
_FILL: Final = b"\x2f"


class EncodedRecord(NamedTuple):
    """One record: its header (DIB and VIB) and its data."""

    header: bytes
    data: bytes


def record(header: str, data: bytes) -> EncodedRecord:
    """Make a record; `header` in hex."""
    return EncodedRecord(bytes.fromhex(header), data)


def integer(value: int, size: int) -> bytes:
    """Encode type B: a signed integer of `size` bytes."""
    return value.to_bytes(size, "little", signed=True)


def decimal(value: int, size: int) -> bytes:
    """Encode type A: binary coded decimals in `size` bytes; a minus takes the first digit."""
    digits = f"{abs(value):0{2 * size}d}"
    return bytes.fromhex(f"f{digits[1:]}" if value < 0 else digits)[::-1]


def address(manufacturer: str, id_: str, version: int, type_: int) -> bytes:
    """Encode a meter's address in the order of the link layer: three letters, eight digits, version, type."""
    first, second, third = (ord(letter) - 64 for letter in manufacturer)
    return (
        (first << 10 | second << 5 | third).to_bytes(2, "little") + bytes.fromhex(id_)[::-1] + bytes((version, type_))
    )


def records(entries: Sequence[EncodedRecord]) -> bytes:
    """Join records as a full frame has them, headers and data in turn."""
    return b"".join(header + data for header, data in entries)


def full(entries: Sequence[EncodedRecord]) -> bytes:
    """Return the message of a full frame without a transport header (CI 78)."""
    return bytes((_FULL,)) + records(entries)


def compact(entries: Sequence[EncodedRecord]) -> bytes:
    """Return the message of a compact frame (CI 79): format signature, CRC of the full frame, and the data alone."""
    signature = crc(b"".join(header for header, _ in entries))
    check = crc(records(entries))
    data = b"".join(data for _, data in entries)
    return bytes((_COMPACT,)) + signature.to_bytes(2, "little") + check.to_bytes(2, "little") + data


def telegram(sender: bytes, message: bytes, control: int = _SEND_NO_REPLY) -> bytes:
    """Return the telegram of the link layer: L, C, the sender's address, and what follows it."""
    return bytes((len(sender) + 1 + len(message), control)) + sender + message


def extended(
    sender: bytes, message: bytes, session: int, *, key: bytes | None, access: int = 0, communication: int = 0x20
) -> bytes:
    """Return a telegram with the extended link layer II, sealed with AES-CTR where there is a key.

    `session` is the number of minutes and session that the counter is made of, 29 bits.
    """
    number = (session & 0x1FFFFFFF | (1 << 29 if key is not None else 0)).to_bytes(4, "little")
    payload = crc(message).to_bytes(2, "little") + message
    if key is not None:
        payload = counter_mode(key, sender + bytes((communication,)) + number + b"\0\0", payload)
    return telegram(sender, bytes((0x8D, communication, access)) + number + payload)


def _padded(contents: bytes) -> bytes:
    contents = _FILL * 2 + contents
    return contents + _FILL * (-len(contents) % BLOCK)


def chained(
    sender: bytes,
    contents: bytes,
    key: bytes,
    *,
    access: int,
    status: int = 0,
    meter: bytes | None = None,
    ci: int = 0x7A,
) -> bytes:
    """Return a telegram in mode 5; with a `meter` of its own (behind a radio adapter) `ci` is of a long header."""
    plain = _padded(contents)
    start = (meter or sender) + bytes((access,)) * 8
    sealed = chained_encrypt(encrypting(key), start, plain)
    configuration = 5 << 8 | len(plain) // BLOCK << 4
    identity = b"" if meter is None else meter[2:6] + meter[:2] + meter[6:]
    header = bytes((ci,)) + identity + bytes((access, status)) + configuration.to_bytes(2, "little")
    return telegram(sender, header + sealed)


def derived(sender: bytes, contents: bytes, key: bytes, *, counter: int, access: int = 0, status: int = 0) -> bytes:
    """Return a telegram in mode 7: authentication layer with counter and 8-byte code, keys derived for it alone."""
    plain = _padded(contents)
    number = counter.to_bytes(4, "little")
    encryption, authentication = derive(key, number, sender[2:6])
    configuration = 7 << 8 | len(plain) // BLOCK << 4
    message = bytes((_SHORT, access, status)) + configuration.to_bytes(2, "little") + b"\x10"
    message += chained_encrypt(encrypting(encryption), bytes(BLOCK), plain)
    control = b"\x25"
    code = cmac(authentication, control + number + message)[:8]
    layer = (0x2C00).to_bytes(2, "little") + control + number + code
    return telegram(sender, bytes((0x90, len(layer))) + layer + message)


def _with_crc(block: bytes) -> bytes:
    return block + crc(block).to_bytes(2, "big")


def format_a(stripped: bytes) -> bytes:
    """Return the frame of format A: a CRC after the first 10 bytes and after each 16."""
    blocks = [stripped[at : at + BLOCK] for at in range(FIRST_BLOCK, len(stripped), BLOCK)]
    return b"".join(map(_with_crc, (stripped[:FIRST_BLOCK], *blocks)))


def format_b(stripped: bytes) -> bytes:
    """Return the frame of format B: a CRC after 126 bytes and one at the end, both counted by L."""
    long = len(stripped) > _SECOND_BLOCK
    counted = bytes((len(stripped) - 1 + (4 if long else 2),)) + stripped[1:]
    return _with_crc(counted[:_SECOND_BLOCK]) + (_with_crc(counted[_SECOND_BLOCK:]) if long else b"")


def omnipower(
    import_energy: float, export_energy: float, import_power: float, export_power: float
) -> list[EncodedRecord]:
    """Return the records of an OmniPower: energies in kWh, in steps of 0.01, and powers in kW, in steps of 0.001."""
    return [
        record("0404", integer(round(import_energy * 100), 4)),
        record("04843C", integer(round(export_energy * 100), 4)),
        record("042B", integer(round(import_power * 1000), 4)),
        record("04AB3C", integer(round(export_power * 1000), 4)),
    ]
