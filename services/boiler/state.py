"""Everything that a boiler's machine knows and tells, as plain data that can be written down and read back."""

import msgspec

from services.boiler.evidence import Motor, Temperature
from services.boiler.records import BoilerDay, Chore, Cycle, Silo
from services.boiler.rules import Fault, Phase
from services.boiler.units import UNITS


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
    last_burst: int = 0
    """The last time at which fan and auger moved for a short while at rest: the boiler keeps its fire."""
    moved_since: int = 0
    """Since when they move at rest; 0 while they stand."""
    moved_fed: bool = False
    """Whether both did."""
    faults: set[Fault] = msgspec.field(default_factory=set)
    armed: bool = False
    """There was a fire or a warm boiler, which can go out."""
    low_since: int = 0
    lost_since: int = 0
    over_since: int = 0
    hot_by: set[str] = msgspec.field(default_factory=set)
    """Roles by which it was too hot since then: by these it ends."""
    told: set[Fault] = msgspec.field(default_factory=set)
    """Faults of which anything was ever told."""
    ignition_start: int = 0
    charge_start: int = 0
    """When fan and auger began to work for a fire that is not seen yet; 0 while they do not."""
    failed_start: int = 0
    """When the last attempt without a flame began,"""
    failed_end: int = 0
    """... and ended."""
    idle_since: int = 0
    """When the last fire ended: its fan may have run on until then."""
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
    cycle_moved: bool = False
    """Whether any of the two was seen at work in it, before there was a flame too."""
    cycle_lighted: bool = False
    """Whether its igniter was seen at work."""
    cycle_auger_ms: float = 0.0
    """What the auger had run in all when it began,"""
    cycle_seen_ms: float = 0.0
    """... for how long it had been seen,"""
    cycle_known_ms: int = 0
    """... and for how long the phase was known since."""
    finished: Cycle | None = None
    """The last finished cycle."""
    day: BoilerDay = msgspec.field(default_factory=BoilerDay)
    day_auger_ms: float = 0.0
    """What the auger had run in all when the day began,"""
    day_seen_ms: float = 0.0
    """... and for how long it had been seen."""
    unfed_ms: float = 0.0
    """For how long a fire burned of which the auger's clamp saw nothing: it is not seen then."""
    burning_ms: int = 0
    """In ignition and combustion, ever."""
    flames: int = 0
    """Flames that were ever seen."""
    fuel_base_kg: float = 0.0
    """Fuel that was reckoned with other rates."""
    fuel_base_ms: float = 0.0
    fuel_rate: float | None = None
    upkeep: dict[str, Chore] = msgspec.field(default_factory=dict)
    outdoor: list[tuple[float, int]] = msgspec.field(default_factory=lambda: [(0.0, 0)] * 25)
    """Sum and count of the outdoor temperatures of each hour of the day."""
    sums: dict[str, float] = msgspec.field(default_factory=dict)
    """Running sums as they were last told."""
    silo: Silo = msgspec.field(default_factory=Silo)
