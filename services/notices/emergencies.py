"""Messages that ring on a phone until somebody acknowledges them: what is to be done about each, and when."""

from typing import Annotated, Any, Final, Literal

import msgspec
from msgspec import Meta

POLL: Final = 10.0
"""Seconds between two tries of the same: Pushover allows a look at a receipt each 5."""
LATE: Final = 600_000
"""Milliseconds beyond its end after which a receipt that nobody answers for has rung in vain."""
WEEK: Final = 7 * 86_400_000
"""Milliseconds for which an acknowledgement waits for the alerts service."""

Task = Literal["pass_on", "rang_in_vain", "cancel", "look"]


class Emergency(msgspec.Struct):
    """A message that rings; `rules` are the alerts that it speaks of, `until` is wall time (ms)."""

    rules: list[str]
    until: Annotated[int, Meta(ge=0, le=4_102_444_800_000)]
    acknowledged: bool = False
    message: str = ""
    """The message's identity."""
    in_vain: bool = False
    """It rang for as long as it may, and nobody has acknowledged it."""


class Emergencies:
    """What rings, by receipt. Times are monotonic, in seconds, where nothing else is said."""

    def __init__(self, ringing: dict[str, Emergency]) -> None:
        """`ringing` is what must survive a restart."""
        self.ringing = ringing
        self._tried: dict[str, float] = {}
        self._over: set[str] = set()
        self._snoozed: set[str] = set()

    def follow(self, alert: str, payload: bytes) -> None:
        """Take what stands on an alert's topic: one that is over, acknowledged or snoozed need not ring."""
        try:
            shown = msgspec.json.decode(payload, type=dict[str, Any]) if payload else {}
        except (msgspec.DecodeError, UnicodeDecodeError):
            return
        if shown.get("state") != "firing" or shown.get("acknowledged"):
            self._over.add(alert)
        else:
            self._over.discard(alert)
        if shown.get("snoozed_until"):
            self._snoozed.add(alert)
        else:
            self._snoozed.discard(alert)

    def due(self, now: float, *, online: bool) -> tuple[Task, str] | None:
        """What is to be done now, and with which receipt; each is tried until it is confirmed."""
        for receipt, emergency in self.ringing.items():
            if now - self._tried.get(receipt, -POLL) < POLL:
                continue
            task = self._task(emergency)
            if task in ("pass_on", "rang_in_vain") and not online:
                continue
            self._tried[receipt] = now
            return task, receipt
        return None

    def _task(self, emergency: Emergency) -> Task:
        if emergency.acknowledged:
            return "pass_on"
        if emergency.rules and (self._over | self._snoozed).issuperset(emergency.rules):
            return "cancel"
        return "rang_in_vain" if emergency.in_vain else "look"

    def is_over(self, emergency: Emergency) -> bool:
        """Whether nothing that it speaks of fires without being acknowledged, by what stands on the alerts' topics."""
        return bool(emergency.rules) and self._over.issuperset(emergency.rules)

    def learn(self, receipt: str, answer: dict[str, Any] | None, wall: int) -> bool:
        """Take the answer to a look, None where there was none; True if that is news. `wall` in ms."""
        emergency = self.ringing.get(receipt)
        if emergency is None:
            return False
        if answer and answer.get("acknowledged"):
            emergency.acknowledged = True
        elif (answer and answer.get("expired")) or wall > emergency.until + LATE:
            emergency.in_vain = True
        else:
            return False
        self._tried.pop(receipt, None)
        return True

    def forget(self, receipt: str) -> None:
        """It rings no more."""
        self.ringing.pop(receipt, None)
        self._tried.pop(receipt, None)
