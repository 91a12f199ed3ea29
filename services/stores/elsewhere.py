"""An archive whose `url` leads to another disk: where the house's file takes it from, and where it comes back.

In the house's file it is called as if it lay in its state folder. On the way back the restored topics.yaml says where it belongs; it
is never put into a folder that is not there, because that is where a disk is to be mounted.
"""

import os
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, Final

import yaml

from bootstrap_lib import Registry, StartError, reason, state
from services.stores import record_url
from services.stores.house_file import Held, HouseFileError, Places, may_hold
from services.stores.house_secrets import owner_of

_BESIDE: Final = ("", "-wal", "-shm", "-journal")
_OWN_NAME: Final = "archive.sqlite"


@dataclass(frozen=True)
class Record:
    """An archive's file, and its name in that of the house."""

    path: Path
    name: str
    is_elsewhere: bool


def records(registry: Registry, places: Places, left: list[str]) -> dict[str, Record]:
    """Archives of this machine, by instance; one that never ran is `left` out. StartError where one cannot be taken along."""
    found = {}
    for instance in registry.find("archive"):
        if not instance.here:
            continue
        record = _record(str(instance.raw.get("url", record_url.DEFAULT)), instance.name, places)
        if not may_hold(record.name):
            raise StartError(f"{record.path} has a name that no file of a house has: call it {_OWN_NAME}")
        try:
            there = record.path.is_file()
        except OSError as error:
            raise StartError(f"{record.path} cannot be looked at: {reason(error)}") from None
        if there:
            found[instance.name] = record
        elif record.is_elsewhere or _has_run(places.states / instance.name):
            raise StartError(
                f"{record.path}, the archive of {instance.name}, is not there: mount its disk; if it is new, start the archive once"
            )
        else:
            left.append(f"{record.path}: the archive {instance.name} has not run yet")
    return found


def _has_run(folder: Path) -> bool:
    """Whether an instance has written there, or would where a link leads."""
    return folder.is_symlink() or (folder / "instance.json").exists()


def _record(url: str, instance: str, places: Places) -> Record:
    folder = places.states / instance
    path = record_url.path_of(url, folder)
    if path.is_relative_to(folder):
        return Record(path, f"state/{path.relative_to(places.states)}", is_elsewhere=False)
    if not path.is_absolute():
        raise StartError(f"{instance} keeps its archive in '{path}', wherever that is: name a full path in its url:")
    return Record(places.root / path.relative_to("/"), f"state/{instance}/{_OWN_NAME}", is_elsewhere=True)


def pictures(registry: Registry, places: Places) -> list[str]:
    """Sentences for round-robin files outside of their state folders, which are left out."""
    found = []
    for instance in registry.find("rrd"):
        folder = places.states / instance.name
        path = Path(str(instance.raw.get("folder", "{state}")).replace("{state}", str(folder)))
        if instance.here and not path.is_relative_to(folder):
            found.append(f"{path}: {instance.name} fills its files from the archive again")
    return found


def targets(held: Iterable[Held], topics: bytes, places: Places) -> dict[str, Path]:
    """Where contents that come back elsewhere belong, by name. StartError where such a place is not there."""
    found = {}
    for one in held:
        instance = one.name.split("/")[1]
        try:
            said: Any = yaml.safe_load(topics)
            record = _record(said["subscribers"][instance]["url"], instance, places)
        except (yaml.YAMLError, LookupError, TypeError, AttributeError, ValueError):
            raise HouseFileError(f"its topics.yaml does not say where the archive of {instance} belongs") from None
        if not record.is_elsewhere or record.name != one.name or one.rows is None:
            raise HouseFileError(
                f"its topics.yaml has {record.path} for the archive of {instance}, and not what is in the file"
            )
        if not record.path.parent.is_dir():
            raise StartError(
                f"{record.path.parent} is not there, where topics.yaml has the archive of {instance}: mount its disk or make the folder;"
                " nothing was changed"
            )
        found[one.name] = record.path
    return found


def lies_at(path: Path) -> bool:
    """Whether an archive, or a part of one, lies there."""
    return any(path.with_name(path.name + end).exists() for end in _BESIDE)


def make_way(path: Path) -> list[str]:
    """Set aside what lies there, on its own disk; returns what was done."""
    stamp = time.time_ns() // 1_000_000
    there = [one for one in (path.with_name(path.name + end) for end in _BESIDE) if one.exists()]
    with state.as_owner_of(path.parent):
        return [f"{one} is now {one.rename(one.with_name(f'{one.name}.before-{stamp}'))}" for one in there]


def put(path: Path, held: Held, copy: Callable[[BinaryIO], None]) -> str:
    """Put an archive where topics.yaml says; returns what a person is to know of it."""
    owner = owner_of(held.user)
    try:
        with state.replacing(path, held.mode & 0o777, owner) as into:
            copy(into)
    except OSError as error:
        raise StartError(f"{path} cannot be written: {reason(error)}") from None
    if os.geteuid() or owner or not held.user:
        return f"{path} is the archive, as topics.yaml says"
    return f"{path} is the archive, as topics.yaml says; after units --install: sudo chown {held.user} {path.parent} {path}"
