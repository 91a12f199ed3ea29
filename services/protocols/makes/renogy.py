"""The Renogy Rover solar charge controller as a table of Modbus registers (also Wanderer, and SRNE's ML series).

Source: "ROVER MODBUS" protocol document of Renogy. Modbus RTU, function 3, 9600 8N1, address 1. The document gives
generated and consumed energy in kWh/10000; the devices count watt-hours, and so does this table.
"""

from services.protocols.registers import (
    Register,
    hexadecimal,
    high_byte,
    high_sign_and_magnitude,
    low_byte,
    low_sign_and_magnitude,
    text,
    version,
)

BAUD_RATE = 9600
ADDRESS = 1

CHARGING_STATES = {
    0: "deactivated",
    1: "activated",
    2: "mppt",
    3: "equalizing",
    4: "boost",
    5: "floating",
    6: "current_limiting",
}
BATTERY_TYPES = {1: "open", 2: "sealed", 3: "gel", 4: "lithium", 5: "custom"}
FAULTS = {
    16: "battery_over_discharge",
    17: "battery_over_voltage",
    18: "battery_under_voltage",
    19: "load_short_circuit",
    20: "load_over_current",
    21: "controller_over_temperature",
    22: "ambient_over_temperature",
    23: "solar_over_power",
    24: "solar_short_circuit",
    25: "solar_over_voltage",
    26: "solar_counter_current",
    27: "solar_working_point_over_voltage",
    28: "solar_reversed",
    29: "anti_reverse_mosfet_short",
    30: "charging_mosfet_short",
}
"""The bits of 0x0121 (high) and 0x0122 (low)."""
WATT_HOURS = 0.001

IDENTITY = (
    Register("system_voltage", 0x000A, "V", form=high_byte),
    Register("rated_charging_current", 0x000A, "A", form=low_byte),
    Register("rated_discharging_current", 0x000B, "A", form=high_byte),
    Register("product_text", 0x000B, form=low_byte, states={0: "controller", 1: "inverter"}),
    Register("model_text", 0x000C, length=8, form=text),
    Register("software_text", 0x0014, length=2, form=version),
    Register("hardware_text", 0x0016, length=2, form=version),
    Register("serial_text", 0x0018, length=2, form=hexadecimal),
    Register("battery_nominal_charge", 0xE002, "Ah"),
    Register("system_setting_voltage", 0xE003, "V", form=high_byte),
    Register("system_recognised_voltage", 0xE003, "V", form=low_byte),
    Register("battery_text", 0xE004, states=BATTERY_TYPES),
)
"""What hardly ever changes."""

LIVE = (
    Register("battery_soc", 0x0100, "%", form=low_byte),
    Register("battery_voltage", 0x0101, "V", 0.1),
    Register("battery_charging_current", 0x0102, "A", 0.01),
    Register("controller_temperature", 0x0103, "°C", form=high_sign_and_magnitude),
    Register("battery_temperature", 0x0103, "°C", form=low_sign_and_magnitude),
    Register("load_voltage", 0x0104, "V", 0.1),
    Register("load_current", 0x0105, "A", 0.01),
    Register("load_power", 0x0106, "W"),
    Register("solar_voltage", 0x0107, "V", 0.1),
    Register("solar_current", 0x0108, "A", 0.01),
    Register("solar_power", 0x0109, "W"),
    Register("battery_lowest_today_voltage", 0x010B, "V", 0.1),
    Register("battery_highest_today_voltage", 0x010C, "V", 0.1),
    Register("highest_today_charging_current", 0x010D, "A", 0.01),
    Register("highest_today_discharging_current", 0x010E, "A", 0.01),
    Register("highest_today_charging_power", 0x010F, "W"),
    Register("highest_today_discharging_power", 0x0110, "W"),
    Register("charged_today_charge", 0x0111, "Ah"),
    Register("discharged_today_charge", 0x0112, "Ah"),
    Register("generated_today_energy", 0x0113, "kWh", WATT_HOURS),
    Register("consumed_today_energy", 0x0114, "kWh", WATT_HOURS),
    Register("operating_days", 0x0115, "d"),
    Register("over_discharge_count", 0x0116),
    Register("full_charge_count", 0x0117),
    Register("charged_throughput", 0x0118, "Ah", length=2),
    Register("discharged_throughput", 0x011A, "Ah", length=2),
    Register("generated_energy", 0x011C, "kWh", WATT_HOURS, length=2),
    Register("consumed_energy", 0x011E, "kWh", WATT_HOURS, length=2),
    Register("load_active", 0x0120, bit=15),
    Register("charging_state", 0x0120, form=low_byte, states=CHARGING_STATES),
    *(Register(f"{name}_fault", 0x0121, length=2, bit=bit) for bit, name in FAULTS.items()),
)
"""What is worth a reading each round."""

REGISTERS = IDENTITY + LIVE
