"""The D-Bus side of a simulated bluetoothd: a bus of its own, names, interfaces, and answers to calls now or later."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from gi.repository import Gio, GLib

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

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

SIGNATURES: Final = {
    "Adapter": "o",
    "Address": "s",
    "Alias": "s",
    "Connected": "b",
    "Device": "o",
    "Discovering": "b",
    "Flags": "as",
    "ManufacturerData": "a{qv}",
    "Name": "s",
    "Notifying": "b",
    "Paired": "b",
    "Powered": "b",
    "Primary": "b",
    "RSSI": "n",
    "Roles": "as",
    "Service": "o",
    "ServicesResolved": "b",
    "UUID": "s",
    "UUIDs": "as",
    "Value": "ay",
}
"""D-Bus types of BlueZ's properties."""

_NODE: Final = Gio.DBusNodeInfo.new_for_xml("""
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
""")

_BUS_CONFIGURATION: Final = """<!DOCTYPE busconfig PUBLIC "-//freedesktop//DTD D-BUS Bus Configuration 1.0//EN"
 "http://www.freedesktop.org/standards/dbus/1.0/busconfig.dtd">
<busconfig>
  <listen>unix:path={folder}/bus</listen>
  <auth>EXTERNAL</auth>
  <limit name="max_replies_per_connection">2000</limit>
  <policy context="default">
    <allow send_destination="*" eavesdrop="true"/><allow eavesdrop="true"/><allow own="*"/><allow user="*"/>
  </policy>
</busconfig>
"""


class BluezError(Exception):
    """An error as BlueZ answers it: D-Bus error name and message."""

    def __init__(self, name: str, message: str) -> None:
        super().__init__(message)
        self.name = f"{BLUEZ}.Error.{name}"


class Reply:
    """The answer to one method call, now or later."""

    def __init__(self, invocation: Gio.DBusMethodInvocation, signature: str) -> None:
        self._invocation, self._signature = invocation, signature

    def succeed(self, *values: Any) -> None:
        """Answer with values."""
        self._invocation.return_value(GLib.Variant(self._signature, values))

    def fail(self, error: BluezError) -> None:
        """Answer with an error."""
        self._invocation.return_dbus_error(error.name, str(error))


def variants(properties: dict[str, Any]) -> dict[str, GLib.Variant]:
    """Give properties of BlueZ their D-Bus types."""
    return {name: GLib.Variant(SIGNATURES[name], value) for name, value in properties.items()}


def later(milliseconds: int, action: Callable[..., None], *arguments: object) -> None:
    """Do something in a while."""

    def act() -> bool:
        action(*arguments)
        return False

    GLib.timeout_add(milliseconds, act)


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
    connection: Gio.DBusConnection, path: str, interface: str, call: Callable[[str, str, tuple[Any, ...], Reply], None]
) -> int:
    """Let `call(path, method, arguments, reply)` answer an interface, by the reply or by a BluezError."""
    information = _NODE.lookup_interface(interface)

    def method_called(*event: Any) -> None:
        _, _, called, _, method, arguments, invocation = event
        outputs = information.lookup_method(method).out_args
        reply = Reply(invocation, f"({''.join(argument.signature for argument in outputs)})")
        try:
            call(called, method, arguments.unpack(), reply)
        except BluezError as error:
            reply.fail(error)

    return int(connection.register_object(path, information, method_called, None, None))


@contextlib.contextmanager
def private_bus() -> Iterator[str]:
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
