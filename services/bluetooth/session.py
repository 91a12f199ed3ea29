"""The `gatt` package, asked without waiting: one attempt to connect to a device, and what follows from it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, NamedTuple

import gatt

from services.bluetooth.bluez import CHARACTERISTIC, DEVICE, OBJECTS, PROPERTIES, nothing

if TYPE_CHECKING:
    from collections.abc import Callable

    from services.bluetooth.bluez import Bluez
    from services.bluetooth.contracts import LinkOfSession
    from services.protocols.battery import GattChannel


class Manager(gatt.DeviceManager):  # type: ignore[misc] # gatt has no types
    """An adapter for gatt, in one life of bluetoothd."""

    def update_devices(self) -> None:
        """Take in no device: gatt would wait for bluetoothd here, and the links make theirs."""


class _Told:
    """BlueZ's objects as they were told once, in place of a proxy that would ask again and wait."""

    def __init__(self, objects: Any) -> None:
        self._objects = objects

    def GetManagedObjects(self) -> Any:  # noqa: N802 - the method of D-Bus
        return self._objects


class Offered(NamedTuple):
    """A characteristic of a device: its service's UUID, its own, what it can do, and gatt's object of it."""

    service: str
    uuid: str
    flags: frozenset[str]
    characteristic: Any

    @property
    def handles(self) -> tuple[int, int]:
        """Numbers of its service and of itself on the device, as BlueZ names them."""
        service, itself = (str(one._path)[-4:] for one in (self.characteristic.service, self.characteristic))  # noqa: SLF001
        return int(service, 16), int(itself, 16)


def _flags(objects: Any, characteristic: Any) -> set[str]:
    path = characteristic._path  # noqa: SLF001
    return {str(flag) for flag in objects.get(path, {}).get(CHARACTERISTIC, {}).get("Flags", ())}


NOTIFIES: Final = frozenset(("notify", "indicate"))
WRITES: Final = frozenset(("write", "write-without-response"))


def channel_of(offered: list[Offered], channel: GattChannel) -> tuple[Any, Any] | None:
    """Characteristics that notify and that take what is written, told apart by what they can: two may have one UUID."""

    def find(uuid: str, wanted: frozenset[str]) -> Any:
        fits = [one for one in offered if (one.service, one.uuid) == (channel.service, uuid)]
        return next((one.characteristic for one in fits if one.flags & wanted), None)

    notify, write = find(channel.notify, NOTIFIES), find(channel.write, WRITES)
    return (notify, write) if notify and write else None


class GattSession(gatt.Device):  # type: ignore[misc] # gatt has no types
    """One attempt to connect and what follows; thrown away at its end, and deaf from then on."""

    def __init__(self, link: LinkOfSession, manager: Manager, bluez: Bluez) -> None:
        self.link, self.bluez = link, bluez
        self.came_up = False
        super().__init__(link.battery.address.lower(), manager, managed=False)

    def _tells(self, event: Callable[..., None]) -> Callable[..., None]:
        """Pass an event on while this is the link's session; an exception is a failure, never a silent end."""

        def tell(*values: Any) -> None:
            if self.link.session is self:
                self.link.guard(event, *values)

        return tell

    def do(self, action: Callable[..., None], *values: Any) -> None:
        """Do something for the link, unless this is its session no more."""
        self._tells(action)(*values)

    def _connect(self) -> None:
        link, deadlines = self.link, self.link.deadlines
        told, failed = self._tells(link.connect_returned), self._tells(link.connect_failed)
        seconds = deadlines.connect + deadlines.call
        self.bluez.call(self._device_path, DEVICE, "Connect", told=told, failed=failed, seconds=seconds)

    def ask_properties(self) -> None:
        """Ask for the device's properties: Connect alone proves nothing."""
        told, failed = self._tells(self.link.properties_told), self._tells(self.link.call_failed)
        self.bluez.call(self._device_path, PROPERTIES, "GetAll", "s", DEVICE, told=told, failed=failed)

    def ask_objects(self) -> None:
        """Ask for all objects of BlueZ, to find the services among them."""
        told, failed = self._tells(self.link.objects_told), self._tells(self.link.call_failed)
        self.bluez.call("/", OBJECTS, "GetManagedObjects", told=told, failed=failed)

    def take_services(self, objects: Any) -> list[Offered]:
        """Let gatt make its services of objects that were told; returns their characteristics with what they can."""
        self._object_manager = _Told(objects)
        super().services_resolved()
        return [
            Offered(service.uuid, characteristic.uuid, frozenset(_flags(objects, characteristic)), characteristic)
            for service in self.services
            for characteristic in service.characteristics
        ]

    def call(
        self,
        characteristic: Any,
        method: str,
        signature: str = "",
        *arguments: Any,
        told: Callable[..., None] = nothing,
        failed: Callable[..., None] = nothing,
    ) -> None:
        """Call a method of a characteristic without waiting; gatt has no choice of the kind of a write, and waits."""
        path, tells, deadlines = characteristic._path, self._tells, self.link.deadlines  # noqa: SLF001
        told, failed = tells(told), tells(failed)
        seconds = deadlines.notify + deadlines.call  # the link's own deadline is over before
        self.bluez.call(path, CHARACTERISTIC, method, signature, *arguments, told=told, failed=failed, seconds=seconds)

    def hang_up(self, then: Callable[..., None] = nothing) -> None:
        """Disconnect or cancel the attempt to connect; gatt's own way waits and raises."""
        self.invalidate()
        self.bluez.call(self._device_path, DEVICE, "Disconnect", told=then, failed=then)

    def connect_succeeded(self) -> None:
        """Learn from BlueZ that the link is up."""
        self.came_up = True

    def disconnect_succeeded(self) -> None:
        """Learn from BlueZ that the link is down; before this one came up, it is still the end of the one before."""
        if self.came_up:
            self._tells(self.link.lost)()

    def services_resolved(self) -> None:
        """Learn from BlueZ that all services are found."""
        self._tells(self.link.services_resolved)()

    def characteristic_value_updated(self, characteristic: Any, value: bytes) -> None:
        """Take a notification."""
        self._tells(self.link.receive)(characteristic, value)
