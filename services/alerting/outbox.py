"""Messages on their way to people: each goes to one notifier after the other until one has delivered it."""

from collections.abc import Iterator
from typing import NamedTuple

import msgspec

from services.alerting.engine import Announcement
from services.notices.notice import Answer, Notice


class Outgoing(msgspec.Struct):
    """A message that nobody has delivered yet; `channels` are the notifiers still to be asked, the first now."""

    id: str
    notice: Notice
    channels: list[str]


class Lost(NamedTuple):
    """A message that no notifier delivered."""

    notice: Notice
    reason: str


class Outbox:
    """What has been decided and is not delivered. `waiting` is what must be kept; times are monotonic, in ms."""

    def __init__(self, waiting: list[Outgoing] | None = None) -> None:
        self.waiting = waiting or []
        self._asked: dict[str, int] = {}

    def add(self, identity: str, announcement: Announcement) -> None:
        """Take a message; a house without notifiers still publishes it, for whoever listens."""
        self.waiting.append(Outgoing(identity, announcement.notice, list(announcement.channels) or [""]))

    def holds(self, identity: str) -> bool:
        """Whether a message is on its way."""
        return any(entry.id == identity for entry in self.waiting)

    def again(self) -> None:
        """Ask all notifiers again: the broker may have forgotten it, and they know what they had."""
        self._asked.clear()

    def due(self, at: int, patience: float) -> Iterator[tuple[str, Notice]]:
        """Messages to be published now: those not asked for yet, and for those without an answer the next notifier."""
        for entry in self.waiting:
            asked = self._asked.get(entry.id)
            if asked is not None and len(entry.channels) > 1 and at - asked >= patience * 1000:
                entry.channels.pop(0)
                asked = None
            if asked is None:
                self._asked[entry.id] = at
                yield entry.id, msgspec.structs.replace(entry.notice, notify=entry.channels[0])
        self.waiting = [entry for entry in self.waiting if entry.channels != [""]]

    def lost(self, at: int, patience: float) -> list[Lost]:
        """Take out messages of which the last notifier has not answered either."""
        silent = [e for e in self.waiting if len(e.channels) == 1 and at - self._asked.get(e.id, at) >= patience * 1000]
        self.waiting = [entry for entry in self.waiting if entry not in silent]
        return [Lost(entry.notice, f"{entry.channels[0]} does not answer") for entry in silent]

    def answer(self, identity: str, answer: Answer) -> Lost | None:
        """Take a notifier's answer: delivered ends it, failed asks the next; what none delivers is returned."""
        entry = next((entry for entry in self.waiting if entry.id == identity), None)
        if entry is None or (answer.state == "failed" and answer.notifier != entry.channels[0]):
            return None
        if answer.state == "failed" and len(entry.channels) > 1:
            entry.channels.pop(0)
            self._asked.pop(identity, None)
            return None
        self.waiting.remove(entry)
        return Lost(entry.notice, f"{answer.notifier}: {answer.text}") if answer.state == "failed" else None
