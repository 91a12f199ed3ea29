"""Series of one scrape, gathered into families by their names."""

import msgspec
from prometheus_client.core import Metric


class Standing(msgspec.Struct, frozen=True):
    """What stands on a topic: value, its time (ms), and when it came (monotonic seconds)."""

    value: float | str
    time: int
    arrived: float


class Families:
    """Metrics of one scrape, gathered by name."""

    def __init__(self) -> None:
        """Begin with none."""
        self.found: dict[str, Metric] = {}

    def add(self, name: str, text: str, labels: dict[str, str], value: float, kind: str = "gauge") -> None:
        """Add one series; a counter's name gets its `_total`."""
        family = self.found.get(name)
        if family is None:
            family = self.found[name] = Metric(name, text, kind)
        family.add_sample(f"{name}_total" if kind == "counter" else name, labels, float(value))
