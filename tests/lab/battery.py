"""A battery's Bluetooth module as a GATT peripheral of BlueZ, a program of its own: `battery.py hci1 jbd PACK.json`.

It speaks by the encoder of its make in services.protocols, in notifications of 20 bytes, and registers itself with each new
life of bluetoothd and of the adapter. SIGSTOP makes it mute.
"""

import sys
from pathlib import Path
from typing import Any

import dbus
import dbus.mainloop.glib
import dbus.service
from gi.repository import GLib

from services.bluetooth.makes import protocol_of
from services.protocols.battery import BatteryProtocol, GattChannel
from tests.lab import pack

FRAGMENT = 20
"""Bytes of a notification over a link with the default MTU."""
BLUEZ = "org.bluez"
OBJECTS, PROPERTIES = "org.freedesktop.DBus.ObjectManager", "org.freedesktop.DBus.Properties"
ADAPTER, ADVERTISEMENT = "org.bluez.Adapter1", "org.bluez.LEAdvertisement1"
SERVICE, CHARACTERISTIC = "org.bluez.GattService1", "org.bluez.GattCharacteristic1"
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


class Characteristic(Node):
    """What notifies, what is written to, or both in one, as JK has it."""

    def __init__(self, bus: Any, path: str, uuid: str, flags: list[str], application: "Application") -> None:
        service = dbus.ObjectPath(application.service)
        super().__init__(bus, path, CHARACTERISTIC, UUID=uuid, Service=service, Flags=flags)
        self.application = application

    @dbus.service.method(CHARACTERISTIC)
    def StartNotify(self) -> None:  # noqa: N802
        pass

    @dbus.service.method(CHARACTERISTIC)
    def StopNotify(self) -> None:  # noqa: N802
        pass

    @dbus.service.method(CHARACTERISTIC, in_signature="aya{sv}")
    def WriteValue(self, value: Any, _options: Any) -> None:  # noqa: N802
        self.application.asked(bytes(value))

    def say(self, frame: bytes) -> None:
        """Send a frame in fragments."""
        for start in range(0, len(frame), FRAGMENT):
            value = dbus.Array(frame[start : start + FRAGMENT], "y")
            self.PropertiesChanged(self.interface, {"Value": value}, [])


class Application(dbus.service.Object):
    """The service that the battery offers, on its usual channel."""

    def __init__(self, bus: Any, protocol: BatteryProtocol, file: Path) -> None:
        super().__init__(bus, "/battery")
        self.protocol, self.file = protocol, file
        self.service = "/battery/service"
        channel = self.channel
        notifies, writes = ["notify"], ["write", "write-without-response"]
        if channel.notify == channel.write:
            characteristics = [Characteristic(bus, f"{self.service}/both", channel.notify, notifies + writes, self)]
        else:
            characteristics = [
                Characteristic(bus, f"{self.service}/out", channel.notify, notifies, self),
                Characteristic(bus, f"{self.service}/in", channel.write, writes, self),
            ]
        self.outlet = characteristics[0]
        self._nodes = [Node(bus, self.service, SERVICE, UUID=channel.service, Primary=True), *characteristics]

    @property
    def channel(self) -> GattChannel:
        """Where the make listens and speaks."""
        return self.protocol.CHANNELS[0]

    def asked(self, request: bytes) -> None:
        """Answer as the make does."""
        if answer := self.protocol.answer(request, pack.read(self.file)):
            self.outlet.say(answer)

    @dbus.service.method(OBJECTS, out_signature="a{oa{sa{sv}}}")
    def GetManagedObjects(self) -> Any:  # noqa: N802
        return {dbus.ObjectPath(node.path): {node.interface: node.properties} for node in self._nodes}


class Presence:
    """The battery at an adapter: registered anew with each life of bluetoothd and of the adapter."""

    def __init__(self, bus: Any, adapter: str, protocol: BatteryProtocol, file: Path) -> None:
        self.bus, self.path = bus, f"/org/bluez/{adapter}"
        self.application = Application(bus, protocol, file)
        self.advertisement = Advertisement(
            bus,
            "/battery/advertisement",
            ADVERTISEMENT,
            Type="peripheral",
            LocalName=pack.read(file).name,
            ServiceUUIDs=[self.application.channel.service],
        )
        self.life = 0
        bus.add_signal_receiver(self._added, "InterfacesAdded", OBJECTS, bus_name=BLUEZ)
        bus.watch_name_owner(BLUEZ, self._owner_changed)

    def _owner_changed(self, owner: str) -> None:
        self.life += 1
        if owner:
            self._switch_on(self.life)

    def _added(self, path: str, interfaces: Any) -> None:
        if path == self.path and ADAPTER in interfaces:
            self.life += 1
            self._switch_on(self.life)

    def _switch_on(self, life: int) -> None:
        on = dbus.Boolean(True, variant_level=1)
        self._call(life, self._register, PROPERTIES, "Set", ADAPTER, "Powered", on)

    def _register(self, life: int) -> None:
        for manager, method, what in (
            ("GattManager1", "RegisterApplication", "/battery"),
            ("LEAdvertisingManager1", "RegisterAdvertisement", self.advertisement.path),
        ):
            options = dbus.Dictionary({}, "sv")
            self._call(life, lambda _: None, f"{BLUEZ}.{manager}", method, dbus.ObjectPath(what), options)

    def _call(self, life: int, then: Any, interface: str, method: str, *arguments: Any) -> bool:
        """Call the adapter until it answers, as long as this life lasts."""
        if life != self.life:
            return False

        def done() -> None:
            print(f"{method} done at {self.path}", flush=True)
            then(life)

        def failed(error: dbus.DBusException) -> None:
            print(f"{method} at {self.path}: {error}", flush=True)
            if not error.get_dbus_name().endswith(".AlreadyExists"):
                GLib.timeout_add(RETRY, self._call, life, then, interface, method, *arguments)

        adapter = self.bus.get_object(BLUEZ, self.path, introspect=False)
        adapter.get_dbus_method(method, interface)(*arguments, reply_handler=done, error_handler=failed)
        return False


if __name__ == "__main__":
    system = dbus.SystemBus(mainloop=dbus.mainloop.glib.DBusGMainLoop())
    presence = Presence(system, sys.argv[1], protocol_of(sys.argv[2]), Path(sys.argv[3]))
    GLib.MainLoop().run()
