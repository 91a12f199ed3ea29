"""Events of a link that mean something in some of its states only."""

from __future__ import annotations

from typing import TYPE_CHECKING, Concatenate, ParamSpec, Protocol, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable

P = ParamSpec("P")


class Stateful(Protocol):
    """What has events that count in some of its states."""

    @property
    def state(self) -> str:
        """Name of the state that it is in."""


L = TypeVar("L", bound=Stateful)


def during(
    *states: str,
) -> Callable[[Callable[Concatenate[L, P], None]], Callable[Concatenate[L, P], None]]:
    """Let an event count in these states only; in any other it comes too late to mean anything."""

    def limited(event: Callable[Concatenate[L, P], None]) -> Callable[Concatenate[L, P], None]:
        def take(link: L, /, *values: P.args, **named: P.kwargs) -> None:
            if link.state in states:
                event(link, *values, **named)

        return take

    return limited
