"""Links in messages: who got one may acknowledge what it tells of, or be spared of it for a time, without a login.

The notifier signs (HMAC, RFC 2104) when it hands the message over, the page believes what bears the house's key, which is
a credential of both. What is signed stands behind the # of the address: no proxy and no scanner is ever sent it.
"""

import base64
import binascii
import hashlib
import hmac
from typing import Final

import msgspec

from bootstrap_lib import ReadingError, Registry, StartError, parse_time
from services.notices.notice import Notice

SECRET: Final = "web.links"  # noqa: S105 (its name, not itself)
"""File among the credentials."""
LEAST: Final = 32
"""Characters of a key."""
LASTS: Final = 86_400_000
"""Milliseconds from the message on."""
LONGEST: Final = 512
"""Characters of an address that a phone takes (pushover.net/api)."""
PAGE: Final = "link.html"
WORDS: Final = "Acknowledge or snooze"
"""What a link is called where it has a name."""
_MARK: Final = 16
_KIND: Final = b"constellation link 1\0"


class Permit(msgspec.Struct, frozen=True, array_like=True):
    """What a link permits: of which alerts, each with since when it fires (ms), it was told by whom, until when (ms) it holds.

    `more` counts the message's further alerts, which had no room.
    """

    notifier: str
    message: str
    until: int
    alerts: tuple[tuple[str, int], ...]
    more: int = 0


def checked(key: str) -> str:
    """A key that is long enough; StartError where it can be guessed."""
    if len(key) < LEAST:
        raise StartError(
            f"the key of links has {len(key)} characters: it needs {LEAST} at least (openssl rand -hex 32)"
        )
    return key


def address_of(registry: Registry) -> str:
    """Where people reach the page; empty where topics.yaml does not say."""
    return next((str(address) for one in registry.find("web") if (address := one.raw.get("address"))), "")


def signed(permit: Permit, key: str) -> str:
    """The permit as it stands in a link."""
    content = msgspec.json.encode(permit)
    return f"{_text(content)}.{_text(_mark(content, key))}"


def read(token: str, key: str) -> Permit:
    """The permit of a link; ValueError where this key did not sign it."""
    content, _, mark = token.partition(".")
    try:
        said = _bytes(content)
        if not key or not hmac.compare_digest(_bytes(mark), _mark(said, key)):
            raise ValueError("the house did not sign it")
        return msgspec.json.decode(said, type=Permit)
    except (binascii.Error, msgspec.MsgspecError) as error:
        raise ValueError(f"it is no link of a message: {error}") from None


def link_of(notice: Notice, identity: str, notifier: str, address: str, key: str) -> str:
    """The link of a message to the page at `address`; empty without these or a key, or where it tells of nothing that fires."""
    if not (address and key):
        return ""
    try:
        until = parse_time(notice.time) + LASTS
    except ReadingError:
        return ""
    told = tuple(zip(notice.rules, notice.begun, strict=False))
    for count in range(len(told), 0, -1):
        permit = Permit(notifier, identity, until, told[:count], len(told) - count)
        link = f"{address.rstrip('/')}/{PAGE}#{signed(permit, key)}"
        if len(link) <= LONGEST:
            return link
    return ""


def _mark(content: bytes, key: str) -> bytes:
    return hmac.digest(key.encode(), _KIND + content, hashlib.sha256)[:_MARK]


def _text(content: bytes) -> str:
    return base64.urlsafe_b64encode(content).rstrip(b"=").decode()


def _bytes(text: str) -> bytes:
    if not text.isascii():
        raise ValueError("it is no link of a message")
    return base64.b64decode(text + "=" * (-len(text) % 4), altchars=b"-_", validate=True)
