"""Messages on their way to people: each goes to one notifier after the other until one has delivered it.

Told means delivered: nothing counts before a notifier has said so, and a message that is no longer true is taken back
before another is sent. Times are monotonic, in ms, where nothing else is said.
"""

from collections.abc import Callable, Iterator
from typing import Annotated, Final, Literal, NamedTuple

import msgspec
from msgspec import Meta

from services.alerting.rule import Count, Moment
from services.alerting.wording import Kind
from services.notices.notice import Notice, Report

GRACE: Final = 60_000
"""Milliseconds that a notifier has to say what became of a message that was taken back: an attempt may be on its way."""
REMEMBERED: Final = 100
"""Messages that are settled and may still be reported on: by a notifier that was late, or when an emergency expires."""


class Member(msgspec.Struct, array_like=True):
    """One alert of a message: since when it is so (reading time, ms), and what people know of it once it is delivered."""

    since: Moment
    fired: Count = 0
    fired_for: Count = 0


class Outgoing(msgspec.Struct, omit_defaults=True):
    """A message that nobody has delivered yet; `targets` are the notifiers still to be asked, the first now."""

    id: str
    notice: Notice
    kind: Kind = "fires"
    route: tuple[str, ...] = ()
    targets: Annotated[list[str], Meta(min_length=1)] = msgspec.field(default_factory=lambda: [""])
    members: dict[str, Member] = {}
    meanwhile: bool = False
    by: list[str] = []
    """Who has delivered it."""
    step: Literal["asking", "leaving", "withdrawing"] = "asking"
    """Leaving: the notifier was too late, the next is asked once it has let go. Withdrawing: it is no longer true."""


class Settled(NamedTuple):
    """What became of a message at a notifier; `late` and `expired` ones were delivered before."""

    message: Outgoing
    notifier: str
    state: Literal["delivered", "failed", "withdrawn", "expired"]
    reason: str = ""


class Outbox:
    """What was decided and is not delivered. `waiting` and `settled` are what must be kept."""

    def __init__(self, waiting: list[Outgoing] | None = None, settled: list[Outgoing] | None = None) -> None:
        self.waiting = [] if waiting is None else waiting
        self.settled = [] if settled is None else settled
        self._asked: dict[str, int] = {}
        self._late: set[str] = set()

    def add(self, message: Outgoing) -> None:
        """Take a message."""
        self.waiting.append(message)

    def concerning(self, alert: str, route: tuple[str, ...]) -> list[Outgoing]:
        """Messages on their way on a route that speak of an alert."""
        return [entry for entry in self.waiting if entry.route == route and alert in entry.members]

    def withdraw(self, message: Outgoing) -> None:
        """Take a message back that is no longer true; whoever has it says what became of it."""
        if message.step != "withdrawing":
            message.step = "withdrawing"
            self._asked.pop(message.id, None)

    def again(self) -> None:
        """Ask all notifiers again: the broker may have forgotten it, and they know what they had."""
        self._asked.clear()

    def late(self) -> list[Outgoing]:
        """Messages of which no notifier has said in time what became of them."""
        return [entry for entry in self.waiting if entry.id in self._late]

    def due(self, at: int, patience: int, renewed: Callable[[Outgoing], Notice]) -> Iterator[tuple[str, Notice]]:
        """Messages to be published now; `patience` (ms) is what a notifier has, `renewed` makes the text of now."""
        for entry in self.waiting:
            asked = self._asked.get(entry.id)
            if asked is not None and at - asked < (min(GRACE, patience) if entry.step == "leaving" else patience):
                continue
            if asked is not None:  # also one that is taken back: whoever does not say what became of it does not answer
                self._late.add(entry.id)
                if entry.step == "leaving":
                    continue  # `overdue` takes it on
                if entry.step == "asking" and len(entry.route) > 1 and entry.kind in ("fires", "went"):
                    entry.step = "leaving"
            self._asked[entry.id] = at
            if entry.step == "asking":
                entry.notice = renewed(entry)
            target = entry.targets[0]
            taken_back = Notice(text="", notify=target, withdraw=True)
            yield (
                entry.id,
                taken_back if entry.step != "asking" else msgspec.structs.replace(entry.notice, notify=target),
            )

    def overdue(self, at: int, patience: int) -> list[Settled]:
        """Go on without notifiers that do not even say that they let go; what nobody is left for is returned."""
        found = []
        for entry in list(self.waiting):
            asked = self._asked.get(entry.id, at)
            alone = len(entry.route) == 1
            if not entry.members and entry.id in self._late and len(entry.targets) == 1 and entry.step == "asking":
                found += self._next(entry, f"{entry.targets[0]} does not answer")  # a test is not tried again
            elif entry.step == "leaving" and at - asked >= min(GRACE, patience):
                found += self._next(entry, f"{entry.targets[0]} does not answer")
            elif entry.step == "withdrawing" and not alone and at - asked >= patience + GRACE:
                self._settle(entry)  # it carries until when it may be delivered, and that has passed
                found.append(Settled(entry, entry.targets[0], "withdrawn"))
        return found

    def forget(self, notifiers: tuple[str, ...]) -> list[Settled]:
        """Take note of who there is: nobody else is waited for."""
        found = []
        for entry in list(self.waiting):
            while entry in self.waiting and entry.targets[0] not in notifiers:
                found += self._next(entry, f"there is no {entry.targets[0]} any more")
        return found

    def answer(self, identity: str, report: Report) -> list[Settled]:
        """Take a notifier's report: delivered ends it, failed asks the next."""
        entry = next((entry for entry in (*self.waiting, *self.settled) if entry.id == identity), None)
        if entry is None:
            return []
        if report.state == "expired":
            return [Settled(entry, report.notifier, "expired")]
        if report.state == "delivered":  # also by one that was too late
            if report.notifier in entry.by:
                return []
            entry.by.append(report.notifier)
            if entry in self.waiting:
                self._settle(entry)
            return [Settled(entry, report.notifier, "delivered")]
        if entry not in self.waiting:
            return []
        if report.notifier != entry.targets[0]:
            return []
        if entry.step == "withdrawing":
            self._settle(entry)
            return [Settled(entry, report.notifier, "withdrawn")]
        return self._next(entry, f"{report.notifier}: {report.text}")

    def _next(self, entry: Outgoing, reason: str) -> list[Settled]:
        target = entry.targets.pop(0)
        self._asked.pop(entry.id, None)
        if entry.targets and entry.step != "withdrawing":
            entry.step = "asking"
            return []
        withdrawn = entry.step == "withdrawing"
        entry.targets.append(target)
        self._settle(entry)
        return [Settled(entry, target, "withdrawn" if withdrawn else "failed", reason)]

    def _settle(self, entry: Outgoing) -> None:
        self.waiting.remove(entry)
        self._asked.pop(entry.id, None)
        self._late.discard(entry.id)
        self.settled.append(entry)
        del self.settled[:-REMEMBERED]
