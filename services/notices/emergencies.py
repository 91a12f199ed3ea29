"""Messages that ring on a phone until somebody acknowledges them: what is to be done about each, and when."""

from typing import Any, Final, Literal

import msgspec

POLL: Final = 10.0
"""Seconds between two looks at a receipt; Pushover allows 5."""
LATE: Final = 600_000
"""Milliseconds beyond its end after which a receipt that nobody answers for is forgotten."""

Task = Literal["pass_on", "cancel", "look"]


class Emergency(msgspec.Struct):
    """A message that rings; `rules` are the alerts that it speaks of, `until` is wall time (ms)."""

    rules: list[str]
    until: int
    acknowledged: bool = False


class Emergencies:
    """What rings, by receipt. Times are monotonic, in seconds, where nothing else is said."""

    def __init__(self, ringing: dict[str, Emergency]) -> None:
        """`ringing` is what must survive a restart."""
        self.ringing = ringing
        self._looked: dict[str, float] = {}
        self._over: set[str] = set()

    def follow(self, alert: str, payload: bytes) -> None:
        """Take what stands on an alert's topic: one that is over or acknowledged elsewhere need not ring."""
        try:
            shown = msgspec.json.decode(payload, type=dict[str, Any]) if payload else {}
        except (msgspec.DecodeError, UnicodeDecodeError):
            return
        if shown.get("state") != "firing" or shown.get("acknowledged"):
            self._over.add(alert)
        else:
            self._over.discard(alert)

    def due(self, now: float, *, online: bool) -> tuple[Task, str] | None:
        """What is to be done now, and with which receipt; acknowledgements are passed on while the broker is there."""
        for receipt, emergency in self.ringing.items():
            if emergency.acknowledged:
                if online:
                    return "pass_on", receipt
            elif emergency.rules and self._over.issuperset(emergency.rules):
                return "cancel", receipt
            elif now - self._looked.get(receipt, 0.0) >= POLL:
                self._looked[receipt] = now
                return "look", receipt
        return None

    def learn(self, receipt: str, answer: dict[str, Any] | None, wall: int) -> bool:
        """Take the answer to a look, None where there was none; True if somebody has acknowledged. `wall` in ms."""
        emergency = self.ringing[receipt]
        if answer and answer.get("acknowledged"):
            emergency.acknowledged = True
            return True
        if (answer and answer.get("expired")) or wall > emergency.until + LATE:
            self.forget(receipt)
        return False

    def forget(self, receipt: str) -> None:
        """It rings no more."""
        self.ringing.pop(receipt, None)
        self._looked.pop(receipt, None)
