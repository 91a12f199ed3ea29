"""A D-Bus service with BlueZ's interfaces and simulated batteries behind it, so that the battery source runs unchanged.

The real `gatt` package, and any other BlueZ client, talks to it as to bluetoothd: adapters, discovery, connection, GATT
services, notifications of 20 bytes. Faults are set for each battery at run time over the simulator's own D-Bus name,
which stays there while its bluetoothd is "not running".

It refuses to start without DBUS_SYSTEM_BUS_ADDRESS, so that it can never stand in for the real bluetoothd of a machine;
`--with-bus` starts a private bus and prints its address.
"""

from __future__ import annotations

import argparse
import contextlib
import math
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Self

import msgspec
from gi.repository import Gio, GLib

from services.protocols import daly, jbd
from services.protocols.battery import Pack

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from services.protocols.battery import BatteryProtocol, Channel

BLUEZ: Final = "org.bluez"
ADAPTER: Final = "org.bluez.Adapter1"
DEVICE: Final = "org.bluez.Device1"
SERVICE: Final = "org.bluez.GattService1"
CHARACTERISTIC: Final = "org.bluez.GattCharacteristic1"
OBJECTS: Final = "org.freedesktop.DBus.ObjectManager"
PROPERTIES: Final = "org.freedesktop.DBus.Properties"
CONTROL: Final = "constellation.SimulatedBluez"
CONTROL_PATH: Final = "/constellation/SimulatedBluez"
ADDRESS_VARIABLE: Final = "DBUS_SYSTEM_BUS_ADDRESS"

FAULTS: Final = {
    "plain": "nothing is wrong; ends every other fault",
    "mtu_247": "a whole answer comes in one notification",
    "single_byte_fragments": "an answer comes in notifications of one byte",
    "first_command_ignored": "the sleeping battery does not answer the next command (once)",
    "corrupt_frame": "a bit of the next answer is wrong (once)",
    "second_fragment_lost": "all but the first notification of the next answer are lost (once)",
    "junk_before_frame": "the module's own text comes before each answer",
    "link_lost_mid_frame": "the link breaks after the first notification of the next answer (once)",
    "write_request_refused": "the module accepts only write commands",
    "notify_in_progress": "the next StartNotify is refused with InProgress (once)",
    "services_never_resolve": "the link comes up, but its services are never found",
    "connected_without_link": "Connect succeeds, and there is no link",
    "connection_aborted": "Connect fails with le-connection-abort-by-local",
    "mute": "the link is up and nothing is answered",
    "connect_never_answers": "Connect hangs until it is cancelled",
    "adapter_off": "the battery's adapter is switched off",
    "bluetoothd_restart": "bluetoothd ends, and starts again half a second later (once)",
    "bluetoothd_absent": "bluetoothd is not running",
    "adapter_stuck": "Connect fails until the adapter has been switched off and on",
    "duplicate_answer": "each answer comes twice",
    "late_answer": "each answer comes 0.8 s late",
    "request_echoed": "the module sends each request back instead of an answer: it wants to be paired",
    "notify_acquired": "another program on this machine holds the notifications",
    "bluetoothd_hangs": "bluetoothd runs and answers nothing",
}
"""Faults by name. The first nineteen are those that a battery source must survive; each is set for one battery."""

_ONCE: Final = frozenset(name for name, what in FAULTS.items() if what.endswith("(once)"))

