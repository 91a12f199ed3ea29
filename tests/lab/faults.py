"""Faults of the buses, met by the real drivers: each service says what is wrong and recovers in the same process.

Run by `guest.sh faults`, in the guest. What is read before a fault and after it was set a moment ago, and never before.
"""

import itertools
import json
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest

from services.simulators.onewire import POWER_ON_CELSIUS
from tests.lab import pack
from tests.lab.laboratory import CENTRAL, FLUE, MAKES, PATIENCE, PERIPHERAL, SERVICES, WATER, Laboratory, wait_for

NO_ANSWER = "its answer is empty or its checksum wrong"
STEPS = itertools.count(1)
"""What is measured goes up by a step whenever it is to be read."""


@pytest.fixture(autouse=True)
def same_processes(lab: Laboratory) -> Iterator[None]:
    """No service may end, whatever happens to its device; each test begins with devices that work."""
    yield
    lab.mend()
    ended = {name: code for name in SERVICES if (code := lab.house.processes[name].poll()) is not None}
    assert not ended, {name: lab.house.log(name) for name in ended}


def flue_comes(lab: Laboratory) -> None:
    lab.sensors[FLUE].celsius = celsius = 91 + next(STEPS) / 4
    lab.fresh({"lab/flue/temperature": celsius})


def water_comes(lab: Laboratory) -> None:
    lab.sensors[WATER].celsius = celsius = 31 + next(STEPS) / 4
    lab.fresh({"lab/water/temperature": celsius})


def voltage_comes(lab: Laboratory) -> None:
    volts = 1 + next(STEPS) / 100
    lab.apply(amperes=3.0, volts=volts)
    lab.fresh({"lab/tank/voltage": pytest.approx(volts, abs=0.002)})


def voltage_error(lab: Laboratory) -> str:
    answer = lab.ear.ask("adc", "read", timeout=PATIENCE)
    return str(answer.get("data", {}).get("lab/tank/voltage", {}).get("error", ""))


def battery_comes(lab: Laboratory) -> None:
    volts = 3 + next(STEPS) / 1000
    lab.charge(msgspec.structs.replace(pack.DISCHARGING, cell_voltages=(volts, *pack.DISCHARGING.cell_voltages[1:])))
    lab.fresh({"lab/battery/cell_1_voltage": pytest.approx(volts)})


def test_a_sensor_that_was_pulled_out_is_found_again(lab: Laboratory) -> None:
    flue_comes(lab)
    since = len(lab.house.log("onewire"))
    lab.sensors[FLUE].present = False
    lab.says("onewire", "lab/flue/temperature: ", since)
    folder = Path("/sys/bus/w1/devices") / FLUE
    wait_for(lambda: not folder.exists(), f"the end of {folder}")
    water_comes(lab)
    lab.sensors[FLUE].present = True
    flue_comes(lab)


def test_a_wrong_checksum_gives_no_value(lab: Laboratory) -> None:
    water_comes(lab)
    since = len(lab.house.log("onewire"))
    lab.sensors[WATER].disturbed = True
    lab.says("onewire", f"lab/water/temperature: {NO_ANSWER}", since)
    flue_comes(lab)  # and with it all that was on its way
    heard = len(lab.ear.all("home/data/lab/water/temperature"))
    flue_comes(lab)
    flue_comes(lab)
    assert len(lab.ear.all("home/data/lab/water/temperature")) == heard
    lab.sensors[WATER].disturbed = False
    water_comes(lab)


def test_a_sensor_whose_supply_fails_never_says_85_degrees(lab: Laboratory) -> None:
    flue_comes(lab)
    since = len(lab.house.log("onewire"))
    lab.sensors[FLUE].supplied = False
    lab.says("onewire", "lab/flue/temperature: 85 °C is what it says after power-on", since)
    water_comes(lab)
    lab.sensors[FLUE].supplied = True
    flue_comes(lab)
    said = [json.loads(payload) for payload in lab.ear.all("home/data/lab/flue/temperature") if payload]
    assert POWER_ON_CELSIUS not in [one["value"] for one in said]


def test_a_1_wire_master_may_be_pulled_out_and_plugged_in(lab: Laboratory) -> None:
    flue_comes(lab)
    since = len(lab.house.log("onewire"))
    lab.onewire.pull_out()
    lab.says("onewire", "lab/flue/temperature", since)
    lab.onewire.plug_in()
    flue_comes(lab)
    water_comes(lab)


def test_an_ads1115_that_does_not_acknowledge_is_found_again(lab: Laboratory) -> None:
    voltage_comes(lab)
    lab.chip.fault = "absent"
    wait_for(lambda: "not on the bus" in voltage_error(lab), "the error of a chip that is not there")
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


@pytest.mark.parametrize("moment", ["at rest", "with a question open"])
def test_bluetooth_controllers_may_be_pulled_out_and_plugged_in(lab: Laboratory, moment: str) -> None:
    battery_comes(lab)
    before = lab.health("bms", lambda health: health["links"]["lab"]["samples"], "a sample")
    if moment == "with a question open":
        lab.bluetooth.mute(MAKES[0], on=True)
        asked = before["links"]["lab"]["retries"]
        lab.health("bms", lambda health: health["links"]["lab"]["retries"] > asked, "a question that was asked again")
    lab.bluetooth.pull_out_controllers()
    lab.bluetooth.mute(MAKES[0], on=False)
    lost = lab.health("bms", lambda health: health["links"]["lab"]["state"] == "suspended", "the end of the link")
    assert lost["links"]["lab"]["last_failure"] == f"The adapter {CENTRAL} was unplugged."
    lab.bluetooth.start_controllers()
    battery_comes(lab)
    after = lab.health("bms", lambda health: health["links"]["lab"]["state"] in ("rest", "query"), "a link that works")
    assert (after["pid"], after["start"]) == (before["pid"], before["start"])
    assert after["links"]["lab"]["samples"] > lost["links"]["lab"]["samples"]
    assert after["links"]["lab"]["sessions"] > lost["links"]["lab"]["sessions"]


def test_a_mute_battery_is_asked_again(lab: Laboratory) -> None:
    battery_comes(lab)
    since = len(lab.house.log("bms"))
    lab.bluetooth.mute(MAKES[0], on=True)
    lab.says("bms", "No answer to", since)
    lab.bluetooth.mute(MAKES[0], on=False)
    battery_comes(lab)
