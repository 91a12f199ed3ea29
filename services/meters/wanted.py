"""Lines of topics that take values of meters: which meter each of them means, by what record, and with what key."""

from collections.abc import Collection, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Annotated

from msgspec import Meta, Struct

from bootstrap_lib import Problem, Registry, Topic, secrets
from services.meters.dispatch import Place
from services.meters.meter_list import ListedMeter, RejectedMeter
from services.protocols.wmbus.security import BLOCK


class MeterField(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """One value of a meter."""

    meter: (
        Annotated[
            str,
            Meta(pattern="^[0-9A-Fa-f]{8}$", examples=["'12345678'"], description="The meter's number, eight digits."),
        ]
        | Annotated[int, Meta(ge=0, le=99_999_999)]
    )
    key: Annotated[str, Meta(description="Name of the record, where it is not the topic's last level.")] = ""
    manufacturer: Annotated[str, Meta(pattern="^[A-Z]{3}$", description="Where two have the same number.")] = ""
    bit: Annotated[int, Meta(ge=0, le=63, description="One bit of flags, counted from 0, as a switch.")] | None = None
    secret: (
        Annotated[str, Meta(pattern="^secret:", description="The meter's key, if not secret:wmbus.<number>.")] | None
    ) = None

    @property
    def place(self) -> Place:
        """The meter as it is found by its telegrams."""
        number = f"{self.meter:08d}" if isinstance(self.meter, int) else self.meter.upper()
        return number, self.manufacturer


Wanted = dict[Place, dict[str, list[Topic[MeterField]]]]
"""For each meter the topics that want a record, by its name."""


def settle(places: Collection[Place]) -> dict[Place, Place]:
    """Tell which meter each line means: without a manufacturer it is the one whose manufacturer other lines name."""
    makers: dict[str, set[str]] = {}
    for number, maker in places:
        makers.setdefault(number, set()).update({maker} - {""})
    return {
        (number, maker): (number, next(iter(makers[number])) if len(makers[number]) == 1 else maker)
        for number, maker in places
    }


def wanted(topics: Iterable[Topic[MeterField]], listed: Iterable[str]) -> Wanted:
    """All meters that are asked for by lines of topics, or by their number in a list."""
    numbers, topics = [(number, "") for number in listed], list(topics)
    meant = settle([*numbers, *(topic.options.place for topic in topics)])
    found: Wanted = {meant[place]: {} for place in numbers}
    for topic in topics:
        key = topic.options.key or topic.name.rpartition("/")[2]
        found.setdefault(meant[topic.options.place], {}).setdefault(key, []).append(topic)
    return found


def keys(meters: Wanted, folder: Path) -> dict[Place, bytes | str | None]:
    """Return for each meter its key, the sentence why it cannot be used, or None.

    A key that the house's owner put among the secrets comes before one that was given over MQTT, which lies in `folder`.
    """
    found: dict[Place, bytes | str | None] = {}
    for place, names in meters.items():
        reference = reference_of(names)
        own = owners_key(place[0], reference)
        found[place] = own if own is not None else _key(place[0], reference, folder, named=reference is not None)
    return found


def reference_of(names: Mapping[str, Iterable[Topic[MeterField]]]) -> str | None:
    """Return where the key of a meter lies by the lines of its topics."""
    references = (topic.options.secret for topics in names.values() for topic in topics)
    return next(filter(None, references), None)


def owners_key(number: str, reference: str | None) -> bytes | str | None:
    """Return the key that the owner gave a meter, the sentence why it cannot be used, or None where there is none."""
    return _key(number, reference)


def conflicts(topics: Iterable[Topic[MeterField]], entries: Iterable[ListedMeter | RejectedMeter]) -> set[str]:
    """Find the meters of a list, by number, to which it gives another key than their owner did."""
    named = {place[0]: reference_of(names) for place, names in wanted(topics, ()).items()}
    given = {entry.id: bytes.fromhex(entry.key) for entry in entries if isinstance(entry, ListedMeter) and entry.key}
    return {number for number, key in given.items() if owners_key(number, named.get(number)) not in (None, key)}


def _key(number: str, reference: str | None, *folders: Path, named: bool = False) -> bytes | str | None:
    """Resolve a key; where it is missing, None, or the sentence that says so where topics.yaml has named it."""
    try:
        key = bytes.fromhex(secrets.resolve(reference or f"secret:wmbus.{number}", *folders))
    except secrets.MissingSecretError as error:
        return str(error) if named else None
    except secrets.SecretError as error:
        return str(error)
    except ValueError:
        key = b""
    return key if len(key) == BLOCK else f"the secret of meter {number} is not a key of 32 hexadecimal digits"


def problems(registry: Registry, name: str) -> Iterator[Problem]:
    """Find meters with two keys."""
    topics = registry.topics_of(name, MeterField)
    meant, known = settle([topic.options.place for topic in topics]), dict[Place, str]()
    for topic in topics:
        place, key = meant[topic.options.place], topic.options.secret
        if key and (other := known.setdefault(place, key)) != key:
            path = ("topics", registry.key_of(topic.name), "secret")
            yield registry.document.problem(path, f"meter {place[0]} has the key {other} in another line")