_INTERFACES: Final = """
<node>
  <interface name="org.freedesktop.DBus.ObjectManager">
    <method name="GetManagedObjects"><arg type="a{oa{sa{sv}}}" direction="out"/></method>
    <signal name="InterfacesAdded"><arg type="o"/><arg type="a{sa{sv}}"/></signal>
    <signal name="InterfacesRemoved"><arg type="o"/><arg type="as"/></signal>
  </interface>
  <interface name="org.freedesktop.DBus.Properties">
    <method name="Get">
      <arg type="s" direction="in"/><arg type="s" direction="in"/><arg type="v" direction="out"/>
    </method>
    <method name="GetAll"><arg type="s" direction="in"/><arg type="a{sv}" direction="out"/></method>
    <method name="Set">
      <arg type="s" direction="in"/><arg type="s" direction="in"/><arg type="v" direction="in"/>
    </method>
    <signal name="PropertiesChanged"><arg type="s"/><arg type="a{sv}"/><arg type="as"/></signal>
  </interface>
  <interface name="org.bluez.Adapter1">
    <method name="SetDiscoveryFilter"><arg type="a{sv}" direction="in"/></method>
    <method name="StartDiscovery"/>
    <method name="StopDiscovery"/>
    <method name="RemoveDevice"><arg type="o" direction="in"/></method>
  </interface>
  <interface name="org.bluez.Device1">
    <method name="Connect"/>
    <method name="Disconnect"/>
  </interface>
  <interface name="org.bluez.GattService1"/>
  <interface name="org.bluez.GattCharacteristic1">
    <method name="StartNotify"/>
    <method name="StopNotify"/>
    <method name="ReadValue"><arg type="a{sv}" direction="in"/><arg type="ay" direction="out"/></method>
    <method name="WriteValue"><arg type="ay" direction="in"/><arg type="a{sv}" direction="in"/></method>
  </interface>
  <interface name="constellation.SimulatedBluez">
    <method name="Faults"><arg type="a{ss}" direction="out"/></method>
    <method name="SetFault"><arg type="s" direction="in"/><arg type="s" direction="in"/></method>
    <method name="SetValues"><arg type="s" direction="in"/><arg type="s" direction="in"/></method>
    <method name="Events"><arg type="as" direction="out"/></method>
  </interface>
</node>
"""
_NODE: Final = Gio.DBusNodeInfo.new_for_xml(_INTERFACES)

_BUS_CONFIGURATION: Final = """<!DOCTYPE busconfig PUBLIC "-//freedesktop//DTD D-BUS Bus Configuration 1.0//EN"
 "http://www.freedesktop.org/standards/dbus/1.0/busconfig.dtd">
<busconfig>
  <listen>unix:path={folder}/bus</listen>
  <auth>EXTERNAL</auth>
  <policy context="default">
    <allow send_destination="*" eavesdrop="true"/><allow eavesdrop="true"/><allow own="*"/><allow user="*"/>
  </policy>
</busconfig>
"""

PROTOCOLS: Final[dict[str, BatteryProtocol]] = {"jbd": jbd, "daly": daly}


class BluezError(Exception):
    """An error as BlueZ answers it: D-Bus error name and message."""

    def __init__(self, name: str, message: str) -> None:
        super().__init__(message)
        self.name = f"{BLUEZ}.Error.{name}"


