"""Believable values without wires: a pellet boiler, a battery, meters, and a curve for every quantity.

The demo and the tests run the real services on these, so the models keep what the services must cope with: a
pulsed auger, a flue that lags its fire, a flat lithium discharge curve, counters that only grow. All are seeded and
repeatable, and run faster than life where `speed` says so.
"""
# ruff: noqa: S311 (chance makes the curves, and is no secret)

from __future__ import annotations

from bisect import bisect_right
from math import exp, pi, sin
from random import Random
from typing import TYPE_CHECKING, Final, Literal

import msgspec

from bootstrap_lib.quantities import QUANTITIES

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from bootstrap_lib.reading import Value

DAY: Final = 86_400.0
"""Seconds of a day; time of day counts from local midnight."""


def clamp(value: float, low: float, high: float) -> float:
    """Bring a value into a range."""
    return max(low, min(high, value))


def is_between(time: float, begin: float, end: float) -> bool:
    """Whether a second lies between two hours of its day."""
    return begin <= time % DAY / 3600.0 < end


class Wander:
    """A slow random swing between -1 and 1 that is a function of time: three sines that never repeat together."""

    def __init__(self, random: Random, period: float) -> None:
        """`period` in seconds is that of the slowest part."""
        self._parts = [(2 * pi / (period / n), random.uniform(0, 2 * pi)) for n in (1.0, 2.7, 7.3)]

    def __call__(self, time: float) -> float:
        """Return the swing at a time in seconds."""
        return sum(sin(rate * time + phase) / n for n, (rate, phase) in enumerate(self._parts, 1)) * 6 / 11


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


class Control(msgspec.Struct, frozen=True, kw_only=True):
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


class Boiler:
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
        self.control = Control()
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


LIFEPO4: Final = (
    (0.0, 2.50),
    (0.03, 2.95),
    (0.10, 3.18),
    (0.20, 3.24),
    (0.40, 3.28),
    (0.60, 3.30),
    (0.70, 3.32),
    (0.90, 3.335),
    (0.97, 3.36),
    (0.99, 3.42),
    (1.0, 3.55),
)
"""Open-circuit voltage of a cell by state of charge (0..1), V: flat for most of its way."""


def cell_voltage(soc: float) -> float:
    """Open-circuit voltage (V) of a LiFePO4 cell at a state of charge (0..1), between the points of its curve."""
    place = clamp(soc, 0.0, 1.0)
    after = min(bisect_right(LIFEPO4, (place, 99.0)), len(LIFEPO4) - 1)
    (x0, y0), (x1, y1) = LIFEPO4[after - 1], LIFEPO4[after]
    return y0 + (y1 - y0) * (place - x0) / (x1 - x0)


def sunlight(time: float, *, sunrise: float = 6.5, sunset: float = 19.5) -> float:
    """Share (0..1) of the clear-sky noon power at a second of the day; sunrise and sunset in hours."""
    hour = time % DAY / 3600.0
    return max(0.0, sin(pi * (hour - sunrise) / (sunset - sunrise))) ** 1.2 if sunrise < hour < sunset else 0.0


class BatterySample(msgspec.Struct, frozen=True):
    """What a battery management system and a solar charge controller report at one moment."""

    cells: tuple[float, ...]
    """V, to 1 mV."""
    voltage: float
    """V."""
    current: float
    """A, charging positive."""
    soc: float
    """%."""
    charge: float
    """What is left, Ah."""
    throughput: float
    """Discharged in all, Ah."""
    temperature: float
    """°C."""
    solar_power: float
    """W."""
    load_power: float
    """W."""


