"""Times as other programs write them."""

import re
from datetime import datetime
from typing import Final
from zoneinfo import ZoneInfo

LONGEST: Final = 24
"""Letters of a number that can be a time: nanoseconds have nineteen."""

_NUMBER: Final = re.compile(r"-?\d+(\.\d+)?")
_UNITS: Final = ((1e17, 1e-6), (1e14, 1e-3), (1e11, 1.0))
"""From which number on it counts nano-, micro- or milliseconds, and the factor to milliseconds; below them it counts seconds."""


def moment_of(text: str, zone: ZoneInfo) -> int:
    """Milliseconds since 1970 of a number (s, ms, µs, ns by its size) or an ISO time; one without offset is local. ValueError."""
    text = text.strip()
    if _NUMBER.fullmatch(text):
        if len(text) > LONGEST:
            raise ValueError(text[:LONGEST])
        if text.isdecimal() and len(text) >= 18:  # noqa: PLR2004 (nanoseconds: a float has no room for them)
            return int(text) // 1_000_000
        number = float(text)
        return round(number * next((factor for least, factor in _UNITS if abs(number) >= least), 1000.0))
    moment = datetime.fromisoformat(text)
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=zone)
    try:
        return round(moment.timestamp() * 1000)
    except OverflowError:
        raise ValueError(text) from None