class BatteryOptions(msgspec.Struct, frozen=True):
    """One simulated battery: Bluetooth address, protocol (a key of PROTOCOLS) and the adapter that hears it."""

    address: str
    protocol: str = "jbd"
    adapter: str = "hci0"

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read `ADDRESS[,PROTOCOL[,ADAPTER]]`."""
        options = cls(*text.split(","))
        if options.protocol not in PROTOCOLS:
            raise ValueError(f"There is no protocol {options.protocol!r}; choose one of {', '.join(PROTOCOLS)}.")
        return options


def believable_pack(address: str, moment: float) -> Pack:
    """Return the state of a shed's 24 V battery with solar panels at a moment (Unix time).

    It charges from six to eighteen o'clock UTC, discharges at night, and its cells differ a little, each always by the
    same amount.
    """
    character = random.Random(address)
    cells, nominal = 8, 100.0
    angle = 2 * math.pi * (moment / 86400 % 1 - 0.5)
    soc = 65 + 25 * math.sin(angle)
    current = nominal * 0.25 * math.cos(angle) * 2 * math.pi / 24 + random.gauss(0, 0.05)
    open_circuit = 3.2 + 0.0018 * soc + 0.12 * max(0.0, soc / 100 - 0.85)
    voltages = tuple(round(open_circuit + 0.0012 * current + character.uniform(-0.006, 0.006), 3) for _ in range(cells))
    warmest = max(range(cells), key=voltages.__getitem__)
    celsius = 14 - 5 * math.cos(2 * math.pi * (moment / 86400 - 0.125)) + 0.1 * abs(current)
    return Pack(
        name=f"SIM-{address[-5:].replace(':', '')}",
        cell_voltages=voltages,
        current=round(current, 2),
        remaining_charge=round(nominal * soc / 100, 2),
        nominal_charge=nominal,
        cycles=character.randrange(20, 400),
        probe_temperatures=(round(celsius, 1), round(celsius + 0.7, 1)),
        balancing_cells=(warmest + 1,) if current > 0 and soc > 85 else (),  # noqa: PLR2004 - % of charge
    )


class _Object:
    """An object on the bus: one interface of BlueZ with its properties."""

    def __init__(self, bluetoothd: Bluetoothd, path: str, interface: str, properties: dict[str, GLib.Variant]) -> None:
        self.bluetoothd, self.path, self.interface, self.properties = bluetoothd, path, interface, properties
        self.exported = False

    def export(self) -> None:
        """Put the object on the bus and announce it."""
        if self.exported:
            return
        self.exported = True
        self.bluetoothd.export(self)

    def withdraw(self) -> None:
        """Take the object from the bus and announce that."""
        if self.exported:
            self.exported = False
            self.bluetoothd.withdraw(self)

    def change(self, **changed: GLib.Variant) -> None:
        """Set properties and tell it, even when they are equal, as BlueZ does for notifications."""
        self.properties |= changed
        if self.exported:
            body = GLib.Variant("(sa{sv}as)", (self.interface, changed, []))
            self.bluetoothd.signal(self.path, PROPERTIES, "PropertiesChanged", body)

    def on_set(self, name: str, value: GLib.Variant) -> None:
        """Act on a property that a client set."""
        self.change(**{name: value})


class Adapter(_Object):
    """A Bluetooth adapter and the batteries that it hears."""

    def __init__(self, bluetoothd: Bluetoothd, name: str) -> None:
        super().__init__(
            bluetoothd,
            f"/org/bluez/{name}",
            ADAPTER,
            {
                "Address": GLib.Variant("s", "00:00:00:00:00:01"),
                "Name": GLib.Variant("s", name),
                "Alias": GLib.Variant("s", name),
                "Powered": GLib.Variant("b", True),
                "Discovering": GLib.Variant("b", False),
                "Roles": GLib.Variant("as", ["central"]),
            },
        )
        self.batteries: list[Battery] = []

    @property
    def powered(self) -> bool:
        """Whether the adapter is switched on."""
        return bool(self.properties["Powered"].get_boolean())

    def on_set(self, name: str, value: GLib.Variant) -> None:
        """Switch on or off; off breaks every link and frees a stuck adapter."""
        super().on_set(name, value)
        if name == "Powered" and not value.get_boolean():
            for battery in self.batteries:
                battery.link_down()
                battery.faults.discard("adapter_stuck")

    def need_power(self) -> None:
        """Refuse as BlueZ does when the adapter is off."""
        if not self.powered:
            raise BluezError("NotReady", "Resource Not Ready")

    def advertise(self) -> None:
        """Let every battery be heard that is not connected."""
        if self.powered and self.properties["Discovering"].get_boolean():
            for battery in self.batteries:
                if not battery.connected:
                    battery.export()
                    battery.change(RSSI=GLib.Variant("n", random.randrange(-80, -55)))

    def call(self, method: str, arguments: tuple[Any, ...], _reply: _Reply) -> tuple[()]:
        """Answer a call of Adapter1."""
        match method:
            case "StartDiscovery":
                self.need_power()
                self.change(Discovering=GLib.Variant("b", True))
                _later(100, self.advertise)
            case "StopDiscovery":
                self.change(Discovering=GLib.Variant("b", False))
            case "RemoveDevice":
                battery = next((one for one in self.batteries if one.path == arguments[0] and one.exported), None)
                if battery is None:
                    raise BluezError("DoesNotExist", "Does Not Exist")
                battery.link_down()
                battery.forget()
        return ()


class Battery(_Object):
    """A battery with its Bluetooth module: a device that answers its protocol over two characteristics."""

    def __init__(
        self, bluetoothd: Bluetoothd, adapter: Adapter, options: BatteryOptions, values: Callable[[str, float], Pack]
    ) -> None:
        self.protocol, self.adapter, self.values = PROTOCOLS[options.protocol], adapter, values
        self.address = options.address.upper()
        self.faults: set[str] = set()
        channel = self.protocol.CHANNELS[0]
        super().__init__(
            bluetoothd,
            f"{adapter.path}/dev_{self.address.replace(':', '_')}",
            DEVICE,
            {
                "Address": GLib.Variant("s", self.address),
                "AddressType": GLib.Variant("s", "public"),
                "Name": GLib.Variant("s", options.protocol),
                "Alias": GLib.Variant("s", options.protocol),
                "Paired": GLib.Variant("b", False),
                "Trusted": GLib.Variant("b", False),
                "Blocked": GLib.Variant("b", False),
                "Connected": GLib.Variant("b", False),
                "ServicesResolved": GLib.Variant("b", False),
                "Adapter": GLib.Variant("o", adapter.path),
                "RSSI": GLib.Variant("n", -60),
                "UUIDs": GLib.Variant("as", [channel.service]),
            },
        )
        self.gatt = self._gatt_objects(channel)
        self._connecting: _Reply | None = None
        self._link = 0
        """Counts links, so that what was to be sent over an earlier one is not sent."""
        adapter.batteries.append(self)

    def _gatt_objects(self, channel: Channel) -> tuple[_Object, Characteristic, Characteristic]:
        service = _Object(
            self.bluetoothd,
            f"{self.path}/service0010",
            SERVICE,
            {
                "UUID": GLib.Variant("s", channel.service),
                "Device": GLib.Variant("o", self.path),
                "Primary": GLib.Variant("b", True),
            },
        )
        return (
            service,
            Characteristic(self, service, "char0011", channel.notify, ("read", "notify")),
            Characteristic(self, service, "char0015", channel.write, ("read", "write-without-response", "write")),
        )

    @property
    def connected(self) -> bool:
        """Whether the link is up."""
        return bool(self.properties["Connected"].get_boolean())

    def meets(self, fault: str) -> bool:
        """Tell whether a fault is set now; one that happens once is over then."""
        if fault not in self.faults:
            return False
        if fault in _ONCE:
            self.faults.discard(fault)
        return True

    def set_fault(self, fault: str) -> None:
        """Set a fault by its name in FAULTS; `plain` ends them all."""
        match fault:
            case "plain":
                if "adapter_off" in self.faults:
                    self.adapter.on_set("Powered", GLib.Variant("b", True))
                self.faults.clear()
                self.bluetoothd.hangs = False
                self.bluetoothd.start()
            case "bluetoothd_restart":
                self.bluetoothd.stop()
                _later(500, self.bluetoothd.start)
            case "bluetoothd_absent":
                self.bluetoothd.stop()
            case "bluetoothd_hangs":
                self.bluetoothd.hangs = True
            case "adapter_off":
                self.faults.add(fault)
                self.adapter.on_set("Powered", GLib.Variant("b", False))
            case _:
                self.faults.add(fault)

    def call(self, method: str, _arguments: tuple[Any, ...], reply: _Reply) -> tuple[()] | None:
        """Answer a call of Device1."""
        if method == "Connect":
            return self._connect(reply)
        if not self.connected and not self._connecting:
            raise BluezError("NotConnected", "Not Connected")
        self.link_down()
        return ()

    def _connect(self, reply: _Reply) -> tuple[()] | None:
        self.adapter.need_power()
        if self._connecting:
            raise BluezError("Failed", "Operation already in progress")
        if self.connected or self.meets("connected_without_link"):
            return ()
        if self.meets("connection_aborted") or self.meets("adapter_stuck"):
            raise BluezError("Failed", "le-connection-abort-by-local")
        self._connecting = reply
        if not self.meets("connect_never_answers"):
            _later(20, self._link_up)
        return None

    def _link_up(self) -> None:
        if self._connecting is None:
            return
        reply, self._connecting = self._connecting, None
        self._link += 1
        self.change(Connected=GLib.Variant("b", True))
        reply.succeed(())
        if not self.meets("services_never_resolve"):
            _later(20, self._resolve, self._link)

    def _resolve(self, link: int) -> None:
        if link == self._link and self.connected:
            for one in self.gatt:
                one.export()
            self.change(ServicesResolved=GLib.Variant("b", True))

    def link_down(self) -> None:
        """Break the link, or the attempt to make one; the battery advertises again."""
        self._link += 1
        if self._connecting:
            reply, self._connecting = self._connecting, None
            reply.fail(BluezError("Failed", "le-connection-abort-by-local"))
        if self.connected:
            self.gatt[1].properties["Notifying"] = GLib.Variant("b", False)
            self.change(ServicesResolved=GLib.Variant("b", False))
            self.change(Connected=GLib.Variant("b", False))
            self.bluetoothd.note(f"link down {self.address}")

    def forget(self) -> None:
        """Take the device and what is known of its services from the bus, as RemoveDevice does."""
        for one in (*reversed(self.gatt), self):
            one.withdraw()
        _later(150, self.adapter.advertise)

    def receive(self, request: bytes, *, command: bool) -> None:
        """Take what a client wrote; answer over the notifying characteristic."""
        self.bluetoothd.note(f"write {self.address} {request.hex()} {'command' if command else 'request'}")
        if self.meets("write_request_refused") and not command:
            raise BluezError("Failed", "Operation failed with ATT error: 0x03")
        if self.meets("mute") or self.meets("first_command_ignored"):
            return
        echoed = self.meets("request_echoed")
        answer = request if echoed else self.protocol.answer(request, self.values(self.address, time.time()))
        if answer is None:
            return
        if self.meets("corrupt_frame"):
            answer = answer[:6] + bytes((answer[6] ^ 1,)) + answer[7:]
        if self.meets("duplicate_answer"):
            answer += answer
        size = 244 if self.meets("mtu_247") else 1 if self.meets("single_byte_fragments") else 20
        fragments = [answer[start : start + size] for start in range(0, len(answer), size)]
        if self.meets("second_fragment_lost"):
            del fragments[1:]
        if self.meets("junk_before_frame"):
            fragments.insert(0, b"AT\r\n\xdd\x77")
        breaks = self.meets("link_lost_mid_frame")
        delay = 800 if self.meets("late_answer") else 0
        for number, fragment in enumerate(fragments, 1):
            _later(delay + (1 if size == 1 else 8 * number), self._notify, self._link, fragment)
            if breaks:
                _later(9 * number, self.link_down)
                return

    def _notify(self, link: int, fragment: bytes) -> None:
        if link == self._link and self.gatt[1].properties["Notifying"].get_boolean():
            self.gatt[1].change(Value=GLib.Variant("ay", fragment))


class Characteristic(_Object):
    """One of the two characteristics of a battery's module."""

    def __init__(self, battery: Battery, service: _Object, name: str, uuid: str, flags: Sequence[str]) -> None:
        self.battery = battery
        super().__init__(
            battery.bluetoothd,
            f"{service.path}/{name}",
            CHARACTERISTIC,
            {
                "UUID": GLib.Variant("s", uuid),
                "Service": GLib.Variant("o", service.path),
                "Value": GLib.Variant("ay", b""),
                "Flags": GLib.Variant("as", flags),
                "Notifying": GLib.Variant("b", False),
            },
        )

    def call(self, method: str, arguments: tuple[Any, ...], _reply: _Reply) -> tuple[Any, ...]:
        """Answer a call of GattCharacteristic1."""
        if not self.battery.connected:
            raise BluezError("Failed", "Not connected")
        match method:
            case "StartNotify":
                if self.battery.meets("notify_acquired"):
                    raise BluezError("NotPermitted", "Notify acquired")
                if self.battery.meets("notify_in_progress"):
                    raise BluezError("InProgress", "In Progress")
                self.change(Notifying=GLib.Variant("b", True))
            case "StopNotify":
                self.change(Notifying=GLib.Variant("b", False))
            case "ReadValue":
                return (bytes(self.properties["Value"].unpack()),)
            case "WriteValue":
                self.battery.receive(bytes(arguments[0]), command=arguments[1].get("type") == "command")
        return ()


