"""All links to batteries in one thread, and what bluetoothd says, passed on to the adapter and the link it is about."""

from __future__ import annotations

import functools
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from services.bluetooth import BatteryFamily
from services.bluetooth.adapter import Adapter
from services.bluetooth.asking import AskingLink
from services.bluetooth.bluez import ADAPTER, DEVICE, Bluez
from services.bluetooth.families import FamilyLink
from services.bluetooth.loop import GLibLoop

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from services.bluetooth import Battery, Deadlines, Statistics
    from services.bluetooth.contracts import Links
    from services.bluetooth.link import Link
    from services.protocols.battery import Value

FAREWELL = 0.5
"""Seconds in which BlueZ answers that a battery is disconnected; it does so without a listener too."""


def link_of(links: Links, adapter: Adapter, battery: Battery) -> Link:
    """Return the link of a battery: over it speaks a protocol of ours, or a family of aiobmsble."""
    if isinstance(battery.protocol, BatteryFamily):
        return FamilyLink(links, adapter, battery, battery.protocol)
    return AskingLink(links, adapter, battery, battery.protocol)


class BatteryLinks:
    """Links to all batteries; `services.bluetooth.battery_links` makes them."""

    def __init__(
        self,
        batteries: Iterable[Battery],
        deliver: Callable[[str, dict[str, Value]], None],
        report: Callable[[str, str], None],
        deadlines: Deadlines,
        may_power_cycle: bool,
    ) -> None:
        self.deliver, self.report = deliver, report
        self.deadlines, self.may_power_cycle = deadlines, may_power_cycle
        self.loop = GLibLoop()
        self.bluez = Bluez(self.loop, self, deadlines)
        self._adapters: dict[str, Adapter] = {}
        self._links: list[Link] = []
        for battery in batteries:
            name = battery.adapter.upper() if ":" in battery.adapter else battery.adapter
            adapter = self._adapters.setdefault(name, Adapter(self, name))
            link = link_of(self, adapter, battery)
            adapter.links_here.append(link)
            self._links.append(link)

    def start(self) -> None:
        """Start the thread; a missing adapter, bluetoothd or system bus is waited for and reported."""
        self.loop.start(self.bluez.open)

    def stop(self) -> None:
        """Disconnect every battery, so that a phone finds it, and end the thread; takes less than a second."""
        self.loop.post(self._end)
        self.loop.join(1.5 * FAREWELL)

    def silence(self) -> float:
        """Return for how many seconds the links' thread has owed a sign of life, to one who asks now and then."""
        return self.loop.silence()

    def statistics(self) -> dict[str, Statistics]:
        """Return what each link has gone through, by battery name; may be called from any thread."""
        return {link.battery.name: replace(link.statistics) for link in self._links}

    def _end(self) -> None:
        waiting = {link for link in self._links if link.session is not None}

        def hung_up(link: Link, *_: Any) -> None:
            waiting.discard(link)
            if not waiting:
                self.loop.quit()

        for adapter in self._adapters.values():
            adapter.end()
        for link in self._links:
            link.end(functools.partial(hung_up, link))
        self.bluez.close()
        self.loop.later(FAREWELL if waiting else 0, self.loop.quit)

    # -- what bluetoothd says -----------------------------------------------------------------------------------

    def vanished(self, reason: str) -> None:
        """Suspend every battery."""
        for adapter in self._adapters.values():
            adapter.vanish(reason)

    def appeared(self, objects: Any) -> None:
        """Find the adapters among the objects of a new bluetoothd."""
        for adapter in self._adapters.values():
            for path, interfaces in objects.items():
                if ADAPTER in interfaces and adapter.is_at(path, interfaces[ADAPTER]):
                    adapter.appear(path, interfaces[ADAPTER], objects)
                    break
            else:
                adapter.vanish(f"There is no adapter {adapter.name}: 'bluetoothctl list' shows those there are.")

    def added(self, path: Any, interfaces: Any) -> None:
        """Take in an adapter that was plugged in, or a device that was heard."""
        if ADAPTER in interfaces:
            for adapter in self._adapters.values():
                if not adapter.path and adapter.is_at(path, interfaces[ADAPTER]):
                    adapter.appear(path, interfaces[ADAPTER], {})
        elif DEVICE in interfaces:
            self._heard(path, interfaces[DEVICE])

    def removed(self, path: Any, interfaces: Any) -> None:
        """Forget an adapter that was pulled out, or a device."""
        if ADAPTER in interfaces:
            for adapter in self._at(path):
                adapter.vanish(f"The adapter {adapter.name} was unplugged.")
        elif DEVICE in interfaces:
            for link in self._links:
                link.known = link.known and link.path != path

    def changed(self, interface: Any, properties: Any, _invalidated: Any, path: Any) -> None:
        """Take news of an adapter's power, and signs of devices."""
        if interface == DEVICE:
            self._heard(path, properties)
        elif "Powered" in properties:
            for adapter in self._at(path):
                adapter.power(on=bool(properties["Powered"]))

    def _at(self, path: str) -> Iterator[Adapter]:
        return (adapter for adapter in self._adapters.values() if adapter.path == path)

    def _heard(self, path: str, properties: Any) -> None:
        for link in self._links:
            if link.path == path:
                link.heard(properties)
