"""What devices say to everybody, without a connection: their manufacturer's data, each time that it is heard."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from dbus.mainloop.glib import DBusGMainLoop

from services.bluetooth import Deadlines
from services.bluetooth.bluez import ADAPTER, DEVICE, Bluez, sentence
from services.bluetooth.loop import GLibLoop

if TYPE_CHECKING:
    from collections.abc import Callable

FAREWELL = 0.5
AGAIN = 10.0
"""Seconds after which it is looked whether the adapter scans still: other programs may have ended that."""


class Advertisements:
    """Listens on one adapter in a thread of its own, as long as it is open; a missing bluetoothd is waited for."""

    def __init__(
        self, adapter: str, tell: Callable[[str, int, bytes, int | None], None], report: Callable[[str], None]
    ) -> None:
        """`tell(address, company, data, signal)` and `report(sentence)` are called in that thread: they return at once."""
        self._adapter, self._tell, self._report = adapter, tell, report
        DBusGMainLoop(set_as_default=True)  # the loop that signals of D-Bus come by
        self._loop = GLibLoop()
        self._bluez = Bluez(self._loop, self, Deadlines())
        self._path = ""
        self._addresses: dict[str, str] = {}

    def start(self) -> None:
        """Start the thread."""
        self._loop.start(self._bluez.open)

    def stop(self) -> None:
        """End the scan and the thread; takes less than a second."""
        self._loop.post(self._end)
        self._loop.join(1.5 * FAREWELL)

    def silence(self) -> float:
        """Return for how many seconds the thread has owed a sign of life."""
        return self._loop.silence()

    def _end(self) -> None:
        if self._path:
            self._bluez.call(self._path, ADAPTER, "StopDiscovery")
        self._bluez.close()
        self._loop.later(0.05, self._loop.quit)

    # -- what bluetoothd says -----------------------------------------------------------------------------------

    def vanished(self, reason: str) -> None:
        """Wait for a bluetoothd."""
        self._path = ""
        self._report(reason)

    def appeared(self, objects: Any) -> None:
        """Find the adapter and the devices that are known; without a signal BlueZ remembers one, and nothing is heard of it now."""
        for path, interfaces in objects.items():
            if ADAPTER in interfaces and self._is_it(path, interfaces[ADAPTER]):
                self._path = str(path)
                self._scan()
            elif DEVICE in interfaces and "RSSI" in interfaces[DEVICE]:
                self._hear(path, interfaces[DEVICE])
        if not self._path:
            self._report(f"There is no adapter {self._adapter}: 'bluetoothctl list' shows those there are.")

    def added(self, path: Any, interfaces: Any) -> None:
        """Take in an adapter that was plugged in, or a device that was heard."""
        if ADAPTER in interfaces and not self._path and self._is_it(path, interfaces[ADAPTER]):
            self._path = str(path)
            self._scan()
        elif DEVICE in interfaces:
            self._hear(path, interfaces[DEVICE])

    def removed(self, path: Any, interfaces: Any) -> None:
        """Notice that the adapter was pulled out; forget a device, most of which are phones that change their address."""
        self._addresses.pop(str(path), None)
        if ADAPTER in interfaces and str(path) == self._path:
            self._path = ""
            self._report(f"The adapter {self._adapter} was unplugged.")

    def changed(self, interface: Any, properties: Any, _invalidated: Any, path: Any) -> None:
        """Take what a device says now, and an adapter that is switched on again."""
        if interface == DEVICE:
            self._hear(path, properties)
        elif str(path) == self._path and properties.get("Powered"):
            self._scan()

    def _is_it(self, path: Any, properties: Any) -> bool:
        return self._adapter.upper() in (
            str(path).rpartition("/")[2].upper(),
            str(properties.get("Address", "")).upper(),
        )

    def _scan(self) -> None:
        """Scan, and hear each advertisement, also one like the last; look again now and then."""
        if not self._path:
            return
        transport = {"Transport": "le", "DuplicateData": True}
        self._bluez.call(self._path, ADAPTER, "SetDiscoveryFilter", "a{sv}", transport)
        self._bluez.call(self._path, ADAPTER, "StartDiscovery", failed=self._refused)
        self._loop.later(AGAIN, self._scan)

    def _refused(self, error: Any) -> None:
        if not error.get_dbus_name().endswith(".InProgress"):  # it scans already
            self._report(f"BlueZ refuses to scan ({sentence(error)}).")

    def _hear(self, path: Any, properties: Any) -> None:
        address = str(properties.get("Address", "")) or self._addresses.get(str(path), "")
        address = address or str(path).rpartition("/dev_")[2].replace("_", ":")
        self._addresses[str(path)] = address
        signal = int(properties["RSSI"]) if "RSSI" in properties else None
        for company, data in properties.get("ManufacturerData", {}).items():
            self._tell(address.upper(), int(company), bytes(data), signal)
