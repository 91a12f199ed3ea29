"""A device that is only ever heard: what it says to everybody, a little different each time."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from gi.repository import GLib

from services.protocols import victron_ble
from services.simulators.bluetooth.bus import DEVICE, later
from services.simulators.bluetooth.objects import Object

if TYPE_CHECKING:
    from services.simulators.bluetooth.objects import SimulatedAdapter

PERIOD = 300
"""Milliseconds between two advertisements."""
SMART_SHUNT, MONITOR = 0xA389, 0x02


class SimulatedShunt(Object):
    """A Victron SmartShunt by its instant readout: 26.48 V, -5.2 A, 81.4 %."""

    interface, parent_property = DEVICE, "Adapter"

    def __init__(self, adapter: SimulatedAdapter, address: str, key: bytes) -> None:
        self.adapter, self.key = adapter, key
        self.counter = 0xFFF0
        self.silent = False
        names = {"Address": address, "Name": "SmartShunt", "Alias": "SmartShunt", "UUIDs": [], "Paired": False}
        state: dict[str, Any] = {"Connected": False, "ServicesResolved": False, "RSSI": -67, "ManufacturerData": {}}
        super().__init__(adapter.bluetoothd, adapter, f"dev_{address.replace(':', '_')}", **names, **state)
        later(PERIOD, self._advertise)

    def _advertise(self) -> None:
        later(PERIOD, self._advertise)
        scanning = self.adapter.exported and self.adapter.properties["Discovering"]
        if not scanning or self.silent:
            return
        self.export()
        self.counter = (self.counter + 1) & 0xFFFF
        raw = 0xFFFF | 2648 << 16 | 0b11 << 64 | (-5200 & 0x3FFFFF) << 66 | 186 << 88 | 814 << 108
        record = raw.to_bytes(15, "little")
        data = victron_ble.encrypt(SMART_SHUNT, MONITOR, self.counter, self.key, record)
        self.change(RSSI=-67, ManufacturerData={victron_ble.COMPANY: GLib.Variant("ay", data)})
