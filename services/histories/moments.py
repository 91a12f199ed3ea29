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
_MINUTE: Final = 60_000
_HOUR: Final = 3_600_000


def moment_of(text: str, zone: ZoneInfo) -> int:
    """Milliseconds since 1970 of a number (s, ms, µs, ns by its size) or an ISO time; one without offset is local. ValueError."""
    return _both(text, zone)[0]


class Moments:
    """Times of one file's rows, one after another. Of an hour that autumn has twice, a step back tells which one it is.

    Also in a file that begins with the newest. Rows that are out of order by up to a minute are no step back; that the same time comes
    again is one where rows come each hour.
    """

    def __init__(self, zone: ZoneInfo) -> None:
        """Nothing was read."""
        self._zone = zone
        self._begin: int | None = None
        self._before = self._step = 0

    def __call__(self, text: str) -> int:
        """As `moment_of`."""
        moment, later = _both(text, self._zone)
        if self._begin is None:
            self._begin = self._before = moment
        if later > moment:
            falls = self._before < self._begin
            moment, other = (later, moment) if falls else (moment, later)
            back, then = ((self._before - one) * (-1 if falls else 1) for one in (moment, other))
            if then <= _MINUTE and (back > _MINUTE or (back == 0 and self._step >= _HOUR)):
                moment = other
        self._step, self._before = abs(moment - self._before), moment
        return moment


def _both(text: str, zone: ZoneInfo) -> tuple[int, int]:
    """The time, and what it is by the second of two clocks, where that is another. ValueError."""
    text = text.strip()
    if _NUMBER.fullmatch(text):
        if len(text) > LONGEST:
            raise ValueError(text[:LONGEST])
        if text.isdecimal() and len(text) >= 18:  # noqa: PLR2004 (nanoseconds: a float has no room for them)
            return (int(text) // 1_000_000,) * 2
        number = float(text)
        return (round(number * next((factor for least, factor in _UNITS if abs(number) >= least), 1000.0)),) * 2
    moment = datetime.fromisoformat(text)
    try:
        if moment.tzinfo is not None:
            return (round(moment.timestamp() * 1000),) * 2
        first, second = (round(moment.replace(tzinfo=zone, fold=fold).timestamp() * 1000) for fold in (0, 1))
    except OverflowError:
        raise ValueError(text) from None
    return first, second
