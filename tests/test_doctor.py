"""`constellation doctor` on folders that stand for /: each fault is found, and the line that mends it is said."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

from services.fleet import authority, bridges

TOPICS = """
sources:
  onewire: {}
  adc: {}
  meters: {service: wmbus, device: /dev/ttyUSB7}
topics: {}
"""


def doctor(root: Path, *options: str | Path) -> subprocess.CompletedProcess[str]:
    command = [Path(sys.executable).with_name("constellation"), *options, "doctor", "--root", root]
    return subprocess.run(command, capture_output=True, text=True, timeout=30)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A Pi without any overlay, installed, its broker away."""
    (tmp_path / "boot" / "firmware").mkdir(parents=True)
    (tmp_path / "boot" / "firmware" / "config.txt").write_text("# dtoverlay=w1-gpio\ndtparam=audio=on\n")
    topics = tmp_path / "etc" / "constellation" / "topics.yaml"
    topics.parent.mkdir(parents=True)
    topics.write_text(TOPICS)
    return tmp_path


def install(root: Path) -> None:
    command = [Path(sys.executable).with_name("constellation"), "units", "--install", "--root", root]
    subprocess.run(command, check=True, capture_output=True, timeout=30)


def test_a_missing_overlay_is_mended_by_a_line_in_config_txt(root: Path) -> None:
    said = doctor(root)
    assert said.returncode == 1
    file = root / "boot" / "firmware" / "config.txt"
    assert f"/sys/bus/w1/devices is missing and {file} has no line dtoverlay=w1-gpio" in said.stdout
    assert f"mend it: echo dtparam=i2c_arm=on | sudo tee -a {file} && sudo reboot" in said.stdout
    assert "Traceback" not in said.stderr


def test_an_overlay_that_is_there_is_not_asked_for_again(root: Path) -> None:
    file = root / "boot" / "firmware" / "config.txt"
    file.write_text("dtoverlay=w1-gpio,gpiopin=17\ndtparam=i2c_arm=on,i2c_arm_baudrate=400000\n")
    (root / "sys" / "bus" / "w1" / "devices").mkdir(parents=True)
    said = doctor(root).stdout
    assert "WRONG overlay" not in said
    assert "ok    device: onewire finds /sys/bus/w1/devices" in said
    assert "WRONG device: adc needs /dev/i2c-1, which is missing" in said


def test_a_device_that_topics_yaml_names_must_be_there(root: Path) -> None:
    assert "WRONG device: meters needs /dev/ttyUSB7, which is missing" in doctor(root).stdout
    (root / "dev").mkdir()
    (root / "dev" / "ttyUSB7").touch()
    assert "ok    device: meters finds /dev/ttyUSB7" in doctor(root).stdout


def test_units_and_credentials_are_compared_with_topics_yaml(root: Path) -> None:
    before = doctor(root).stdout
    assert (
        "WRONG units: constellation@onewire.service, constellation@adc.service, constellation@meters.service" in before
    )
    assert f"needs {root}/etc/constellation/credentials/mqtt.adc, which is missing" in before
    install(root)
    (root / "etc/constellation/credentials/mqtt.adc").chmod(0o640)
    (root / "etc/constellation/credentials/mqtt.meters").write_text("\n")
    after = doctor(root).stdout
    assert "ok    units: 3 enabled" in after
    assert "mqtt.adc can be read by others" in after
    assert "mqtt.meters is empty" in after


def test_a_missing_topics_yaml_and_a_missing_root_are_said_with_what_to_do(root: Path) -> None:
    (root / "etc" / "constellation" / "topics.yaml").unlink()
    said = doctor(root, "--config", root / "etc" / "constellation" / "topics.yaml")
    assert "topics.yaml:1: there is no such file" in said.stdout
    line = re.search(r"mend it: (?:sudo )?(install -D -m 644 \S+/topics.yaml \S+)", said.stdout)
    assert line is not None
    subprocess.run(line[1].split(), check=True)  # it mends
    assert "ok    topics.yaml" in doctor(root).stdout
    said = doctor(root / "nowhere")
    assert said.stderr == f"constellation doctor: {root}/nowhere is no folder: --root names one that stands for /\n"


def test_a_broken_topics_yaml_is_shown_with_its_line(root: Path) -> None:
    file = root / "etc" / "constellation" / "topics.yaml"
    file.write_text("sources:\n  onewire: {}\ntopics:\n  a/b/temperature: {from: onewier}\n")
    said = doctor(root)
    assert said.returncode == 1
    assert f"{file}:4: topics.a/b/temperature.from: no source is named 'onewier'" in said.stdout
    assert "Traceback" not in said.stderr


def test_a_list_of_revocations_that_nobody_renewed_is_said_long_before_its_end(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(authority, "LIST_DAYS", 20)
    place, added = Path("/etc/mosquitto/fleet"), root / "etc/mosquitto/constellation/conf.d"
    authority.Authority(root / place.relative_to("/"), "127.0.0.1").make()
    added.mkdir(parents=True)
    (added / "fleet.conf").write_text(bridges.listener(8884, place))
    said = doctor(root).stdout
    assert re.search(r"WRONG certificate: /etc/mosquitto/fleet/crl\.pem ends in (19|20) days", said), said
    assert "mend it: sudo constellation fleet renew" in said
    assert "centre.crt" not in said, "it lasts ten years"
