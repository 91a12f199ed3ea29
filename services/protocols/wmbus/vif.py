"""What a value information field says, as the tables of EN 13757-3: quantity, unit and scale for every code.

Units are the ones people expect, one for each quantity whatever scale the meter sends: kWh, kW, m³, m³/h, °C, V, A, h.
"""

from fractions import Fraction
from typing import Final, Literal, NamedTuple

Content = Literal["number", "unsigned", "date", "moment", "digits", "flags"]
"""number: scaled and signed; unsigned: counted or identified by, never negative; date: type G; moment: types F, I or J;
digits: a number whose leading zeros count, or text; flags: a bit field."""


class CodeMeaning(NamedTuple):
    """What one code stands for: the name and quantity of its value, its unit, and the factor to that unit."""

    name: str
    quantity: str
    unit: str = ""
    factor: Fraction = Fraction(1)
    content: Content = "number"
    step: Fraction = Fraction(1)
    """One whole unit of the code, as additive corrections count it, in the unit given here."""


def _decades(
    start: int, codes: int, lowest: int, meaning: CodeMeaning, unit_factor: Fraction | int = 1
) -> dict[int, CodeMeaning]:
    """Return `codes` codes from `start` on, each ten times the one before, the first 10^`lowest` code units."""
    step = Fraction(unit_factor)
    return {start + n: meaning._replace(factor=step * Fraction(10) ** (lowest + n), step=step) for n in range(codes)}


_SECONDS: Final = {"s": 1, "min": 60, "h": 3600, "d": 86400}


def durations(start: int, name: str, unit: Literal["s", "h", "d"] = "s") -> dict[int, CodeMeaning]:
    """Return the four codes from `start` on that count seconds, minutes, hours and days."""
    quantity = {"s": "duration", "h": "hours", "d": "days"}[unit]
    factors = (Fraction(seconds, _SECONDS[unit]) for seconds in _SECONDS.values())
    return {start + n: CodeMeaning(name, quantity, unit, factor, step=factor) for n, factor in enumerate(factors)}


def _calendar(start: int, name: str) -> dict[int, CodeMeaning]:
    """Return the two codes from `start` on that count months and years."""
    return {start: CodeMeaning(name, "duration", "month"), start + 1: CodeMeaning(name, "duration", "year")}


def _plain(content: Content, quantity: str, names: dict[int, str]) -> dict[int, CodeMeaning]:
    return {code: CodeMeaning(name, quantity, content=content) for code, name in names.items()}


_CUBIC_FOOT: Final = Fraction(28316846592, 10**12)
_GALLON: Final = Fraction(3785411784, 10**12)
_JOULE: Final = Fraction(1, 3_600_000)
"""In kWh."""
_MEGACALORIE: Final = Fraction(41868, 36000)
"""In kWh, by the international calorie of 4.1868 J."""

PRIMARY: Final[dict[int, CodeMeaning]] = {
    **_decades(0x00, 8, -3, CodeMeaning("energy", "energy", "kWh"), Fraction(1, 1000)),
    **_decades(0x08, 8, 0, CodeMeaning("energy", "energy", "kWh"), _JOULE),
    **_decades(0x10, 8, -6, CodeMeaning("volume", "volume", "m³")),
    **_decades(0x18, 8, -3, CodeMeaning("mass", "mass", "kg")),
    **durations(0x20, "on_hours", "h"),
    **durations(0x24, "operating_hours", "h"),
    **_decades(0x28, 8, -3, CodeMeaning("power", "power", "kW"), Fraction(1, 1000)),
    **_decades(0x30, 8, 0, CodeMeaning("power", "power", "kW"), _JOULE),
    **_decades(0x38, 8, -6, CodeMeaning("flow", "flow", "m³/h")),
    **_decades(0x40, 8, -7, CodeMeaning("flow", "flow", "m³/h"), 60),
    **_decades(0x48, 8, -9, CodeMeaning("flow", "flow", "m³/h"), 3600),
    **_decades(0x50, 8, -3, CodeMeaning("mass_flow", "mass_flow", "kg/h")),
    **_decades(0x58, 4, -3, CodeMeaning("flow_temperature", "temperature", "°C")),
    **_decades(0x5C, 4, -3, CodeMeaning("return_temperature", "temperature", "°C")),
    **_decades(0x60, 4, -3, CodeMeaning("difference_temperature", "temperature", "K")),
    **_decades(0x64, 4, -3, CodeMeaning("external_temperature", "temperature", "°C")),
    **_decades(0x68, 4, -3, CodeMeaning("pressure", "pressure", "bar")),
    0x6C: CodeMeaning("date", "date", content="date"),
    0x6D: CodeMeaning("datetime", "datetime", content="moment"),
    0x6E: CodeMeaning("heat_cost_units", "units"),
    **durations(0x70, "averaging_duration"),
    **durations(0x74, "actuality_duration"),
    **_plain("digits", "text", {0x78: "fabrication_number", 0x79: "enhanced_identification"}),
    0x7A: CodeMeaning("bus_address", "count", content="unsigned"),
    0x7E: CodeMeaning("any", "value"),
    0x7F: CodeMeaning("manufacturer", "value"),
}
"""Codes of the first table (EN 13757-3, table 10)."""

