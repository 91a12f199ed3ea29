"""An example of what a text in topics.yaml must look like: a pattern says that to programs, not to people."""

import typing
from collections.abc import Iterator
from typing import Any, Final

from msgspec import Meta

EVERYWHERE: Final = {"^secret:": "secret:NAME"}


def example(kind: type, pattern: str) -> str | None:
    """Return a right text for the option of `kind` that has this pattern, as its Meta names one."""
    for hint in typing.get_type_hints(kind, include_extras=True).values():
        for meta in _metas(hint):
            if meta.pattern == pattern and meta.examples:
                return str(meta.examples[0])
    return EVERYWHERE.get(pattern)


def _metas(hint: Any) -> Iterator[Meta]:
    yield from (meta for meta in getattr(hint, "__metadata__", ()) if isinstance(meta, Meta))
    for inner in typing.get_args(hint):
        yield from _metas(inner)
    if origin := getattr(hint, "__origin__", None) if hasattr(hint, "__metadata__") else None:
        yield from _metas(origin)
