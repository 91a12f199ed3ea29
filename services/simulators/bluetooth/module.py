"""A battery's Bluetooth module as BlueZ shows it: the device, its service and its two characteristics."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from services.simulators.bluetooth.bus import CHARACTERISTIC, DEVICE, SERVICE, BluezError, Reply, later
from services.simulators.bluetooth.faults import ONCE
from services.simulators.bluetooth.lock import Lock
from services.simulators.bluetooth.objects import Object

if TYPE_CHECKING:
    from collections.abc import Callable

    from services.protocols.battery import BatteryProtocol, GattChannel
    from services.simulators.bluetooth.objects import SimulatedAdapter

SERVICE_SIZE = 3
"""Objects of a service: itself and two characteristics."""
FRAGMENT = 20
"""Bytes of a notification, where no larger MTU was agreed."""


class SimulatedModule(Object):
    """A battery's Bluetooth module: a device that answers its protocol over two characteristics."""

    interface, parent_property = DEVICE, "Adapter"

    def __init__(
        self,
        adapter: SimulatedAdapter,
        address: str,
        make: str,
        protocol: BatteryProtocol,
        answer: Callable[[str, bytes], bytes | None],
    ) -> None:
        self.address, self.adapter, self.answer = address, adapter, answer
        self.faults: set[str] = set()
        channels = {channel.service: channel for channel in reversed(protocol.CHANNELS)}
        state = {"Paired": False, "Connected": False, "ServicesResolved": False, "RSSI": -60}
        names = {"Address": address, "Name": make, "Alias": make, "UUIDs": [protocol.CHANNELS[0].service]}
        super().__init__(adapter.bluetoothd, adapter, f"dev_{address.replace(':', '_')}", **names, **state)
        self.notifiers: list[Characteristic] = []
        """What notifies, one for each service that the protocol knows, the usual one first."""
        self.gatt: tuple[Object, ...] = ()
        for number, channel in enumerate(reversed(channels.values()), 1):
            self._offer(channel, number)
        self._connecting: Reply | None = None
        self._link = 0
        """Counts links, so that what was to be sent over an earlier one is not sent."""
        self._lock = Lock(address)
        adapter.batteries.append(self)

    def _offer(self, channel: GattChannel, number: int) -> None:
        """Put a service with two characteristics into the module; one UUID may be that of both."""
        service = GattService(self.bluetoothd, self, f"service00{number}0", UUID=channel.service, Primary=True)
        notifier = Characteristic(self, service, f"char00{number}1", channel.notify, ["read", "notify"])
        writes = ["read", "write-without-response", "write"]
        self.notifiers.append(notifier)
        self.gatt += (service, notifier, Characteristic(self, service, f"char00{number}5", channel.write, writes))

    @property
    def connected(self) -> bool:
        """Whether the link is up."""
        return bool(self.properties["Connected"])

    def meets(self, fault: str) -> bool:
        """Tell whether a fault is set now; one that happens once is over then."""
        if fault not in self.faults:
            return False
        if fault in ONCE:
            self.faults.discard(fault)
        return True

    def call(self, method: str, _arguments: tuple[Any, ...], reply: Reply) -> None:
        """Answer a call of Device1."""
        if method == "Connect":
            self._connect(reply)
            return
        if not self.connected and not self._connecting:
            raise BluezError("NotConnected", "Not Connected")
        self.link_down()
        reply.succeed()

    def _connect(self, reply: Reply) -> None:
        self.adapter.need_power()
        if self._connecting:
            raise BluezError("Failed", "Operation already in progress")
        if self.connected or self.meets("connected_without_link"):
            reply.succeed()
            return
        if self.meets("connection_aborted") or self.meets("adapter_stuck"):
            raise BluezError("Failed", "le-connection-abort-by-local")
        self._connecting = reply
        if not self.meets("connect_never_answers"):
            later(20, self._link_up)

    def _link_up(self) -> None:
        if self._connecting is None:
            return
        reply, self._connecting = self._connecting, None
        self._link += 1
        self.change(Connected=True)
        if self.meets("connect_fails_late"):
            later(2000, reply.fail, BluezError("Failed", "le-connection-abort-by-local"))
        else:
            reply.succeed()
        if not self.meets("services_never_resolve"):
            later(20, self._resolve, self._link)

    def _resolve(self, link: int) -> None:
        if link == self._link and self.connected:
            for one in self.gatt if "first_channel_refused" in self.faults else self.gatt[:SERVICE_SIZE]:
                one.export()
            self.change(ServicesResolved=True)

    def link_down(self) -> None:
        """Break the link, or the attempt to make one; the battery advertises again."""
        self._link += 1
        self._lock = Lock(self.address)
        if self._connecting:
            reply, self._connecting = self._connecting, None
            reply.fail(BluezError("Failed", "le-connection-abort-by-local"))
        if self.connected:
            for notifier in self.notifiers:
                notifier.properties["Notifying"] = False
            self.change(ServicesResolved=False)
            self.change(Connected=False)
            self.bluetoothd.note(f"link down {self.address}")

    def forget(self) -> None:
        """Take the device and what is known of its services from the bus, as RemoveDevice does."""
        for one in (*reversed(self.gatt), self):
            one.withdraw()

    def receive(self, request: bytes, *, command: bool) -> None:
        """Take what a client wrote; answer over the notifying characteristic."""
        self.bluetoothd.note(f"write {self.address} {request.hex()} {'command' if command else 'request'}")
        if self.meets("write_request_refused") and not command:
            raise BluezError("Failed", "Operation failed with ATT error: 0x03")
        if self.meets("mute") or self.meets("first_command_ignored"):
            return
        if "app_password" in self.faults and not self._lock.open:
            answer = self._lock.answer(request)
        else:
            answer = request if self.meets("request_echoed") else self.answer(self.address, request)
        if answer is None:
            return
        if self.meets("corrupt_frame"):
            answer = answer[:6] + bytes((answer[6] ^ 1,)) + answer[7:]
        if self.meets("duplicate_answer"):
            answer += answer
        size = 244 if self.meets("mtu_247") else 1 if self.meets("single_byte_fragments") else FRAGMENT
        fragments = [answer[start : start + size] for start in range(0, len(answer), size)]
        breaks_early = self.meets("link_lost_mid_frame")
        if self.meets("second_fragment_lost") or breaks_early:
            del fragments[1:]
        if self.meets("junk_before_frame"):
            fragments.insert(0, b"AT\r\n\xdd\x77")
        delay = 800 if self.meets("late_answer") else 0
        pace = 0 if size == 1 else 8
        for number, fragment in enumerate(fragments, 1):
            later(delay + 1 + pace * number, self._notify, self._link, fragment)
        if breaks_early or self.meets("link_unstable"):
            later(delay + 2 + pace * len(fragments), self.link_down)

    def _notify(self, link: int, fragment: bytes) -> None:
        for notifier in self.notifiers:
            if link == self._link and notifier.properties["Notifying"]:
                notifier.change(Value=fragment)


