"""What a service publishes is what the models behind the kernel's drivers were set to. Run by guest.sh, in the guest."""

from pathlib import Path

from tests.lab.laboratory import FLUE, ROOM, WATER, Laboratory
from tests.lab.pack import PACK


def test_temperatures_come_through_the_1_wire_master_of_the_kernel(lab: Laboratory) -> None:
    for name, celsius in ((FLUE, 91.25), (WATER, 63.25), (ROOM, -3.5)):
        assert Path(f"/sys/bus/w1/devices/{name}/driver").resolve().name == "w1_slave_driver"
        lab.sensors[name].celsius = celsius
    lab.hear("lab/flue/temperature", 91.2)
    lab.hear("lab/water/temperature", 63.2)
    lab.hear("lab/room/temperature", -3.5)


def test_all_sensors_convert_at_once_where_the_kernel_offers_it(lab: Laboratory) -> None:
    assert Path("/sys/bus/w1/devices/w1_bus_master1/therm_bulk_read").exists()


def test_a_clamps_current_and_a_voltage_come_through_a_real_i2c_adapter(lab: Laboratory) -> None:
    lab.hear("lab/fan/current", 3.0, 0.06)
    lab.hear("lab/tank/voltage", 1.25, 0.002)


def test_a_battery_comes_through_bluez_and_two_controllers(lab: Laboratory) -> None:
    expected = {
        "voltage": PACK.voltage,
        "current": PACK.current,
        "soc": PACK.soc,
        "cycles": PACK.cycles,
        "remaining_charge": PACK.remaining_charge,
    }
    expected |= {f"cell_{number}_voltage": volts for number, volts in enumerate(PACK.cell_voltages, 1)}
    expected |= {f"probe_{number}_temperature": celsius for number, celsius in enumerate(PACK.probe_temperatures, 1)}
    for word, value in expected.items():
        lab.hear(f"lab/battery/{word}", value, 0.011)
