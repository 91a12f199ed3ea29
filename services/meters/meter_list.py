"""A list of meters as it comes over MQTT: in both spellings of the first gateway, and what is wrong with a meter is said."""

import re
from collections.abc import Iterator, Sequence
from typing import Any, Final, NamedTuple

from bootstrap_lib import RequestError

KEYS: Final = ("deviceId", "manufacturerKey", "encryptionKey", "manufacturerDeviceKey")
"""Keys of a meter in the list, in any case; all but the first may be left out."""
_SPELLING: Final = {key.lower(): key for key in KEYS}
_NUMBER: Final = re.compile(r"[0-9A-F]{8}")
_MAKER: Final = re.compile(r"[A-Za-z0-9_-]{0,32}")
_SECRET: Final = re.compile(r"[0-9A-Fa-f]{32}")
_MOST_DIGITS: Final = 99_999_999

MOST: Final = 5000
"""Meters of a list: a house has some, a thousand have been tried."""


class ListedMeter(NamedTuple):
    """A meter of the list: its number, the master's name of its manufacturer, and its key in hex if it encrypts."""

    id: str
    manufacturer: str
    key: str | None

    @property
    def thing(self) -> str:
        """Word under which its topics stand: `kam_32666857`."""
        return thing(self.id, self.manufacturer)


class RejectedMeter(NamedTuple):
    """An entry of the list that is no meter, and why; the reason never shows a key."""

    id: str
    reason: str


def thing(id_: str, manufacturer: str) -> str:
    """Word of a topic for a meter."""
    return "_".join(re.findall(r"[a-z0-9]+", f"{manufacturer or 'meter'} {id_}".lower()))


def read(entries: Sequence[Any]) -> Iterator[ListedMeter | RejectedMeter]:
    """Read a list of meters, entry by entry and in its order; RequestError where it is longer than any house's."""
    if len(entries) > MOST:
        raise RequestError(f"{len(entries)} meters are too many: a list has {MOST} at most")
    seen: set[str] = set()
    for place, entry in enumerate(entries, 1):
        found = _meter(entry, f"entry {place}")
        if isinstance(found, ListedMeter) and found.id in seen:
            found = RejectedMeter(found.id, "it stands in the list twice")
        if isinstance(found, ListedMeter):
            seen.add(found.id)
        yield found


def _meter(entry: Any, label: str) -> ListedMeter | RejectedMeter:
    if not isinstance(entry, dict):
        return RejectedMeter(label, f"a meter has the form {{{', '.join(KEYS)}}}")
    fields: dict[str, Any] = {}
    for word, value in entry.items():
        key = _SPELLING.get(word.lower())
        if key is None:
            return RejectedMeter(label, f"'{word[:40]}' is no key of a meter: there are {', '.join(KEYS)}")
        if key in fields:
            return RejectedMeter(label, f"it has {key} in two spellings: keep one")
        fields[key] = value
    number = fields.get("deviceId")
    if isinstance(number, int) and not isinstance(number, bool) and 0 <= number <= _MOST_DIGITS:
        number = f"{number:08d}"
    number = number.strip().upper() if isinstance(number, str) else ""
    if not _NUMBER.fullmatch(number):
        return RejectedMeter(label, "deviceId is not the meter's number of eight digits")
    manufacturer, secret = (
        "" if fields.get(key) is None else fields[key] for key in ("manufacturerKey", "encryptionKey")
    )
    if not isinstance(manufacturer, str) or not _MAKER.fullmatch(manufacturer):
        return RejectedMeter(number, "manufacturerKey becomes part of topics: letters, digits, - and _, 32 at most")
    if not isinstance(secret, str) or (secret and not _SECRET.fullmatch(secret.strip())):
        return RejectedMeter(number, "encryptionKey is not a key of 32 hexadecimal digits")
    return ListedMeter(number, manufacturer, secret.strip().upper() or None)