class _Reply:
    """The answer to one method call, now or later."""

    def __init__(self, invocation: Gio.DBusMethodInvocation, signature: str) -> None:
        self._invocation, self._signature = invocation, signature

    def succeed(self, values: tuple[Any, ...]) -> None:
        """Answer with values."""
        self._invocation.return_value(GLib.Variant(self._signature, values))

    def fail(self, error: BluezError) -> None:
        """Answer with an error."""
        self._invocation.return_dbus_error(error.name, str(error))


def _later(milliseconds: int, action: Callable[..., None], *arguments: object) -> None:
    def act() -> bool:
        action(*arguments)
        return False

    GLib.timeout_add(milliseconds, act)


class Bluetoothd:
    """The simulated daemon: adapters and batteries, and the connection on which they are seen."""

    def __init__(
        self,
        bus_address: str,
        batteries: Sequence[BatteryOptions],
        values: Callable[[str, float], Pack] = believable_pack,
    ) -> None:
        self.hangs = False
        self.events: list[str] = []
        self._bus_address = bus_address
        self._connection: Gio.DBusConnection | None = None
        self._objects: dict[str, _Object] = {}
        self._registrations: dict[str, list[int]] = {}
        self.adapters = {options.adapter: Adapter(self, options.adapter) for options in batteries}
        self.batteries = {
            options.address.upper(): Battery(self, self.adapters[options.adapter], options, values)
            for options in batteries
        }

    def note(self, event: str) -> None:
        """Keep what happened, for tests; the last ten thousand events."""
        self.events.append(event)
        del self.events[:-10_000]

    def start(self) -> None:
        """Appear on the bus under a new unique name, with every adapter and every battery that was heard before."""
        if self._connection:
            return
        self._connection = connect(self._bus_address)
        self._register("/", OBJECTS, self._call_manager)
        for adapter in self.adapters.values():
            adapter.properties["Discovering"] = GLib.Variant("b", False)
            adapter.export()
            for battery in adapter.batteries:
                battery.export()
        own_name(self._connection, BLUEZ)
        self.note("bluetoothd started")

    def stop(self) -> None:
        """Vanish from the bus without a word, as a killed daemon does; every link breaks."""
        if self._connection is None:
            return
        connection, self._connection = self._connection, None
        for battery in self.batteries.values():
            battery.link_down()
        for one in list(self._objects.values()):
            one.exported = False
        self._objects.clear()
        self._registrations.clear()
        connection.close_sync(None)
        self.note("bluetoothd stopped")

    def export(self, one: _Object) -> None:
        """Put an object on the bus."""
        self._objects[one.path] = one
        self._register(one.path, one.interface, self._call_object)
        self._register(one.path, PROPERTIES, self._call_properties)
        added = GLib.Variant("(oa{sa{sv}})", (one.path, {one.interface: one.properties}))
        self.signal("/", OBJECTS, "InterfacesAdded", added)

    def withdraw(self, one: _Object) -> None:
        """Take an object from the bus."""
        self._objects.pop(one.path, None)
        for registration in self._registrations.pop(one.path, ()):
            if self._connection:
                self._connection.unregister_object(registration)
        self.signal("/", OBJECTS, "InterfacesRemoved", GLib.Variant("(oas)", (one.path, [one.interface])))

    def signal(self, path: str, interface: str, name: str, body: GLib.Variant) -> None:
        """Send a signal, when the daemon is on the bus."""
        if self._connection and not self.hangs:
            self._connection.emit_signal(None, path, interface, name, body)

    def _register(self, path: str, interface: str, call: Callable[..., tuple[Any, ...] | None]) -> None:
        if self._connection:
            self._registrations.setdefault(path, []).append(register(self._connection, path, interface, call))

    def _call_manager(self, _path: str, _method: str, _arguments: tuple[Any, ...], _reply: _Reply) -> tuple[Any] | None:
        if self.hangs:
            return None
        return ({path: {one.interface: one.properties} for path, one in self._objects.items()},)

    def _call_properties(self, path: str, method: str, arguments: tuple[Any, ...], _reply: _Reply) -> Any:
        if self.hangs:
            return None
        one = self._objects[path]
        match method:
            case "GetAll":
                return (one.properties if arguments[0] == one.interface else {},)
            case "Get" if arguments[1] in one.properties:
                return (one.properties[arguments[1]],)
            case "Set" if arguments[1] in one.properties:
                self.note(f"set {path} {arguments[1]} {arguments[2]}")
                one.on_set(arguments[1], GLib.Variant(one.properties[arguments[1]].get_type_string(), arguments[2]))
                return ()
        raise BluezError("InvalidArguments", f"No such property {arguments[1]}")

    def _call_object(self, path: str, method: str, arguments: tuple[Any, ...], reply: _Reply) -> Any:
        if self.hangs:
            return None
        self.note(f"{method} {path}")
        one = self._objects[path]
        if isinstance(one, Adapter | Battery | Characteristic):
            return one.call(method, arguments, reply)
        return ()


