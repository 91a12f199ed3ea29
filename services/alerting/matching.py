"""Which topics, services and houses a rule speaks of: `+` (or `*`) stands for one level, `#` for all levels that follow.

At the centre of a fleet the topics and services of a house stand below its name. What a house has is known once it said so,
so that a pattern which may be of houses matches nothing at first.
"""

import re
from collections.abc import Collection, Iterator
from typing import Final

from services.alerting.rule import RuleError, hint

LEVELS: Final = 3
"""Levels of a topic; one of a house has its house before them."""

_SIGNS: Final = {"+": "[^/]+", "*": "[^/]+", "#": ".+"}


def matching(
    pattern: str, names: Collection[str], entry: str, houses: Collection[str] | None, levels: int
) -> list[str]:
    """Names that a pattern matches; `levels` of them are without a house. RuleError where there can be none."""
    if not any(sign in pattern for sign in _SIGNS):
        if pattern in names:
            return [pattern]
        if _may_be_of_a_house(pattern, houses, levels):
            return []
        raise RuleError(entry, f"'{pattern}' is not known{hint(pattern, names)}")
    form = _form(pattern)
    found = [name for name in names if form.fullmatch(name)]
    if not found and not _may_be_of_a_house(pattern, houses, levels):
        raise RuleError(entry, f"'{pattern}' matches nothing: + stands for one level, # for all that follow")
    return found


def _form(pattern: str) -> re.Pattern[str]:
    return re.compile("/".join(_SIGNS.get(level, re.escape(level)) for level in pattern.split("/")))


def _may_be_of_a_house(pattern: str, houses: Collection[str] | None, levels: int) -> bool:
    if houses is None:
        return False
    house, *rest = pattern.split("/")
    long = len(rest) == levels or (len(rest) < levels and pattern.endswith("#"))
    return long and (house in _SIGNS or house in houses)


class HousePatterns:
    """Patterns of rules that topics of houses may match."""

    def __init__(self, patterns: Collection[str]) -> None:
        """Keep them compiled."""
        self._patterns = sorted(set(patterns))
        self._forms = [_form(pattern) for pattern in self._patterns]

    def match(self, name: str) -> bool:
        """Whether a rule speaks of a topic `HOUSE/place/thing/name`."""
        return any(form.fullmatch(name) for form in self._forms)

    def filters(self, root: str) -> Iterator[str]:
        """What to subscribe to at the centre's broker."""
        for pattern in self._patterns:
            house, *rest = (("+" if level == "*" else level) for level in pattern.split("/"))
            if house == "#":
                yield f"+/{root}/data/#"
            elif len(rest) == LEVELS or (rest and rest[-1] == "#"):
                yield f"{house}/{root}/data/{'/'.join(rest)}"
