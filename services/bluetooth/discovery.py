"""What the adapters hear now, for people who look for their battery."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

import dbus

from services.bluetooth import HeardDevice, LinkError
from services.bluetooth.bluez import ADAPTER, BLUEZ, DEVICE, OBJECTS, DBusError, sentence

if TYPE_CHECKING:
    from collections.abc import Iterator


def discover(seconds: float) -> Iterator[HeardDevice]:
    """Scan for some seconds, then tell what was heard; LinkError where BlueZ cannot."""
    try:
        bus = dbus.SystemBus()
        manager = dbus.Interface(bus.get_object(BLUEZ, "/"), OBJECTS)
        for path, interfaces in manager.GetManagedObjects().items():
            if interfaces.get(ADAPTER, {}).get("Powered"):
                bus.get_object(BLUEZ, path).StartDiscovery(dbus_interface=ADAPTER)
        time.sleep(seconds)
        devices = [interfaces[DEVICE] for interfaces in manager.GetManagedObjects().values() if DEVICE in interfaces]
    except DBusError as error:
        raise LinkError(f"BlueZ cannot scan ({sentence(error)}).") from None
    for device in devices:
        if "RSSI" in device:
            yield heard_device(device)


def heard_device(device: Any) -> HeardDevice:
    """Read what BlueZ knows of a device, now or from the last time that it was heard."""
    return HeardDevice(
        str(device["Adapter"]).rpartition("/")[2],
        str(device["Address"]),
        str(device.get("Name", device["Alias"])),
        int(device.get("RSSI", 0)),
        frozenset(map(str, device.get("UUIDs", ()))),
        {int(company): bytes(data) for company, data in device.get("ManufacturerData", {}).items()},
        {str(service): bytes(data) for service, data in device.get("ServiceData", {}).items()},
    )
