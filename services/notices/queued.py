"""Messages that wait to be delivered, and what may become of an attempt."""

import msgspec
from msgspec import Struct

from bootstrap_lib import ReadingError, parse_time
from services.notices.notice import Notice, Report


class Queued(Struct):
    """A message that is not delivered yet. `since` (wall, ms) is when it was taken."""

    id: str
    notice: Notice
    since: int
    trying: bool = False
    """It was handed over; if this is found after a start, nobody knows whether it arrived."""
    again: bool = False
    """An answer was lost, so people may have it already."""
    withdrawn: bool = False
    """It was taken back while it was being tried: if it did not arrive now, it is not tried again."""
    link: str = ""
    """By which who gets it may acknowledge it; made when it is handed over, and kept nowhere."""

    @property
    def time(self) -> int:
        """When what it tells happened (ms)."""
        try:
            return parse_time(self.notice.time) if self.notice.time else self.since
        except ReadingError:
            return self.since

    @property
    def until(self) -> int | None:
        """After when it is not to be delivered any more (ms)."""
        try:
            return parse_time(self.notice.until) if self.notice.until else None
        except ReadingError:
            return None

    @property
    def text(self) -> str:
        """The text, which says of itself when it may be a repeat."""
        return (
            f"{self.notice.text}\n(Sent again: it is not known whether this has arrived.)"
            if self.again
            else self.notice.text
        )


class MessagesKept(Struct):
    """What must survive a restart."""

    queue: list[Queued] = msgspec.field(default_factory=list)
    answers: dict[str, Report] = msgspec.field(default_factory=dict)


class Delivered(Struct, frozen=True):
    """It arrived; `receipt` names an emergency that waits to be acknowledged."""

    receipt: str = ""


class Refused(Struct, frozen=True):
    """It will never be taken as it is: it is not repeated."""

    reason: str


class Unanswered(Struct, frozen=True):
    """It was not taken, or nobody knows: it is tried again. `lost` is whether it may have been taken."""

    reason: str
    lost: bool


Outcome = Delivered | Refused | Unanswered
