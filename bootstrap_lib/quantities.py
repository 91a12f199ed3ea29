"""What each quantity is: the one table from which units, decimals, ranges and storage types follow.

The last word of a topic is its quantity (`flow_temperature` is a temperature), so a line in topics.yaml
needs no unit. Ranges are the plausible ones of a house, wide enough never to refuse a true value of a
sensor that works; topics.yaml narrows them per topic. Units are written as people read them; UCUM codes
(ucum.org) are for export. Home Assistant classes are those of its sensor and binary_sensor platforms.
"""

import re
from typing import Final, Literal, NamedTuple

WORD: Final = re.compile(r"[a-z0-9]+(_[a-z0-9]+)*")
"""What each level of a topic and each instance's name must look like; the last word of a topic names its quantity."""

Kind = Literal["gauge", "counter", "switch", "state", "text"]
"""gauge: a number that comes and goes; counter: a number that only grows; switch: true or false;
state: one word of a list; text: shown, never stored."""


class Quantity(NamedTuple):
    """One row of the table: what a topic whose name ends in this word is, unless topics.yaml says otherwise."""

    kind: Kind
    unit: str = ""
    ucum: str = "1"
    decimals: int = 0
    low: float | None = None
    high: float | None = None
    device_class: str | None = None

    @property
    def rrd(self) -> str:
        """Type of the round-robin data source: DDERIVE for counters, because they have decimals."""
        return "DDERIVE" if self.kind == "counter" else "GAUGE"

    @property
    def state_class(self) -> str | None:
        """State class for Home Assistant's long-term statistics."""
        return {"gauge": "measurement", "counter": "total_increasing"}.get(self.kind)


QUANTITIES: Final[dict[str, Quantity]] = {
    # word                    kind       unit     UCUM      dec  low    high     Home Assistant
    "temperature": Quantity("gauge", "°C", "Cel", 3, -55, 1200, "temperature"),
    "humidity": Quantity("gauge", "%", "%", 1, 0, 100, "humidity"),
    "pressure": Quantity("gauge", "bar", "bar", 3, -1, 1100, "pressure"),
    "voltage": Quantity("gauge", "V", "V", 3, -1000, 1000, "voltage"),
    "current": Quantity("gauge", "A", "A", 3, -1000, 1000, "current"),
    "power": Quantity("gauge", "W", "W", 1, -100_000, 100_000, "power"),
    "energy": Quantity("counter", "kWh", "kW.h", 3, 0, 1e9, "energy"),
    "charge": Quantity("gauge", "Ah", "A.h", 2, 0, 100_000),
    "throughput": Quantity("counter", "Ah", "A.h", 3, 0, 1e9),
    "soc": Quantity("gauge", "%", "%", 1, 0, 100, "battery"),
    "frequency": Quantity("gauge", "Hz", "Hz", 3, 0, 1000, "frequency"),
    "volume": Quantity("counter", "m³", "m3", 3, 0, 1e9, "water"),
    "flow": Quantity("gauge", "m³/h", "m3/h", 3, -1000, 1000, "volume_flow_rate"),
    "mass": Quantity("gauge", "kg", "kg", 2, 0, 1e6, "weight"),
    "consumption": Quantity("counter", "kg", "kg", 3, 0, 1e9),
    "level": Quantity("gauge", "%", "%", 1, 0, 100),
    "usage": Quantity("gauge", "%", "%", 1, 0, 100),
    "duty": Quantity("gauge", "%", "%", 1, 0, 100),
    "share": Quantity("gauge", "%", "%", 1, 0, 100),
    "degreedays": Quantity("gauge", "K·d", "K.d", 2, 0, 100),
    "intensity": Quantity("gauge", "kg/(K·d)", "kg/(K.d)", 3, 0, 1e6),
    "duration": Quantity("gauge", "s", "s", 1, 0, 1e9, "duration"),
    "runtime": Quantity("counter", "s", "s", 0, 0, 1e12, "duration"),
    "size": Quantity("gauge", "MB", "MBy", 1, 0, 1e9, "data_size"),
    "count": Quantity("gauge", "", "1", 0, 0, 1e12),
    "starts": Quantity("counter", "", "1", 0, 0, 1e12),
    "cycles": Quantity("counter", "", "1", 0, 0, 1e12),
    "days": Quantity("gauge", "d", "d", 1, 0, 1e5),
    "hours": Quantity("counter", "h", "h", 1, 0, 1e7),
    "co2": Quantity("gauge", "ppm", "[ppm]", 0, 0, 100_000, "carbon_dioxide"),
    "rain": Quantity("counter", "mm", "mm", 1, 0, 1e7, "precipitation"),
    "speed": Quantity("gauge", "m/s", "m/s", 2, 0, 200, "wind_speed"),
    "illuminance": Quantity("gauge", "lx", "lx", 0, 0, 200_000, "illuminance"),
    "signal": Quantity("gauge", "dBm", "dB[mW]", 1, -200, 50, "signal_strength"),
    "units": Quantity("counter", "", "1", 0, 0, 1e9),
    "number": Quantity("gauge", "", "1", 0, 0, 1e9),
    "warning": Quantity("switch", device_class="problem"),
    "alarm": Quantity("switch", device_class="problem"),
    "fault": Quantity("switch", device_class="problem"),
    "active": Quantity("switch", device_class="running"),
    "present": Quantity("switch", device_class="connectivity"),
    **dict.fromkeys("state phase mode".split(), Quantity("state")),  # noqa: SIM905 (words of a topic, no names of services)
    "text": Quantity("text"),
}


