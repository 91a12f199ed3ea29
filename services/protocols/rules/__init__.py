"""Alert rules and the alerts that follow from readings: pure algorithms, no I/O."""

from services.protocols.rules.engine import Announcement, Engine, Memory
from services.protocols.rules.lines import compile_lines, house_of, notifiers_of, unknown_notifiers
from services.protocols.rules.outbox import Lost, Outbox, Outgoing
from services.protocols.rules.replay import replay
from services.protocols.rules.rule import House, Rule, RuleError, Watch, compile_rules, listed

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
