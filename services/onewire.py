"""Temperatures from DS18B20 sensors on the 1-wire bus, by w1thermsensor (docs/services/onewire.md)."""

import os
import re
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import Annotated, Any, ClassVar

from msgspec import Meta, Struct

from bootstrap_lib import DeviceError, Failure, InstanceOptions, Needs, Problem, Registry, Sample, Source, Topic
from services.protocols import ds18b20

ID = "(10|22|28|3b|42)-[0-9a-f]{12}"


class Options(InstanceOptions, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """The bus."""

    bus: Annotated[Path, Meta(description="Where the kernel shows the sensors.")] = Path("/sys/bus/w1/devices")


class OneWireSensor(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """One sensor."""

    id: Annotated[str, Meta(pattern=f"^{ID}$", description="As `constellation scan onewire` shows it.")]


class OneWire(Source):
    """DS18B20 temperatures."""

    NEEDS: ClassVar = Needs(
        extra="onewire",
        libraries=("w1thermsensor",),
        path="/sys/bus/w1/devices",
        overlay="dtoverlay=w1-gpio",
        mend="sudo modprobe w1-gpio w1-therm",
        unit=(
            "# One conversion for all sensors: its trigger is the only thing below /sys that may be written.",
            "ReadWritePaths=-/sys/bus/w1/devices/w1_bus_master1 -/sys/bus/w1/devices/w1_bus_master2",
        ),
        simulator="services.simulators.staging:onewire",
    )

    options: Options
    topics: tuple[Topic[OneWireSensor], ...]

    def samples(self) -> Iterator[Sample]:
        """Read all sensors in each round, in the time of one conversion where the kernel allows it."""
        sensors = open_bus(self.options.bus)
        last: dict[str, float] = {}

        def read(topic: Topic[OneWireSensor]) -> float | Failure:
            return sensors(topic.options.id, last.get(topic.name))

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
    def scan(cls, options: Options) -> Iterator[str]:
        """Show every sensor's id and temperature."""
        sensors = open_bus(options.bus)
        for id_ in sorted(path.name for path in options.bus.iterdir() if re.fullmatch(ID, path.name)):
            value = sensors(id_, None)
            yield f"{id_}  {value.reason if isinstance(value, Failure) else f'{value:.3f} °C'}"

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


def open_bus(folder: Path) -> Callable[[str, float | None], float | Failure]:
    """Give the function that reads a sensor by its id, with its last value (°C); DeviceError where there is no bus."""
    os.environ["W1THERMSENSOR_NO_KERNEL_MODULE"] = "1"  # modules belong to config.txt
    from w1thermsensor import Sensor as Family  # noqa: PLC0415 (hardware)
    from w1thermsensor import W1ThermSensor, W1ThermSensorError  # noqa: PLC0415

    if not folder.is_dir():
        raise DeviceError(f"{folder} is not there: switch 1-wire on (dtoverlay=w1-gpio in config.txt) and reboot")
    bus = type("Bus", (W1ThermSensor,), {"BASE_DIRECTORY": folder, "RETRY_ATTEMPTS": 1})

    def read(id_: str, last: float | None) -> float | Failure:
        family, _, serial = id_.partition("-")
        try:
            return ds18b20.decode(bus(Family.from_id_string(family), serial).get_raw_sensor_strings(), last)
        except ds18b20.SensorError as error:
            return Failure(str(error))
        except (W1ThermSensorError, OSError, IndexError) as error:
            return Failure(_plain(error, id_))

    return read


def _plain(error: Exception, id_: str) -> str:
    kind = type(error).__name__
    if kind == "NoSensorFoundError":
        return f"sensor {id_} is not on the bus: check its wiring, or its id with `constellation scan onewire`"
    if kind in ("SensorNotReadyError", "IndexError"):
        return "its answer is empty or its checksum wrong: a long or disturbed cable, or a weak pull-up"
    return f"{kind}: {' '.join(str(error).split())[:120]}"
