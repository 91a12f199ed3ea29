"""A house to measure: a boiler, a battery and meters that live, and move every simulated sensor that topics.yaml names.

Run by `constellation demo`; by itself: `python -m services.simulators.house --config topics.yaml FOLDER`. What it moves
lies in FOLDER: `w1/` (1-wire), `adc.json` (clamps), `battery.json`, `renogy.json`, and `meters.json`, `sys/` (processor).
"""

import argparse
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Final

import msgspec

from bootstrap_lib import Registry
from services.simulators import ads1115
from services.simulators.models.battery import BatterySample, SimulatedBattery
from services.simulators.models.boiler import BoilerSample, SimulatedBoiler
from services.simulators.models.curve import curve
from services.simulators.models.meter import SimulatedMeter, electricity, heat, water
from services.simulators.onewire import Tree

SPEED: Final = 30.0
"""How much faster than life the boiler, the sun and the meters go, so that a minute shows something."""

EXCURSION: Final = (15.0, 30.0)
"""Seconds after the start between which the fuel box is hot: the demo's alert fires, and resolves."""

HOTTEST: Final = 124.9
"""What a DS18B20 can still measure, °C."""

BOILER: Final[dict[str, Callable[[BoilerSample], float]]] = {
    "boiler/water/temperature": lambda sample: sample.water,
    "boiler/flue/temperature": lambda sample: sample.flue,
    "boiler/return/temperature": lambda sample: sample.return_,
    "boiler/box/temperature": lambda sample: sample.box,
    "boiler/igniter/current": lambda sample: sample.igniter,
    "boiler/fan/current": lambda sample: sample.fan,
    "boiler/auger/current": lambda sample: sample.auger,
    "boiler/circulator/current": lambda sample: sample.circulator,
}
"""Which topic shows what of the boiler; other sensors follow a believable curve of their quantity."""


class House:
    """Everything that lives in the house, and the files by which it moves the simulated hardware."""

    def __init__(self, registry: Registry, folder: Path, bus: Tree) -> None:
        """`folder` holds the files, `bus` is the 1-wire tree."""
        self._registry, self._folder, self._bus = registry, folder, bus
        start = 9.5 * 3600
        self._boiler = SimulatedBoiler(1, speed=SPEED, time=start)
        self._battery = SimulatedBattery(2, speed=SPEED, time=start)
        self._meters: dict[str, SimulatedMeter] = {
            "electricity": electricity(3, speed=SPEED, time=start),
            "water": water(4, speed=SPEED, time=start),
            "heat": heat(5, speed=SPEED, time=start),
        }
        self._curves = {topic.name: curve(topic.quantity, seed) for seed, topic in enumerate(registry.topics.values())}
        self._began = time.monotonic()

    def live(self, seconds: float) -> None:
        """Let the house live for some seconds and show what its sensors see."""
        boiler, battery = self._boiler.step(seconds), self._battery.step(seconds)
        self._show_temperatures(boiler)
        ads1115.describe(self._folder / "adc.json", dict(self._chips(boiler)))
        self._write("battery.json", {address: self._pack(battery) for address in self._batteries()})
        self._write("renogy.json", {"values": self._controller(battery)})
        zone = self._folder / "sys/class/thermal/thermal_zone0"
        zone.mkdir(parents=True, exist_ok=True)
        (zone / "type").write_text("cpu-thermal\n")
        (zone / "temp").write_text(f"{48_000 + 40 * boiler.box:.0f}\n")
        totals = {name: meter.step(seconds) for name, meter in self._meters.items()}
        self._write("meters.json", totals)

    def _value(self, name: str, boiler: BoilerSample) -> float:
        passed = time.monotonic() - self._began
        if name == "boiler/box/temperature" and EXCURSION[0] <= passed < EXCURSION[1]:
            return 72.0
        if name in BOILER:
            return min(BOILER[name](boiler), HOTTEST)
        return float(self._curves[name](passed * SPEED))

    def _show_temperatures(self, boiler: BoilerSample) -> None:
        for topic in self._registry.topics.values():
            if self._registry.instances[topic.source].service == "onewire":
                self._bus.set(topic.options["id"], self._value(topic.name, boiler))

    def _chips(self, boiler: BoilerSample) -> Iterator[tuple[int, ads1115.Description]]:
        wired: dict[int, dict[Any, ads1115.Input]] = {}
        for topic in self._registry.topics.values():
            if self._registry.instances[topic.source].service == "adc":
                pin = str(topic.options.get("input", "A0")).partition("-")[0]
                chip = wired.setdefault(int(topic.options.get("address", 0x48)), {})
                chip[pin] = ads1115.Input(amperes=max(0.0, self._value(topic.name, boiler)))
        for address, inputs in wired.items():
            yield address, ads1115.Description(inputs=inputs)

    def _batteries(self) -> Iterator[str]:
        for instance in self._registry.find("bms"):
            for battery in instance.raw.get("batteries", {}).values():
                yield str(battery["address"]).upper()

    @staticmethod
    def _pack(sample: BatterySample) -> dict[str, Any]:
        return {
            "name": "SIMULATED-8S",
            "cell_voltages": sample.cells,
            "current": sample.current,
            "remaining_charge": sample.charge,
            "nominal_charge": 280.0,
            "cycles": 37,
            "probe_temperatures": [sample.temperature, sample.temperature + 0.7],
        }

    @staticmethod
    def _controller(sample: BatterySample) -> dict[str, Any]:
        return {
            "battery_soc": round(sample.soc),
            "battery_voltage": round(sample.voltage, 1),
            "solar_voltage": 36.2 if sample.solar_power > 1 else 0.0,
            "solar_power": round(sample.solar_power),
            "charging_state": "mppt" if sample.solar_power > 1 else "deactivated",
        }

    def _write(self, name: str, content: object) -> None:
        beside = self._folder / f".{name}.new"
        beside.write_bytes(msgspec.json.encode(content))
        beside.replace(self._folder / name)


def main() -> None:
    """Live until SIGTERM."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--config", type=Path, required=True, help="topics.yaml that names the sensors")
    parser.add_argument("folder", type=Path, help="where the simulated hardware lies")
    arguments = parser.parse_args()
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    with Tree(arguments.folder / "w1", conversion=0.2) as bus:
        house = House(Registry(arguments.config), arguments.folder, bus)
        try:
            while True:
                house.live(0.5)
                time.sleep(0.5)
        except KeyboardInterrupt:
            return


if __name__ == "__main__":
    main()
