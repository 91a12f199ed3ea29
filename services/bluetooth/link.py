"""The link to one battery as a table of states: each has its time, and each event counts in some of them only.

suspended   the adapter is not there
wait        until the next attempt or sample     -> seek
scan        BlueZ does not know the device       -> heard: seek
turn        others connect on this adapter       -> connect
connect     until Connect returns                -> resolve
resolve     until the services are found         -> services
services    until BlueZ has told its objects     -> notify
notify      until notifications are enabled      -> query
query       until the open request is answered   -> query, rest
rest        until the next sample                -> query
"""

from __future__ import annotations

import functools
import time
from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, Any

from services.bluetooth import Statistics
from services.bluetooth.bluez import nothing, sentence
from services.bluetooth.states import during
from services.protocols.battery import BatteryError

if TYPE_CHECKING:
    from collections.abc import Callable

    from services.bluetooth import Battery
    from services.bluetooth.contracts import AdapterOfLink, Links
    from services.bluetooth.session import Offered
    from services.protocols.battery import Value


class Link(ABC):
    """The state machine of one battery; what is said over the link is a matter of who speaks."""

    def __init__(self, links: Links, adapter: AdapterOfLink, battery: Battery) -> None:
        self.links, self.adapter, self.battery = links, adapter, battery
        self.deadlines = links.deadlines
        self.statistics = Statistics()
        self.session: Any = None
        self.known = False
        """Whether BlueZ has the device."""
        self._timer = 0
        self._last_sample = self.due = 0.0

    @property
    def state(self) -> str:
        """The state's name."""
        return self.statistics.state

    @property
    def path(self) -> str:
        """Where BlueZ has the device."""
        return f"{self.adapter.path}/dev_{self.battery.address.upper().replace(':', '_')}"

    @property
    def healthy(self) -> bool:
        """Whether the battery has been read lately."""
        return bool(self._last_sample) and time.monotonic() - self._last_sample < 3 * self.battery.interval

    # -- states and their ends ----------------------------------------------------------------------------------

    def enter(self, state: str, seconds: float, expired: Callable[[], None] | None = None) -> None:
        """Change the state; at the end of its time `expired` goes on, or it has failed."""
        self.links.loop.cancel(self._timer)
        self.statistics.state = state
        expired = expired or functools.partial(self.fail, f"Nothing happened in state {state} for {seconds:g} s.")
        self._timer = self.links.loop.later(seconds, functools.partial(self.guard, expired))

    def guard(self, action: Callable[..., None], *values: Any) -> None:
        """Run what GLib or D-Bus calls; an exception, which they would swallow, becomes a failure."""
        try:
            action(*values)
        except BatteryError as error:
            self.toggle_write_type()
            self.fail(str(error))
        except Exception as error:  # noqa: BLE001 - otherwise the link would be silent for ever
            self.fail(f"{type(error).__name__} in state {self.state}: {error}")

    def fail(self, reason: str) -> None:
        """End the session for a reason and try again later, later each time."""
        statistics, deadlines = self.statistics, self.deadlines
        statistics.failures += 1
        statistics.failures_in_a_row += 1
        statistics.last_failure = reason
        delay = min(deadlines.retry * 2 ** min(statistics.failures_in_a_row - 1, 16), deadlines.retry_longest)
        self.enter("wait", delay, self.seek)
        self.end_session()
        self.links.report(self.battery.name, reason)
        self.adapter.escalate(self)

    def end_session(self, then: Callable[..., None] = nothing) -> None:
        """Hang up, if there is a session, and let the next battery connect."""
        session, self.session = self.session, None
        if session is not None:
            session.hang_up(then)
        self.adapter.release(self)

    def suspend(self, reason: str) -> None:
        """Forget the session without a word to BlueZ, which is gone, and wait until it is back."""
        self._enter_without_end("suspended")
        self.statistics.last_failure = reason
        session, self.session = self.session, None
        if session is not None:
            session.invalidate()
        self.links.report(self.battery.name, reason)

    def end(self, then: Callable[..., None]) -> None:
        """Hang up for good; `then` is called when BlueZ has done so."""
        self._enter_without_end("suspended")
        self.end_session(then)

    def _enter_without_end(self, state: str) -> None:
        self.links.loop.cancel(self._timer)
        self.statistics.state = state

    # -- until the link is up -----------------------------------------------------------------------------------

    @during("suspended", "wait")
    def resume(self) -> None:
        """Begin now: the adapter is there."""
        self.enter("wait", 0, self.seek)

    def seek(self) -> None:
        """Connect when it is this battery's turn, if BlueZ knows the device; scan if not."""
        if self.known:
            self._enter_without_end("turn")
            self.adapter.take_turn(self)
        else:
            self.enter("scan", self.deadlines.scan, self._not_heard)
            self.adapter.arrange_scan()

    def _not_heard(self) -> None:
        self.fail(
            f"The battery was not heard for {self.deadlines.scan:g} s: is it in reach of {self.battery.adapter}, and "
            "no phone connected to it?"
        )

    def heard(self, properties: Any) -> None:
        """Take an advertisement, or any other sign of the device."""
        self.known = True
        if "RSSI" in properties:
            self.statistics.signal = int(properties["RSSI"])
        if self.state == "scan":
            self.guard(self.seek)

    def connect(self) -> None:
        """Connect: it is this battery's turn."""
        self.enter("connect", self.deadlines.connect)
        self.statistics.sessions += 1
        self.session = self.adapter.session(self)
        self.session.connect()

    @during("connect")
    def connect_returned(self) -> None:
        """Go on after Connect; BlueZ answers it with success also where there is no link."""
        self.enter("resolve", self.deadlines.resolve)
        self.session.ask_properties()

    @during("connect")
    def connect_failed(self, error: Any) -> None:
        """Fail, unless another attempt to connect is under way; its deadline runs already."""
        if not (error.get_dbus_name().endswith(".InProgress") or "already in progress" in error.get_dbus_message()):
            self.fail(f"BlueZ could not connect ({sentence(error)}).")

    @during("resolve")
    def properties_told(self, properties: Any) -> None:
        """Look for services that were resolved before Connect answered, as after a crash of this program."""
        session = self.session
        session.came_up = session.came_up or bool(properties.get("Connected"))
        if session.came_up and properties.get("ServicesResolved"):
            self.services_resolved()

    @during("resolve", "services")
    def call_failed(self, error: Any) -> None:
        """Fail because BlueZ did not tell what it knows."""
        self.fail(f"BlueZ did not answer ({sentence(error)}).")

    @during("connect", "resolve")
    def services_resolved(self) -> None:
        """Ask for the objects of the services, once in a session."""
        self.enter("services", self.deadlines.call)
        self.session.ask_objects()

    @during("services")
    def objects_told(self, objects: Any) -> None:
        """Begin to speak with the device, whose characteristics are known now."""
        self.open(self.session.take_services(objects), objects)

    def lost(self) -> None:
        """Fail because BlueZ says that the link is down."""
        self.fail("The link was lost.")

    # -- over the link ------------------------------------------------------------------------------------------

    @abstractmethod
    def open(self, offered: list[Offered], objects: Any) -> None:
        """Begin to speak over the link with what the device offers, of all objects that BlueZ has."""

    @abstractmethod
    def begin_sample(self) -> None:
        """Begin to ask for a sample."""

    def begin_interval(self) -> None:
        """Note that a sample begins: the next one is due an interval later."""
        self.due = time.monotonic() + self.battery.interval

    @abstractmethod
    def receive(self, characteristic: Any, value: bytes) -> None:
        """Take a notification."""

    def is_complete(self, sample: dict[str, Value]) -> None:
        """Deliver a sample, and rest or hang up until the next one is due."""
        self.statistics.samples += 1
        self.statistics.failures_in_a_row = 0
        self._last_sample = time.monotonic()
        rest = max(0.0, self.due - self._last_sample)
        if self.battery.keep:
            self.enter("rest", rest, self.begin_sample)
        else:
            self.enter("wait", rest, self.seek)
            self.end_session()
        self.links.deliver(self.battery.name, sample)

    @property
    def writes_commands(self) -> bool:
        """Whether this battery's module wants to be written to by commands."""
        return self.statistics.write_type == "command"

    def toggle_write_type(self) -> None:
        """Write the other way from now on."""
        self.statistics.write_type = "default" if self.writes_commands else "command"
