"""How many readings of each topic the record has in each hour: a store elsewhere finds by it what it lacks and nobody told it of."""

from typing import Any, Final

import sqlalchemy as sql
from msgspec import Struct, field

from bootstrap_lib import ReadingError, RequestError, format_time, parse_time

HOUR: Final = 3_600_000
"""Milliseconds."""

MOST: Final = 6 * HOUR
"""Milliseconds that are counted at a time: half a second of the archive's loop on a Pi, at eight readings a second."""


class CountRange(Struct, forbid_unknown_fields=True):
    """Payload of `request/counts`: from one time to before another, six hours at most."""

    since: str = field(name="from")
    until: str = field(name="to")


_COUNTS: Final = sql.text("""
    SELECT t.name, r.time / 3600000 * 3600000 AS hour, count(*) FROM readings r JOIN topics t ON t.id = r.topic
    WHERE r.time >= :since AND r.time < :until GROUP BY t.name, hour""")


def count(engine: sql.Engine, asked: CountRange) -> dict[str, Any]:
    """Hours by their beginning, and for each topic one number for each of them. RequestError for a range that is none."""
    try:
        since, until = parse_time(asked.since), parse_time(asked.until)
    except ReadingError as error:
        raise RequestError(str(error)) from None
    if not 0 < until - since <= MOST:
        raise RequestError(f"from {asked.since} to {asked.until} is no range of up to {MOST // HOUR} hours")
    first = since // HOUR * HOUR
    hours = range(first, until, HOUR)
    topics: dict[str, list[int]] = {}
    with engine.connect() as connection:
        for name, hour, number in connection.execute(_COUNTS, {"since": since, "until": until}):
            topics.setdefault(name, [0] * len(hours))[(hour - first) // HOUR] += number
    return {"hours": [format_time(hour) for hour in hours], "topics": topics}
