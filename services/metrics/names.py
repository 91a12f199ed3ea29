"""How a topic is called at Prometheus: `constellation_<quantity>_<unit>`, with the words that its own linter asks for.

    home/data/boiler/water/temperature → constellation_temperature_celsius{place="boiler",thing="water",name="temperature"}

Units stay the house's, but for those that the linter (`promtool check metrics`) wants in base units: megabytes become bytes,
hours and days seconds. What counts ends in `_total`.
"""

import re
from typing import Any, Final, Literal, NamedTuple

from bootstrap_lib import Topic, quantities

PREFIX: Final = "constellation"

STATES: Final = ("starting", "running", "paused", "degraded", "stopping")
"""Words of a service's state (docs/messages.md)."""

UNITS: Final[dict[str, tuple[str, float]]] = {
    "°C": ("celsius", 1),
    "%": ("percent", 1),
    "V": ("volts", 1),
    "A": ("amperes", 1),
    "W": ("watts", 1),
    "Hz": ("hertz", 1),
    "m³": ("cubic_meters", 1),
    "m³/h": ("cubic_meters_per_hour", 1),
    "m/s": ("meters_per_second", 1),
    "kg/h": ("kg_per_hour", 1),
    "t/h": ("t_per_hour", 1),
    "K·d": ("", 1),
    "kg/(K·d)": ("kg_per_degreeday", 1),
    "lx": ("lux", 1),
    "s": ("seconds", 1),
    "h": ("seconds", 3600),
    "d": ("seconds", 86400),
    "MB": ("bytes", 1e6),
}
"""Unit of a topic → its word in a name, and the factor to what that word means; any other unit is written in small letters."""

WORDS: Final = {"days": "duration", "hours": "runtime", "count": "number"}
"""Quantities that Prometheus knows by another word: a time is in seconds, and `_count` belongs to histograms."""

OTHER_KIND: Final = {"gauge": "level", "counter": "counted"}
"""Put behind the quantity of a line that says another kind than the quantity's own: one name has one type."""


class MetricName(NamedTuple):
    """A metric that a topic belongs to; `factor` makes its value of the topic's."""

    name: str
    kind: Literal["gauge", "counter"]
    factor: float
    help: str


def metric_of(topic: Topic[Any]) -> MetricName | None:
    """Metric of a topic; None for text, which is no number."""
    if topic.kind == "text":
        return None
    own = quantities.QUANTITIES[topic.quantity]
    words = [PREFIX, WORDS.get(topic.quantity, topic.quantity)]
    if topic.kind in ("switch", "state"):
        words += [topic.kind] * (topic.kind != own.kind)
        said = "1 for true, 0 for false" if topic.kind == "switch" else "1 for the word that it is, 0 for the others"
        return MetricName("_".join(words), "gauge", 1, f"Measurements of {topic.quantity}: {said}.")
    words += [OTHER_KIND[topic.kind]] * (topic.kind != own.kind)
    unit, factor = UNITS.get(topic.unit) or (re.sub(r"[^a-z0-9]+", "_", topic.unit.lower()).strip("_"), 1)
    words += [unit] * bool(unit)
    kind: Literal["gauge", "counter"] = "counter" if topic.kind == "counter" else "gauge"
    of = {"days": "times", "hours": "running times", "count": "numbers"}.get(topic.quantity, topic.quantity)
    return MetricName("_".join(words), kind, factor, f"Measurements of {of}" + f" in {unit}" * bool(unit) + ".")
