"""A Renogy Rover as it comes out of its box, on a line of its own."""

from collections.abc import Mapping

from services.protocols.makes import renogy
from services.protocols.registers import Value
from services.simulators.modbus import SimulatedLine, SimulatedUnit

SHOWN: Mapping[str, Value] = {
    "system_voltage": 12,
    "rated_charging_current": 40,
    "rated_discharging_current": 20,
    "product_text": "controller",
    "model_text": "RNG-CTRL-RVR40",
    "software_text": "1.0.4",
    "hardware_text": "2.1.3",
    "serial_text": "1501FFFF",
    "battery_nominal_charge": 200,
    "system_setting_voltage": 255,
    "system_recognised_voltage": 12,
    "battery_text": "lithium",
    "battery_soc": 87,
    "battery_voltage": 13.2,
    "battery_charging_current": 4.31,
    "controller_temperature": 21,
    "battery_temperature": -3,
    "load_voltage": 13.2,
    "load_current": 0.42,
    "load_power": 5,
    "solar_voltage": 18.7,
    "solar_current": 3.2,
    "solar_power": 59,
    "generated_energy": 412.345,
    "charging_state": "mppt",
    "load_active": True,
}
"""What the controller shows before anyone says otherwise; fields that are not named are zero."""


class Rover(SimulatedUnit):
    """A charge controller."""

    def __init__(self, address: int = renogy.ADDRESS) -> None:
        super().__init__(address, renogy.REGISTERS, SHOWN)


class Controller(SimulatedLine):
    """A charge controller on a pseudo-terminal: `with Controller() as controller`, then open `controller.port`."""

    def __init__(self, address: int = renogy.ADDRESS) -> None:
        self.rover = Rover(address)
        super().__init__(self.rover)