class Control:
    """The simulator's own name on the bus: faults and values at run time."""

    def __init__(self, bus_address: str, bluetoothd: Bluetoothd, values: dict[str, Pack]) -> None:
        self._bluetoothd, self._values = bluetoothd, values
        self._connection = connect(bus_address)
        register(self._connection, CONTROL_PATH, CONTROL, self._call)

    def announce(self) -> None:
        """Take the name, when all is ready."""
        own_name(self._connection, CONTROL)

    def _call(self, _path: str, method: str, arguments: tuple[Any, ...], _reply: _Reply) -> tuple[Any, ...]:
        match method:
            case "Faults":
                return (FAULTS,)
            case "Events":
                return (self._bluetoothd.events,)
        battery = self._bluetoothd.batteries.get(arguments[0].upper())
        if battery is None:
            raise BluezError("DoesNotExist", f"There is no simulated battery {arguments[0]!r}.")
        if method == "SetValues":
            self._values[battery.address] = msgspec.json.decode(arguments[1], type=Pack)
        elif arguments[1] in FAULTS:
            battery.set_fault(arguments[1])
        else:
            raise BluezError("InvalidArguments", f"There is no fault {arguments[1]!r}; --list-faults shows all.")
        return ()


class Remote:
    """A program's handle on a simulator that runs on the bus at an address."""

    def __init__(self, bus_address: str) -> None:
        self._connection = connect(bus_address)

    def _call(self, method: str, *texts: str) -> Any:
        body = GLib.Variant(f"({'s' * len(texts)})", texts)
        return self._connection.call_sync(CONTROL, CONTROL_PATH, CONTROL, method, body, None, 0, 5000, None).unpack()

    def set_fault(self, address: str, fault: str) -> None:
        """Set a fault of FAULTS for a battery."""
        self._call("SetFault", address, fault)

    def set_values(self, address: str, pack: Pack) -> None:
        """Let a battery answer with these values from now on."""
        self._call("SetValues", address, msgspec.json.encode(pack).decode())

    def events(self) -> list[str]:
        """Return what clients called and what happened, in order."""
        return list(self._call("Events")[0])

    def close(self) -> None:
        """Leave the bus."""
        self._connection.close_sync(None)


