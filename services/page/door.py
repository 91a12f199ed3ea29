"""One way in to the house's data: what the doors are, apart from what they answer, so that the description needs no answers."""

from collections.abc import Awaitable, Callable
from typing import Any, Final, NamedTuple

from starlette.requests import Request as HttpRequest
from starlette.responses import Response

BASE: Final = "/api/1"


class Door(NamedTuple):
    """One way in. `changes` takes a person; `open` needs no right to look."""

    method: str
    path: str
    summary: str
    handler: Callable[[Any, HttpRequest], Awaitable[Response]]
    answer: Any
    query: Any = None
    body: Any = None
    changes: bool = False
    open: bool = False
