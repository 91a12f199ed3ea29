"""Bluetooth links to batteries that mend themselves, so that the battery source never has to be restarted.

One thread runs a GLib main loop with the real `gatt` package over BlueZ's D-Bus. Nothing in it waits: every call that
could block is sent asynchronously, every state of a link has a deadline of its own, and the only way out of trouble is
`Link.fail`: hang up, count, wait a little longer each time, connect again. What one battery does never delays another,
but an adapter makes one connection at a time; who takes too long gives way.

What BlueZ and `gatt` do that makes this necessary: Connect may hang, may succeed without a link, may never resolve the
services; a link may be up and dead; a restarted bluetoothd tells nobody; exceptions in D-Bus callbacks are swallowed.

This module is the face: it needs no Bluetooth library until a link is opened.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Annotated, Any, Literal, NamedTuple, Protocol

from msgspec import Meta, Struct

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from services.bluetooth.battery_links import BatteryLinks
    from services.protocols.battery import BatteryProtocol, Unlocks, Value

Seconds = Annotated[float, Meta(gt=0)]
Times = Annotated[int, Meta(ge=1)]


class LinkError(RuntimeError):
    """Bluetooth cannot be used at all; the text says what to install."""


@dataclass(frozen=True, slots=True)
class BatteryFamily:
    """A battery that aiobmsble reads: as one of its families, or as the one that knows what the device advertises.

    `secret` is what the family's own app asks for, where it does.
    """

    name: str = ""
    secret: str = field(default="", repr=False)


@dataclass(frozen=True, slots=True)
class Battery:
    """One battery: its name for the service, Bluetooth address, protocol module, adapter, seconds between samples.

    The adapter is named as BlueZ does (hci0), or by its own Bluetooth address. `keep` holds the link between samples: a
    reconnection costs seconds and batteries that are not asked for about nine seconds may hang up; without it the link
    is given up after each sample, which frees the battery for a phone. `unlock` begins what a module with a password wants to hear.
    """

    name: str
    address: str
    protocol: BatteryProtocol | BatteryFamily
    adapter: str = "hci0"
    interval: float = 8.0
    keep: bool = True
    unlock: Callable[[], Unlocks] | None = None


class Deadlines(Struct, frozen=True, forbid_unknown_fields=True):
    """Seconds that each state of a link may take, and when what is escalated.

    `remove_after` failures in a row the device is removed from BlueZ (its cache of services with it; never a paired
    one), `power_after` failures the adapter is switched off and on, if that is allowed and no other battery needs it.
    """

    scan: Seconds = 30.0
    connect: Seconds = 30.0
    give_way: Seconds = 8.0
    resolve: Seconds = 15.0
    notify: Seconds = 5.0
    answer: Seconds = 1.5
    call: Seconds = 5.0
    tries: Times = 3
    retry: Seconds = 2.0
    retry_longest: Seconds = 60.0
    bluez: Seconds = 2.0
    remove_after: Times = 4
    power_after: Times = 8


@dataclass(slots=True)
class Statistics:
    """What a link has gone through; `signal` is the strength of the last advertisement in dBm."""

    state: str = "suspended"
    samples: int = 0
    failures: int = 0
    failures_in_a_row: int = 0
    retries: int = 0
    rejected_frames: int = 0
    sessions: int = 0
    removals: int = 0
    write_type: Literal["default", "command"] = "default"
    signal: int | None = None
    last_failure: str = ""


class HeardDevice(NamedTuple):
    """A device that an adapter has heard: its strength in dBm, and what it told: the UUIDs of its services and its data.

    The data are by the number of a company, and by the UUID of a service.
    """

    adapter: str
    address: str
    name: str
    signal: int
    services: frozenset[str]
    company_data: Mapping[int, bytes]
    service_data: Mapping[str, bytes]


def battery_links(
    batteries: Iterable[Battery],
    deliver: Callable[[str, dict[str, Value]], None],
    report: Callable[[str, str], None],
    deadlines: Deadlines,
    *,
    may_power_cycle: bool = False,
) -> BatteryLinks:
    """Prepare links to all batteries; LinkError where the Bluetooth libraries are missing.

    `deliver(name, measurements)` is called for each complete sample and `report(name, sentence)` for each failure, both
    in the links' own thread: they must return at once.
    """
    links: BatteryLinks = _load("battery_links").BatteryLinks(batteries, deliver, report, deadlines, may_power_cycle)
    return links


def discover(seconds: float) -> Iterator[HeardDevice]:
    """Scan on all adapters for some seconds, then tell what was heard; for people, as it waits.

    LinkError where the libraries, the system bus or bluetoothd are missing, or an adapter cannot scan.
    """
    heard: Iterator[HeardDevice] = _load("discovery").discover(seconds)
    return heard


def families_of(heard: HeardDevice) -> list[str]:
    """Families of aiobmsble that know what a device advertises; the library must be there."""
    families: list[str] = _load("families").families_of(heard)
    return families


class Listens(Protocol):
    """Somebody who hears advertisements until he is stopped."""

    def stop(self) -> None:
        """Hear no more."""

    def silence(self) -> float:
        """Return for how many seconds the thread has owed a sign of life."""


Tell = Callable[[str, int, bytes, int | None], None]
"""Takes the address of a device, the company's number, its data, and its strength in dBm."""
Report = Callable[[str], None]


def listen_to_advertisements(adapter: str, tell: Tell, report: Report) -> Listens:
    """Begin to hear what devices say to everybody; LinkError where the Bluetooth libraries are missing.

    Both are called in a thread of its own: they must return at once.
    """
    listener = _load("advertisements").Advertisements(adapter, tell, report)
    listener.start()
    listens: Listens = listener
    return listens


def _load(module: str) -> Any:
    try:
        return importlib.import_module(f"{__name__}.{module}")
    except (ImportError, SystemExit) as error:  # gatt ends the program where D-Bus is missing
        raise LinkError(
            "Batteries are read through the Python packages gatt, dbus and gi, and one of them is missing: install "
            f"constellation[bms] and Debian's python3-dbus and python3-gi ({error})."
        ) from None
