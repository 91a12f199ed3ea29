"""Phases of a boiler from its temperatures and currents: pure algorithms, no I/O."""

from services.boiler.detector import PhaseDetector
from services.boiler.records import Cycle
from services.boiler.replay import replay, replay_legacy
from services.boiler.rules import FAULTS, PHASES, ROLES, Fault, Phase, Role, Rules
from services.boiler.state import DetectorState, Event
from services.boiler.units import UNITS

__all__ = [
    "FAULTS",
    "PHASES",
    "ROLES",
    "UNITS",
    "Cycle",
    "DetectorState",
    "Event",
    "Fault",
    "Phase",
    "PhaseDetector",
    "Role",
    "Rules",
    "replay",
    "replay_legacy",
]
