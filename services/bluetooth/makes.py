"""Makes of battery by the names of their protocols, and what opens a module that wants a password."""

import functools
import importlib
import pkgutil
import platform
from collections.abc import Callable
from importlib import metadata
from typing import Final, cast

from bootstrap_lib import DeviceError, nearest, secrets
from services.bluetooth import BatteryFamily, HeardDevice, families_of
from services.protocols.battery import BatteryProtocol, Unlocks

AIOBMSBLE: Final = "aiobmsble"
"""What stands for a protocol where a library reads the battery that has some fifty."""
KNOWN: Final = "0.31.0"
"""The version of it whose inside is known (families.py); pyproject.toml pins it."""


def protocol_of(name: str) -> BatteryProtocol:
    """Protocol of a name; DeviceError where there is none."""
    path = f"services/protocols/{name}.py"
    try:
        protocol = importlib.import_module(f"services.protocols.{name}")
    except ModuleNotFoundError:
        raise DeviceError(f"there is no protocol '{name}': a protocol is a file {path}") from None
    if not hasattr(protocol, "CHANNELS"):
        raise DeviceError(f"'{name}' is no battery's protocol: {path} has no CHANNELS")
    return cast("BatteryProtocol", protocol)


def unlock_of(address: str, password: str | None) -> Callable[[], Unlocks] | None:
    """What opens the module of a battery, where `password` refers to a secret; SecretError where that is not there."""
    if password is None:
        return None
    from services.protocols.jbd import Unlocking

    return functools.partial(Unlocking, address, secrets.resolve(password))


def reader_of(protocol: str, family: str, password: str | None) -> BatteryProtocol | BatteryFamily:
    """Who reads a battery; DeviceError where there is nobody, SecretError where he wants a secret that is not there."""
    return family_of(family, password) if protocol == AIOBMSBLE else protocol_of(protocol)


def family_of(name: str = "", password: str | None = None) -> BatteryFamily:
    """Family of aiobmsble by its name, or the one that will know the device; DeviceError where the library is not there."""
    wanted = "pip install 'constellation[aiobmsble]'"
    try:
        there = metadata.version(AIOBMSBLE)
    except metadata.PackageNotFoundError:
        here = platform.python_version()
        raise DeviceError(
            f"aiobmsble is not there: {wanted}; it needs Python 3.12 (Debian 13), this is {here}"
        ) from None
    if there != KNOWN:
        raise DeviceError(f"aiobmsble {there} is there, and its inside is known of {KNOWN} only: {wanted}")
    found = pkgutil.iter_modules(importlib.import_module("aiobmsble.bms").__path__)
    families = [module.name.removesuffix("_bms") for module in found]
    if name and name not in families:
        hint = nearest(name, families) or f": there are {', '.join(families)}"
        raise DeviceError(f"aiobmsble has no family '{name}'{hint}")
    return BatteryFamily(name, secrets.resolve(password) if password else "")


def families_that_know(heard: HeardDevice) -> list[str]:
    """What to write for a device that aiobmsble knows by what it advertises; nothing where the library is not there."""
    try:
        family_of()
    except DeviceError:
        return []
    return [f"{AIOBMSBLE}:{family}" for family in families_of(heard)]
