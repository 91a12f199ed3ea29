"""What is asked of a store that holds readings of a false time: to list, move or drop them."""

from typing import Annotated, Literal

import msgspec
from msgspec import Meta

from bootstrap_lib import ReadingError, Registry, RequestError, parse_time


class FalseTime(msgspec.Struct, forbid_unknown_fields=True, rename={"since": "from", "until": "to"}):
    """Payload of `request/times`: from when to when (RFC 3339) readings are to be listed, moved by `by` ms, or dropped.

    `source` chooses whose; without it all are meant. `lost` changes nothing: a store answers with the things of which it would delete
    everything, the archive with topics of such `things` that nobody meant and of which it could not fill all of that time again.
    """

    do: Literal["list", "lost", "move", "drop"]
    since: str
    until: str
    by: Annotated[int, Meta(ge=-(10**13), le=10**13)] = 0
    source: str | None = None
    again: bool = False
    """Whether a move that was done within a day is meant a second time."""
    things: Annotated[list[str], Meta(max_length=1000)] = msgspec.field(default_factory=list)


def chosen(order: FalseTime, registry: Registry, store: str) -> tuple[int, int, list[str]]:
    """Span (ms) and topics that are meant; RequestError."""
    try:
        since, until = parse_time(order.since), parse_time(order.until)
    except ReadingError as error:
        raise RequestError(str(error)) from None
    if since >= until:
        raise RequestError("the span ends before it begins")
    if order.do == "move" and not order.by:
        raise RequestError("`by` says by how many milliseconds they are moved")
    if order.source is not None and order.source not in registry.instances:
        raise RequestError(registry.no_instance(order.source))
    topics = [topic for topic in registry.topics.values() if topic.stored_by(store)]
    return since, until, [one.name for one in topics if order.source in (None, one.source)]
