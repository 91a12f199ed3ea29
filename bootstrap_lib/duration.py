"""Times as people write them: `10s`, `15m`, `2h`, `7d`."""

import re
from typing import Final

_SECONDS: Final = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}
_PART: Final = re.compile(r"(\d+(?:\.\d+)?)(ms|s|m|h|d)")
PATTERN: Final = r"^(\d+(\.\d+)?(ms|s|m|h|d))+$"
"""What a JSON schema says of a duration."""
LONGEST: Final = 100 * 365 * 86400.0
"""Seconds: what lies further ahead has no date that a computer can name."""


class Duration(float):
    """Seconds, written `90s`, `15m`, `1h30m`, `7d` in topics.yaml and in requests."""

    __slots__ = ()

    @classmethod
    def parse(cls, text: object) -> "Duration":
        """Read a duration; ValueError says how one looks. A bare number is refused, for it has no unit."""
        if not isinstance(text, str) or not re.fullmatch(PATTERN, text):
            raise ValueError(f"{text!r} is no duration: write a number and a unit, such as 10s, 15m, 2h or 7d")
        seconds = sum(float(number) * _SECONDS[unit] for number, unit in _PART.findall(text))
        if seconds > LONGEST:
            raise ValueError(f"{text[:20]!r} is longer than a hundred years")
        return cls(seconds)

    def __str__(self) -> str:
        """Return the shortest form with at most two units: 1h30m."""
        return describe(self)

    def __format__(self, spec: str) -> str:
        """Format as text, unless the specification asks for a number."""
        return float.__format__(self, spec) if spec.endswith(tuple("eEfFgGn%")) else format(str(self), spec)


def describe(seconds: float) -> str:
    """Seconds for people: 250ms, 42s, 3m20s, 2h5m, 4d3h."""
    if seconds < 1:
        return f"{round(seconds * 1000)}ms"
    whole = round(seconds)
    parts = []
    for unit, size in (("d", 86400), ("h", 3600), ("m", 60), ("s", 1)):
        count, whole = divmod(whole, size)
        if count:
            parts.append(f"{count}{unit}")
    return "".join(parts[:2])
