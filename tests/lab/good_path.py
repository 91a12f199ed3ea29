"""What a service publishes is what the models behind the kernel's drivers were set to. Run by guest.sh, in the guest.

Each model is set, read, set to something else while all runs, and read again; and it is the kernel's driver, or BlueZ,
that has the device.
"""

from pathlib import Path
from typing import Any

import pytest

from services.protocols.battery import Pack
from tests.lab import pack
from tests.lab.laboratory import ADDRESSES, CENTRALS, FLUE, ROOM, WATER, Laboratory

SENSORS = Path("/sys/bus/w1/devices")
USB_DRIVERS = Path("/sys/bus/usb/drivers")
DEVICE = "org.bluez.Device1"


def bound(driver: str) -> list[str]:
    """USB interfaces that a driver of the kernel has."""
    return [path.name for path in (USB_DRIVERS / driver).glob("*:*")]


def test_temperatures_come_through_the_1_wire_master_of_the_kernel(lab: Laboratory) -> None:
    lab.fresh({"lab/flue/temperature": 91.25, "lab/water/temperature": 63.25, "lab/room/temperature": -3.5})
    for name, celsius in ((FLUE, 125.0), (WATER, 8.75), (ROOM, -27.25)):
        lab.sensors[name].celsius = celsius
    lab.fresh({"lab/flue/temperature": 125.0, "lab/water/temperature": 8.75, "lab/room/temperature": -27.25})
    lab.sensors[ROOM].celsius = -0.0625
    lab.fresh({"lab/room/temperature": pytest.approx(-0.0625, abs=0.005)})
    assert bound("DS9490R")
    assert {(SENSORS / name / "driver").resolve().name for name in lab.sensors} == {"w1_slave_driver"}


def test_all_sensors_convert_at_once_as_the_kernel_offers_it(lab: Laboratory) -> None:
    assert (SENSORS / "w1_bus_master1" / "therm_bulk_read").exists()
    before = len(lab.wire.conversions)
    for celsius in (44.5, 45.75):
        lab.sensors[WATER].celsius = celsius
        lab.fresh({"lab/water/temperature": celsius})
    conversions = lab.wire.conversions[before:]
    assert len(conversions) >= 2
    assert set(conversions) == {len(lab.sensors)}, conversions


def test_a_clamp_and_a_voltage_come_through_a_real_i2c_adapter(lab: Laboratory) -> None:
    for amperes, volts in ((3.0, 1.25), (11.0, 2.718), (0.0, 0.333)):
        lab.apply(amperes=amperes, volts=volts)
        current, voltage = pytest.approx(amperes, rel=0.02, abs=0.005), pytest.approx(volts, abs=0.002)
        lab.fresh({"lab/fan/current": current, "lab/tank/voltage": voltage})
    assert bound("i2c-tiny-usb")


def measurements(state: Pack) -> dict[str, Any]:
    """What a battery in a state is to say, by topic."""
    words: dict[str, Any] = {
        "voltage": pytest.approx(state.voltage),
        "current": state.current,
        "soc": pytest.approx(state.soc),
        "cycles": state.cycles,
        "remaining_charge": state.remaining_charge,
        "hardware_text": state.name,
        "charge_fet_state": "on" if state.charge_fet else "off",
        "discharge_fet_state": "on" if state.discharge_fet else "off",
        "cell_overvoltage_alarm": "cell_overvoltage" in state.alarms,
    }
    for number, volts in enumerate(state.cell_voltages, 1):
        words[f"cell_{number}_voltage"] = volts
        words[f"cell_{number}_balancing_state"] = "on" if number in state.balancing_cells else "off"
    for number, celsius in enumerate(state.probe_temperatures, 1):
        words[f"probe_{number}_temperature"] = celsius
    return {f"lab/battery/{word}": value for word, value in words.items()}


def connected(lab: Laboratory, make: str) -> bool:
    """Whether BlueZ says so of the battery of a make, and knows its services."""
    device = lab.bluetooth.objects(DEVICE)[f"/org/bluez/{CENTRALS[make]}/dev_{ADDRESSES[make].replace(':', '_')}"]
    return bool(device["Connected"] and device["ServicesResolved"])


def test_a_battery_comes_through_bluez_and_two_controllers(lab: Laboratory) -> None:
    for state in (pack.DISCHARGING, pack.CHARGING, pack.DISCHARGING):
        lab.charge(state)
        lab.fresh(measurements(state))
    assert connected(lab, "jbd")


ROUNDED = {
    "jk": {"voltage": 0.001, "soc": 0.5},
    "daly": {"voltage": 0.05, "current": 0.05, "soc": 0.05, "remaining": 0.05, "probe": 0.5},
}
"""Half of the last digit that a make has, by the first word of a measurement, where ours has more."""


def told_by(make: str, state: Pack) -> dict[str, Any]:
    """What a battery of another make in a state is to say, by topic."""
    words = {topic.rpartition("/")[2]: value for topic, value in measurements(state).items()}
    words |= {"voltage": state.voltage, "soc": state.soc}
    told: dict[str, Any] = {}
    for word, value in words.items():
        if not word.endswith(("_text", "_alarm", "_balancing_state")):
            error = ROUNDED[make].get(word.partition("_")[0])
            told[f"lab/{make}/{word}"] = value if error is None else pytest.approx(value, abs=1.01 * error, rel=0)
    return told


def test_jk_and_daly_come_through_bluez_at_the_same_time(lab: Laboratory) -> None:
    for of_jk, of_daly in ((pack.JK, pack.DALY), (pack.DALY, pack.JK)):
        lab.charge(of_jk, "jk")
        lab.charge(of_daly, "daly")
        lab.fresh(told_by("jk", of_jk) | told_by("daly", of_daly))
    assert connected(lab, "jk")
    assert connected(lab, "daly")
