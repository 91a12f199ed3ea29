"""Telegrams as lines of hex, for people who have an unknown meter and want to know what it says."""

from collections.abc import Iterable, Iterator
from functools import lru_cache

import msgspec

from services.protocols.wmbus.compact import Formats
from services.protocols.wmbus.errors import TelegramError, TelegramRefusal
from services.protocols.wmbus.records import DataRecord
from services.protocols.wmbus.security import BLOCK
from services.protocols.wmbus.telegram import Telegram, decode


class _DecodedLine(msgspec.Struct, omit_defaults=True):
    id: str
    manufacturer: str
    version: int
    type: str
    security: str
    records: list[DataRecord]
    status: tuple[str, ...] = ()
    note: str | None = None


class _Refused(msgspec.Struct):
    error: str


def decode_lines(lines: Iterable[str], key: bytes | None = None) -> Iterator[str]:
    """Yield one JSON line for each line of hex, in order; blank lines give none.

    A second word on a line is that telegram's key and goes before `key`. A telegram that is refused gives a line with
    `error`. Full frames teach the formats of the compact frames that follow them.
    """
    formats = Formats()
    encode = msgspec.json.encode
    for line in lines:
        words = line.split()
        if not words:
            continue
        answer: _DecodedLine | _Refused
        try:
            telegram = _decoded(_frame(words[0]), words[1:], key, formats)
            answer = _DecodedLine(
                telegram.id,
                telegram.manufacturer,
                telegram.version,
                telegram.type,
                telegram.security,
                telegram.records,
                telegram.status,
                telegram.note,
            )
        except TelegramError as error:
            answer = _Refused(str(error))
        yield encode(answer).decode()


def _decoded(frame: bytes, words: list[str], key: bytes | None, formats: Formats) -> Telegram:
    """Decode with the key of the line, if it has one; what is not supported is said before what is wrong with the key."""
    if not words:
        return decode(frame, key, formats=formats)
    try:
        own = _key(*words)
    except TelegramError as malformed:
        try:
            decode(frame, formats=formats)
        except TelegramError as error:
            if error.kind is TelegramRefusal.UNSUPPORTED:  # a key of DES has 16 digits
                raise error from None
        raise malformed from None
    return decode(frame, own, formats=formats)


def _frame(word: str) -> bytes:
    try:
        return bytes.fromhex(word)
    except ValueError:
        odd = f"; it has {len(word)} digits, an odd number" if len(word) % 2 else ""
        raise TelegramError(TelegramRefusal.FRAME, f"The telegram is not hexadecimal{odd}.") from None


@lru_cache(maxsize=4096)
def _key(*words: str) -> bytes:
    try:
        (key,) = map(bytes.fromhex, words)
    except ValueError:
        key = b""
    if len(key) != BLOCK:
        raise TelegramError(
            TelegramRefusal.KEY, "What follows the telegram on this line is not a key of 32 hexadecimal digits."
        )
    return key
