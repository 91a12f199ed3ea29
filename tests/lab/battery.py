"""A JBD battery's Bluetooth module as a GATT peripheral of BlueZ, a program of its own: `battery.py hci1`.

It speaks by the encoder of services.protocols.jbd, in notifications of 20 bytes, and registers itself with each new life
of bluetoothd. SIGSTOP makes it mute.
"""

import sys
from typing import Any

import dbus
import dbus.mainloop.glib
import dbus.service
from gi.repository import GLib

from services.protocols import jbd
from tests.lab.pack import PACK

FRAGMENT = 20
"""Bytes of a notification over a link with the default MTU."""
BLUEZ, PROPERTIES = "org.bluez", "org.freedesktop.DBus.Properties"
ADAPTER, ADVERTISEMENT = "org.bluez.Adapter1", "org.bluez.LEAdvertisement1"
SERVICE, CHARACTERISTIC = "org.bluez.GattService1", "org.bluez.GattCharacteristic1"
CHANNEL = jbd.CHANNELS[0]
RETRY = 500  # milliseconds


class Node(dbus.service.Object):
    """An object with the properties of one interface."""

    def __init__(self, bus: Any, path: str, interface: str, **properties: Any) -> None:
        self.path, self.interface, self.properties = path, interface, properties
        super().__init__(bus, path)

    @dbus.service.method(PROPERTIES, in_signature="s", out_signature="a{sv}")
    def GetAll(self, _interface: str) -> Any:  # noqa: N802 - the method of D-Bus
        return self.properties

    @dbus.service.signal(PROPERTIES, signature="sa{sv}as")
    def PropertiesChanged(self, interface: str, changed: Any, invalidated: Any) -> None:  # noqa: N802
        pass


class Advertisement(Node):
    """What the battery says to everyone."""

    @dbus.service.method(ADVERTISEMENT)
    def Release(self) -> None:  # noqa: N802
        pass


class Outlet(Node):
    """The characteristic that notifies."""

    @dbus.service.method(CHARACTERISTIC)
    def StartNotify(self) -> None:  # noqa: N802
        pass

    @dbus.service.method(CHARACTERISTIC)
    def StopNotify(self) -> None:  # noqa: N802
        pass

    def say(self, frame: bytes) -> None:
        """Send a frame in fragments."""
        for start in range(0, len(frame), FRAGMENT):
            value = dbus.Array(frame[start : start + FRAGMENT], "y")
            self.PropertiesChanged(self.interface, {"Value": value}, [])


class Inlet(Node):
    """The characteristic that is written to."""

    outlet: Outlet

    @dbus.service.method(CHARACTERISTIC, in_signature="aya{sv}")
    def WriteValue(self, value: Any, _options: Any) -> None:  # noqa: N802
        if answer := jbd.answer(bytes(value), PACK):
            self.outlet.say(answer)


class Application(dbus.service.Object):
    """The services that the battery offers."""

    def __init__(self, bus: Any) -> None:
        super().__init__(bus, "/battery")
        service = dbus.ObjectPath("/battery/service")
        outlet = Outlet(bus, f"{service}/out", CHARACTERISTIC, UUID=CHANNEL.notify, Service=service, Flags=["notify"])
        flags = ["write", "write-without-response"]
        inlet = Inlet(bus, f"{service}/in", CHARACTERISTIC, UUID=CHANNEL.write, Service=service, Flags=flags)
        inlet.outlet = outlet
        self._nodes = [Node(bus, service, SERVICE, UUID=CHANNEL.service, Primary=True), outlet, inlet]

    @dbus.service.method("org.freedesktop.DBus.ObjectManager", out_signature="a{oa{sa{sv}}}")
    def GetManagedObjects(self) -> Any:  # noqa: N802
        return {dbus.ObjectPath(node.path): {node.interface: node.properties} for node in self._nodes}


def main(adapter: str) -> None:
    """Play the battery for ever."""
    bus = dbus.SystemBus(mainloop=dbus.mainloop.glib.DBusGMainLoop())
    application = Application(bus)
    advertisement = Advertisement(
        bus,
        "/battery/advertisement",
        ADVERTISEMENT,
        Type="peripheral",
        LocalName=PACK.name,
        ServiceUUIDs=[CHANNEL.service],
    )
    path = f"/org/bluez/{adapter}"

    def ready(what: str) -> Any:
        return lambda: print(f"{adapter}: {what} registered", flush=True)

    def again(error: Any) -> None:
        print(error, flush=True)
        GLib.timeout_add(RETRY, register, bus.get_name_owner(BLUEZ))

    def register(owner: str) -> bool:
        """Register with a bluetoothd, as soon as it has the adapter."""
        if not owner:
            return False
        try:
            proxy = bus.get_object(BLUEZ, path, introspect=False)
            proxy.Set(ADAPTER, "Powered", dbus.Boolean(True, variant_level=1), dbus_interface=PROPERTIES)
        except dbus.DBusException as error:
            print(error, flush=True)
            GLib.timeout_add(RETRY, register, owner)
            return False
        nothing = dbus.Dictionary({}, "sv")
        for manager, method, node in (
            ("GattManager1", "RegisterApplication", "/battery"),
            ("LEAdvertisingManager1", "RegisterAdvertisement", advertisement.path),
        ):
            proxy.get_dbus_method(method, f"{BLUEZ}.{manager}")(
                dbus.ObjectPath(node), nothing, reply_handler=ready(method), error_handler=again
            )
        return False

    bus.watch_name_owner(BLUEZ, register)
    GLib.MainLoop().run()
    del application


if __name__ == "__main__":
    main(sys.argv[1])
