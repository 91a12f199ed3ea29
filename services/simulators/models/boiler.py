"""A pellet boiler with what a detector of phases must cope with: a pulsed auger, a flue that lags its fire, keep-fire bursts."""

from math import exp
from random import Random
from typing import Final, Literal

import msgspec

from services.simulators.models.chance import Wander, clamp


class BoilerSample(msgspec.Struct, frozen=True):
    """What the sensors of the boiler show at one moment: °C at the pipes, A rms at the clamps."""

    water: float
    flue: float
    return_: float
    box: float
    """Fuel box, where a burn-back would show first."""
    igniter: float
    fan: float
    auger: float
    circulator: float


BoilerPhase = Literal["off", "prepurge", "ignition", "combustion", "burnout", "keep_fire"]

IGNITER_A: Final = 3.75
FAN_A: Final[dict[BoilerPhase, float]] = {
    "off": 0.0,
    "prepurge": 0.42,
    "ignition": 0.30,
    "combustion": 0.22,
    "burnout": 0.36,
    "keep_fire": 0.0,
}
AUGER_A: Final = 0.51
CIRCULATOR_A: Final = 0.38
AUGER_KG_H: Final = 12.0
"""What the auger moves while it turns."""
HEAT_KWH_KG: Final = 4.8
"""Lower calorific value of wood pellets (EN ISO 17225-2)."""
MAX_KG_S: Final = 0.0015
"""What burns at most, for want of air, kg/s: 26 kW."""
EFFICIENCY: Final = 0.9
WATER_KWH_K: Final = 0.35
"""Heat that the boiler and its 300 l of water hold."""


class BoilerController(msgspec.Struct, frozen=True, kw_only=True):
    """Settings of the boiler's own controller (s, °C)."""

    start_at: float = 60.0
    """Water below this asks for a fire."""
    stop_at: float = 70.0
    """Water above this ends it."""
    pause_s: float = 300.0
    """Least time off."""
    prepurge_s: float = 90.0
    charge_s: float = 60.0
    """The first fuel goes in at once, for so long."""
    dose_after_s: float = 240.0
    """... and the rest of a lighting in pulses from here."""
    flame: float = 12.0
    """Flue above water by this much: the fire burns."""
    ignition_s: float = 1500.0
    """Without a flame by then the boiler locks out."""
    lost_s: float = 900.0
    """It does so too when the flue has been cooler than the water for this long."""
    auger_on_s: float = 12.0
    auger_period_s: float = 32.0
    burnout_s: float = 480.0
    burst_every_s: float = 1800.0
    """Keep fire blows and feeds this often ..."""
    burst_s: float = 40.0
    """... for so long."""
    circulate_from: float = 45.0
    """The circulator runs while the water is above this."""


EMBERS: Final = 0.2
"""Share of a fire from which air alone makes a new one."""
DEAD: Final = 0.02
"""Share of a fire below which there is none."""
LIGHTING_KG: Final = 0.02
"""Fuel that hot air needs to light."""
LIGHTING_AIR: Final = 0.8
"""Share of the igniter's full heat that lights it."""
LAST_KG: Final = 0.005
"""Fuel below which a fire starves."""


