"""Bluetooth links to batteries that mend themselves, so that the battery source never has to be restarted.

One thread runs a GLib main loop with the real `gatt` package over BlueZ's D-Bus. Nothing in it waits: every call that
could block is sent asynchronously, every state of a link has a deadline of its own, and the only way out of trouble is
`fail`: hang up, count, wait a little longer each time, connect again. What one battery does never delays another, but
an adapter makes one connection at a time; who takes too long gives way.

What BlueZ and `gatt` do that makes this necessary: Connect may hang, may succeed without a link, may never resolve the
services; a link may be up and dead; a restarted bluetoothd tells nobody; exceptions in D-Bus callbacks are swallowed.
"""

from __future__ import annotations

import functools
import importlib
import re
import threading
import time
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Final, Literal, NamedTuple

import msgspec

from services.protocols.battery import BatteryError, BatteryProtocol, Rejection, Request, Value

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

BLUEZ: Final = "org.bluez"
ADAPTER: Final = "org.bluez.Adapter1"
DEVICE: Final = "org.bluez.Device1"
CHARACTERISTIC: Final = "org.bluez.GattCharacteristic1"
OBJECTS: Final = "org.freedesktop.DBus.ObjectManager"
PROPERTIES: Final = "org.freedesktop.DBus.Properties"

BEAT: Final = 0.5
"""Seconds between two beats of the loop."""

_DEVICE_PATH = re.compile(r"(/org/bluez/[^/]+)/dev((?:_[0-9A-F]{2}){6})")
_ADAPTER_PATH = re.compile(r"/org/bluez/([^/]+)")


class LinkError(RuntimeError):
    """Bluetooth cannot be used at all; the text says what to install."""


@dataclass(frozen=True, slots=True)
class Battery:
    """One battery: its name for the service, Bluetooth address, protocol module, adapter, seconds between samples.

    `keep` holds the link between samples: a reconnection costs seconds and batteries that are not asked for about nine
    seconds may hang up; without it the link is given up after each sample, which frees the battery for a phone.
    """

    name: str
    address: str
    protocol: BatteryProtocol
    adapter: str = "hci0"
    interval: float = 8.0
    keep: bool = True


