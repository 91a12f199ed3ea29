"""bluetoothd as one connection to the system bus sees it: who it is now, what it has, what it says, calls without waiting."""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING, Any, Final, Protocol

import dbus

if TYPE_CHECKING:
    from collections.abc import Callable

    from services.bluetooth import Deadlines
    from services.bluetooth.loop import GLibLoop

BLUEZ: Final = "org.bluez"
ADAPTER: Final = "org.bluez.Adapter1"
DEVICE: Final = "org.bluez.Device1"
CHARACTERISTIC: Final = "org.bluez.GattCharacteristic1"
OBJECTS: Final = "org.freedesktop.DBus.ObjectManager"
PROPERTIES: Final = "org.freedesktop.DBus.Properties"

DBusError: Any = dbus.exceptions.DBusException


def sentence(error: Any) -> str:
    """Return what a D-Bus error says."""
    return f"{error.get_dbus_name()}: {error.get_dbus_message()}"


def nothing(*_: Any) -> None:
    """Take an answer that tells nothing new."""


class Listener(Protocol):
    """Who is told what bluetoothd says."""

    def vanished(self, reason: str) -> None:
        """Learn that there is no bluetoothd."""

    def appeared(self, objects: Any) -> None:
        """Take the objects of a new bluetoothd."""

    def added(self, path: Any, interfaces: Any) -> None:
        """Take a new object."""

    def removed(self, path: Any, interfaces: Any) -> None:
        """Learn that an object is gone."""

    def changed(self, interface: Any, properties: Any, _invalidated: Any, path: Any) -> None:
        """Take properties that have changed."""


class Bluez:
    """The connection to bluetoothd; it is made anew for each life of the system bus and of bluetoothd."""

    def __init__(self, loop: GLibLoop, listener: Listener, deadlines: Deadlines) -> None:
        self._loop, self._listener, self._deadlines = loop, listener, deadlines
        self._bus: Any = None
        self._owner = ""
        self._deafen: list[Callable[[], None]] = []

    def open(self) -> None:
        """Connect to the system bus, now or as soon as it is there."""
        try:
            self._bus = dbus.SystemBus()
            self._bus.set_exit_on_disconnect(False)
            self._bus.call_on_disconnection(self._lost)
            receive = functools.partial(self._bus.add_signal_receiver, bus_name=BLUEZ)
            changed = functools.partial(receive, self._listener.changed, "PropertiesChanged", PROPERTIES)
            self._deafen = [
                receive(self._listener.added, "InterfacesAdded", OBJECTS).remove,
                receive(self._listener.removed, "InterfacesRemoved", OBJECTS).remove,
                changed(arg0=ADAPTER, path_keyword="path").remove,
                changed(arg0=DEVICE, path_keyword="path").remove,
                self._bus.watch_name_owner(BLUEZ, self._owner_changed).cancel,
            ]
        except DBusError as error:
            self._listener.vanished(f"The system bus is not there ({sentence(error)}).")
            self._loop.later(self._deadlines.bluez, self.open)

    def close(self) -> None:
        """Hear no more; the bus is shared, and those that come after hear the rest."""
        self._owner = ""
        for deafen in self._deafen:
            deafen()

    def call(
        self,
        path: str,
        interface: str,
        method: str,
        signature: str = "",
        *arguments: Any,
        told: Callable[..., None] = nothing,
        failed: Callable[[Any], None] = nothing,
        seconds: float | None = None,
    ) -> None:
        """Call a method without waiting: `told` gets its values, or `failed` the D-Bus error; one of them is called later."""
        seconds = seconds or self._deadlines.call
        try:
            self._bus.call_async(self._owner, path, interface, method, signature, arguments, told, failed, seconds)
        except (DBusError, ValueError) as error:  # the bus has gone, or bluetoothd, which leaves no name to call
            gone = error if isinstance(error, DBusError) else DBusError("bluetoothd is gone", name=f"{BLUEZ}.Gone")
            self._loop.later(0, functools.partial(failed, gone))

    def _lost(self, _bus: Any) -> None:
        self._owner, self._deafen = "", []
        self._listener.vanished("The system bus is gone.")
        self._bus.close()
        self._loop.later(self._deadlines.bluez, self.open)

    def _owner_changed(self, owner: Any) -> None:
        if self._owner or not owner:
            self._listener.vanished("bluetoothd is not running: 'systemctl status bluetooth' says why.")
        self._owner = str(owner)
        if owner:
            self._look(self._owner)

    def _look(self, owner: str) -> None:
        """Ask a bluetoothd for its objects, again and again until it answers or is gone."""
        if owner != self._owner:
            return

        def told(objects: Any) -> None:
            if owner == self._owner:
                self._listener.appeared(objects)

        def failed(error: Any) -> None:
            if owner == self._owner:
                self._listener.vanished(f"bluetoothd does not answer ({sentence(error)}).")
                self._loop.later(self._deadlines.bluez, functools.partial(self._look, owner))

        self.call("/", OBJECTS, "GetManagedObjects", told=told, failed=failed)
