"""One Bluetooth adapter: whose turn it is to connect, whether to scan, and what is done when nothing else helps."""

from __future__ import annotations

import functools
import time
from collections import deque
from typing import TYPE_CHECKING, Any

from services.bluetooth.bluez import ADAPTER, DEVICE, PROPERTIES, DBusError, sentence
from services.bluetooth.session import GattSession, Manager

if TYPE_CHECKING:
    from services.bluetooth.contracts import LinkOfSession, Links

POWER_PAUSE = 1.0
"""Seconds between switching an adapter off and on, and between two attempts to switch it on."""


class Adapter:
    """An adapter that is named in the configuration, while it is there and while it is not."""

    def __init__(self, links: Links, name: str) -> None:
        self.name, self.path = name, ""
        self.links_here: list[LinkOfSession] = []
        self._links = links
        self._manager: Any = None
        self._powered = False
        self._switched_off = False
        """Whether it was switched off from here, and must be switched on again."""
        self._scanning = False
        self._connecting: LinkOfSession | None = None
        self._since = 0.0
        self._queue: deque[LinkOfSession] = deque()
        self._timer = 0

    # -- there or not -------------------------------------------------------------------------------------------

    def is_at(self, path: str, properties: Any) -> bool:
        """Tell whether BlueZ means this adapter: by its name there, which a replug may change, or by its address."""
        return self.name in (path.rpartition("/")[2], str(properties.get("Address", "")).upper())

    def appear(self, path: str, properties: Any, objects: Any) -> None:
        """Build all objects of gatt anew: they are bound to one life of bluetoothd."""
        try:
            self._manager = Manager(path.rpartition("/")[2])
        except DBusError as error:
            self.vanish(f"bluetoothd does not answer ({sentence(error)}).")
            return
        self.path = path
        for link in self.links_here:
            link.known = link.path in objects
        self.power(on=bool(properties.get("Powered")))

    def vanish(self, reason: str) -> None:
        """Suspend every battery: bluetoothd or the adapter is gone."""
        self._switched_off = False
        self._suspend(reason)
        self.path, self._manager = "", None
        for link in self.links_here:
            link.known = False

    def power(self, *, on: bool) -> None:
        """Take the news that the adapter is switched on or off."""
        self._powered = on
        if on:
            self._switched_off = False
            for link in self.links_here:
                link.resume()
        else:
            remedy = "to be switched on again at once" if self._switched_off else "run 'bluetoothctl power on'"
            self._suspend(f"The adapter {self.name} is switched off: {remedy}.")

    def _suspend(self, reason: str) -> None:
        self._powered = self._scanning = False
        self._connecting = None
        self._queue.clear()
        for link in self.links_here:
            link.suspend(reason)

    def end(self) -> None:
        """Leave the adapter as it was found."""
        self._queue.clear()
        self._powered = False
        self.arrange_scan()
        if self._switched_off:
            self._switch(on=True)

    def session(self, link: LinkOfSession) -> GattSession:
        """Make a new attempt to connect."""
        return GattSession(link, self._manager, self._links.bluez)

    # -- turns to connect ---------------------------------------------------------------------------------------

    def take_turn(self, link: LinkOfSession) -> None:
        """Let a battery connect when those before it have; one that takes long gives way."""
        self._queue.append(link)
        self._next_turn()

    def _next_turn(self) -> None:
        self._links.loop.cancel(self._timer)
        if self._connecting is None and self._queue:
            self._connecting, self._since = self._queue.popleft(), time.monotonic()
            self.arrange_scan()
            self._connecting.guard(self._connecting.connect)
        elif self._connecting is not None and self._queue:
            left = self._since + self._links.deadlines.give_way - time.monotonic()
            if left > 0:
                self._timer = self._links.loop.later(left, self._next_turn)
            else:
                self._connecting.fail("The connection took so long that it gave way to another battery.")

    def release(self, link: LinkOfSession) -> None:
        """End a battery's turn."""
        if self._connecting is link:
            self._connecting = None
            self._next_turn()
        self.arrange_scan()

    # -- scanning -----------------------------------------------------------------------------------------------

    def arrange_scan(self) -> None:
        """Scan while a battery is looked for, but never while one connects: many adapters cannot do both."""
        wanted = self._powered and self._connecting is None and any(link.state == "scan" for link in self.links_here)
        if wanted == self._scanning:
            return
        self._scanning = wanted
        call = functools.partial(self._links.bluez.call, self.path, ADAPTER)
        if wanted:
            call("SetDiscoveryFilter", "a{sv}", {"Transport": "le"})
            call("StartDiscovery", failed=self._scan_refused)
        else:
            call("StopDiscovery")

    def _scan_refused(self, _error: Any) -> None:
        """Ask again later: BlueZ refuses while it is still ending the scan before."""
        self._scanning = False
        self._links.loop.later(self._links.deadlines.retry, self.arrange_scan)

    # -- when nothing else helps --------------------------------------------------------------------------------

    def escalate(self, link: LinkOfSession) -> None:
        """After many failures in a row remove the device from BlueZ, after more switch the adapter off and on."""
        failures, deadlines = link.statistics.failures_in_a_row, self._links.deadlines
        others = (other for other in self.links_here if other is not link)
        if not self._powered:
            return
        if (
            failures % deadlines.power_after == 0
            and self._links.may_power_cycle
            and not any(other.healthy for other in others)
        ):
            self._switched_off = True
            self._switch(on=False)
            self._links.loop.later(POWER_PAUSE, self._switch_on_again)
        elif failures % deadlines.remove_after == 0 and link.known:
            self._remove(link)

    def _remove(self, link: LinkOfSession) -> None:
        call, adapter, device = self._links.bluez.call, self.path, link.path

        def remove(paired: Any) -> None:
            if not paired:
                link.statistics.removals += 1
                call(adapter, ADAPTER, "RemoveDevice", "o", device)

        call(device, PROPERTIES, "Get", "ss", DEVICE, "Paired", told=remove)

    def _switch_on_again(self) -> None:
        """Switch the adapter on if it was switched off from here, and see to it that it is."""
        if self._switched_off:
            self._switch(on=True)
            self._links.loop.later(POWER_PAUSE, self._switch_on_again)

    def _switch(self, *, on: bool) -> None:
        self._links.bluez.call(self.path, PROPERTIES, "Set", "ssv", ADAPTER, "Powered", on)