def connect(bus_address: str) -> Gio.DBusConnection:
    """Open a connection of its own to the bus; its end does not end the process."""
    flags = Gio.DBusConnectionFlags.AUTHENTICATION_CLIENT | Gio.DBusConnectionFlags.MESSAGE_BUS_CONNECTION
    return Gio.DBusConnection.new_for_address_sync(bus_address, flags, None, None)


def own_name(connection: Gio.DBusConnection, name: str) -> None:
    """Take a name; ends the program with a sentence when another has it."""
    bus, do_not_queue, primary_owner = "org.freedesktop.DBus", 4, 1
    arguments = GLib.Variant("(su)", (name, do_not_queue))
    reply = connection.call_sync(bus, "/org/freedesktop/DBus", bus, "RequestName", arguments, None, 0, 5000, None)
    if reply.unpack()[0] != primary_owner:
        sys.exit(f"Another program has the name {name} on this bus; the simulator wants a bus of its own.")


def register(
    connection: Gio.DBusConnection, path: str, interface: str, call: Callable[..., tuple[Any, ...] | None]
) -> int:
    """Let `call(path, method, arguments, reply)` answer an interface; it returns the values, or None to reply later."""
    information = _NODE.lookup_interface(interface)

    def method_called(*event: Any) -> None:
        _, _, called, _, method, arguments, invocation = event
        outputs = information.lookup_method(method).out_args
        reply = _Reply(invocation, f"({''.join(argument.signature for argument in outputs)})")
        try:
            values = call(called, method, arguments.unpack(), reply)
        except BluezError as error:
            reply.fail(error)
        else:
            if values is not None:
                reply.succeed(values)

    return int(connection.register_object(path, information, method_called, None, None))


