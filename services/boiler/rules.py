"""The rules of phase detection are data, so that a boiler is tuned in topics.yaml and never in code."""

from typing import Literal

import msgspec

Phase = Literal["unknown", "off", "prepurge", "ignition", "combustion", "burnout", "keep_fire"]
Fault = Literal[
    "ignition_failed", "jam_or_empty", "overheating", "fire_out", "igniter_clamp", "fan_clamp", "auger_clamp"
]
Role = Literal["water", "flue", "return", "igniter", "fan", "auger", "outdoor"]

PHASES: tuple[Phase, ...] = ("unknown", "off", "prepurge", "ignition", "combustion", "burnout", "keep_fire")
FAULTS: tuple[Fault, ...] = (
    "ignition_failed",
    "jam_or_empty",
    "overheating",
    "fire_out",
    "igniter_clamp",
    "fan_clamp",
    "auger_clamp",
)
TEMPERATURES: tuple[Role, ...] = ("water", "flue", "return")
MOTORS: tuple[Role, ...] = ("igniter", "fan", "auger")
ROLES: tuple[Role, ...] = TEMPERATURES + MOTORS
"""Roles by which the fire is judged; the outdoor temperature is for the books only."""
FIRE: frozenset[Phase] = frozenset(("prepurge", "ignition", "combustion", "burnout"))
"""Phases that belong to a cycle."""
REST: frozenset[Phase] = frozenset(("off", "keep_fire"))
"""Phases without a fire that needs anything."""


