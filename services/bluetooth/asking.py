"""A link over which a protocol of ours speaks: each request is sent until it is answered, and answers count for it only."""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING, Any

from services.bluetooth.bluez import sentence
from services.bluetooth.dialogue import Dialogue
from services.bluetooth.link import Link
from services.bluetooth.session import channel_of
from services.bluetooth.states import during
from services.protocols.battery import BatteryError

if TYPE_CHECKING:
    from services.bluetooth import Battery
    from services.bluetooth.contracts import AdapterOfLink, Links
    from services.bluetooth.session import Offered
    from services.protocols.battery import BatteryProtocol

NOTIFY_AGAIN = 0.5
"""Seconds after which BlueZ has renewed an earlier subscription."""


class AskingLink(Link):
    """The link to a battery whose protocol is known here."""

    def __init__(self, links: Links, adapter: AdapterOfLink, battery: Battery, protocol: BatteryProtocol) -> None:
        super().__init__(links, adapter, battery)
        self._protocol = protocol
        self._dialogue = Dialogue(protocol, self.deadlines.tries, self.statistics, battery.unlock)
        self._channels: list[tuple[Any, Any]] = []
        """Channels of this session's device that were not tried."""
        self._notify: Any = None
        self._write: Any = None

    def open(self, offered: list[Offered], objects: Any) -> None:  # noqa: ARG002 - who knows the protocol needs no more
        """Find the protocol's channels and ask for notifications on the first."""
        found = (channel_of(offered, channel) for channel in self._protocol.CHANNELS)
        self._channels = [one for one in found if one]
        if not self._channels:
            self.fail(
                f"The device offers {len(offered)} characteristics, and none of this protocol: is its address right?"
            )
            return
        self._open_channel()

    def _open_channel(self) -> None:
        self._notify, self._write = self._channels.pop(0)
        self.enter("notify", self.deadlines.notify)
        self._ask_for_notifications()

    def _ask_for_notifications(self) -> None:
        self.session.call(self._notify, "StartNotify", told=self.notifying, failed=self.notify_failed)

    @during("notify")
    def notify_failed(self, error: Any) -> None:
        """Ask again when BlueZ is still renewing an earlier subscription; else try another channel of the device."""
        if not error.get_dbus_name().endswith(".InProgress"):
            if self._channels:
                self._open_channel()
            else:
                self.fail(f"BlueZ refused the notifications ({sentence(error)}).")
            return
        session = self.session

        def again() -> None:
            if self.session is session and self.state == "notify":
                self.guard(self._ask_for_notifications)

        self.links.loop.later(NOTIFY_AGAIN, again)

    @during("notify")
    def notifying(self) -> None:
        """Begin to ask: the link is complete."""
        self.adapter.release(self)
        self._dialogue.begin_link()
        self.begin_sample()

    def begin_sample(self) -> None:
        """Ask from the first request on."""
        self.begin_interval()
        self._dialogue.begin_sample()
        self._ask()

    def _ask(self) -> None:
        """Send what is to be asked; a link on which nothing is answered is dead."""
        frame = self._dialogue.next_frame()
        if frame is None:
            self.is_complete(self._dialogue.sample)
        else:
            self.enter("query", self.deadlines.answer, self._ask)
            command = self.writes_commands
            options = {"type": "command"} if command else {}  # else as BlueZ chooses
            failed = functools.partial(self.write_failed, command)
            self.session.call(self._write, "WriteValue", "aya{sv}", frame, options, failed=failed)

    @during("query")
    def receive(self, characteristic: Any, value: bytes) -> None:
        """Take a notification; go on when it is the end of an answer."""
        if characteristic is self._notify and self._dialogue.take(value):
            self._ask()

    @during("query")
    def write_failed(self, command: bool, error: Any) -> None:
        """Try the other kind of write at once: modules exist that accept only one and advertise both.

        A write before this one that is still in progress, or no reply of bluetoothd, is no refusal: the deadline runs.
        Nor does a refusal count that was meant for the kind of write before.
        """
        if error.get_dbus_name().endswith((".InProgress", ".NoReply")) or command != self.writes_commands:
            return
        if command:
            raise BatteryError(f"The battery's module refused to be written to ({sentence(error)}).")
        self.toggle_write_type()
        self._ask()
