"""When somebody listened at all, and when topics were cleared: what tells a silence from a time in which nobody listened."""

from collections.abc import Callable, Collection, Iterator
from typing import Any, Final

Ask = Callable[[str, tuple[Any, ...]], list[Any]]
"""Answers a query with its parameters from an archive's file."""

MINUTE: Final = 60_000
SLICE: Final = 5000
"""Rows that are asked for at once."""

_HEARD: Final = f"""
    WITH RECURSIVE heard(time) AS (
        SELECT min(time) FROM readings WHERE time >= ? AND time < ?
        UNION ALL SELECT (SELECT min(time) FROM readings WHERE time >= heard.time - heard.time % {MINUTE} + {MINUTE} AND time < ?)
        FROM heard WHERE time IS NOT NULL)
    SELECT time FROM heard WHERE time IS NOT NULL LIMIT {SLICE}"""
_HEARD_BEFORE: Final = """
    SELECT DISTINCT m.time FROM topics t CROSS JOIN minutes m ON m.topic = t.id AND m.time >= ? AND m.time < ?
    AND m.count > 0 ORDER BY m.time"""
_CLEARINGS: Final = "SELECT t.name, c.time FROM clearings c JOIN topics t ON t.id = c.topic"


def heard(ask: Ask, since: int, until: int) -> Iterator[int]:
    """A time (ms) in each minute in which anything at all was stored: somebody listened then."""
    found = ask("SELECT min(time) FROM readings WHERE time >= ? AND time < ?", (since, until))
    first = until if found[0][0] is None else found[0][0]
    begins = first - first % MINUTE
    for begin in range(since, begins, SLICE * MINUTE):
        yield from (row[0] for row in ask(_HEARD_BEFORE, (begin, min(begin + SLICE * MINUTE, begins))))
    while found := ask(_HEARD, (first, until, until)):
        yield from (row[0] for row in found)
        first = found[-1][0] - found[-1][0] % MINUTE + MINUTE


def clearings(ask: Ask, names: Collection[str], since: int, until: int) -> Iterator[tuple[str, int]]:
    """When topics were cleared (ms), in the order of time: nobody could measure them any more."""
    marks = ",".join("?" * len(names))
    chosen = f"SELECT id FROM topics WHERE name IN ({marks})"
    query = f"{_CLEARINGS} WHERE c.topic IN ({chosen}) AND c.time >= ? AND c.time < ? ORDER BY c.time"
    yield from ((name, time) for name, time in ask(query, (*names, since, until)))
