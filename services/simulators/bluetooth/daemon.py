"""The simulated daemon: the connection on which adapters and batteries are seen, and the faults that befall it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from gi.repository import GLib

from services.simulators.bluetooth.advertiser import SimulatedShunt
from services.simulators.bluetooth.bus import BLUEZ, OBJECTS, PROPERTIES, BluezError, Reply, connect, later, own_name
from services.simulators.bluetooth.bus import register as register_on
from services.simulators.bluetooth.module import SimulatedModule
from services.simulators.bluetooth.objects import Object, SimulatedAdapter

if TYPE_CHECKING:
    from collections.abc import Callable

    from gi.repository import Gio

    from services.protocols.battery import BatteryProtocol


class Bluetoothd:
    """A bluetoothd that can be ended and started; its adapters and batteries outlive that."""

    def __init__(self, bus_address: str) -> None:
        self.adapters: dict[str, SimulatedAdapter] = {}
        self.batteries: dict[str, SimulatedModule] = {}
        self.shunts: list[SimulatedShunt] = []
        self.events: list[str] = []
        self._bus_address = bus_address
        self._connection: Gio.DBusConnection | None = None
        self._objects: dict[str, Object] = {}
        self._registrations: dict[str, list[int]] = {}
        self._hangs = self._hangs_early = False

    def add_battery(
        self,
        address: str,
        make: str,
        protocol: BatteryProtocol,
        adapter: str,
        answer: Callable[[str, bytes], bytes | None],
    ) -> None:
        """Put a battery into the reach of an adapter; `answer(address, request)` speaks for it."""
        heard_by = self.adapters.setdefault(adapter, SimulatedAdapter(self, adapter))
        self.batteries[address] = SimulatedModule(heard_by, address, make, protocol, answer)

    def add_shunt(self, address: str, key: bytes, adapter: str) -> None:
        """Put a device that only advertises into the reach of an adapter."""
        heard_by = self.adapters.setdefault(adapter, SimulatedAdapter(self, adapter))
        self.shunts.append(SimulatedShunt(heard_by, address, key))

    def set_fault(self, address: str, fault: str) -> None:
        """Set a fault for a battery, by its name in FAULTS; `plain` ends them all."""
        battery = self.batteries[address]
        match fault:
            case "plain":
                if "adapter_off" in battery.faults:
                    battery.adapter.on_set("Powered", value=True)
                battery.faults.clear()
                self._hangs = self._hangs_early = False
                self.start()
                battery.adapter.advertise()
            case "bluetoothd_restart":
                self.stop()
                later(500, self.start)
            case "bluetoothd_absent":
                self.stop()
            case "bluetoothd_hangs":
                self._hangs = True
            case "bluetoothd_hangs_early":
                self._hangs_early = True
            case "adapter_replugged":
                battery.adapter.replug()
            case _:
                battery.faults.add(fault)
                if fault == "adapter_off":
                    battery.adapter.on_set("Powered", value=False)
                if fault == "out_of_reach":
                    battery.link_down()
                    battery.forget()

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
            adapter.plug_in()
        own_name(self._connection, BLUEZ)
        self.note("bluetoothd started")

    def stop(self) -> None:
        """Vanish from the bus without a word, as a killed daemon does; every link breaks."""
        if self._connection is None:
            return
        connection, self._connection = self._connection, None
        for battery in self.batteries.values():
            battery.link_down()
        for one in self._objects.values():
            one.exported = False
        self._objects.clear()
        self._registrations.clear()
        connection.close_sync(None)
        self.note("bluetoothd stopped")

    def export(self, one: Object) -> None:
        """Put an object on the bus."""
        self._objects[one.path] = one
        self._register(one.path, one.interface, self._call_object)
        self._register(one.path, PROPERTIES, self._call_properties)
        self.signal("/", OBJECTS, "InterfacesAdded", "(oa{sa{sv}})", (one.path, {one.interface: one.told()}))

    def withdraw(self, one: Object) -> None:
        """Take an object from the bus."""
        self._objects.pop(one.path, None)
        for registration in self._registrations.pop(one.path, ()):
            if self._connection:
                self._connection.unregister_object(registration)
        self.signal("/", OBJECTS, "InterfacesRemoved", "(oas)", (one.path, [one.interface]))

    def signal(self, path: str, interface: str, name: str, signature: str, values: tuple[Any, ...]) -> None:
        """Send a signal, when the daemon is on the bus."""
        if self._connection and not self._hangs:
            self._connection.emit_signal(None, path, interface, name, GLib.Variant(signature, values))

    def _register(self, path: str, interface: str, call: Callable[[str, str, tuple[Any, ...], Reply], None]) -> None:
        def unless_it_hangs(called: str, method: str, arguments: tuple[Any, ...], reply: Reply) -> None:
            if not self._hangs:
                call(called, method, arguments, reply)

        if self._connection:
            registration = register_on(self._connection, path, interface, unless_it_hangs)
            self._registrations.setdefault(path, []).append(registration)

    def _call_manager(self, _path: str, _method: str, _arguments: tuple[Any, ...], reply: Reply) -> None:
        self.note("GetManagedObjects /")
        reply.succeed({path: {one.interface: one.told()} for path, one in self._objects.items()})
        self._hangs = self._hangs_early

    def _call_properties(self, path: str, method: str, arguments: tuple[Any, ...], reply: Reply) -> None:
        one = self._objects[path]
        told = one.told() if arguments[0] == one.interface else dict[str, GLib.Variant]()
        match method:
            case "GetAll":
                reply.succeed(told)
            case "Get" if arguments[1] in told:
                reply.succeed(told[arguments[1]])
            case "Set" if arguments[1] in told:
                self.note(f"set {path} {arguments[1]} {arguments[2]}")
                one.on_set(arguments[1], arguments[2])
                reply.succeed()
            case _:
                raise BluezError("InvalidArguments", f"No such property {arguments[1]}")

    def _call_object(self, path: str, method: str, arguments: tuple[Any, ...], reply: Reply) -> None:
        self.note(f"{method} {path}")
        self._objects[path].call(method, arguments, reply)
