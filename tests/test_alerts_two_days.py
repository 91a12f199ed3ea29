"""The shipped house from an empty disk, two simulated days: nobody hears anything but of its two staged incidents."""

import json
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from bootstrap_lib.registry import Registry
from services.alerting import Rule, replay, scope_of
from services.commands.replay import _with_phases
from services.simulators.house import BOILER, HOTTEST
from services.simulators.models.battery import SimulatedBattery
from services.simulators.models.boiler import SimulatedBoiler
from services.simulators.models.curve import curve

pytestmark = pytest.mark.long

PROJECT = Path(__file__).resolve().parent.parent
START = datetime(2026, 11, 20, 9, 30, tzinfo=UTC).timestamp()
HOUR = 3600
BURN_BACK = 20 * HOUR, 20 * HOUR + 120
"""The fuel box is hot: the first incident, in the demo too."""
EMPTY_SILO = 30 * HOUR, 36 * HOUR
"""The pellets run out, and nobody fills the silo for six hours: the second."""


def lines(registry: Registry) -> Iterator[bytes]:
    """Readings of every topic, each within the time in which it would be stale; a silent bus for a minute at the start."""
    boiler, battery = SimulatedBoiler(1, time=9.5 * HOUR), SimulatedBattery(2, time=9.5 * HOUR)
    curves = {
        name: curve(topic.quantity, seed, topic.states or ("off", "on"))
        for seed, (name, topic) in enumerate(registry.topics.items())
    }
    phase = {name for name, topic in registry.topics.items() if registry.instances[topic.source].service == "phase"}
    due = dict.fromkeys(registry.topics.keys() - phase, 0.0)
    for second in range(0, 48 * HOUR, 5):
        sample, pack = boiler.step(5.0), battery.step(5.0)
        boiler.silo_kg = 0.0 if EMPTY_SILO[0] <= second < EMPTY_SILO[1] else 2000.0
        boiler.enabled = boiler.enabled or second % HOUR == 0  # somebody resets it
        for name in due:
            if second < due[name] or (second < 60 and registry.topics[name].source == "onewire"):
                continue
            topic = registry.topics[name]
            quick = name.startswith("boiler/")
            due[name] = second + (10 if quick else max(5.0, topic.stale * 0.8))
            value: Any = min(BOILER[name](sample), HOTTEST) if name in BOILER else curves[name](float(second))
            if name == "boiler/box/temperature":
                value = 72.0 if BURN_BACK[0] <= second < BURN_BACK[1] else 31.0
            elif name == "shed/battery/soc":
                value = pack.soc
            moment = datetime.fromtimestamp(START + second, UTC).isoformat(timespec="milliseconds")
            yield json.dumps({"topic": name, "value": value, "unit": topic.unit, "time": moment}).encode() + b"\n"


@pytest.mark.slow
@pytest.mark.whole
def test_two_days_of_the_shipped_house_tell_its_two_incidents_and_nothing_else() -> None:
    registry = Registry(PROJECT / "topics.yaml")
    said = [
        json.loads(line.split(" ", 1)[1])
        for line in replay(
            _with_phases(registry, lines(registry)), registry.entries("alerts", Rule), scope_of(registry), messages=True
        )
        if "/notify/" in line
    ]
    hours = [(datetime.fromisoformat(n["time"]).timestamp() - START) / HOUR for n in said]
    told = [(n["title"], round(hour)) for n, hour in zip(said, hours, strict=True)]
    assert told[:2] == [("Fuel box hot", 20), ("Over: Fuel box hot", 20)], told
    assert len(told) > 3, told
    boiler = {"No fire", "Fire out", "Boiler cold"}
    assert {title.removeprefix("Over: ").removeprefix("Flaps: ") for title, _ in told[2:]} <= boiler, told
    assert all(30 <= hour <= 38 for _, hour in told[2:]), told
