"""Makes of battery by the names of their protocols, and what opens a module that wants a password."""

import functools
import importlib
from collections.abc import Callable
from typing import cast

from bootstrap_lib import DeviceError, secrets
from services.protocols.battery import BatteryProtocol, Unlocks


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
    from services.protocols.jbd import Unlocking  # noqa: PLC0415 (few need it)

    return functools.partial(Unlocking, address, secrets.resolve(password))
