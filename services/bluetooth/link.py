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
from typing import TYPE_CHECKING, Any

import gatt

from services.bluetooth import Statistics
from services.bluetooth.bluez import nothing, sentence
from services.bluetooth.dialogue import Dialogue
from services.bluetooth.session import channel_of
from services.bluetooth.states import during
from services.protocols.battery import BatteryError

if TYPE_CHECKING:
    from collections.abc import Callable

    from services.bluetooth import Battery
    from services.bluetooth.contracts import AdapterOfLink, Links

NOTIFY_AGAIN = 0.5
"""Seconds after which BlueZ has renewed an earlier subscription."""


class Link:
    """The state machine of one battery."""

    def __init__(self, links: Links, adapter: AdapterOfLink, battery: Battery) -> None:
        self.links, self.adapter, self.battery = links, adapter, battery
        self.deadlines = links.deadlines
        self.statistics = Statistics()
        self.session: Any = None
        self.known = False
        """Whether BlueZ has the device."""
        self._dialogue = Dialogue(battery.protocol, self.deadlines.tries, self.statistics, battery.unlock)
        self._channels: list[tuple[Any, Any]] = []
        """Channels of this session's device that were not tried."""
        self._timer = 0
        self._last_sample = self._due = 0.0

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
            self._toggle_write_type()
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
        """Find the protocol's channels and ask for notifications on the first."""
        offered = self.session.take_services(objects)
        found = (channel_of(offered, channel) for channel in self.battery.protocol.CHANNELS)
        self._channels = [one for one in found if one]
        if not self._channels:
            self.fail(
                f"The device offers {len(offered)} characteristics, and none of this protocol: is its address right?"
            )
            return
        self._open_channel()

    def _open_channel(self) -> None:
        session = self.session
        session.notify, session.write = self._channels.pop(0)
        self.enter("notify", self.deadlines.notify)
        session.notify.enable_notifications()

    @during("notify")
    def notify_failed(self, error: Any) -> None:
        """Ask again when BlueZ is still renewing an earlier subscription; else try another channel of the device."""
        if not isinstance(error, gatt.errors.InProgress):
            if self._channels:
                self._open_channel()
            else:
                self.fail(f"BlueZ refused the notifications ({error}).")
            return
        session = self.session

        def again() -> None:
            if self.session is session and self.state == "notify":
                self.guard(session.notify.enable_notifications)

        self.links.loop.later(NOTIFY_AGAIN, again)

    def lost(self) -> None:
        """Fail because BlueZ says that the link is down."""
        self.fail("The link was lost.")

    # -- over the link ------------------------------------------------------------------------------------------

    @during("notify")
    def notifying(self) -> None:
        """Begin to ask: the link is complete."""
        self.adapter.release(self)
        self._dialogue.begin_link()
        self._begin_sample()

    def _begin_sample(self) -> None:
        self._due = time.monotonic() + self.battery.interval
        self._dialogue.begin_sample()
        self._ask()

    def _ask(self) -> None:
        """Send what is to be asked; a link on which nothing is answered is dead."""
        frame = self._dialogue.next_frame()
        if frame is None:
            self._complete()
        else:
            self.enter("query", self.deadlines.answer, self._ask)
            self.session.send(frame, command=self._writes_commands)

    @during("query")
    def receive(self, fragment: bytes) -> None:
        """Take a notification; go on when it is the end of an answer."""
        if self._dialogue.take(fragment):
            self._ask()

    @during("query")
    def write_failed(self, command: bool, error: Any) -> None:
        """Try the other kind of write at once: modules exist that accept only one and advertise both.

        A write before this one that is still in progress, or no reply of bluetoothd, is no refusal: the deadline runs.
        Nor does a refusal count that was meant for the kind of write before.
        """
        if error.get_dbus_name().endswith((".InProgress", ".NoReply")) or command != self._writes_commands:
            return
        if command:
            raise BatteryError(f"The battery's module refused to be written to ({sentence(error)}).")
        self._toggle_write_type()
        self._ask()

    @property
    def _writes_commands(self) -> bool:
        return self.statistics.write_type == "command"

    def _toggle_write_type(self) -> None:
        self.statistics.write_type = "default" if self._writes_commands else "command"

    def _complete(self) -> None:
        self.statistics.samples += 1
        self.statistics.failures_in_a_row = 0
        self._last_sample = time.monotonic()
        rest = max(0.0, self._due - self._last_sample)
        if self.battery.keep:
            self.enter("rest", rest, self._begin_sample)
        else:
            self.enter("wait", rest, self.seek)
            self.end_session()
        self.links.deliver(self.battery.name, self._dialogue.sample)
