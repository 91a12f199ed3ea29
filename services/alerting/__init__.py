"""Alert rules and the alerts that follow from readings: pure algorithms, no I/O."""

from services.alerting.check import compile_lines, house_of, notifiers_of, unknown_notifiers
from services.alerting.engine import Announcement, Engine, Memory
from services.alerting.outbox import Lost, Outbox, Outgoing
from services.alerting.replay import replay
from services.alerting.rule import House, Rule, RuleError, Watch, compile_rules, listed

__all__ = [
    "Announcement",
    "Engine",
    "House",
    "Lost",
    "Memory",
    "Outbox",
    "Outgoing",
    "Rule",
    "RuleError",
    "Watch",
    "compile_lines",
    "compile_rules",
    "house_of",
    "listed",
    "notifiers_of",
    "replay",
    "unknown_notifiers",
]
