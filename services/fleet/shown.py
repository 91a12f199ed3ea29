"""What the page of a fleet knows beside the engine: who may see what, and what bridges bring of a house's services."""

from typing import Annotated, Any, Final, Literal

import msgspec
from msgspec import Meta, Struct, field

Role = Literal["owner", "installer", "operator"]

MOST_SERVICES: Final = 100
"""Services of a house that are shown."""


class FleetPerson(Struct, frozen=True, forbid_unknown_fields=True):
    """Somebody who logs in."""

    role: Annotated[
        Role, Meta(description="An owner sees and exports, an installer sees and asks, an operator does all with all.")
    ]
    houses: Annotated[list[str], Meta(description="Houses that the person sees; an operator sees all.")] = field(
        default_factory=list
    )

    def sees(self, house: str) -> bool:
        """Whether a house is theirs to see."""
        return self.role == "operator" or house in self.houses


class LiveHouse(Struct):
    """What a house's bridge brings of its services, each by name; counters are those since their starts."""

    linked: bool | None = None
    heard: int = 0
    version: str = ""
    taken: dict[str, int] = field(default_factory=dict)
    waiting: dict[str, int] = field(default_factory=dict)
    dropped: dict[str, int] = field(default_factory=dict)
    states: dict[str, str] = field(default_factory=dict)

    def take_health(self, service: str, payload: bytes) -> None:
        """Take a heartbeat, or that it is over; what is none is nobody's."""
        if len(self.states) >= MOST_SERVICES and service not in self.states:
            return
        try:
            said = msgspec.json.decode(payload, type=dict[str, Any]) if payload else {}
            counters, spool = dict(said.get("counters") or {}), dict(said.get("spool") or {})
            numbers = [int(counters.get("published", 0)), int(spool.get("waiting", 0)), int(spool.get("dropped", 0))]
        except (ValueError, TypeError, OverflowError, RecursionError):
            return
        self.states[service] = str(said.get("state", "silent"))[:40]
        self.version = str(said.get("version", self.version))[:40]
        for kept, number in zip((self.taken, self.waiting, self.dropped), numbers, strict=True):
            kept[service] = number