class Battery:
    """Eight LiFePO4 cells with a solar day above and a house below, cut off at full and at empty."""

    def __init__(
        self, seed: int = 0, *, speed: float = 1.0, time: float = 0.0, soc: float = 0.6, capacity: float = 280.0
    ) -> None:
        """`time` is the second of the day, `soc` 0..1, `capacity` in Ah."""
        self._random = Random(seed)
        self._clouds = Wander(self._random, 5400.0)
        self._habit = Wander(self._random, 7000.0)
        self._spread = [self._random.gauss(0.0, 0.004) for _ in range(8)]
        self.speed = speed
        self.time = time
        self.soc = soc
        self.capacity = capacity
        self.solar_peak, self.load_mean = 1800.0, 220.0
        self._throughput = 5200.0
        self._temperature = 18.0

    def step(self, seconds: float) -> BatterySample:
        """Let time pass (real seconds, times `speed` in the model) and report."""
        left = seconds * self.speed
        solar = load = current = 0.0
        while True:
            passed = min(left, 30.0)
            self.time += passed
            solar = self.solar_peak * sunlight(self.time) * clamp(0.75 + 0.5 * self._clouds(self.time), 0.08, 1.0)
            evening = 1.0 if is_between(self.time, 17.0, 22.5) else 0.0
            load = self.load_mean * (1.0 + 0.8 * evening + 0.5 * self._habit(self.time))
            current = (solar - load) / (8 * cell_voltage(self.soc))
            if (self.soc >= 1.0 and current > 0.0) or (self.soc <= 0.0 and current < 0.0):
                current = 0.0
            self.soc = clamp(self.soc + current * passed / 3600.0 / self.capacity, 0.0, 1.0)
            self._throughput += max(0.0, -current) * passed / 3600.0
            self._temperature += (18.0 + current * current * 0.0006 - self._temperature) * passed / 7200.0
            left -= passed
            if left <= 0.0:
                break
        noise = self._random.gauss
        cells = tuple(
            round(cell_voltage(self.soc) + current * 0.0004 + spread * (1.0 + 2.0 * (self.soc > LIFEPO4[-3][0])), 3)
            for spread in self._spread
        )
        return BatterySample(
            cells=cells,
            voltage=round(sum(cells), 2),
            current=round(current + noise(0.0, 0.02), 2),
            soc=round(self.soc * 100.0, 1),
            charge=round(self.soc * self.capacity, 2),
            throughput=round(self._throughput, 3),
            temperature=round(self._temperature + noise(0.0, 0.05), 1),
            solar_power=round(solar, 1),
            load_power=round(load, 1),
        )


class MeterSample(msgspec.Struct, frozen=True):
    """What a meter shows at one moment."""

    total: float
    """kWh or m³, to 0.001; never less than before."""
    rate: float
    """The same per hour, now: kW or m³/h."""


class Meter:
    """A counter that a house drives: a base that never rests, habits of the day, and short strong draws."""

    def __init__(
        self,
        seed: int = 0,
        *,
        base: float,
        draw: float,
        speed: float = 1.0,
        time: float = 0.0,
        total: float = 0.0,
    ) -> None:
        """Rates `base` (always) and `draw` (one kettle, one tap) in kW or m³/h; `total` is what it shows at first."""
        self._random = Random(seed)
        self.speed = speed
        self.time = time
        self.total = total
        self.base, self.draw = base, draw
        self._drawing_until = time

    def step(self, seconds: float) -> MeterSample:
        """Let time pass (real seconds, times `speed` in the model) and read."""
        left = seconds * self.speed
        rate = self.base
        while left > 0.0:
            passed = min(left, 10.0)
            self.time += passed
            busy = is_between(self.time, 6.5, 8.5) or is_between(self.time, 17.5, 21.5)
            awake = 0.15 if is_between(self.time, 0.0, 6.0) else 2.5 if busy else 1.0
            if self.time >= self._drawing_until and self._random.random() < passed * awake / 1200.0:
                self._drawing_until = self.time + self._random.uniform(20.0, 300.0)
            rate = self.base + (self.draw if self.time < self._drawing_until else 0.0)
            self.total += rate * passed / 3600.0
            left -= passed
        return MeterSample(total=round(self.total, 3), rate=round(rate, 3))


def electricity(seed: int = 0, *, speed: float = 1.0, time: float = 0.0) -> Meter:
    """Meter of a house's electricity: total in kWh, rate in kW."""
    return Meter(seed, base=0.18, draw=1.9, speed=speed, time=time, total=48213.207)


def water(seed: int = 0, *, speed: float = 1.0, time: float = 0.0) -> Meter:
    """Meter of a house's water: total and rate in m³ and m³/h; at night nothing flows."""
    return Meter(seed, base=0.0, draw=0.42, speed=speed, time=time, total=912.046)