class SimulatedBoiler:
    """A 20 kW pellet boiler with igniter and keep-fire: a fuel bed, a flue, a mass of water and a house that cools it.

    Currents are those of a measured boiler (igniter 860 VA, auger 117 VA at 230 V). Break it by `igniter_works` or
    `silo_kg`: it then locks out, which `enabled` shows and undoes. `phase` is the truth that a detector has to find.
    """

    def __init__(self, seed: int = 0, *, speed: float = 1.0, time: float = 0.0, water: float = 58.0) -> None:
        """`time` is the second of the day, `water` the first temperature in °C."""
        self._random = Random(seed)
        self._demand = Wander(self._random, 5 * 3600)
        self.speed = speed
        self.time = time
        self.phase: BoilerPhase = "off"
        self.since = time
        self.enabled = True
        self.igniter_works = True
        self.silo_kg = 2000.0
        self.burned_kg = 0.0
        """Fuel that the auger has moved in all."""
        self.control = BoilerController()
        self._water = water
        self._flue = water - 9.0
        self._return = water - 4.0
        self._bed_kg = 0.0
        self._lit = 0.0
        self._hot_air = 0.0
        self._flame_seen = time
        self._auger = self._fan = self._igniter = False

    def step(self, seconds: float) -> BoilerSample:
        """Let time pass (real seconds, times `speed` in the model) and read all sensors."""
        left = seconds * self.speed
        while left > 0.0:
            passed = min(left, 1.0)
            self.time += passed
            self._control()
            self._burn(passed)
            left -= passed
        return self.sample()

    def sample(self) -> BoilerSample:
        """Read all sensors, as a DS18B20 (1/16 °C) and a clamp with a noise of 2 mA do."""
        noise = self._random.gauss

        def degrees(value: float) -> float:
            return round((value + noise(0.0, 0.03)) * 16) / 16

        def amperes(value: float) -> float:
            return round(max(0.0, abs(noise(0.0, 0.002)) + value * noise(1.0, 0.01)), 3)

        return BoilerSample(
            water=degrees(self._water),
            flue=degrees(self._flue),
            return_=degrees(self._return),
            box=degrees(24.0 + 0.08 * (self._water - 20.0)),
            igniter=amperes(IGNITER_A * self._igniter),
            fan=amperes((FAN_A[self.phase] or 0.13) * self._fan),
            auger=amperes(AUGER_A * self._auger),
            circulator=amperes(CIRCULATOR_A * (self._water > self.control.circulate_from)),
        )

    def _enter(self, phase: BoilerPhase) -> None:
        if phase != self.phase:
            self.phase, self.since = phase, self.time

    def _control(self) -> None:
        """Do what the boiler's own controller does."""
        control = self.control
        within = self.time - self.since
        if self._flue > self._water:
            self._flame_seen = self.time
        cold = self._water < control.start_at and self.enabled
        if self.phase == "off":
            if cold and within > control.pause_s:
                self._enter("prepurge")
        elif self.phase == "prepurge":
            if within > control.prepurge_s:
                self._enter("ignition")
        elif self.phase == "ignition":
            if self._flue - self._water > control.flame:
                self._enter("combustion")
            elif within > control.ignition_s:
                self._lock_out()
        elif self.phase == "combustion":
            if self._water > control.stop_at or not self.enabled:
                self._enter("burnout")
            elif min(within, self.time - self._flame_seen) > control.lost_s:
                self._lock_out()
        elif self.phase == "burnout":
            if within > control.burnout_s:
                self._enter("keep_fire")
        elif cold and self._lit > EMBERS:
            self._enter("combustion")
        elif not self.enabled or self._lit < DEAD:
            self._enter("off")
        self._drive(self.time - self.since)

    def _lock_out(self) -> None:
        self.enabled = False
        self._enter("off")

    def _drive(self, within: float) -> None:
        """Switch the motors, so long after the phase began."""
        control = self.control
        in_burst = within % control.burst_every_s - (control.burst_every_s - control.burst_s)
        burst = self.phase == "keep_fire" and in_burst > 0.0
        pulse = within % control.auger_period_s < control.auger_on_s
        self._fan = self.phase not in ("off", "keep_fire") or burst
        self._igniter = self.phase == "ignition"
        if self.phase == "ignition":
            self._auger = within < control.charge_s or (within > control.dose_after_s and pulse)
        else:
            self._auger = (self.phase == "combustion" and pulse) or (burst and in_burst < control.auger_on_s)

    def _burn(self, passed: float) -> None:
        """Move fuel, fire and heat on by at most a second."""
        if self._auger and self.silo_kg > 0.0:
            fed = min(self.silo_kg, AUGER_KG_H * passed / 3600.0)
            self.silo_kg -= fed
            self.burned_kg += fed
            self._bed_kg += fed
        self._hot_air += (float(self._igniter and self.igniter_works) - self._hot_air) * passed / 90.0
        if self._bed_kg > LIGHTING_KG and self._hot_air > LIGHTING_AIR:
            self._lit = min(1.0, self._lit + passed / 120.0)
        air = 1.0 if self._fan else 0.02
        alive = self._bed_kg > LAST_KG
        self._lit = clamp(self._lit + (passed / 200.0 if alive and self._lit and self._fan else 0.0), 0.0, 1.0)
        self._lit *= exp(-passed / (9000.0 if alive or not self._fan else 120.0))
        burned = min(self._bed_kg * self._lit * air / 240.0, MAX_KG_S) * passed
        self._bed_kg -= burned
        power = burned * HEAT_KWH_KG * 3600.0 / passed
        target = self._water - 9.0 + 3.4 * power + 12.0 * float(self._igniter) * self._hot_air
        self._flue += (target - self._flue) * passed / 300.0
        load = (6.0 + 3.0 * self._demand(self.time)) * clamp((self._water - 25.0) / 35.0, 0.0, 1.3)
        self._water += (power * EFFICIENCY - load) * passed / 3600.0 / WATER_KWH_K
        self._return += (self._water - load / 1.4 - self._return) * passed / 120.0
