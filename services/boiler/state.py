"""Everything that a boiler's machine knows and tells, as plain data that can be written down and read back."""

from datetime import UTC, datetime
from typing import Final

import msgspec

from services.boiler.evidence import Motor, Temperature
from services.boiler.records import BoilerDay, Cycle, Silo
from services.boiler.rules import FAULTS, Fault, Phase

UNITS: Final[dict[str, str]] = {
    "phase": "",
    "since_text": "",
    "cycles": "",
    **{f"{fault}_fault": "" for fault in FAULTS},
    "cycle_duration": "s",
    "ignition_duration": "s",
    "auger_duration": "s",
    "cycle_mass": "kg",
    "day_starts_count": "",
    "day_failed_count": "",
    "day_duty": "%",
    "day_mass": "kg",
    "silo_mass": "kg",
    "silo_days": "d",
}
"""Every output: the last level of its topic and its unit."""


class Event(msgspec.Struct, frozen=True):
    """One output at one time (ms since 1970); its name and unit stand in `UNITS`."""

    name: str
    value: bool | int | float | str
    time: int

    @property
    def unit(self) -> str:
        """The unit as people read it, empty where there is none."""
        return UNITS[self.name]


class DetectorState(msgspec.Struct):
    """Everything a detector knows, as plain data that survives a restart (times in ms since 1970)."""

    time: int = 0
    phase: Phase = "unknown"
    since: int = 0
    entered: int = 0
    """Since when an unknown machine has had evidence again; 0 while it has none."""
    temperatures: dict[str, Temperature] = msgspec.field(default_factory=dict)
    motors: dict[str, Motor] = msgspec.field(default_factory=dict)
    hot: bool = False
    """Whether the flue shows a fire."""
    last_fire: int = 0
    """The last sign of a fire; embers may live for a while after."""
    faults: set[Fault] = msgspec.field(default_factory=set)
    armed: bool = False
    """There was a fire or a warm boiler, which can go out."""
    low_since: int = 0
    lost_since: int = 0
    over_since: int = 0
    ignition_start: int = 0
    attempts: int = 0
    """Attempts in a row that saw no flame."""
    cycles: int = 0
    cycle_start: int = 0
    """0 when no cycle is open."""
    cycle_known: int = 0
    """The last moment of the open cycle that was known."""
    cycle_lit: int = 0
    """When its flame was first seen; 0 before."""
    cycle_whole: bool = False
    """Whether its beginning was seen."""
    cycle_blown: bool = False
    """Whether the fan was seen in its combustion, so that its clamp can be trusted to tell the end."""
    cycle_fed: bool = False
    """The same of the auger."""
    cycle_lighted: bool = False
    """Whether its igniter was seen at work."""
    cycle_auger_ms: float = 0.0
    """What the auger had run in all when it began."""
    finished: Cycle | None = None
    """The last finished cycle."""
    day: BoilerDay = msgspec.field(default_factory=BoilerDay)
    day_auger_ms: float = 0.0
    """What the auger had run in all when the day began."""
    silo: Silo = msgspec.field(default_factory=Silo)


def timestamp(time: int) -> str:
    """Milliseconds since 1970 as readings carry it: RFC 3339 in UTC, always with milliseconds."""
    return datetime.fromtimestamp(time / 1000, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