@contextlib.contextmanager
def private_bus() -> Any:
    """Run a dbus-daemon of our own; gives its address, which is also put into DBUS_SYSTEM_BUS_ADDRESS."""
    with tempfile.TemporaryDirectory(prefix="simulated-bluez-") as folder:
        configuration = Path(folder, "bus.conf")
        configuration.write_text(_BUS_CONFIGURATION.format(folder=folder))
        command = ["dbus-daemon", f"--config-file={configuration}", "--nofork", "--nopidfile", "--print-address=1"]
        with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as daemon:
            try:
                address = daemon.stdout.readline().strip() if daemon.stdout else ""
                if not address:
                    sys.exit("dbus-daemon did not start; install the package dbus-daemon.")
                os.environ[ADDRESS_VARIABLE] = address
                yield address
            finally:
                daemon.terminate()


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m services.simulators.bluez", description=(__doc__ or "").split("\n")[0]
    )
    parser.add_argument(
        "--battery",
        action="append",
        type=BatteryOptions.parse,
        metavar="ADDRESS[,PROTOCOL[,ADAPTER]]",
        help="a battery, for example A4:C1:38:00:00:01,jbd,hci0 (which is the default); may be repeated; "
        f"protocols: {', '.join(PROTOCOLS)}",
    )
    parser.add_argument("--with-bus", action="store_true", help="start a private bus and print its address")
    parser.add_argument(
        "--values", type=Path, help="JSON file with values by address instead of a sunny day's; read at each answer"
    )
    parser.add_argument(
        "--fault", action="append", default=[], metavar="ADDRESS=FAULT", help="a fault from the start; may be repeated"
    )
    parser.add_argument("--list-faults", action="store_true", help="print the names of all faults and end")
    return parser.parse_args()


