"""Alert rules and the alerts that follow from readings: pure algorithms, no I/O."""

from services.alerting.check import compile_lines, compile_rules, people_of, scope_of, unknown_recipients
from services.alerting.condition import Scope, Watch
from services.alerting.documents import NAMED, document_of, explanation_of, health_of, names_shown
from services.alerting.judging import Judge
from services.alerting.outbox import Outbox, Outgoing
from services.alerting.replay import Rehearsal, replay
from services.alerting.rule import Rule, RuleError, listed
from services.alerting.settings import AlertOptions, TellerSettings
from services.alerting.telling import Teller
from services.alerting.told import TellerMemory
from services.alerting.verdict import JudgeMemory

__all__ = [
    "NAMED",
    "AlertOptions",
    "Judge",
    "JudgeMemory",
    "Outbox",
    "Outgoing",
    "Rehearsal",
    "Rule",
    "RuleError",
    "Scope",
    "Teller",
    "TellerMemory",
    "TellerSettings",
    "Watch",
    "compile_lines",
    "compile_rules",
    "document_of",
    "explanation_of",
    "health_of",
    "listed",
    "names_shown",
    "people_of",
    "replay",
    "scope_of",
    "unknown_recipients",
]
