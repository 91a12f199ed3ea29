"""The machine's own service: this machine's memory and disk, and a Raspberry Pi's temperature from a tree like /sys."""

from pathlib import Path

import msgspec
import psutil
import pytest
from harness import Ear, House

from bootstrap_lib.commands.check import problems_of
from bootstrap_lib.registry import Registry
from services.host import FIRMWARE, KEYS, Host, Options

HEALTH = "home/service/host/health"
TOPICS = """
sources:
  host: {{every: 200ms, stale: 1s, heartbeat: 200ms, sys: {sys}}}
topics:
  house/pi/processor_temperature: {{from: host}}
  house/pi/processor_usage: {{from: host}}
  house/pi/load_number: {{from: host, decimals: 2}}
  house/pi/memory_usage: {{from: host}}
  house/pi/memory_available_size: {{from: host}}
  house/pi/card_usage: {{from: host, key: disk_usage, path: /}}
  house/pi/disk_free_size: {{from: host}}
  house/pi/uptime_duration: {{from: host}}
  house/pi/clock_fault: {{from: host}}
  house/pi/undervoltage_fault: {{from: host}}
  house/pi/throttled_since_boot_fault: {{from: host}}
"""


@pytest.fixture
def sys(tmp_path: Path) -> Path:
    zone = tmp_path / "sys/class/thermal/thermal_zone0"
    zone.mkdir(parents=True)
    (zone / "type").write_text("cpu-thermal\n")
    (zone / "temp").write_text("51540\n")
    firmware = tmp_path / "sys" / FIRMWARE
    firmware.parent.mkdir(parents=True)
    firmware.write_text("40001\n")
    return tmp_path / "sys"


@pytest.fixture
def pi(house: House, sys: Path) -> House:
    house.write(TOPICS.format(sys=sys))
    return house


def value(ear: Ear, name: str) -> object:
    return ear.wait(f"home/data/house/pi/{name}")["value"]


def test_the_machine_says_how_it_is(pi: House, ear: Ear, sys: Path) -> None:
    pi.start("host")
    assert value(ear, "processor_temperature") == 51.54
    assert 0 <= value(ear, "processor_usage") <= 100
    assert value(ear, "memory_usage") == pytest.approx(psutil.virtual_memory().percent, abs=5)
    assert value(ear, "card_usage") == pytest.approx(psutil.disk_usage("/").percent, abs=1)
    assert value(ear, "disk_free_size") > 0
    assert value(ear, "uptime_duration") > 1
    assert value(ear, "load_number") >= 0
    assert value(ear, "clock_fault") in (True, False)
    assert (value(ear, "undervoltage_fault"), value(ear, "throttled_since_boot_fault")) == (True, True)
    assert ear.wait(HEALTH)["state"] == "running"
    (sys / FIRMWARE).write_text("50000\n")
    ear.wait("home/data/house/pi/undervoltage_fault", lambda reading: reading["value"] is False)


def test_what_this_machine_does_not_show_is_a_sentence_and_the_rest_goes_on(pi: House, ear: Ear, sys: Path) -> None:
    pi.start("host")
    value(ear, "processor_temperature")
    (sys / "class/thermal/thermal_zone0/temp").unlink()
    health = ear.wait(HEALTH, lambda health: health["last_error"])
    assert health["last_error"]["topic"] == "house/pi/processor_temperature"
    assert "No such file" in health["last_error"]["text"]
    ear.wait("home/data/house/pi/processor_temperature", lambda reading: reading == b"")
    heard = len(ear.all("home/data/house/pi/memory_usage"))
    ear.wait("home/data/house/pi/memory_usage", lambda _: len(ear.all("home/data/house/pi/memory_usage")) > heard)
    (sys / "class/thermal/thermal_zone0/temp").write_text("48000\n")
    ear.wait("home/data/house/pi/processor_temperature", lambda reading: reading != b"" and reading["value"] == 48.0)


def test_a_scan_shows_every_key_and_what_cannot_be_read(sys: Path) -> None:
    options = msgspec.convert({"sys": str(sys)}, Options, dec_hook=lambda kind, value: kind(value))
    (sys / FIRMWARE).unlink()
    lines = list(Host.scan(options))
    assert [line.split()[0] for line in lines] == list(KEYS)
    assert "processor_temperature 51.54" in lines
    assert any("only a Raspberry Pi's firmware says this" in line for line in lines)


def test_a_key_that_nobody_knows_is_found_by_check(tmp_path: Path) -> None:
    (tmp_path / "topics.yaml").write_text(TOPICS.format(sys="/sys").replace("memory_usage", "memry_usage"))
    (problem,) = problems_of(Registry(tmp_path / "topics.yaml"))
    assert "'memry_usage' is not known of a machine, did you mean 'memory_usage'?" in str(problem)
