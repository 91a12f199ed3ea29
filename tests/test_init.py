"""`constellation init`: what is there stands in a topics.yaml that is right, is shown first, and written only when asked to."""

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from harness import PROJECT

from bootstrap_lib.registry import Registry
from services.commands.init import propose
from services.simulators.onewire import Tree as OneWireBus

WATER, FLUE = "28-0316a4f1c9ff", "28-0316a4f1d2aa"


def init(root: Path, file: Path, *options: str, answers: str = "") -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "bootstrap_lib.cli", "init", "--root", root, "--file", file, *options]
    return subprocess.run(command, input=answers, capture_output=True, text=True, cwd=PROJECT)


@pytest.fixture
def machine(tmp_path: Path) -> Iterator[Path]:
    """A machine with two sensors, a serial port, Bluetooth and I²C."""
    root = tmp_path / "machine"
    for folder in ("dev/serial/by-id", "sys/class/bluetooth/hci0", "sys/bus/w1", "etc"):
        (root / folder).mkdir(parents=True)
    (root / "dev/serial/by-id/usb-IMST_iM871A-0001").touch()
    (root / "dev/i2c-1").touch()
    (root / "sys/class/thermal/thermal_zone0").mkdir(parents=True)
    (root / "sys/class/thermal/thermal_zone0/type").write_text("cpu-thermal\n")
    (root / "etc/localtime").symlink_to("/usr/share/zoneinfo/Europe/Paris")
    with OneWireBus(root / "sys/bus/w1/devices") as bus:
        bus.set(FLUE, 110.5)
        bus.set(WATER, 61.5)
        yield root


def test_what_is_there_is_named_by_a_person_shown_and_written(machine: Path, tmp_path: Path) -> None:
    file = tmp_path / "house/topics.yaml"
    said = init(machine, file, answers="boiler/water\nboiler/water\ny\n")
    assert said.returncode == 0, said.stderr
    text = file.read_text()
    assert text in said.stdout, "shown as it is written"
    registry = Registry(file)
    assert registry.zone == "Europe/Paris"
    measured = {name: topic.options["id"] for name, topic in registry.topics.items() if topic.source == "onewire"}
    assert measured == {"boiler/water/temperature": WATER, "house/sensor_2/temperature": FLUE}, "no name twice"
    assert "# reads 61.5 °C" in text
    for found in ("usb-IMST_iM871A-0001", "hci0", '"i2c:1"'):
        assert found in text
    assert "house/machine/processor_temperature" in registry.topics
    assert set(registry.instances) == {"host", "onewire", "archive", "alerts", "web"}
    again = init(machine, file, "--yes")
    assert (again.returncode != 0, "is there already" in again.stderr) == (True, True)
    assert file.read_text() == text


def test_nothing_is_written_unless_a_person_says_so(machine: Path, tmp_path: Path) -> None:
    file = tmp_path / "topics.yaml"
    said = init(machine, file, answers="\n\n\n")
    assert "nothing was written" in said.stdout
    assert not file.exists()
    assert "Traceback" not in init(machine, file).stderr, "nobody answers at all"
    assert not file.exists()
    assert init(machine, file, "--yes").returncode == 0
    assert set(Registry(file).topics) >= {"house/sensor_1/temperature", "house/sensor_2/temperature"}


def test_a_machine_with_nothing_gets_a_house_that_is_right_all_the_same(tmp_path: Path) -> None:
    assert init(tmp_path / "none", tmp_path / "topics.yaml", "--yes").returncode == 0
    registry = Registry(tmp_path / "topics.yaml")
    assert set(registry.instances) == {"host", "archive", "alerts", "web"}
    assert "house/machine/processor_temperature" not in registry.topics, (
        "what the kernel does not show would be silent for ever"
    )


@pytest.mark.parametrize("family", ["10", "22", "3b", "42"])
def test_every_family_of_thermometers_is_found_and_no_other_1_wire_device(tmp_path: Path, family: str) -> None:
    sensor = f"{family}-000802b4f1aa"
    with OneWireBus(tmp_path / "sys/bus/w1/devices") as bus:
        bus.set(sensor, 21.5)
        bus.set("1d-0000000c52bb", 0.0)  # a counter
        lines = list(propose(tmp_path, lambda _: ""))
    assert [line for line in lines if "from: onewire" in line] == [
        f"  house/sensor_1/temperature: {{from: onewire, id: {sensor}}}   # reads 21.5 °C"
    ]
