"""Faults of the buses, met by the real drivers: each service says what is wrong and recovers in the same process.

Run by `guest.sh faults`, in the guest.
"""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from harness import wait_for

from services.simulators.onewire import POWER_ON_CELSIUS
from tests.lab.laboratory import CENTRAL, FLUE, PATIENCE, PERIPHERAL, SERVICES, WATER, Laboratory
from tests.lab.pack import PACK

NO_ANSWER = "its answer is empty or its checksum wrong"


@pytest.fixture(autouse=True)
def same_processes(lab: Laboratory) -> Iterator[None]:
    """No service may end, whatever happens to its device; each test begins with devices that work."""
    yield
    lab.mend()
    ended = {name: code for name in SERVICES if (code := lab.house.processes[name].poll()) is not None}
    assert not ended, {name: lab.house.log(name) for name in ended}


def temperatures_come(lab: Laboratory) -> None:
    lab.fresh("lab/flue/temperature", 91.25)
    lab.fresh("lab/water/temperature", 63.25)


def voltage_comes(lab: Laboratory) -> None:
    lab.fresh("lab/tank/voltage", 1.25, 0.002)


def voltage_error(lab: Laboratory) -> str:
    answer = lab.ear.ask("adc", "read", timeout=PATIENCE)
    return str(answer.get("data", {}).get("lab/tank/voltage", {}).get("error", ""))


def battery_comes(lab: Laboratory) -> None:
    lab.fresh("lab/battery/voltage", PACK.voltage, 0.006)


def test_a_sensor_that_was_pulled_out_is_found_again(lab: Laboratory) -> None:
    temperatures_come(lab)
    since = len(lab.house.log("onewire"))
    lab.sensors[FLUE].present = False
    lab.says("onewire", "lab/flue/temperature: ", since)
    folder = Path("/sys/bus/w1/devices") / FLUE
    wait_for(lambda: not folder.exists(), PATIENCE, f"the end of {folder}")
    lab.fresh("lab/water/temperature", 63.25)
    lab.sensors[FLUE].present = True
    temperatures_come(lab)


def test_a_wrong_checksum_gives_no_value(lab: Laboratory) -> None:
    temperatures_come(lab)
    since = len(lab.house.log("onewire"))
    lab.sensors[WATER].disturbed = True
    lab.says("onewire", f"lab/water/temperature: {NO_ANSWER}", since)
    heard = len(lab.ear.all("home/data/lab/water/temperature"))
    lab.fresh("lab/flue/temperature", 91.25)
    lab.fresh("lab/flue/temperature", 91.25)
    assert len(lab.ear.all("home/data/lab/water/temperature")) == heard
    lab.sensors[WATER].disturbed = False
    temperatures_come(lab)


def test_a_sensor_whose_supply_fails_never_says_85_degrees(lab: Laboratory) -> None:
    temperatures_come(lab)
    for _ in range(3):
        lab.sensors[FLUE].power_on()
        lab.fresh("lab/water/temperature", 63.25)
    said = [json.loads(payload) for payload in lab.ear.all("home/data/lab/flue/temperature") if payload]
    assert POWER_ON_CELSIUS not in [one["value"] for one in said]
    temperatures_come(lab)


def test_a_1_wire_master_may_be_pulled_out_and_plugged_in(lab: Laboratory) -> None:
    temperatures_come(lab)
    since = len(lab.house.log("onewire"))
    lab.onewire.pull_out()
    lab.says("onewire", "lab/flue/temperature", since)
    lab.onewire.plug_in()
    temperatures_come(lab)


def test_an_ads1115_that_does_not_acknowledge_is_found_again(lab: Laboratory) -> None:
    voltage_comes(lab)
    lab.chip.fault = "absent"
    wait_for(lambda: "not on the bus" in voltage_error(lab), PATIENCE, "the error of a chip that is not there")
    lab.chip.fault = None
    voltage_comes(lab)


def test_an_i2c_adapter_may_be_pulled_out_and_plugged_in(lab: Laboratory) -> None:
    voltage_comes(lab)
    since = len(lab.house.log("adc"))
    lab.i2c.pull_out()
    lab.says("adc", "There is no /dev/i2c-", since)
    lab.i2c.plug_in()
    voltage_comes(lab)


def test_bluetoothd_may_be_killed(lab: Laboratory) -> None:
    battery_comes(lab)
    since = len(lab.house.log("bms"))
    lab.bluetooth.kill("bluetoothd")
    lab.says("bms", "bluetoothd is not running", since)
    lab.bluetooth.start_daemon()
    battery_comes(lab)


@pytest.mark.parametrize("adapter", [CENTRAL, PERIPHERAL])
def test_an_adapter_may_be_switched_off_and_on(lab: Laboratory, adapter: str) -> None:
    battery_comes(lab)
    since = len(lab.house.log("bms"))
    lab.bluetooth.power(adapter, on=False)
    lab.says("bms", "battery lab: ", since)
    lab.bluetooth.power(adapter, on=True)
    battery_comes(lab)


def test_a_mute_battery_is_asked_again(lab: Laboratory) -> None:
    battery_comes(lab)
    since = len(lab.house.log("bms"))
    lab.bluetooth.mute("battery", on=True)
    lab.says("bms", "No answer to", since)
    lab.bluetooth.mute("battery", on=False)
    battery_comes(lab)