class GattService(Object):
    """The GATT service of a battery."""

    interface, parent_property = SERVICE, "Device"


class Characteristic(Object):
    """One of the two characteristics of a battery's module."""

    interface, parent_property = CHARACTERISTIC, "Service"

    def __init__(self, battery: SimulatedModule, service: GattService, name: str, uuid: str, flags: list[str]) -> None:
        super().__init__(battery.bluetoothd, service, name, UUID=uuid, Value=b"", Flags=flags, Notifying=False)
        self.battery = battery

    def call(self, method: str, arguments: tuple[Any, ...], reply: Reply) -> None:
        """Answer a call of GattCharacteristic1."""
        if not self.battery.connected:
            raise BluezError("Failed", "Not connected")
        match method:
            case "StartNotify":
                if self.battery.meets("notify_acquired"):
                    raise BluezError("NotPermitted", "Notify acquired")
                if self.battery.meets("first_channel_refused") and self is self.battery.notifiers[0]:
                    raise BluezError("NotPermitted", "Notify not permitted")
                if self.battery.meets("notify_in_progress"):
                    raise BluezError("InProgress", "In Progress")
                self.change(Notifying=True)
            case "StopNotify":
                self.change(Notifying=False)
            case "ReadValue":
                reply.succeed(bytes(self.properties["Value"]))
                return
            case "WriteValue":
                command = arguments[1].get("type") == "command"
                if self.battery.meets("write_refused_late") and not command:
                    later(800, reply.fail, BluezError("Failed", "Operation failed with ATT error: 0x03"))
                    return
                self.battery.receive(bytes(arguments[0]), command=command)
        reply.succeed()