class Deadlines(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Seconds that each state of a link may take, and when what is escalated.

    `remove_after` failures in a row the device is removed from BlueZ (its cache of services with it; never a paired
    one), `power_after` failures the adapter is switched off and on, if that is allowed and no other battery needs it.
    """

    scan: float = 30.0
    connect: float = 30.0
    give_way: float = 8.0
    resolve: float = 15.0
    notify: float = 5.0
    answer: float = 1.5
    call: float = 5.0
    tries: int = 3
    retry: float = 2.0
    retry_longest: float = 60.0
    bluez: float = 2.0
    remove_after: int = 4
    power_after: int = 8


@dataclass(slots=True)
class Statistics:
    """What a link has gone through; `signal` is the strength of the last advertisement in dBm."""

    state: str = "wait"
    samples: int = 0
    failures: int = 0
    failures_in_a_row: int = 0
    retries: int = 0
    rejected_frames: int = 0
    sessions: int = 0
    removals: int = 0
    write_type: Literal["default", "command"] = "default"
    signal: int | None = None
    last_failure: str = ""


def _dbus_sentence(error: Any) -> str:
    return f"{error.get_dbus_name()}: {error.get_dbus_message()}"


class _Bluetooth:
    """The libraries that are there only where Bluetooth is used; `gatt` ends the program where D-Bus is missing."""

    def __init__(self) -> None:
        try:
            self.gatt: Any = importlib.import_module("gatt")
            self.dbus: Any = importlib.import_module("dbus")
            self.GLib: Any = importlib.import_module("gi.repository.GLib")
        except (ImportError, SystemExit) as error:
            raise LinkError(
                "Batteries are read through the Python packages gatt, dbus and gi, and one of them is missing: install "
                f"constellation[bms] and Debian's python3-dbus and python3-gi ({error})."
            ) from None
        self.session = _session_class(self.gatt)
        self.manager = _manager_class(self.gatt)


class _Snapshot:
    """BlueZ's objects as they were told once, in place of a proxy that would ask again and block."""

    def __init__(self, objects: Any) -> None:
        self._objects = objects

    def GetManagedObjects(self) -> Any:  # noqa: N802 - the method of D-Bus
        return self._objects


def _manager_class(gatt: Any) -> Any:
    class Manager(gatt.DeviceManager):  # type: ignore[misc] # gatt has no types
        """A manager that takes in no device by itself; the links make theirs."""

        def make_device(self, mac_address: str) -> None:
            """Leave foreign devices alone."""

    return Manager


def _session_class(gatt: Any) -> Any:
    class Session(gatt.Device):  # type: ignore[misc] # gatt has no types
        """One attempt to connect and what follows; thrown away at its end, and deaf from then on."""

        def __init__(self, link: _Link, manager: Any) -> None:
            self.link = link
            self.notify: Any = None
            self.write: Any = None
            super().__init__(mac_address=link.address, manager=manager)

        def _connect(self) -> None:
            seconds = self.link.deadlines.connect + self.link.deadlines.call
            self._object.Connect(
                reply_handler=functools.partial(self.tell, self.link.connect_returned),
                error_handler=functools.partial(self.tell, self.link.connect_failed),
                timeout=seconds,
            )

        def tell(self, event: Callable[..., None], *values: Any) -> None:
            """Pass an event on while this is the link's session; an exception is a failure, never a silent end."""
            if self.link.session is self:
                self.link.guard(event, *values)

        def ask_objects(self) -> None:
            """Ask for all objects of BlueZ, to find the services among them."""
            self.manager._object_manager.GetManagedObjects(  # noqa: SLF001 - gatt offers no asynchronous way
                reply_handler=functools.partial(self.tell, self.link.objects_told),
                error_handler=functools.partial(self.tell, self.link.call_failed),
                timeout=self.link.deadlines.call,
            )

        def ask_properties(self) -> None:
            """Ask for the device's properties: Connect alone proves nothing."""
            self._properties.GetAll(
                DEVICE,
                reply_handler=functools.partial(self.tell, self.link.properties_told),
                error_handler=functools.partial(self.tell, self.link.call_failed),
                timeout=self.link.deadlines.call,
            )

        def take_services(self, objects: Any) -> None:
            """Let gatt make its services and characteristics from objects that were told already."""
            self._object_manager = _Snapshot(objects)
            super().services_resolved()

        def send(self, frame: bytes, *, command: bool) -> None:
            """Write a request, as a command or as BlueZ chooses; gatt has no choice of the kind."""
            self.write._object.WriteValue(  # noqa: SLF001
                frame,
                self.link.links.bluetooth.dbus.Dictionary({"type": "command"} if command else {}, signature="sv"),
                dbus_interface=CHARACTERISTIC,
                reply_handler=_nothing,
                error_handler=functools.partial(self.tell, self.link.write_failed),
                timeout=self.link.deadlines.call,
            )

        def hang_up(self, then: Callable[..., None]) -> None:
            """Disconnect or cancel the attempt to connect; gatt's own way waits and raises."""
            self.invalidate()
            self._object.Disconnect(reply_handler=then, error_handler=then, timeout=self.link.deadlines.call)

        def disconnect_succeeded(self) -> None:
            if self.link.state != "connect":  # then it is still the end of the session before this one
                super().disconnect_succeeded()
                self.tell(self.link.fail, "The link was lost.")

        def services_resolved(self) -> None:
            self.tell(self.link.services_resolved)

        def characteristic_enable_notifications_succeeded(self, characteristic: Any) -> None:  # noqa: ARG002
            self.tell(self.link.notifying)

        def characteristic_enable_notifications_failed(self, characteristic: Any, error: Any) -> None:  # noqa: ARG002
            self.tell(self.link.notify_failed, error)

        def characteristic_value_updated(self, characteristic: Any, value: bytes) -> None:
            if characteristic is self.notify:
                self.tell(self.link.receive, value)

    return Session


def _nothing(*_: Any) -> None:
    """Take an answer that tells nothing new."""


class _Link:
    """The state machine of one battery: wait, scan, connect, resolve, services, notify, query, rest, query."""

    def __init__(self, links: BatteryLinks, adapter: _Adapter, battery: Battery) -> None:
        self.links, self.adapter, self.battery = links, adapter, battery
        self.deadlines = links.deadlines
        self.address = battery.address.lower()
        self.session: Any = None
        self.statistics = Statistics()
        self.entered = 0.0
        self.last_sample: float | None = None
        self._timer: int | None = None
        self._assembler = battery.protocol.assembler()
        self._pending: list[Request] = []
        self._skipped: set[str] = set()
        self._sample: dict[str, Value] = {}
        self._lasting: dict[str, dict[str, Value]] = {}
        """Answers that do not change, by the name of their request."""
        self._tries = 0
        self._due = 0.0

    @property
    def state(self) -> str:
        """The state's name."""
        return self.statistics.state

    def guard(self, action: Callable[..., None], *values: Any) -> None:
        """Run what GLib or D-Bus calls; an exception, which they would swallow, becomes a failure."""
        try:
            action(*values)
        except Exception as error:  # noqa: BLE001 - otherwise the link would be silent for ever
            self.fail(f"{type(error).__name__} in state {self.state}: {error}")

    def enter(self, state: str, seconds: float, expired: Callable[[], None] | None = None) -> None:
        """Change the state; after its deadline it has failed, or `expired` goes on."""
        self._stop_timer()
        self.statistics.state = state
        self.entered = time.monotonic()

        def expire() -> bool:
            self._timer = None
            if expired:
                self.guard(expired)
            else:
                self.fail(f"Nothing happened in state {state} for {seconds:g} s.")
            return False

        self._timer = self.links.bluetooth.GLib.timeout_add(round(1000 * seconds), expire)

    def _stop_timer(self) -> None:
        if self._timer is not None:
            self.links.bluetooth.GLib.source_remove(self._timer)
            self._timer = None

    def fail(self, reason: str) -> None:
        """End the session for a reason and try again later, later each time."""
        statistics = self.statistics
        statistics.failures += 1
        statistics.failures_in_a_row += 1
        statistics.last_failure = reason
        self.end_session()
        delay = self.deadlines.retry * 2 ** min(statistics.failures_in_a_row - 1, 16)
        self.enter("wait", min(delay, self.deadlines.retry_longest), self.seek)
        self.adapter.arrange_scan()
        self.links.report(self.battery.name, reason)
        self.adapter.escalate(self)

    def end_session(self, then: Callable[..., None] = _nothing) -> None:
        """Hang up, if there is a session, and let the next battery connect."""
        session, self.session = self.session, None
        if session is not None:
            session.hang_up(then)
        self.adapter.release(self)

    def suspend(self) -> None:
        """Forget the session without a word to BlueZ, which is gone; wait until it is back."""
        self._stop_timer()
        session, self.session = self.session, None
        if session is not None:
            session.invalidate()
        self.adapter.release(self)
        self.statistics.state = "suspended"

    def seek(self) -> None:
        """Connect if BlueZ knows the device and it is its turn; scan if BlueZ does not know it."""
        if not self.adapter.usable:
            self.suspend()
        elif self.address not in self.adapter.known:
            self.enter("scan", self.deadlines.scan, self._not_heard)
            self.adapter.arrange_scan()
        elif self.adapter.acquire(self):
            self.enter("connect", self.deadlines.connect)
            self.statistics.sessions += 1
            self.session = self.links.bluetooth.session(self, self.adapter.manager)
            self.session.connect()
        else:
            self.enter("wait", min(self.deadlines.retry, 1.0), self.seek)

    def _not_heard(self) -> None:
        self.fail(
            f"The battery was not heard for {self.deadlines.scan:g} s: is it in reach of {self.battery.adapter}, and "
            "no phone connected to it?"
        )

    def heard(self, signal: int | None) -> None:
        """Take an advertisement."""
        if signal is not None:
            self.statistics.signal = signal
        if self.state == "scan":
            self.guard(self.seek)

    def connect_returned(self) -> None:
        """Go on after Connect; BlueZ answers it with success also where there is no link."""
        if self.state == "connect":
            self.enter("resolve", self.deadlines.resolve)
            self.session.ask_properties()

    def properties_told(self, properties: Any) -> None:
        """Look for services that were resolved before Connect answered, as after a crash of this program."""
        if self.state == "resolve" and properties.get("Connected") and properties.get("ServicesResolved"):
            self.services_resolved()

    def connect_failed(self, error: Any) -> None:
        """Fail, unless another attempt to connect is under way; its deadline runs already."""
        if error.get_dbus_message() != "Operation already in progress":
            self.fail(f"BlueZ could not connect ({_dbus_sentence(error)}).")

    def call_failed(self, error: Any) -> None:
        """Fail because BlueZ did not tell what it knows."""
        self.fail(f"BlueZ did not answer ({_dbus_sentence(error)}).")

    def services_resolved(self) -> None:
        """Ask for the objects of the services, once in a session."""
        if self.state in ("connect", "resolve"):
            self.enter("services", self.deadlines.call)
            self.session.ask_objects()

    def objects_told(self, objects: Any) -> None:
        """Find the protocol's channel and ask for notifications."""
        session = self.session
        session.take_services(objects)
        found = {
            (service.uuid, characteristic.uuid): characteristic
            for service in session.services
            for characteristic in service.characteristics
        }
        for channel in self.battery.protocol.CHANNELS:
            session.notify = found.get((channel.service, channel.notify))
            session.write = found.get((channel.service, channel.write))
            if session.notify and session.write:
                self.enter("notify", self.deadlines.notify)
                session.notify.enable_notifications()
                return
        self.fail(f"The device offers {len(found)} characteristics, and none of this protocol: is its address right?")

    def notify_failed(self, error: Any) -> None:
        """Ask again when BlueZ is still renewing an earlier subscription; fail otherwise."""
        if isinstance(error, self.links.bluetooth.gatt.errors.InProgress):
            left = self.entered + self.deadlines.notify - time.monotonic()
            self.links.later(min(0.5, left), self.session.tell, self._notify_again)
        else:
            self.fail(f"BlueZ refused the notifications ({error}).")

    def _notify_again(self) -> None:
        if self.state == "notify":
            self.session.notify.enable_notifications()

    def notifying(self) -> None:
        """Begin to ask: the link is complete."""
        self.adapter.release(self)
        self._skipped = set(self._lasting)
        self._begin_sample()

    def _begin_sample(self) -> None:
        self._due = time.monotonic() + self.battery.interval
        self._pending = [request for request in self.battery.protocol.REQUESTS if request.name not in self._skipped]
        self._sample = {name: value for answer in self._lasting.values() for name, value in answer.items()}
        self._next_request()

    def _next_request(self) -> None:
        self._tries = 0
        if self._pending:
            self._ask()
        else:
            self._complete()

    def _ask(self) -> None:
        """Send the request that is due; a link that answers no try is dead, unless the request is optional."""
        request = self._pending[0]
        if self._tries == self.deadlines.tries:
            self._unanswered(request, f"No answer to {self._tries} requests for the {request.name}.")
            return
        self.statistics.retries += bool(self._tries)
        self._tries += 1
        self._assembler.clear()
        self.enter("query", self.deadlines.answer, self._ask)
        self.session.send(request.frame, command=self.statistics.write_type == "command")

    def _unanswered(self, request: Request, reason: str) -> None:
        if request.optional:
            self._skipped.add(request.name)
            self._pending.pop(0)
            self._next_request()
        else:
            self._toggle_write_type()
            self.fail(reason)

    def _toggle_write_type(self) -> None:
        self.statistics.write_type = "default" if self.statistics.write_type == "command" else "command"

    def write_failed(self, error: Any) -> None:
        """Try the other kind of write at once: modules exist that accept only one and advertise both.

        InProgress means that the write before this one got no answer: the link is dead, and its deadline runs.
        """
        if error.get_dbus_name().endswith(".InProgress"):
            return
        if self.state == "query" and self.statistics.write_type == "default":
            self._toggle_write_type()
            self._ask()
        elif self.state == "query":
            self._toggle_write_type()
            self.fail(f"The battery's module refused to be written to ({_dbus_sentence(error)}).")

    def receive(self, fragment: bytes) -> None:
        """Take a notification; only an answer to the outstanding request counts."""
        for found in self._assembler.feed(fragment):
            if isinstance(found, Rejection):
                self.statistics.rejected_frames += 1
            elif self.state == "query" and self._pending:
                request = self._pending[0]
                try:
                    measurements = self.battery.protocol.measurements(request, found)
                except BatteryError as error:
                    self._unanswered(request, str(error))
                    return
                if measurements is not None:
                    self._answered(request, measurements)

    def _answered(self, request: Request, measurements: dict[str, Value]) -> None:
        self._sample |= measurements
        if request.once:  # asked no more; each later sample begins with it
            self._lasting[request.name] = measurements
            self._skipped.add(request.name)
        self._pending.pop(0)
        self._next_request()

    def _complete(self) -> None:
        statistics = self.statistics
        statistics.samples += 1
        statistics.failures_in_a_row = 0
        self.last_sample = time.monotonic()
        rest = max(0.0, self._due - self.last_sample)
        if self.battery.keep:
            self.enter("rest", rest, self._begin_sample)
        else:
            self.end_session()
            self.enter("wait", rest, self.seek)
        self.links.deliver(self.battery.name, self._sample)

    @property
    def healthy(self) -> bool:
        """Whether the battery has been read lately."""
        return self.last_sample is not None and time.monotonic() - self.last_sample < 3 * self.battery.interval


class _Adapter:
    """One Bluetooth adapter: whose turn it is to connect, whether to scan, and what is done when nothing helps."""

    def __init__(self, links: BatteryLinks, name: str) -> None:
        self.links, self.name = links, name
        self.path = f"/org/bluez/{name}"
        self.links_here: list[_Link] = []
        self.known: set[str] = set()
        self.powered = False
        self.manager: Any = None
        self.switched_off = False
        """Whether it was switched off from here, and must be switched on again."""
        self._connecting: _Link | None = None
        self._turn_began = 0.0
        self._scanning = False

    @property
    def usable(self) -> bool:
        """Whether the adapter is there and switched on."""
        return self.manager is not None and self.powered

    def appear(self, powered: bool, known: Iterable[str]) -> None:
        """Build all objects of gatt anew: they are bound to one life of bluetoothd."""
        self.manager = self.links.bluetooth.manager(adapter_name=self.name)
        self._scanning = False
        self.known = set(known)
        self.power(on=powered)

    def vanish(self, reason: str) -> None:
        """Suspend every battery: bluetoothd or the adapter is gone."""
        self.manager, self.powered, self.switched_off, self._scanning = None, False, False, False
        self._connecting = None
        self.known.clear()
        self._suspend_links(reason)

    def power(self, *, on: bool) -> None:
        """Take the news that the adapter was switched on or off."""
        self.powered = on
        if on:
            self.switched_off = False
            for link in self.links_here:
                if link.state in ("wait", "suspended"):
                    link.enter("wait", 0, link.seek)
        else:
            self._scanning = False
            self._connecting = None
            remedy = "to be switched on again at once" if self.switched_off else "run 'bluetoothctl power on'"
            self._suspend_links(f"The adapter {self.name} is switched off: {remedy}.")

    def _suspend_links(self, reason: str) -> None:
        for link in self.links_here:
            link.statistics.last_failure = reason
            link.suspend()
            self.links.report(link.battery.name, reason)

    def acquire(self, link: _Link) -> bool:
        """Give a battery the turn to connect; one that has had it for long gives way."""
        holder = self._connecting
        if holder is not None and holder is not link:
            if time.monotonic() - self._turn_began < self.links.deadlines.give_way:
                return False
            holder.fail("The connection took so long that it gave way to another battery.")
        self._connecting, self._turn_began = link, time.monotonic()
        self.arrange_scan()
        return True

    def release(self, link: _Link) -> None:
        """End a battery's turn."""
        if self._connecting is link:
            self._connecting = None
            self.arrange_scan()

    def arrange_scan(self) -> None:
        """Scan while a battery is looked for, but never while one connects: many adapters cannot do both."""
        wanted = self.usable and self._connecting is None and any(link.state == "scan" for link in self.links_here)
        if wanted == self._scanning or self.manager is None:
            return
        self._scanning = wanted
        proxy, seconds = self.manager._adapter, self.links.deadlines.call  # noqa: SLF001 - gatt's own calls block
        if wanted:
            only_le = self.links.bluetooth.dbus.Dictionary({"Transport": "le"}, signature="sv")
            proxy.SetDiscoveryFilter(only_le, reply_handler=_nothing, error_handler=_nothing, timeout=seconds)
            proxy.StartDiscovery(reply_handler=_nothing, error_handler=self._scan_refused, timeout=seconds)
        else:
            proxy.StopDiscovery(reply_handler=_nothing, error_handler=_nothing, timeout=seconds)

    def _scan_refused(self, _error: Any) -> None:
        self._scanning = False  # the next link that is not heard asks again

    def escalate(self, link: _Link) -> None:
        """After many failures in a row remove the device from BlueZ, after more switch the adapter off and on."""
        failures, deadlines = link.statistics.failures_in_a_row, self.links.deadlines
        if not self.usable:
            return
        if failures % deadlines.power_after == 0:
            if self.links.may_power_cycle and not any(one.healthy for one in self.links_here if one is not link):
                self._power_cycle()
        elif failures % deadlines.remove_after == 0 and link.address in self.known:
            self._remove(link)

    def _remove(self, link: _Link) -> None:
        dbus, seconds = self.links.bluetooth.dbus, self.links.deadlines.call
        path = dbus.ObjectPath(f"{self.path}/dev_{link.address.replace(':', '_').upper()}")
        manager = self.manager

        def remove(paired: Any) -> None:
            if not paired and manager is self.manager:
                link.statistics.removals += 1
                manager._adapter.RemoveDevice(path, reply_handler=_nothing, error_handler=_nothing, timeout=seconds)  # noqa: SLF001

        device = self.links.bus.get_object(BLUEZ, path)
        device.Get(
            DEVICE, "Paired", dbus_interface=PROPERTIES, reply_handler=remove, error_handler=_nothing, timeout=seconds
        )

    def _power_cycle(self) -> None:
        self.links.power_cycles += 1
        self.switched_off = True
        self.switch(on=False)
        self.links.later(1.0, self.switch_on_again)

    def switch_on_again(self) -> None:
        """Switch the adapter on if we have switched it off, and see to it that it is."""
        if self.switched_off and self.manager is not None:
            self.switch(on=True)
            self.links.later(1.0, self.switch_on_again)

    def switch(self, *, on: bool) -> None:
        """Switch the adapter without waiting."""
        value = self.links.bluetooth.dbus.Boolean(on)
        self.manager._adapter_properties.Set(  # noqa: SLF001 - gatt's own setter blocks
            ADAPTER,
            "Powered",
            value,
            reply_handler=_nothing,
            error_handler=_nothing,
            timeout=self.links.deadlines.call,
        )


class BatteryLinks:
    """Links to all batteries, in one thread.

    `deliver(name, measurements)` is called for each complete sample and `report(name, sentence)` for each failure, both
    in that thread: they must return at once.
    """

    def __init__(
        self,
        batteries: Iterable[Battery],
        deliver: Callable[[str, dict[str, Value]], None],
        report: Callable[[str, str], None],
        deadlines: Deadlines | None = None,
        *,
        may_power_cycle: bool = False,
    ) -> None:
        self.deliver, self.report = deliver, report
        self.deadlines = deadlines or Deadlines()
        self.may_power_cycle = may_power_cycle
        self.power_cycles = 0
        self.bluetooth: _Bluetooth
        self.bus: Any = None
        self._adapters: dict[str, _Adapter] = {}
        self._links: list[_Link] = []
        for battery in batteries:
            adapter = self._adapters.setdefault(battery.adapter, _Adapter(self, battery.adapter))
            link = _Link(self, adapter, battery)
            adapter.links_here.append(link)
            self._links.append(link)
        self._beat = time.monotonic()
        self._owner = ""
        self._deafen: list[Callable[[], None]] = []
        """What ends our subscriptions on the bus."""
        self._loop: Any = None
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        """Start the thread; raises LinkError where the Bluetooth libraries are missing.

        A missing adapter, bluetoothd or system bus is no error: the links wait for it and report it.
        """
        self.bluetooth = _Bluetooth()
        self._loop = self.bluetooth.GLib.MainLoop()
        self._beat = time.monotonic()
        self.later(0, self._open_bus)
        self.bluetooth.GLib.timeout_add(round(1000 * BEAT), self._beat_once)
        self._thread = threading.Thread(target=self._loop.run, name="battery links", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Disconnect every battery, so that a phone finds it, and end the thread; takes some seconds at most."""
        if self._thread is None:
            return
        self.later(0, self._hang_up_all)
        self._thread.join(2 * self.deadlines.call)
        self._thread = None

    def alive(self) -> float:
        """Return the monotonic time of the loop's last beat; a loop that works beats twice a second."""
        return self._beat

    def statistics(self) -> dict[str, Statistics]:
        """Return what each link has gone through, by battery name; may be called from any thread."""
        return {link.battery.name: replace(link.statistics) for link in self._links}

    def later(self, seconds: float, action: Callable[..., None], *values: Any) -> None:
        """Run something in the loop's thread."""

        def act() -> bool:
            action(*values)
            return False

        self.bluetooth.GLib.timeout_add(max(0, round(1000 * seconds)), act)

    def _beat_once(self) -> bool:
        self._beat = time.monotonic()
        return bool(self._loop.is_running())

    def _hang_up_all(self) -> None:
        waiting = {link.battery.name for link in self._links if link.session is not None}

        def hung_up(name: str, *_: Any) -> None:
            waiting.discard(name)
            if not waiting:
                self._loop.quit()

        for link in self._links:
            link.end_session(functools.partial(hung_up, link.battery.name))
            link.suspend()
        for adapter in self._adapters.values():
            adapter.switch_on_again()
        self._owner = ""
        for deafen in self._deafen:  # the bus is shared, and links that come after these hear the rest
            deafen()
        self.later(self.deadlines.call if waiting else 0, self._loop.quit)

    def _open_bus(self) -> None:
        if not self._loop.is_running():  # a timer outlives the loop
            return
        try:
            self.bus = self.bluetooth.dbus.SystemBus()
        except self.bluetooth.dbus.exceptions.DBusException as error:
            self._report_all(f"The system bus is not there ({_dbus_sentence(error)}).")
            self.later(self.deadlines.bluez, self._open_bus)
            return
        self.bus.set_exit_on_disconnect(False)
        self.bus.call_on_disconnection(self._bus_lost)
        receive = functools.partial(self.bus.add_signal_receiver, bus_name=BLUEZ)
        watch = self.bus.watch_name_owner(BLUEZ, self._owner_changed)
        self._deafen = [
            receive(self._added, "InterfacesAdded", OBJECTS).remove,
            receive(self._removed, "InterfacesRemoved", OBJECTS).remove,
            receive(self._changed, "PropertiesChanged", PROPERTIES, path_keyword="path").remove,
            watch.cancel,
        ]

    def _bus_lost(self, _bus: Any) -> None:
        if not self._loop.is_running():
            return
        self._owner = ""
        self._vanish_all("The system bus is gone.")
        self.bus.close()
        self.later(self.deadlines.bluez, self._open_bus)

    def _owner_changed(self, owner: Any) -> None:
        if self._owner or not owner:
            self._vanish_all("bluetoothd is not running: 'systemctl status bluetooth' says why.")
        self._owner = str(owner)
        if owner:
            self._look(self._owner)

    def _vanish_all(self, reason: str) -> None:
        for adapter in self._adapters.values():
            adapter.vanish(reason)

    def _report_all(self, reason: str) -> None:
        for link in self._links:
            self.report(link.battery.name, reason)

    def _look(self, owner: str) -> None:
        """Ask a bluetoothd for its objects, again and again until it answers or is gone."""
        if owner != self._owner:
            return

        def failed(error: Any) -> None:
            self._report_all(f"bluetoothd does not answer ({_dbus_sentence(error)}).")
            self.later(self.deadlines.bluez, self._look, owner)

        def told(objects: Any) -> None:
            if owner != self._owner:
                return
            for adapter in self._adapters.values():
                found = objects.get(adapter.path, {})
                if ADAPTER in found:
                    self._appear(adapter, found[ADAPTER], objects)
                else:
                    adapter.vanish(f"There is no adapter {adapter.name}: 'bluetoothctl list' shows those there are.")

        self.bus.get_object(BLUEZ, "/").GetManagedObjects(
            dbus_interface=OBJECTS, reply_handler=told, error_handler=failed, timeout=self.deadlines.call
        )

    def _appear(self, adapter: _Adapter, properties: Any, paths: Iterable[str]) -> None:
        known = [address for path in paths if (address := _address(path, adapter.path))]
        try:
            adapter.appear(bool(properties.get("Powered", False)), known)
        except self.bluetooth.dbus.exceptions.DBusException as error:
            adapter.vanish(f"bluetoothd does not answer ({_dbus_sentence(error)}).")
            self.later(self.deadlines.bluez, self._look, self._owner)

    def _adapter_of(self, path: str) -> _Adapter | None:
        match = _ADAPTER_PATH.match(path)
        return self._adapters.get(match[1]) if match else None

    def _added(self, path: Any, interfaces: Any) -> None:
        adapter = self._adapter_of(path)
        if adapter is None:
            return
        if ADAPTER in interfaces and adapter.manager is None:
            self._appear(adapter, interfaces[ADAPTER], ())
        elif DEVICE in interfaces:
            self._heard(adapter, path, interfaces[DEVICE])

    def _removed(self, path: Any, interfaces: Any) -> None:
        adapter = self._adapter_of(path)
        if adapter is None:
            return
        if ADAPTER in interfaces:
            adapter.vanish(f"The adapter {adapter.name} was unplugged.")
        elif DEVICE in interfaces:
            adapter.known.discard(_address(path, adapter.path))

    def _changed(self, interface: Any, changed: Any, _invalidated: Any, path: Any) -> None:
        adapter = self._adapter_of(path)
        if adapter is None or adapter.manager is None:
            return
        if interface == ADAPTER and "Powered" in changed and path == adapter.path:
            adapter.power(on=bool(changed["Powered"]))
        elif interface == DEVICE:
            self._heard(adapter, path, changed)

    def _heard(self, adapter: _Adapter, path: str, properties: Any) -> None:
        address = _address(path, adapter.path)
        adapter.known.add(address)
        for link in adapter.links_here:
            if link.address == address:
                link.heard(int(properties["RSSI"]) if "RSSI" in properties else None)


def _address(path: str, adapter_path: str) -> str:
    """Return the Bluetooth address in a device's path in lower case, as gatt has it; empty for any other path."""
    match = _DEVICE_PATH.fullmatch(path)
    return match[2][1:].replace("_", ":").lower() if match and match[1] == adapter_path else ""


class Heard(NamedTuple):
    """A device that an adapter has heard: its strength in dBm, and the UUIDs of the services that it told."""

    adapter: str
    address: str
    name: str
    signal: int
    services: frozenset[str]


def discover(seconds: float) -> Iterator[Heard]:
    """Scan on all adapters for some seconds, then tell what was heard; for people, as it waits.

    Raises LinkError where the libraries, the system bus or bluetoothd are missing, or an adapter cannot scan.
    """
    dbus = _Bluetooth().dbus
    try:
        bus = dbus.SystemBus()
        manager = dbus.Interface(bus.get_object(BLUEZ, "/"), OBJECTS)
        for path, interfaces in manager.GetManagedObjects().items():
            if interfaces.get(ADAPTER, {}).get("Powered"):
                bus.get_object(BLUEZ, path).StartDiscovery(dbus_interface=ADAPTER)
        time.sleep(seconds)
        devices = [interfaces[DEVICE] for interfaces in manager.GetManagedObjects().values() if DEVICE in interfaces]
    except dbus.exceptions.DBusException as error:
        raise LinkError(f"BlueZ cannot scan ({_dbus_sentence(error)}).") from None
    for device in devices:
        if "RSSI" in device:
            adapter = str(device["Adapter"]).rpartition("/")[2]
            services = frozenset(map(str, device.get("UUIDs", ())))
            yield Heard(adapter, str(device["Address"]), str(device["Alias"]), int(device["RSSI"]), services)
