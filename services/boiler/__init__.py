"""Phases of a boiler from its temperatures and currents: pure algorithms, no I/O."""

from services.boiler.books import Cycle
from services.boiler.phases import Machine
from services.boiler.replay import replay, replay_legacy
from services.boiler.rules import FAULTS, PHASES, ROLES, Fault, Phase, Role, Rules
from services.boiler.state import UNITS, Event, State

__all__ = [
    "FAULTS",
    "PHASES",
    "ROLES",
    "UNITS",
    "Cycle",
    "Event",
    "Fault",
    "Machine",
    "Phase",
    "Role",
    "Rules",
    "State",
    "replay",
    "replay_legacy",
]
