"""What a service's heartbeat tells the rules; anybody may have published it, so everything is checked."""

from collections.abc import Iterable
from typing import Annotated, Any

import msgspec
from msgspec import Meta

from services.alerting.rule import Value


class Heartbeat(msgspec.Struct, frozen=True):
    """How a service is, and after how many seconds it says so again; `parts` are what rules look at."""

    state: str
    beat: Annotated[float, Meta(gt=0, le=86400)]
    parts: dict[str, Value] = {}


def read(payload: bytes, parts: Iterable[str]) -> Heartbeat:
    """Read a heartbeat and its parts (`spool.dropped`); a counter that is not there is 0. ValueError if it is none."""
    document = msgspec.json.decode(payload, type=dict[str, Any])
    found = {part: _part(document, part) for part in parts}
    numbers = {part: value for part, value in found.items() if isinstance(value, (bool, int, float, str))}
    return msgspec.structs.replace(msgspec.convert(document, Heartbeat), parts=numbers)


def _part(document: Any, path: str) -> Any:
    value = document
    for word in path.split("."):
        value = value.get(word, 0) if isinstance(value, dict) else 0
    return value
