"""Temperatures from DS18B20 sensors on the 1-wire bus, by w1thermsensor (docs/services/onewire.md)."""

import os
import re
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from queue import Empty, SimpleQueue
from typing import Annotated, Any, ClassVar, Final

from msgspec import Meta, Struct

from bootstrap_lib import DeviceError, Failure, InstanceOptions, Needs, Problem, Registry, Sample, Source, Topic
from services.links.onewire import OneWireBus
from services.protocols import ds18b20

ID: Final = "(10|22|28|3b|42)-[0-9a-f]{12}"
LOOK: Final = 0.05
"""Seconds for which the loop turns before it looks for answers again."""
HANGS: Final = 10.0
"""Seconds without any answer after which a bus is said to hang."""

Answer = tuple[Topic[Any], float | Failure]


class Options(InstanceOptions, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """The bus."""

    bus: Annotated[Path, Meta(description="Where the kernel shows the sensors.")] = Path("/sys/bus/w1/devices")


class OneWireSensor(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """One sensor."""

    id: Annotated[
        str,
        Meta(pattern=f"^{ID}$", examples=["28-0316a4f1c9ff"], description="As `constellation scan onewire` shows it."),
    ]


class OneWire(Source):
    """Temperatures of sensors on 1-wire buses."""

    NEEDS: ClassVar = Needs(
        extra="onewire",
        libraries=("w1thermsensor",),
        path="/sys/bus/w1/devices",
        overlay="dtoverlay=w1-gpio",
        mend="sudo modprobe w1-gpio w1-therm",
        unit=(
            "# One conversion for all sensors of a bus: its trigger is the only thing below /sys that may be written.",
            "ReadWritePaths=-/sys/bus/w1/devices/w1_bus_master1 -/sys/bus/w1/devices/w1_bus_master2",
            "ReadWritePaths=-/sys/bus/w1/devices/w1_bus_master3 -/sys/bus/w1/devices/w1_bus_master4",
            "ReadWritePaths=-/sys/bus/w1/devices/w1_bus_master5 -/sys/bus/w1/devices/w1_bus_master6",
            "ReadWritePaths=-/sys/bus/w1/devices/w1_bus_master7 -/sys/bus/w1/devices/w1_bus_master8",
        ),
        simulator="services.simulators.staging:onewire",
    )

    options: Options
    topics: tuple[Topic[OneWireSensor], ...]

    def samples(self) -> Iterator[Sample]:
        """Let each bus read its sensors one by one, as the kernel does, while the loop turns; buses read side by side.

        A bus that has not finished its round is not asked for another one.
        """
        read = open_bus(self.options.bus)
        answers: SimpleQueue[Answer] = SimpleQueue()
        buses: dict[str, OneWireBus] = {}
        last: dict[str, float] = {}
        try:
            while self.tick():
                begun = time.monotonic()
                for master, topics in self._by_master().items():
                    bus = buses.setdefault(master, OneWireBus(self.options.bus / master, read, answers))
                    if bus.rests:
                        bus.measure([(topic, last.get(topic.name)) for topic in topics])
                    elif (held := bus.held) > HANGS:
                        sentence = f"its bus hangs in the kernel for {held:.0f} s: look at its wiring, or switch it off"
                        yield from ((topic, Failure(sentence)) for topic in bus.open)
                while True:
                    working = [
                        bus for bus in buses.values() if not bus.rests
                    ]  # first: what it answers then is taken below
                    with suppress(Empty):
                        while True:
                            topic, value = answers.get_nowait()
                            if not isinstance(value, Failure):
                                last[topic.name] = value
                            yield topic, value
                    self.rhythm = max((bus.pace for bus in buses.values()), default=0.0)
                    late = time.monotonic() > begun + self.options.every
                    if not working or (late and (len(working) < len(buses) or working[0].held > HANGS)):
                        break
                    if not self.breathe(LOOK):
                        return
        finally:
            for bus in buses.values():
                bus.end()

    def _by_master(self) -> dict[str, list[Topic[OneWireSensor]]]:
        """Sort the topics by the bus that their sensors are on now; those that are on none have one for themselves."""
        found: dict[str, list[Topic[OneWireSensor]]] = {}
        for topic in self.topics:
            master = (self.options.bus / topic.options.id).resolve().parent.name
            found.setdefault(master if master.startswith("w1_bus_master") else "", []).append(topic)
        return found

    @classmethod
    def scan(cls, options: Options) -> Iterator[str]:
        """Show every sensor's id and temperature."""
        sensors = open_bus(options.bus)
        for id_ in sorted(path.name for path in options.bus.iterdir() if re.fullmatch(ID, path.name)):
            value = sensors(id_, None)
            yield f"{id_}  {value.reason if isinstance(value, Failure) else f'{value:.3f} °C'}"

    @classmethod
    def unit_of(cls, topic: Topic[OneWireSensor]) -> str | None:
        """Degrees Celsius."""
        return topic.row.unit

    @classmethod
    def check(cls, registry: Registry, name: str) -> list[Problem]:
        """Also find a sensor that stands in two lines."""
        problems = super().check(registry, name)
        seen: dict[str, str] = {}
        for topic in registry.topics.values():
            sensor = str(topic.options.get("id"))
            if topic.source == name and (other := seen.setdefault(sensor, topic.name)) != topic.name:
                path = ("topics", registry.key_of(topic.name), "id")
                problems.append(registry.document.problem(path, f"the same sensor measures {other} already"))
        return problems


def open_bus(folder: Path) -> Callable[[str, float | None], float | Failure]:
    """Give the function that reads a sensor by its id, with its last value (°C); DeviceError where there is no bus."""
    os.environ["W1THERMSENSOR_NO_KERNEL_MODULE"] = "1"  # modules belong to config.txt
    from w1thermsensor import Sensor as Family
    from w1thermsensor import W1ThermSensor, W1ThermSensorError

    if not folder.is_dir():
        raise DeviceError(f"{folder} is not there: switch 1-wire on (dtoverlay=w1-gpio in config.txt) and reboot")
    bus = type("Bus", (W1ThermSensor,), {"BASE_DIRECTORY": folder, "RETRY_ATTEMPTS": 1})

    def read(id_: str, last: float | None) -> float | Failure:
        family, _, serial = id_.partition("-")
        try:
            return ds18b20.decode(bus(Family.from_id_string(family), serial).get_raw_sensor_strings(), last, family)
        except ds18b20.SensorError as error:
            return Failure(str(error))
        except (W1ThermSensorError, OSError, IndexError, UnicodeDecodeError) as error:
            return Failure(_plain(error, id_))

    return read


def _plain(error: Exception, id_: str) -> str:
    kind = type(error).__name__
    if kind == "NoSensorFoundError":
        return f"sensor {id_} is not on the bus: check its wiring, or its id with `constellation scan onewire`"
    if kind in ("SensorNotReadyError", "IndexError", "UnicodeDecodeError"):
        return "its answer is empty or its checksum wrong: a long or disturbed cable, or a weak pull-up"
    return f"{kind}: {' '.join(str(error).split())[:120]}"