def _serve(bus_address: str, options: argparse.Namespace) -> None:
    fixed: dict[str, Pack] = {}

    def values(address: str, moment: float) -> Pack:
        from_file = msgspec.json.decode(options.values.read_bytes(), type=dict[str, Pack]) if options.values else {}
        return fixed.get(address) or from_file.get(address) or believable_pack(address, moment)

    bluetoothd = Bluetoothd(bus_address, options.battery or [BatteryOptions("A4:C1:38:00:00:01")], values)
    control = Control(bus_address, bluetoothd, fixed)
    absent = False
    for setting in options.fault:
        address, _, fault = setting.partition("=")
        if fault not in FAULTS or address.upper() not in bluetoothd.batteries:
            sys.exit(f"--fault {setting}: write ADDRESS=FAULT with a simulated battery and a name of --list-faults.")
        bluetoothd.batteries[address.upper()].set_fault(fault)
        absent = absent or fault == "bluetoothd_absent"
    if not absent:
        bluetoothd.start()
    control.announce()
    sys.stdout.write("ready\n")
    sys.stdout.flush()
    loop = GLib.MainLoop()
    for number in (signal.SIGTERM, signal.SIGINT):
        GLib.unix_signal_add(GLib.PRIORITY_HIGH, number, loop.quit)
    loop.run()


def main() -> None:
    """Run the simulator until SIGTERM."""
    options = _arguments()
    if options.list_faults:
        sys.stdout.writelines(f"{name:24} {what}\n" for name, what in FAULTS.items())
        return
    if options.with_bus:
        with private_bus() as address:
            sys.stdout.write(f"{ADDRESS_VARIABLE}={address}\n")
            _serve(address, options)
        return
    bus_address = os.environ.get(ADDRESS_VARIABLE)
    if not bus_address:
        sys.exit(
            f"{ADDRESS_VARIABLE} is not set, and the simulator never goes onto the machine's own system bus. "
            "Set it to the address of a private bus, or use --with-bus."
        )
    _serve(bus_address, options)


if __name__ == "__main__":
    main()
