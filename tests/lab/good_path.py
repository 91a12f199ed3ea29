"""What a service publishes is what the models behind the kernel's drivers were set to. Run by guest.sh, in the guest."""

from pathlib import Path

from tests.lab.laboratory import FLUE, ROOM, WATER, Laboratory
from tests.lab.pack import PACK

DEVICES = Path("/sys/bus/w1/devices")


def test_temperatures_come_through_the_1_wire_master_of_the_kernel(lab: Laboratory) -> None:
    lab.fresh("lab/flue/temperature", 91.25)
    lab.fresh("lab/water/temperature", 63.25)
    lab.fresh("lab/room/temperature", -3.5)
    lab.sensors[FLUE].celsius = 125.0
    lab.sensors[ROOM].celsius = -0.0625
    lab.fresh("lab/flue/temperature", 125.0)
    lab.fresh("lab/room/temperature", -0.06, 0.011)


def test_all_sensors_convert_at_once_as_the_kernel_offers_it(lab: Laboratory) -> None:
    assert (DEVICES / "w1_bus_master1" / "therm_bulk_read").exists()
    lab.fresh("lab/water/temperature", 63.25)
    conversions = [lab.sensors[name].conversions for name in (FLUE, WATER, ROOM)]
    assert max(conversions) - min(conversions) <= 1, conversions


def test_a_clamp_and_a_voltage_come_through_a_real_i2c_adapter(lab: Laboratory) -> None:
    lab.fresh("lab/fan/current", 3.0, 0.15)  # an emulated processor keeps no even time between its samples
    lab.fresh("lab/tank/voltage", 1.25, 0.002)


def test_a_battery_comes_through_bluez_and_two_controllers(lab: Laboratory) -> None:
    lab.fresh("lab/battery/soc", PACK.soc)
    expected = {"voltage": PACK.voltage, "current": PACK.current, "cycles": PACK.cycles}
    expected |= {f"cell_{number}_voltage": volts for number, volts in enumerate(PACK.cell_voltages, 1)}
    expected |= {f"probe_{number}_temperature": celsius for number, celsius in enumerate(PACK.probe_temperatures, 1)}
    for word, value in expected.items():
        said = lab.ear.wait(f"home/data/lab/battery/{word}", timeout=10)
        assert abs(said["value"] - value) <= 0.006, (word, said)
