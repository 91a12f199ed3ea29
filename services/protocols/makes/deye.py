"""Deye and Sunsynk hybrid inverters for one phase (kellerza/sunsynk; 32 bits have the low word first).

Currents and powers are signed as the inverter says them: the grid's positive while it draws, the battery's while it
discharges. `invert: true` in a line of topics.yaml turns one round.
"""

from services.protocols.registers import Register, signed

ADDRESS = 1
BAUD_RATE = 9600


def _total(name: str, address: int, beside: int | None = None) -> Register:
    if beside is not None:
        return Register(name, address, "kWh", 0.1, low_first=True, beside=(beside,))
    return Register(name, address, "kWh", 0.1, 2, low_first=True)


REGISTERS = (
    _total("grid_export_energy", 81),
    _total("grid_import_energy", 78, 80),  # the frequency lies between the two
    _total("battery_charged_energy", 72),
    _total("battery_discharged_energy", 74),
    _total("solar_energy", 96),
    _total("load_energy", 85),
    Register("grid_frequency", 79, "Hz", 0.01),
    Register("solar_1_voltage", 109, "V", 0.1),
    Register("solar_1_current", 110, "A", 0.1),
    Register("solar_2_voltage", 111, "V", 0.1),
    Register("solar_2_current", 112, "A", 0.1),
    Register("grid_voltage", 150, "V", 0.1),
    Register("grid_power", 169, "W", form=signed),
    Register("inverter_power", 175, "W", form=signed),
    Register("load_power", 178, "W", form=signed),
    Register("battery_temperature", 182, "°C", 0.1, offset=-100),
    Register("battery_voltage", 183, "V", 0.01),
    Register("battery_soc", 184, "%"),
    Register("solar_1_power", 186, "W"),
    Register("solar_2_power", 187, "W"),
    Register("battery_power", 190, "W", form=signed),
    Register("battery_current", 191, "A", 0.01, form=signed),
)
