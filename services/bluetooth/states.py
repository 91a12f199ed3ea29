"""Events of a link that mean something in some of its states only."""

from __future__ import annotations

from typing import TYPE_CHECKING, Concatenate, ParamSpec

if TYPE_CHECKING:
    from collections.abc import Callable

    from services.bluetooth.link import Link

P = ParamSpec("P")


def during(
    *states: str,
) -> Callable[[Callable[Concatenate[Link, P], None]], Callable[Concatenate[Link, P], None]]:
    """Let an event count in these states only; in any other it comes too late to mean anything."""

    def limited(event: Callable[Concatenate[Link, P], None]) -> Callable[Concatenate[Link, P], None]:
        def take(link: Link, /, *values: P.args, **named: P.kwargs) -> None:
            if link.state in states:
                event(link, *values, **named)

        return take

    return limited