class TemperatureRules(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What a temperature can do: outside of this a reading is not one (°C, seconds)."""

    low: float = 1.0
    """Lowest plausible value, °C; above the -1 and 0 that recordings of old systems hold for no value."""
    high: float = 120.0
    """Highest plausible value, °C."""
    jump: float = 2.0
    """A step that one reading may make at once, °C."""
    rate: float = 0.1
    """The fastest believable change, °C/s, added to `jump` for the time since the last good reading."""
    settle_s: float = 120.0
    """An impossible step is believed when the new level has lasted this long, s."""
    window_s: float = 300.0
    """Span of the robust line fit that gives the slope, s."""


class MotorRules(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """When a clamp says that its motor runs; levels are above the learned zero, in the clamp's own unit."""

    on: float
    """Above zero by this much is on (raised to five times the learned noise where that is more)."""
    off: float
    """Above zero by less than this is off again (raised to half of that)."""
    tau_s: float
    """Time constant of the duty average, s."""
    duty_on: float
    """Runs when the duty average reaches this (0..1)."""
    duty_off: float
    """Stands when the duty average falls to this (0..1)."""
    duty_max: float = 1.0
    """A duty above this is an offset of the clamp, not a motor (0..1)."""
    run_max_s: float | None = None
    """On for longer than this without a pause is an offset of the clamp, not a motor, s."""
    high: float = 200.0
    """Highest plausible reading; below 0 none is."""


class Dwell(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The least time in a phase before another may follow, s; only `unknown` may cut it short."""

    unknown: float = 60.0
    off: float = 120.0
    prepurge: float = 20.0
    ignition: float = 120.0
    combustion: float = 300.0
    burnout: float = 120.0
    keep_fire: float = 120.0


class Rules(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One boiler's rules; the defaults fit a pellet boiler of 10 to 30 kW with clamps that read ampere."""

    dwell: Dwell = Dwell()
    water: TemperatureRules = TemperatureRules(window_s=900.0)
    flue: TemperatureRules = TemperatureRules(high=500.0, rate=0.5)
    return_: TemperatureRules = msgspec.field(default=TemperatureRules(), name="return")
    igniter: MotorRules = MotorRules(on=1.0, off=0.5, tau_s=15.0, duty_on=0.5, duty_off=0.3, run_max_s=2700.0)
    fan: MotorRules = MotorRules(on=0.06, off=0.03, tau_s=30.0, duty_on=0.6, duty_off=0.3)
    auger: MotorRules = MotorRules(
        on=0.2, off=0.1, tau_s=60.0, duty_on=0.1, duty_off=0.03, duty_max=0.97, run_max_s=600.0
    )
    power_on: float = 85.0
    """What a DS18B20 shows before its first conversion (°C): believed only within `jump` of the last reading."""
    stale_s: float = 300.0
    """An input without a good reading for this long is missing, s."""

    hot_on: float = 10.0
    """Flue minus water from which there is a fire, °C."""
    hot_off: float = 4.0
    """Flue minus water below which there is none, °C."""
    flue_hot_on: float = 75.0
    """The same by the flue alone, while the water is missing, °C."""
    flue_hot_off: float = 65.0
    """The same by the flue alone, while the water is missing, °C."""
    ignition_slope: float = 1.0
    """A flue that rises faster is being lit, °C/min."""
    ignition_rise: float = 3.0
    """... once it has risen by this much within its window, °C."""
    cooling_slope: float = 0.4
    """A flue that falls faster has no more fire coming, °C/min."""
    burnout_below: float = 20.0
    """Flue minus water below which a falling flue is a burnout; above it the boiler modulates, °C."""
    water_slope: float = 0.15
    """A water temperature that rises faster is heated: all that a house without flue and clamps can see, °C/min."""

    prepurge_max_s: float = 300.0
    """A fan that blows longer, while nothing lights or feeds, is an offset of its clamp, s."""
    ignition_max_s: float = 900.0
    """No flame after this long: ignition failed, s."""
    ignition_attempts: int = 3
    """So many shorter attempts of the igniter in a row without a flame: ignition failed."""
    burst_s: float = 180.0
    """Feeding or blowing for less than this is a burst, not a burn and no attempt to light, s."""
    burnout_max_s: float = 2400.0
    """A burnout ends after this long even when the fan still runs, s."""
    keep_fire_s: float = 10800.0
    """Embers are believed alive this long after the last burn or burst, s; 0 for a boiler that keeps none."""
    cycle_gap_s: float = 3600.0
    """A fire seen again after a longer `unknown` is a new cycle, s."""

    water_low: float = 57.0
    """Without a fire and with water below this, the fire is out, °C."""
    water_low_hysteresis: float = 2.0
    """... until it is that much above, °C."""
    fire_out_s: float = 300.0
    """... for this long, s."""
    jam_s: float = 300.0
    """Feeding for this long after the flame was lost: jam or empty silo, s."""
    water_max: float = 90.0
    """Overheating from this water temperature, °C."""
    flue_max: float = 300.0
    """Overheating from this flue temperature, °C."""
    overheating_hysteresis: float = 5.0
    """Overheating ends that far below, °C."""
    overheating_s: float = 20.0
    """Overheating counts after this long, s."""

    auger_rate: float | None = None
    """Fuel that the running auger moves, kg/h, by weighing; without it no fuel is told."""
    heating_value: float = 4.8
    """Energy of the fuel, kWh/kg; wood pellets have 4.6 to 5.0."""
    bag_kg: float = 15.0
    """Fuel in a bag, kg."""
    silo_kg: float | None = None
    """What the full silo holds, kg; a refill by level takes it."""
    ash_share: float = 0.5
    """Ash of the fuel, % of its mass; ENplus A1 pellets have at most 0.7."""
    ash_kg: float | None = None
    """The ash box is full with so much, kg; without it nobody is reminded."""
    cleaning_kg: float | None = None
    """It wants to be cleaned after so much fuel, kg,"""
    cleaning_hours: float | None = None
    """... so many hours of burning,"""
    cleaning_days: float | None = None
    """... or so many days."""
    service_kg: float | None = None
    """It wants to be serviced after so much fuel, kg,"""
    service_hours: float | None = None
    """... so many hours of burning,"""
    service_days: float | None = None
    """... or so many days."""
    degree_base: float = 18.0
    """A day's degree days are how much colder than this it was outside on the mean, °C."""

    timezone: str = "UTC"
    """Days are days of this zone (IANA name)."""
    mean_days: int = 14
    """Days of fuel left are reckoned from this many last days, and from the season and the weather."""
