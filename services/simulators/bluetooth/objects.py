"""BlueZ's objects, as a client sees them, and the adapter, which hears batteries."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING, Any, ClassVar, Protocol

from services.simulators.bluetooth.bus import (
    ADAPTER,
    PROPERTIES,
    BluezError,
    Reply,
    later,
    variants,
)

if TYPE_CHECKING:
    from gi.repository import GLib


ADVERTISES_AFTER = 100
"""Milliseconds until an adapter that begins to scan has heard the first battery."""


class SimulatedDaemon(Protocol):
    """The simulated bluetoothd, as its objects see it."""

    def export(self, one: Object) -> None: ...
    def withdraw(self, one: Object) -> None: ...
    def note(self, event: str) -> None: ...
    def signal(self, path: str, interface: str, name: str, signature: str, values: tuple[Any, ...]) -> None: ...


class Object:
    """An object on the bus: one interface of BlueZ with its properties, below another object."""

    interface: ClassVar[str]
    parent_property: ClassVar[str] = ""

    def __init__(self, bluetoothd: SimulatedDaemon, parent: Object | None, name: str, **properties: Any) -> None:
        self.bluetoothd, self.parent, self.name, self.properties = bluetoothd, parent, name, properties
        self.exported = False

    @property
    def path(self) -> str:
        """Where the object is now."""
        return f"{self.parent.path if self.parent else '/org/bluez'}/{self.name}"

    def told(self) -> dict[str, GLib.Variant]:
        """Return the properties as a client is told."""
        return variants(self.properties | ({self.parent_property: self.parent.path} if self.parent else {}))

    def export(self) -> None:
        """Put the object on the bus and announce it."""
        if not self.exported:
            self.exported = True
            self.bluetoothd.export(self)

    def withdraw(self) -> None:
        """Take the object from the bus and announce that."""
        if self.exported:
            self.exported = False
            self.bluetoothd.withdraw(self)

    def change(self, **changed: Any) -> None:
        """Set properties and tell it, even when they are equal, as BlueZ does for notifications."""
        self.properties |= changed
        if self.exported:
            body = (self.interface, variants(changed), ())
            self.bluetoothd.signal(self.path, PROPERTIES, "PropertiesChanged", "(sa{sv}as)", body)

    def on_set(self, name: str, value: Any) -> None:
        """Act on a property that a client set."""
        self.change(**{name: value})

    def call(self, method: str, arguments: tuple[Any, ...], reply: Reply) -> None:  # noqa: ARG002 - for subclasses
        """Answer a call of the interface."""
        reply.succeed()


class SimulatedAdapter(Object):
    """A Bluetooth adapter and the batteries that it hears; a replug gives it another name."""

    interface = ADAPTER
    name: str

    def __init__(self, bluetoothd: SimulatedDaemon, name: str) -> None:
        address = f"02:00:00:00:00:{int(name.removeprefix('hci')):02X}"
        super().__init__(
            bluetoothd,
            None,
            name,
            Address=address,
            Name=name,
            Alias=name,
            Powered=True,
            Discovering=False,
            Roles=["central"],
        )
        self.batteries: list[Any] = []

    def plug_in(self) -> None:
        """Appear, with every battery that was heard before."""
        self.properties["Discovering"] = False
        self.export()
        for battery in self.batteries:
            if "out_of_reach" not in battery.faults:
                battery.export()

    def pull_out(self) -> None:
        """Vanish, with every battery."""
        for battery in self.batteries:
            battery.link_down()
            battery.forget()
        self.withdraw()

    def replug(self) -> None:
        """Come back under another name."""
        self.pull_out()
        self.name += "0"
        later(500, self.plug_in)

    def on_set(self, name: str, value: Any) -> None:
        """Switch on or off; off breaks every link and frees a stuck adapter."""
        super().on_set(name, value)
        if name == "Powered" and not value:
            for battery in self.batteries:
                battery.link_down()
                battery.faults.discard("adapter_stuck")

    def need_power(self) -> None:
        """Refuse as BlueZ does when the adapter is off."""
        if not self.properties["Powered"]:
            raise BluezError("NotReady", "Resource Not Ready")

    def advertise(self) -> None:
        """Let every battery be heard that is not connected."""
        if self.exported and self.properties["Powered"] and self.properties["Discovering"]:
            for battery in self.batteries:
                if not battery.connected and "out_of_reach" not in battery.faults:
                    battery.export()
                    battery.change(RSSI=random.randrange(-80, -55))

    def call(self, method: str, arguments: tuple[Any, ...], reply: Reply) -> None:
        """Answer a call of Adapter1."""
        match method:
            case "StartDiscovery":
                self.need_power()
                if any(battery.meets("scan_refused") for battery in self.batteries):
                    raise BluezError("InProgress", "Operation already in progress")
                self.change(Discovering=True)
                later(ADVERTISES_AFTER, self.advertise)
            case "StopDiscovery":
                self.change(Discovering=False)
            case "RemoveDevice":
                battery = next((one for one in self.batteries if one.path == arguments[0] and one.exported), None)
                if battery is None:
                    raise BluezError("DoesNotExist", "Does Not Exist")
                battery.link_down()
                battery.forget()
                later(ADVERTISES_AFTER, self.advertise)
        reply.succeed()
