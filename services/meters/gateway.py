"""Messages of the first gateway: the list of meters it is given, and what it says of each of them.

A master that was written for the first gateway goes on working: both spellings of the keys are read, and what is wrong
with a meter is said instead of passed over.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final, NamedTuple

KEYS: Final = ("deviceId", "manufacturerKey", "encryptionKey", "manufacturerDeviceKey")
"""Keys of a meter in the list, in any case; all but the first may be left out."""
_SPELLING: Final = {key.lower(): key for key in KEYS}
_NUMBER: Final = re.compile(r"[0-9A-F]{8}")
_MAKER: Final = re.compile(r"[A-Za-z0-9_-]{0,32}")
_SECRET: Final = re.compile(r"[0-9A-Fa-f]{32}")
_MOST_DIGITS: Final = 99_999_999


class Listed(NamedTuple):
    """A meter of the list: its number, the master's name of its manufacturer, and its key in hex if it encrypts."""

    id: str
    manufacturer: str
    key: str | None

    @property
    def thing(self) -> str:
        """Word under which its topics stand: `kam_32666857`."""
        return thing(self.id, self.manufacturer)


class Rejected(NamedTuple):
    """An entry of the list that is no meter, and why; the reason never shows a key."""

    id: str
    reason: str


def thing(id_: str, manufacturer: str) -> str:
    """Word of a topic for a meter."""
    return "_".join(re.findall(r"[a-z0-9]+", f"{manufacturer or 'meter'} {id_}".lower()))


def read(entries: Sequence[Any]) -> Iterator[Listed | Rejected]:
    """Read a list of meters, entry by entry and in its order."""
    seen: set[str] = set()
    for place, entry in enumerate(entries, 1):
        found = _meter(entry, f"entry {place}")
        if isinstance(found, Listed) and found.id in seen:
            found = Rejected(found.id, "it stands in the list twice")
        if isinstance(found, Listed):
            seen.add(found.id)
        yield found


def _meter(entry: Any, label: str) -> Listed | Rejected:
    if not isinstance(entry, dict):
        return Rejected(label, f"a meter has the form {{{', '.join(KEYS)}}}")
    fields: dict[str, Any] = {}
    for word, value in entry.items():
        key = _SPELLING.get(word.lower())
        if key is None:
            return Rejected(label, f"'{word[:40]}' is no key of a meter: there are {', '.join(KEYS)}")
        if key in fields:
            return Rejected(label, f"it has {key} in two spellings: keep one")
        fields[key] = value
    number = fields.get("deviceId")
    if isinstance(number, int) and not isinstance(number, bool) and 0 <= number <= _MOST_DIGITS:
        number = f"{number:08d}"
    number = number.strip().upper() if isinstance(number, str) else ""
    if not _NUMBER.fullmatch(number):
        return Rejected(label, "deviceId is not the meter's number of eight digits")
    manufacturer, secret = (
        "" if fields.get(key) is None else fields[key] for key in ("manufacturerKey", "encryptionKey")
    )
    if not isinstance(manufacturer, str) or not _MAKER.fullmatch(manufacturer):
        return Rejected(number, "manufacturerKey becomes part of topics: letters, digits, - and _, 32 at most")
    if not isinstance(secret, str) or (secret and not _SECRET.fullmatch(secret.strip())):
        return Rejected(number, "encryptionKey is not a key of 32 hexadecimal digits")
    return Listed(number, manufacturer, secret.strip().upper() or None)


class Channel(NamedTuple):
    """One channel of a meter: the record it shows, its kind and name, and the factor to its unit (kWh, W)."""

    record: str
    data_type: str
    name: str
    factor: int


CHANNELS: Final = (
    Channel("import_energy", "accumulated-power", "A+ / Active positive energy", 1),
    Channel("export_energy", "accumulated-power", "A- / Active negative energy", 1),
    Channel("import_power", "power", "P+ / Active positive power", 1000),
    Channel("export_power", "power", "P- / Active negative power", 1000),
)
"""The four channels of an OmniPower, whose records are in kWh and kW."""


def configuration() -> dict[str, Any]:
    """Return the message that announces a meter's channels."""
    return {
        "Channels": [
            {"ChannelNumber": number, "DataType": channel.data_type, "ChannelName": channel.name}
            for number, channel in enumerate(CHANNELS, 1)
        ]
    }


def measurements(values: Mapping[str, Any], timestamp: str) -> Iterator[dict[str, Any]]:
    """Yield a message for each channel that a telegram has a value for; `timestamp` as 2020-11-17T10:08:00Z."""
    for number, channel in enumerate(CHANNELS, 1):
        value = values.get(channel.record)
        if isinstance(value, (int, float)):
            yield {
                "channelNumber": number,
                "aggregateType": "Raw",
                "dataType": channel.data_type,
                "value": round(value * channel.factor, 3),
                "timestamp": timestamp,
            }
