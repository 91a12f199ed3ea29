"""Which components Home Assistant was told of: what goes must be taken back once, by name, also after a restart."""

from collections.abc import Iterable

import msgspec

from services.homeassistant.devices import Component, Device


class Announced(msgspec.Struct, frozen=True):
    """A component that Home Assistant knows: its platform, its unique id, and what it shows."""

    platform: str
    unique: str
    shows: str


Memory = dict[str, dict[str, Announced]]
"""Components by the device's id and their key."""


def unique_ids(memory: Memory, components: Iterable[Component], root: str) -> dict[str, str]:
    """Unique id of each component by what it shows: as it was announced, under an earlier name too, else the oldest name that it had."""
    known = {one.shows: one.unique for components_of in memory.values() for one in components_of.values()}
    found: dict[str, str] = {}
    wanted = list(components)
    for shows, earlier in sorted(((one.shows, one.earlier) for one in wanted), key=lambda one: one[0] not in known):
        names = (shows, *earlier)
        unique = next((known[name] for name in names if name in known), f"{root}/{names[-1]}")
        while unique in found.values():
            unique += "+"
        found[shows] = unique
    return found


def told(device: Device, unique: dict[str, str]) -> dict[str, Announced]:
    """What Home Assistant knows of a device once it has its config."""
    return {one.key: Announced(one.platform, unique[one.shows], one.shows) for one in device.components}


def gone(memory: Memory, device: Device, unique: dict[str, str]) -> dict[str, str]:
    """Platforms by key of what was announced and is no more."""
    now = told(device, unique)
    return {key: one.platform for key, one in memory.get(device.id, {}).items() if key not in now}
