"""The limit of a rule: what is compared with it, and from where on it is over again."""

import operator
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from services.alerting.rule import Rule, RuleError, Value

COMPARE: Final[dict[str, Callable[[Value, Value], bool]]] = {
    ">": operator.gt,
    ">=": operator.ge,
    "<": operator.lt,
    "<=": operator.le,
    "==": operator.eq,
    "!=": operator.ne,
}
RISING: Final = (">", ">=")
FALLING: Final = ("<", "<=")


@dataclass(frozen=True, slots=True)
class Condition:
    """What is wrong when it is true. `span` (s) is there for what is derived from a stretch of time.

    `derived` is `rate` (change per `span` by a line through the readings), `growth` (what was added within `span`,
    a counter that starts anew included), `silence` (nothing is heard), or empty (the value itself).
    """

    operator: str
    operand: Value
    derived: str = ""
    span: float = 0.0


def clear_of(rule: Rule, condition: Condition) -> Value:
    """The operand from which a condition is over again; RuleError where `clear` or `armed_at` lie on the wrong side."""
    _armed(rule, condition)
    if rule.clear is None:
        return condition.operand
    sign, limit = condition.operator, condition.operand
    if isinstance(limit, (bool, str)) or sign not in RISING + FALLING:
        raise RuleError("clear", "only > and < have a value at which they are over")
    if (sign in RISING and rule.clear > limit) or (sign in FALLING and rule.clear < limit):
        raise RuleError(
            "clear",
            f"it would be over at {rule.clear:g} and begin at {limit:g}: write it on the other side of the limit",
        )
    return rule.clear


def _armed(rule: Rule, condition: Condition) -> None:
    sign, limit, wanted = condition.operator, condition.operand, rule.armed_at
    if wanted is None:
        return
    if isinstance(limit, (bool, str)) or sign not in RISING + FALLING or condition.derived:
        raise RuleError("armed_at", "only a value that is > or < something is armed by another")
    if COMPARE[sign](wanted, limit):
        raise RuleError("armed_at", f"at {wanted:g} it is so already: write it on the other side of the limit")
