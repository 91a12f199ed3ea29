"""A believable curve for every quantity of the table, for topics that no other model covers."""

from collections.abc import Callable, Sequence
from math import pi, sin
from random import Random
from typing import Final

import msgspec

from bootstrap_lib import Value, quantities
from services.simulators.models.chance import DAY, Wander, clamp


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
    "share": Shape(95.0, 0.0, 4.0),
    "degreedays": Shape(9.0, 0.0, 4.0),
    "intensity": Shape(1.4, 0.0, 0.3),
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
    row = quantities.QUANTITIES[quantity]
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
