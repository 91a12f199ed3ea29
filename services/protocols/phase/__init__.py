"""Phases of a boiler from its temperatures and currents: pure algorithms, no I/O."""

from services.protocols.phase.cycles import Cycle
from services.protocols.phase.machine import Machine
from services.protocols.phase.replay import replay, replay_legacy
from services.protocols.phase.rules import FAULTS, PHASES, ROLES, Fault, Phase, Role, Rules
from services.protocols.phase.state import UNITS, Event, State

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