EXTENSION_FB: Final[dict[int, CodeMeaning]] = {
    **_decades(0x00, 2, -1, CodeMeaning("energy", "energy", "kWh"), 1000),
    **_decades(0x02, 2, 0, CodeMeaning("reactive_energy", "reactive_energy", "kvarh")),
    **_decades(0x04, 2, 0, CodeMeaning("apparent_energy", "apparent_energy", "kVAh")),
    **_decades(0x08, 2, -1, CodeMeaning("energy", "energy", "kWh"), _JOULE * 10**9),
    **_decades(0x0C, 4, -1, CodeMeaning("energy", "energy", "kWh"), _MEGACALORIE),
    **_decades(0x10, 2, 2, CodeMeaning("volume", "volume", "m³")),
    **_decades(0x14, 4, -3, CodeMeaning("reactive_power", "reactive_power", "kvar")),
    **_decades(0x18, 2, 2, CodeMeaning("mass", "mass", "kg"), 1000),
    **_decades(0x1A, 2, -1, CodeMeaning("humidity", "humidity", "%")),
    0x20: CodeMeaning("volume", "volume", "m³", _CUBIC_FOOT, step=_CUBIC_FOOT),
    0x21: CodeMeaning("volume", "volume", "m³", _CUBIC_FOOT / 10, step=_CUBIC_FOOT),
    0x22: CodeMeaning("volume", "volume", "m³", _GALLON / 10, step=_GALLON),
    0x23: CodeMeaning("volume", "volume", "m³", _GALLON, step=_GALLON),
    0x24: CodeMeaning("flow", "flow", "m³/h", _GALLON * 60 / 1000, step=_GALLON * 60),
    0x25: CodeMeaning("flow", "flow", "m³/h", _GALLON * 60, step=_GALLON * 60),
    0x26: CodeMeaning("flow", "flow", "m³/h", _GALLON, step=_GALLON),
    **_decades(0x28, 2, -1, CodeMeaning("power", "power", "kW"), 1000),
    0x2A: CodeMeaning("voltage_angle", "angle", "°", Fraction(1, 10)),
    0x2B: CodeMeaning("current_angle", "angle", "°", Fraction(1, 10)),
    **_decades(0x2C, 4, -3, CodeMeaning("frequency", "frequency", "Hz")),
    **_decades(0x30, 2, -1, CodeMeaning("power", "power", "kW"), _JOULE * 10**9),
    **_decades(0x34, 4, -3, CodeMeaning("apparent_power", "apparent_power", "kVA")),
    0x68: CodeMeaning("rating_factor", "factor", "", Fraction(1, 4096)),
    0x69: CodeMeaning("output_rating_factor", "factor", "W"),
    0x6A: CodeMeaning("coupling_rating_factor", "factor", "", Fraction(1, 4096)),
    0x6B: CodeMeaning("low_temperature_rating_factor", "factor", "", Fraction(1, 4096)),
    **_decades(0x74, 4, -3, CodeMeaning("limit_temperature", "temperature", "°C")),
    **_decades(0x78, 8, -3, CodeMeaning("cumulated_maximum_power", "power", "kW"), Fraction(1, 1000)),
}
"""Codes after FB (EN 13757-3, table 14)."""

