"""How the machine itself is: temperature, throttling, memory, disk, load, clock, by psutil (docs/services/host.md)."""

import functools
import os
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Annotated, Any, ClassVar, Final

from msgspec import Meta, Struct

from bootstrap_lib import (
    Failure,
    InstanceOptions,
    Needs,
    Problem,
    Registry,
    Sample,
    Source,
    Topic,
    Value,
    clock,
    nearest,
)

PROCESSORS: Final = ("cpu-thermal", "cpu_thermal", "soc-thermal", "x86_pkg_temp", "coretemp", "k10temp")
"""Names under which kernels show a processor's temperature, as a thermal zone or by hwmon."""
FIRMWARE: Final = "devices/platform/soc/soc:firmware/get_throttled"
THROTTLING: Final = {"undervoltage": 0, "frequency_capped": 1, "throttled": 2, "temperature_limit": 3}
"""Bits of the Raspberry Pi's `get_throttled`; sixteen higher: since boot (raspberrypi.com, vcgencmd)."""
BYTES_A_MB: Final = 1e6


class Options(InstanceOptions, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """The machine."""

    sys: Annotated[Path, Meta(description="Where the kernel shows its hardware.")] = Path("/sys")


class MachineField(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """One thing about the machine."""

    key: Annotated[str, Meta(description="What it is, where that is not the topic's last level.")] = ""
    path: Annotated[Path, Meta(description="A folder on the disk that is meant.")] = Path("/")


class NotThere(LookupError):
    """Something that this machine does not show."""


class MachineNow:
    """The machine at one moment; what several topics want is asked once."""

    def __init__(self, sys: Path) -> None:
        """`sys` is where the kernel shows its hardware."""
        import psutil

        self.sys, self.psutil = sys, psutil

    @functools.cached_property
    def memory(self) -> Any:
        """Memory as psutil sees it."""
        return self.psutil.virtual_memory()

    @functools.cached_property
    def throttling(self) -> int:
        """Bits that the Raspberry Pi's firmware shows; NotThere elsewhere."""
        file = self.sys / FIRMWARE
        try:
            if file.exists():
                return int(file.read_text(), 16)
            command = ["vcgencmd", "get_throttled"]
            said = subprocess.run(command, capture_output=True, text=True, timeout=2, check=True).stdout
            return int(said.partition("=")[2], 16)
        except (OSError, ValueError, subprocess.SubprocessError):
            raise NotThere("only a Raspberry Pi's firmware says this, and vcgencmd asks it (group video)") from None

    def temperature(self) -> float:
        """°C of the processor; NotThere where the kernel does not show it."""
        for name in [*self.sys.glob("class/thermal/thermal_zone*/type"), *self.sys.glob("class/hwmon/hwmon*/name")]:
            if name.read_text().strip() in PROCESSORS:
                return int(name.with_name("temp" if name.name == "type" else "temp1_input").read_text()) / 1000
        raise NotThere("the kernel shows no temperature of the processor")


def _bit(bit: int) -> Callable[[MachineNow, Path], bool]:
    return lambda machine, _: bool(machine.throttling >> bit & 1)


KEYS: Final[dict[str, Callable[[MachineNow, Path], Value]]] = {
    "processor_temperature": lambda machine, _: machine.temperature(),
    "processor_usage": lambda machine, _: machine.psutil.cpu_percent(),
    "load_number": lambda _machine, _: os.getloadavg()[0],
    "memory_usage": lambda machine, _: machine.memory.percent,
    "memory_available_size": lambda machine, _: machine.memory.available / BYTES_A_MB,
    "disk_usage": lambda machine, path: machine.psutil.disk_usage(str(path)).percent,
    "disk_free_size": lambda machine, path: machine.psutil.disk_usage(str(path)).free / BYTES_A_MB,
    "uptime_duration": lambda _machine, _: clock.since_boot() / 1000,
    "clock_fault": lambda _machine, _: not clock.is_synchronised(),
    **{f"{name}_fault": _bit(bit) for name, bit in THROTTLING.items()},
    **{f"{name}_since_boot_fault": _bit(bit + 16) for name, bit in THROTTLING.items()},
}
"""What can be asked."""


class Host(Source):
    """The machine."""

    NEEDS: ClassVar = Needs(
        extra="host",
        libraries=("psutil",),
        devices=("firmware",),
        unit=("# Memory, load and uptime of the whole machine stand in /proc.", "ProcSubset=all"),
        simulator="services.simulators.staging:host",
    )

    options: Options
    topics: tuple[Topic[MachineField], ...]

    def samples(self) -> Iterator[Sample]:
        """Ask for everything in each round; the processor's usage is the mean since the round before."""
        started = False
        while self.tick():
            machine = MachineNow(self.options.sys)
            for topic in self.topics:
                if (key := topic.key) != "processor_usage" or started:
                    yield topic, measure(machine, key, topic.options.path)
                else:
                    measure(machine, key, topic.options.path)
            started = True

    @classmethod
    def scan(cls, options: Options) -> Iterator[str]:
        """Show what this machine says of itself."""
        machine = MachineNow(options.sys)
        machine.psutil.cpu_percent(0.2)
        for key in KEYS:
            value = measure(machine, key, Path("/"))
            yield f"{key} {f'cannot be read: {value.reason}' if isinstance(value, Failure) else value}"

    @classmethod
    def unit_of(cls, topic: Topic[MachineField]) -> str | None:
        """What the quantity has."""
        return topic.row.unit

    @classmethod
    def check(cls, registry: Registry, name: str) -> list[Problem]:
        """Also find keys that nobody knows."""
        if problems := super().check(registry, name):
            return problems
        for topic in registry.topics_of(name, MachineField):
            if (key := topic.key) not in KEYS:
                sentence = f"'{key}' is not known of a machine{nearest(key, KEYS) or ': there are ' + ', '.join(KEYS)}"
                problems.append(registry.document.problem(("topics", registry.key_of(topic.name)), sentence))
        return problems


def measure(machine: MachineNow, key: str, path: Path) -> Value | Failure:
    """Value of a key, or why there is none."""
    try:
        return KEYS[key](machine, path)
    except KeyError:
        return Failure(f"'{key}' is not known of a machine: `constellation scan host` shows what is")
    except NotThere as error:
        return Failure(str(error))
    except (OSError, ValueError) as error:
        return Failure(f"the kernel does not say it: {getattr(error, 'strerror', None) or error}")
