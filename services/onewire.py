"""Temperatures from DS18B20 sensors on the 1-wire bus, by w1thermsensor (docs/services/onewire.md)."""

import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import Annotated, Any

from msgspec import Meta, Struct

from bootstrap_lib import DeviceError, Failure, InstanceOptions, Problem, Registry, Sample, Source, Topic
from services.protocols import ds18b20


class Options(InstanceOptions, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """The bus."""

    bus: Annotated[Path, Meta(description="Where the kernel shows the sensors.")] = Path("/sys/bus/w1/devices")


class Sensor(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """One sensor."""

    id: Annotated[
        str, Meta(pattern="^(10|22|28|3b|42)-[0-9a-f]{12}$", description="As `constellation scan onewire` shows it.")
    ]


class OneWire(Source):
    """DS18B20 temperatures."""

    options: Options
    topics: tuple[Topic[Sensor], ...]

    def samples(self) -> Iterator[Sample]:
        """Read all sensors in each round, in the time of one conversion where the kernel allows it."""
        os.environ["W1THERMSENSOR_NO_KERNEL_MODULE"] = "1"  # modules belong to config.txt
        from w1thermsensor import Sensor as Family  # noqa: PLC0415 (hardware)
        from w1thermsensor import W1ThermSensor, W1ThermSensorError  # noqa: PLC0415

        if not self.options.bus.is_dir():
            raise DeviceError(
                f"{self.options.bus} is not there: switch 1-wire on (dtoverlay=w1-gpio in config.txt) and reboot"
            )
        bus = type("Bus", (W1ThermSensor,), {"BASE_DIRECTORY": self.options.bus, "RETRY_ATTEMPTS": 1})
        last: dict[str, float] = {}

        def read(topic: Topic[Sensor]) -> float | Failure:
            family, _, serial = topic.options.id.partition("-")
            try:
                lines = bus(Family.from_id_string(family), serial).get_raw_sensor_strings()
                return ds18b20.decode(lines, last.get(topic.name))
            except ds18b20.SensorError as error:
                return Failure(str(error))
            except (W1ThermSensorError, OSError, IndexError) as error:
                return Failure(_plain(error, topic))

        with ThreadPoolExecutor(max(1, len(self.topics)), "sensor") as pool:
            while self.tick():
                self._convert_all()
                for topic, value in zip(self.topics, pool.map(read, self.topics), strict=True):
                    if not isinstance(value, Failure):
                        last[topic.name] = value
                    yield topic, value

    def _convert_all(self) -> None:
        """Start one conversion for all sensors where the kernel offers it (5.9 and later) and lets us."""
        for trigger in self.options.bus.glob("w1_bus_master*/therm_bulk_read"):
            with suppress(OSError):
                trigger.write_text("trigger\n")

    @classmethod
    def check(cls, registry: Registry, name: str) -> list[Problem]:
        """Also find a sensor that stands in two lines."""
        problems = super().check(registry, name)
        seen: dict[Any, str] = {}
        for topic in registry.topics.values():
            if topic.source == name and (other := seen.setdefault(topic.options.get("id"), topic.name)) != topic.name:
                path = ("topics", registry.key_of(topic.name), "id")
                problems.append(registry.document.problem(path, f"the same sensor measures {other} already"))
        return problems


def _plain(error: Exception, topic: Topic[Sensor]) -> str:
    kind = type(error).__name__
    if kind == "NoSensorFoundError":
        return f"sensor {topic.options.id} is not on the bus: check its wiring, or its id with `constellation scan onewire`"
    if kind in ("SensorNotReadyError", "IndexError"):
        return "its answer is empty or its checksum wrong: a long or disturbed cable, or a weak pull-up"
    return f"{kind}: {' '.join(str(error).split())[:120]}"