EXTENSION_FD: Final[dict[int, CodeMeaning]] = {
    **_decades(0x00, 4, -3, CodeMeaning("credit", "money")),
    **_decades(0x04, 4, -3, CodeMeaning("debit", "money")),
    **_plain("unsigned", "count", {0x08: "access_count", 0x09: "medium"}),
    **_plain(
        "digits",
        "text",
        {
            0x0A: "manufacturer",
            0x0B: "parameter_set",
            0x0C: "model",
            0x0D: "hardware_version",
            0x0E: "firmware_version",
            0x0F: "software_version",
            0x10: "customer_location",
            0x11: "customer",
            0x12: "user_access_code",
            0x13: "operator_access_code",
            0x14: "system_operator_access_code",
            0x15: "developer_access_code",
            0x16: "password",
        },
    ),
    **_plain("flags", "flags", {0x17: "error_flags", 0x18: "error_mask", 0x19: "security_key"}),
    **_plain("flags", "flags", {0x1A: "digital_output", 0x1B: "digital_input"}),
    0x1C: CodeMeaning("baud_rate", "count", "Bd", content="unsigned"),
    0x1D: CodeMeaning("response_delay", "count", "bit times", content="unsigned"),
    **_plain("unsigned", "count", {0x1E: "retry_count", 0x1F: "remote_control"}),
    **_plain("unsigned", "count", {0x20: "first_storage", 0x21: "last_storage", 0x22: "storage_block_count"}),
    0x23: CodeMeaning("tariff_description", "text", content="digits"),
    **durations(0x24, "storage_interval"),
    **_calendar(0x28, "storage_interval"),
    0x2A: CodeMeaning("operator_data", "text", content="digits"),
    0x2B: CodeMeaning("second", "duration", "s", content="unsigned"),
    **durations(0x2C, "since_readout_duration"),
    0x30: CodeMeaning("tariff_start_date", "date", content="date"),
    **{0x30 + n: meaning for n, meaning in durations(0, "tariff_duration").items() if n},
    **durations(0x34, "tariff_period"),
    **_calendar(0x38, "tariff_period"),
    0x3A: CodeMeaning("dimensionless", "count", content="unsigned"),
    0x3B: CodeMeaning("radio_container", "text", content="digits"),
    **durations(0x3C, "transmission_interval"),
    **_decades(0x40, 16, -9, CodeMeaning("voltage", "voltage", "V")),
    **_decades(0x50, 16, -12, CodeMeaning("current", "current", "A")),
    **_plain("unsigned", "count", {0x60: "reset_count", 0x61: "cumulation_count", 0x62: "control_signal"}),
    **_plain("unsigned", "count", {0x63: "weekday", 0x64: "week_number"}),
    0x65: CodeMeaning("day_change_time", "count", content="unsigned"),
    0x66: CodeMeaning("parameter_activation", "flags", content="flags"),
    0x67: CodeMeaning("supplier_information", "text", content="digits"),
    **{0x68 + n: CodeMeaning("since_cumulation_hours", "hours", "h", Fraction(f)) for n, f in enumerate((1, 24))},
    **_calendar(0x6A, "since_cumulation_duration"),
    **{0x6C + n: CodeMeaning("battery_operating_hours", "hours", "h", Fraction(f)) for n, f in enumerate((1, 24))},
    **_calendar(0x6E, "battery_operating_duration"),
    0x70: CodeMeaning("battery_change_date", "date", content="date"),
    0x71: CodeMeaning("signal", "signal", "dBm"),
    0x72: CodeMeaning("daylight_saving", "flags", content="flags"),
    0x73: CodeMeaning("listening_window", "flags", content="flags"),
    0x74: CodeMeaning("battery_days", "days", "d", content="unsigned"),
    0x75: CodeMeaning("stop_count", "count", content="unsigned"),
    0x76: CodeMeaning("manufacturer_container", "text", content="digits"),
}
"""Codes after FD (EN 13757-3, table 12)."""
