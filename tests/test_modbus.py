"""The charge controller's service on a pseudo-terminal that answers as a Rover does, well and badly."""

from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest
from harness import Ear, House, wait_for

from bootstrap_lib.commands.check import problems_of
from bootstrap_lib.registry import Registry
from services.modbus import Modbus, Options
from services.simulators.modbus import Fault
from services.simulators.renogy import Controller

VOLTAGE, STATE, SERIAL = (
    f"home/data/shed/solar/{name}" for name in ("battery_voltage", "charging_state", "serial_text")
)
HEALTH = "home/service/modbus/health"
TOPICS = """
sources:
  modbus: {{every: 200ms, stale: 1s, heartbeat: 200ms, timeout: 300ms, device: {device}}}
topics:
  shed/solar/battery_voltage: {{from: modbus}}
  shed/solar/pack_temperature: {{from: modbus, key: battery_temperature}}
  shed/solar/generated_energy: {{from: modbus}}
  shed/solar/load_active: {{from: modbus}}
  shed/solar/serial_text: {{from: modbus}}
  shed/solar/charging_state:
    {{from: modbus, states: [deactivated, activated, mppt, equalizing, boost, floating, current_limiting]}}
"""


@pytest.fixture
def controller(tmp_path: Path) -> Iterator[Controller]:
    with Controller() as controller:
        (tmp_path / "port").symlink_to(controller.port)
        yield controller


@pytest.fixture
def shed(house: House, controller: Controller, tmp_path: Path) -> House:
    house.write(TOPICS.format(device=tmp_path / "port"))
    return house


def test_every_kind_of_field_reaches_its_topic(shed: House, ear: Ear, controller: Controller) -> None:
    shed.start("modbus")
    assert ear.wait(VOLTAGE)["value"] == 13.2
    assert ear.wait("home/data/shed/solar/pack_temperature")["value"] == -3
    assert ear.wait("home/data/shed/solar/generated_energy")["value"] == 412.345
    assert ear.wait("home/data/shed/solar/load_active")["value"] is True
    assert ear.wait(SERIAL)["value"] == "1501FFFF"
    assert ear.wait(STATE)["value"] == "mppt"
    controller.rover.show({"battery_voltage": 12.1, "charging_state": "floating"})
    ear.wait(VOLTAGE, lambda value: value["value"] == 12.1)
    ear.wait(STATE, lambda value: value["value"] == "floating")
    assert ear.wait(HEALTH)["state"] == "running"


@pytest.mark.parametrize(
    ("fault", "sentence"),
    [
        ("silence", "no answer from address 1"),
        ("wrong_crc", "the answer is damaged"),
        ("truncated", "the answer is damaged"),
        ("other_address", "unit 2 answered"),
        ("exception", "cannot say them now"),
    ],
)
def test_a_fault_clears_the_topics_is_said_and_heals(
    shed: House, ear: Ear, controller: Controller, fault: Fault, sentence: str
) -> None:
    shed.start("modbus")
    ear.wait(VOLTAGE)
    controller.rover.fault = fault
    health = ear.wait(HEALTH, lambda health: health["last_error"] and sentence in health["last_error"]["text"])
    assert health["state"] in ("running", "degraded")
    ear.wait(VOLTAGE, lambda value: value == b"")
    controller.rover.fault = None
    ear.wait(VOLTAGE, lambda value: value != b"", timeout=15)
    ear.wait(HEALTH, lambda health: health["state"] == "running" and not health["stale"])


def test_a_block_that_the_model_does_not_have_costs_only_itself(shed: House, ear: Ear, controller: Controller) -> None:
    for address in (0x0018, 0x0019):
        del controller.rover.words[address]
    shed.start("modbus")
    ear.wait(VOLTAGE)
    health = ear.wait(HEALTH, lambda health: health["last_error"])
    assert health["last_error"]["topic"] == "shed/solar/serial_text"
    assert "registers 0x0018 to 0x0019: this model does not have them" in health["last_error"]["text"]
    assert not ear.values(SERIAL)


def test_a_port_that_is_unplugged_is_a_sentence_and_is_found_again(
    shed: House, ear: Ear, controller: Controller, tmp_path: Path
) -> None:
    (tmp_path / "port").unlink()
    shed.start("modbus")
    wait_for(lambda: "port is not there: plug the adapter in" in shed.log("modbus"), what="the sentence")
    (tmp_path / "port").symlink_to(controller.port)
    ear.wait(VOLTAGE, timeout=15)
    wait_for(lambda: "the device answers again" in shed.log("modbus"), what="the good news")


def test_a_scan_shows_the_fields_with_their_values(controller: Controller, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("services.modbus.LOOKED_FOR", (1, 2, 126))  # each that is silent costs 0.3 s
    lines = list(
        Modbus.scan(msgspec.convert({"device": controller.port}, Options, dec_hook=lambda kind, value: kind(value)))
    )
    assert "battery_voltage 13.2 V" in lines
    assert "charging_state mppt" in lines


@pytest.mark.parametrize(
    ("before", "after", "sentence"),
    [
        (
            "solar/load_active",
            "solar/load_on_active",
            "the table has no field 'load_on_active', did you mean 'load_active'?",
        ),
        ("key: battery_temperature", "key: batery_temperature", "did you mean 'battery_temperature'?"),
        ("battery_voltage: {from: modbus}", "battery_voltage: {from: modbus, unit: mV}", "is in V, not in mV"),
        ("[deactivated, ", "[", "its states are [deactivated, activated,"),
        ("heartbeat: 200ms,", "heartbeat: 1s, make: epever,", "a make is a file services/protocols/makes/epever.py"),
        ("heartbeat: 200ms,", "heartbeat: 1s, make: own,", "has no REGISTERS"),
        ("heartbeat: 200ms,", "heartbeat: 1s, address: 256,", "<= 255"),
    ],
)
def test_a_wrong_line_is_found_by_check(tmp_path: Path, before: str, after: str, sentence: str) -> None:
    (tmp_path / "topics.yaml").write_text(TOPICS.format(device="/dev/ttyUSB0").replace(before, after, 1))
    problems = [str(problem) for problem in problems_of(Registry(tmp_path / "topics.yaml"))]
    assert any(sentence in problem for problem in problems), problems