def heat(seed: int = 0, *, speed: float = 1.0, time: float = 0.0) -> Meter:
    """Meter of a heating circuit: total in kWh, rate in kW."""
    return Meter(seed, base=4.5, draw=6.0, speed=speed, time=time, total=130871.0)


class Shape(msgspec.Struct, frozen=True):
    """A quantity's curve: for a gauge its middle and swings, for a counter its growth per hour."""

    middle: float
    day: float = 0.0
    """Half of the swing from night to noon."""
    wander: float = 0.0
    """Half of the slow random swing."""


SHAPES: Final[dict[str, Shape]] = {
    "temperature": Shape(21.0, 2.0, 0.6),
    "humidity": Shape(48.0, -5.0, 6.0),
    "pressure": Shape(1.6, 0.02, 0.1),
    "voltage": Shape(230.0, -2.0, 3.0),
    "current": Shape(4.0, 1.5, 2.0),
    "power": Shape(600.0, 250.0, 300.0),
    "energy": Shape(0.6),
    "charge": Shape(180.0, 50.0, 10.0),
    "throughput": Shape(9.0),
    "soc": Shape(65.0, 20.0, 5.0),
    "frequency": Shape(50.0, 0.0, 0.03),
    "volume": Shape(0.015),
    "flow": Shape(0.8, 0.1, 0.3),
    "mass": Shape(900.0, 0.0, 20.0),
    "consumption": Shape(1.4),
    "level": Shape(62.0, 0.0, 4.0),
    "usage": Shape(35.0, 5.0, 15.0),
    "duty": Shape(30.0, 5.0, 15.0),
    "duration": Shape(900.0, 0.0, 400.0),
    "runtime": Shape(3600.0),
    "size": Shape(420.0, 0.0, 60.0),
    "count": Shape(12.0, 4.0, 4.0),
    "number": Shape(7.0, 0.0, 3.0),
    "starts": Shape(0.3),
    "cycles": Shape(0.05),
    "days": Shape(40.0, 0.0, 3.0),
    "hours": Shape(1.0),
    "co2": Shape(700.0, 80.0, 180.0),
    "rain": Shape(0.1),
    "speed": Shape(4.0, 1.0, 2.5),
    "illuminance": Shape(9000.0, 8900.0, 0.0),
    "signal": Shape(-67.0, 0.0, 6.0),
    "units": Shape(0.2),
}
"""A believable curve for each number of the table of quantities."""


MOSTLY_OFF: Final = 0.4
"""The slow swing above which a switch is on."""


def curve(quantity: str, seed: int = 0, states: Sequence[str] = ("off", "on")) -> Callable[[float], Value]:
    """Return a function of time (seconds since local midnight of any day) for a topic that ends in `quantity`.

    It depends on nothing but seed and time. Counters only grow; switches and states change every quarter of an hour
    or so; KeyError where the table of quantities has no such word.
    """
    row = QUANTITIES[quantity]
    random = Random(f"{quantity} {seed}")
    slow = Wander(random, 4 * 3600.0)
    if row.kind == "text":
        return lambda _time: "simulated"
    if row.kind == "switch":
        return lambda time: slow(time) > MOSTLY_OFF
    if row.kind == "state":
        return lambda time: states[int(clamp((slow(time) + 1.0) / 2.0, 0.0, 0.999) * len(states))]
    shape = SHAPES[quantity]
    if row.kind == "counter":
        begun = random.uniform(500.0, 5000.0)
        # The integral of a rate that swings over the day and never falls below zero.
        return lambda time: round(
            begun + shape.middle * (time / 3600.0 - 0.9 * sin(2 * pi * time / DAY) * 24.0 / (2 * pi)), row.decimals
        )
    own = random.uniform(-0.3, 0.3)

    def gauge(time: float) -> float:
        noon = -sin(2 * pi * (time / DAY + 0.25))
        value = shape.middle + shape.day * noon + shape.wander * (slow(time) + own) * 0.75
        low = -1e12 if row.low is None else row.low
        return round(clamp(value, low, 1e12 if row.high is None else row.high), row.decimals)

    return gauge