CONVERSIONS: Final[dict[str, dict[str, tuple[float, float]]]] = {
    "°C": {"°F": (5 / 9, -160 / 9), "K": (1, -273.15)},
    "kWh": {
        "Wh": (1e-3, 0), "MWh": (1e3, 0), "GWh": (1e6, 0), "Wmin": (1 / 60_000, 0),
        "J": (1 / 3.6e6, 0), "kJ": (1 / 3600, 0), "MJ": (1 / 3.6, 0), "GJ": (1000 / 3.6, 0),
    },
    "W": {"mW": (1e-3, 0), "kW": (1e3, 0), "MW": (1e6, 0), "J/h": (1 / 3600, 0), "kJ/h": (1 / 3.6, 0), "MJ/h": (1000 / 3.6, 0)},
    "V": {"mV": (1e-3, 0), "kV": (1e3, 0)},
    "A": {"mA": (1e-3, 0), "kA": (1e3, 0)},
    "Ah": {"mAh": (1e-3, 0)},
    "Hz": {"mHz": (1e-3, 0), "kHz": (1e3, 0)},
    "bar": {
        "mbar": (1e-3, 0), "hPa": (1e-3, 0), "Pa": (1e-5, 0), "kPa": (1e-2, 0), "MPa": (10, 0), "psi": (0.0689475729, 0),
    },
    "m³": {"l": (1e-3, 0), "L": (1e-3, 0), "ml": (1e-6, 0), "dm³": (1e-3, 0), "ft³": (0.0283168466, 0), "gal": (0.00378541178, 0)},
    "m³/h": {
        "l/h": (1e-3, 0), "l/min": (0.06, 0), "l/s": (3.6, 0), "L/min": (0.06, 0), "m³/min": (60, 0), "m³/s": (3600, 0),
    },
    "kg": {"g": (1e-3, 0), "t": (1e3, 0), "lb": (0.45359237, 0)},
    "s": {"ms": (1e-3, 0), "min": (60, 0), "h": (3600, 0), "d": (86400, 0)},
    "h": {"s": (1 / 3600, 0), "min": (1 / 60, 0), "d": (24, 0)},
    "d": {"h": (1 / 24, 0), "min": (1 / 1440, 0), "s": (1 / 86400, 0)},
    "MB": {
        "B": (1e-6, 0), "kB": (1e-3, 0), "GB": (1e3, 0), "TB": (1e6, 0),
        "KiB": (0.001024, 0), "MiB": (1.048576, 0), "GiB": (1073.741824, 0),
    },
    "m/s": {"km/h": (1 / 3.6, 0), "mph": (0.44704, 0), "kn": (1852 / 3600, 0), "kt": (1852 / 3600, 0)},
    "mm": {"cm": (10, 0), "m": (1000, 0), "in": (25.4, 0), "l/m²": (1, 0)},
    "%": {"‰": (0.1, 0)},
    "lx": {"klx": (1e3, 0)},
    "var": {"kvar": (1e3, 0)}, "VA": {"kVA": (1e3, 0)},
    "varh": {"kvarh": (1e3, 0)}, "VAh": {"kVAh": (1e3, 0)},
    "kg/h": {"t/h": (1e3, 0)},
}  # fmt: skip
"""Unit of a quantity, or one akin to it → units that convert to it, with factor and summand (BIPM, SI brochure; NIST SP 811)."""

AKIN: Final = {
    "W": ("var", "kvar", "VA", "kVA"),
    "kWh": ("varh", "kvarh", "VAh", "kVAh"),
    "m³/h": ("kg/h", "t/h"),
}
"""Units of what bears the same word and is another thing: kept as they are."""


def conversion(unit: str, own: str) -> tuple[float, float] | None:
    """Factor and summand from a unit to a quantity's own, or None where it does not convert."""
    return (1.0, 0.0) if unit == own else CONVERSIONS.get(own, {}).get(unit)


def between(unit: str, other: str) -> tuple[float, float] | None:
    """Factor and summand from any unit to any other, or None where neither a factor nor a common third one is known."""
    if unit == other:
        return 1.0, 0.0
    ways = ((conversion(unit, own), conversion(other, own)) for own in CONVERSIONS)
    return next(((one[0] / two[0], (one[1] - two[1]) / two[0]) for one, two in ways if one and two), None)


def fits(unit: str, own: str) -> bool:
    """Whether a line may say that its source gives a unit where the quantity has one of its own: it converts, or is kept as it is."""
    return not own or unit in AKIN.get(own, ()) or conversion(unit, own) is not None


def quantity_of(name: str) -> Quantity | None:
    """Quantity of a topic's last level, or None where its last word is no quantity."""
    return QUANTITIES.get(name.rpartition("_")[2])
