"""Messages for people and the notifiers' reports, as they travel on `home/notify/…` (docs/alerts.md)."""

from collections.abc import Iterator
from typing import Final, Literal

import msgspec

PRIORITIES: Final = range(-2, 3)
"""Pushover's: silent, quiet, normal, loud, emergency."""
EMERGENCY: Final = 2
"""The priority that is repeated on the phone until somebody acknowledges it."""


class Notice(msgspec.Struct, frozen=True, omit_defaults=True, kw_only=True):
    """One message, on `home/notify/<id>`. `notify` names the notifier that is asked; without it every one is.

    `priority` is one of PRIORITIES; `time` is RFC 3339 in UTC; `picture` is a topic whose graph is attached; `rules`
    are the alerts that it speaks of, `begun` since when each fires (ms), where it tells that they do. After `until` it is
    not to be delivered, another notifier is asked then; `withdraw` takes it back where it is not delivered yet.
    """

    text: str
    title: str = ""
    time: str = ""
    notify: str = ""
    priority: int = 0
    sound: str | None = None
    url: str | None = None
    picture: str | None = None
    rules: tuple[str, ...] = ()
    begun: tuple[int, ...] = ()
    until: str = ""
    withdraw: bool = False


class Report(msgspec.Struct, frozen=True):
    """What became of a message, on `home/notify/<id>/answer`. A notifier that still tries does not report.

    `expired`: it was delivered and rang for as long as it may, and nobody has acknowledged it.
    """

    notifier: str
    state: Literal["delivered", "failed", "expired"]
    text: str = ""


def shortened(text: str, length: int) -> str:
    """Text of at most `length` characters; what does not fit ends in an ellipsis."""
    return text if len(text) <= length else text[: length - 1].rstrip() + "…"


def trials(time: str) -> Iterator[Notice]:
    """One message of each priority, to see whether and how it arrives."""
    for priority in PRIORITIES:
        yield Notice(
            title=f"Test, priority {priority}", text="This is a test: all is well.", time=time, priority=priority
        )
