"""What a value information field says, as the tables of EN 13757-3: quantity, unit and scale for every code.

Units are the ones people expect, one for each quantity whatever scale the meter sends: kWh, kW, m³, m³/h, °C, V, A, h.
"""

from fractions import Fraction
from typing import Final, Literal, NamedTuple

Content = Literal["number", "unsigned", "date", "moment", "digits", "flags"]
"""number: scaled and signed; unsigned: counted or identified by, never negative; date: type G; moment: types F, I or J;
digits: a number whose leading zeros count, or text; flags: a bit field."""


class Meaning(NamedTuple):
    """What one code stands for: the name and quantity of its value, its unit, and the factor to that unit."""

    name: str
    quantity: str
    unit: str = ""
    factor: Fraction = Fraction(1)
    content: Content = "number"
    step: Fraction = Fraction(1)
    """One whole unit of the code, as additive corrections count it, in the unit given here."""


def _decades(
    start: int, codes: int, lowest: int, meaning: Meaning, unit_factor: Fraction | int = 1
) -> dict[int, Meaning]:
    """Return `codes` codes from `start` on, each ten times the one before, the first 10^`lowest` code units."""
    step = Fraction(unit_factor)
    return {start + n: meaning._replace(factor=step * Fraction(10) ** (lowest + n), step=step) for n in range(codes)}


_SECONDS: Final = {"s": 1, "min": 60, "h": 3600, "d": 86400}


def _durations(start: int, name: str, unit: Literal["s", "h", "d"] = "s") -> dict[int, Meaning]:
    """Return the four codes from `start` on that count seconds, minutes, hours and days."""
    quantity = {"s": "duration", "h": "hours", "d": "days"}[unit]
    factors = (Fraction(seconds, _SECONDS[unit]) for seconds in _SECONDS.values())
    return {start + n: Meaning(name, quantity, unit, factor, step=factor) for n, factor in enumerate(factors)}


def _calendar(start: int, name: str) -> dict[int, Meaning]:
    """Return the two codes from `start` on that count months and years."""
    return {start: Meaning(name, "duration", "month"), start + 1: Meaning(name, "duration", "year")}


def _plain(content: Content, quantity: str, names: dict[int, str]) -> dict[int, Meaning]:
    return {code: Meaning(name, quantity, content=content) for code, name in names.items()}


_CUBIC_FOOT: Final = Fraction(28316846592, 10**12)
_GALLON: Final = Fraction(3785411784, 10**12)
_JOULE: Final = Fraction(1, 3_600_000)
"""In kWh."""
_MEGACALORIE: Final = Fraction(41868, 36000)
"""In kWh, by the international calorie of 4.1868 J."""

PRIMARY: Final[dict[int, Meaning]] = {
    **_decades(0x00, 8, -3, Meaning("energy", "energy", "kWh"), Fraction(1, 1000)),
    **_decades(0x08, 8, 0, Meaning("energy", "energy", "kWh"), _JOULE),
    **_decades(0x10, 8, -6, Meaning("volume", "volume", "m³")),
    **_decades(0x18, 8, -3, Meaning("mass", "mass", "kg")),
    **_durations(0x20, "on_hours", "h"),
    **_durations(0x24, "operating_hours", "h"),
    **_decades(0x28, 8, -3, Meaning("power", "power", "kW"), Fraction(1, 1000)),
    **_decades(0x30, 8, 0, Meaning("power", "power", "kW"), _JOULE),
    **_decades(0x38, 8, -6, Meaning("flow", "flow", "m³/h")),
    **_decades(0x40, 8, -7, Meaning("flow", "flow", "m³/h"), 60),
    **_decades(0x48, 8, -9, Meaning("flow", "flow", "m³/h"), 3600),
    **_decades(0x50, 8, -3, Meaning("mass_flow", "mass_flow", "kg/h")),
    **_decades(0x58, 4, -3, Meaning("flow_temperature", "temperature", "°C")),
    **_decades(0x5C, 4, -3, Meaning("return_temperature", "temperature", "°C")),
    **_decades(0x60, 4, -3, Meaning("difference_temperature", "temperature", "K")),
    **_decades(0x64, 4, -3, Meaning("external_temperature", "temperature", "°C")),
    **_decades(0x68, 4, -3, Meaning("pressure", "pressure", "bar")),
    0x6C: Meaning("date", "date", content="date"),
    0x6D: Meaning("datetime", "datetime", content="moment"),
    0x6E: Meaning("heat_cost_units", "units"),
    **_durations(0x70, "averaging_duration"),
    **_durations(0x74, "actuality_duration"),
    **_plain("digits", "text", {0x78: "fabrication_number", 0x79: "enhanced_identification"}),
    0x7A: Meaning("bus_address", "count", content="unsigned"),
    0x7E: Meaning("any", "value"),
    0x7F: Meaning("manufacturer", "value"),
}
"""Codes of the first table (EN 13757-3, table 10)."""

EXTENSION_FB: Final[dict[int, Meaning]] = {
    **_decades(0x00, 2, -1, Meaning("energy", "energy", "kWh"), 1000),
    **_decades(0x02, 2, 0, Meaning("reactive_energy", "reactive_energy", "kvarh")),
    **_decades(0x04, 2, 0, Meaning("apparent_energy", "apparent_energy", "kVAh")),
    **_decades(0x08, 2, -1, Meaning("energy", "energy", "kWh"), _JOULE * 10**9),
    **_decades(0x0C, 4, -1, Meaning("energy", "energy", "kWh"), _MEGACALORIE),
    **_decades(0x10, 2, 2, Meaning("volume", "volume", "m³")),
    **_decades(0x14, 4, -3, Meaning("reactive_power", "reactive_power", "kvar")),
    **_decades(0x18, 2, 2, Meaning("mass", "mass", "kg"), 1000),
    **_decades(0x1A, 2, -1, Meaning("humidity", "humidity", "%")),
    0x20: Meaning("volume", "volume", "m³", _CUBIC_FOOT, step=_CUBIC_FOOT),
    0x21: Meaning("volume", "volume", "m³", _CUBIC_FOOT / 10, step=_CUBIC_FOOT),
    0x22: Meaning("volume", "volume", "m³", _GALLON / 10, step=_GALLON),
    0x23: Meaning("volume", "volume", "m³", _GALLON, step=_GALLON),
    0x24: Meaning("flow", "flow", "m³/h", _GALLON * 60 / 1000, step=_GALLON * 60),
    0x25: Meaning("flow", "flow", "m³/h", _GALLON * 60, step=_GALLON * 60),
    0x26: Meaning("flow", "flow", "m³/h", _GALLON, step=_GALLON),
    **_decades(0x28, 2, -1, Meaning("power", "power", "kW"), 1000),
    0x2A: Meaning("voltage_angle", "angle", "°", Fraction(1, 10)),
    0x2B: Meaning("current_angle", "angle", "°", Fraction(1, 10)),
    **_decades(0x2C, 4, -3, Meaning("frequency", "frequency", "Hz")),
    **_decades(0x30, 2, -1, Meaning("power", "power", "kW"), _JOULE * 10**9),
    **_decades(0x34, 4, -3, Meaning("apparent_power", "apparent_power", "kVA")),
    0x68: Meaning("rating_factor", "factor", "", Fraction(1, 4096)),
    0x69: Meaning("output_rating_factor", "factor", "W"),
    0x6A: Meaning("coupling_rating_factor", "factor", "", Fraction(1, 4096)),
    0x6B: Meaning("low_temperature_rating_factor", "factor", "", Fraction(1, 4096)),
    **_decades(0x74, 4, -3, Meaning("limit_temperature", "temperature", "°C")),
    **_decades(0x78, 8, -3, Meaning("cumulated_maximum_power", "power", "kW"), Fraction(1, 1000)),
}
"""Codes after FB (EN 13757-3, table 14)."""

EXTENSION_FD: Final[dict[int, Meaning]] = {
    **_decades(0x00, 4, -3, Meaning("credit", "money")),
    **_decades(0x04, 4, -3, Meaning("debit", "money")),
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
    0x1C: Meaning("baud_rate", "count", "Bd", content="unsigned"),
    0x1D: Meaning("response_delay", "count", "bit times", content="unsigned"),
    **_plain("unsigned", "count", {0x1E: "retry_count", 0x1F: "remote_control"}),
    **_plain("unsigned", "count", {0x20: "first_storage", 0x21: "last_storage", 0x22: "storage_block_count"}),
    0x23: Meaning("tariff_description", "text", content="digits"),
    **_durations(0x24, "storage_interval"),
    **_calendar(0x28, "storage_interval"),
    0x2A: Meaning("operator_data", "text", content="digits"),
    0x2B: Meaning("second", "duration", "s", content="unsigned"),
    **_durations(0x2C, "since_readout_duration"),
    0x30: Meaning("tariff_start_date", "date", content="date"),
    **{0x30 + n: meaning for n, meaning in _durations(0, "tariff_duration").items() if n},
    **_durations(0x34, "tariff_period"),
    **_calendar(0x38, "tariff_period"),
    0x3A: Meaning("dimensionless", "count", content="unsigned"),
    0x3B: Meaning("radio_container", "text", content="digits"),
    **_durations(0x3C, "transmission_interval"),
    **_decades(0x40, 16, -9, Meaning("voltage", "voltage", "V")),
    **_decades(0x50, 16, -12, Meaning("current", "current", "A")),
    **_plain("unsigned", "count", {0x60: "reset_count", 0x61: "cumulation_count", 0x62: "control_signal"}),
    **_plain("unsigned", "count", {0x63: "weekday", 0x64: "week_number"}),
    0x65: Meaning("day_change_time", "count", content="unsigned"),
    0x66: Meaning("parameter_activation", "flags", content="flags"),
    0x67: Meaning("supplier_information", "text", content="digits"),
    **{0x68 + n: Meaning("since_cumulation_hours", "hours", "h", Fraction(f)) for n, f in enumerate((1, 24))},
    **_calendar(0x6A, "since_cumulation_duration"),
    **{0x6C + n: Meaning("battery_operating_hours", "hours", "h", Fraction(f)) for n, f in enumerate((1, 24))},
    **_calendar(0x6E, "battery_operating_duration"),
    0x70: Meaning("battery_change_date", "date", content="date"),
    0x71: Meaning("signal", "signal", "dBm"),
    0x72: Meaning("daylight_saving", "flags", content="flags"),
    0x73: Meaning("listening_window", "flags", content="flags"),
    0x74: Meaning("battery_days", "days", "d", content="unsigned"),
    0x75: Meaning("stop_count", "count", content="unsigned"),
    0x76: Meaning("manufacturer_container", "text", content="digits"),
}
"""Codes after FD (EN 13757-3, table 12)."""

RECORD_ERRORS: Final[dict[int, str]] = {
    0x01: "too many DIFEs",
    0x02: "storage number not implemented",
    0x03: "unit number not implemented",
    0x04: "tariff number not implemented",
    0x05: "function not implemented",
    0x06: "data class not implemented",
    0x07: "data size not implemented",
    0x0B: "too many VIFEs",
    0x0C: "illegal VIF group",
    0x0D: "illegal VIF exponent",
    0x0E: "VIF and DIF do not match",
    0x0F: "unimplemented action",
    0x15: "no data available",
    0x16: "data overflow",
    0x17: "data underflow",
    0x18: "data error",
    0x1C: "premature end of record",
}
"""VIFEs by which a meter says that a record has no value (EN 13757-3, table 18)."""

PROFILES: Final = frozenset((0x13, 0x1E, 0x1F))
INVERSE_PROFILE: Final = 0x13


class Qualifier(NamedTuple):
    """What a combinable VIFE adds: a word before or after the name, a unit suffix, or another kind of content."""

    before: str = ""
    after: str = ""
    unit: str = ""
    becomes: Meaning | None = None
    factor: Fraction = Fraction(1)
    offset: Fraction = Fraction(0)
    """Added to the value, in code units."""
    content: Content | None = None
    """How the data of a number is presented instead."""


def _limits() -> dict[int, Qualifier]:
    """Return the codes that speak of limits: their values, how often, when and for how long they were exceeded."""
    table: dict[int, Qualifier] = {}
    count = Meaning("count", "count", content="unsigned")
    moment = Meaning("datetime", "datetime", content="moment")
    for u, limit in enumerate(("lower_limit", "upper_limit")):
        table[0x40 | u << 3] = Qualifier(before=limit)
        table[0x41 | u << 3] = Qualifier(before=f"exceeded_{limit}", becomes=count)
        table[0x68 | u << 2] = Qualifier(before=f"exceeding_{limit}")
        for f, which in enumerate(("first", "last")):
            for b, edge in enumerate(("begin", "end")):
                code = 0x42 | u << 3 | f << 2 | b
                table[code] = Qualifier(before=f"{which}_exceeded_{limit}_{edge}", becomes=moment)
            for n, duration in _durations(0, "duration").items():
                code = 0x50 | u << 3 | f << 2 | n
                table[code] = Qualifier(before=f"{which}_exceeded_{limit}", becomes=duration)
    for f, which in enumerate(("first", "last")):
        for n, duration in _durations(0, "duration").items():
            table[0x60 | f << 2 | n] = Qualifier(before=which, becomes=duration)
        for b, edge in enumerate(("begin", "end")):
            table[0x6A | f << 2 | b] = Qualifier(before=f"{which}_{edge}", becomes=moment)
    return table


QUALIFIERS: Final[dict[int, Qualifier]] = {
    0x00: Qualifier(),
    0x12: Qualifier(before="average"),
    0x13: Qualifier(before="inverse_profile"),
    0x1D: Qualifier(),
    0x1E: Qualifier(before="profile"),
    0x1F: Qualifier(before="profile"),
    0x20: Qualifier(after="per_second", unit="/s"),
    0x21: Qualifier(after="per_minute", unit="/min"),
    0x22: Qualifier(after="per_hour", unit="/h"),
    0x23: Qualifier(after="per_day", unit="/d"),
    0x24: Qualifier(after="per_week", unit="/week"),
    0x25: Qualifier(after="per_month", unit="/month"),
    0x26: Qualifier(after="per_year", unit="/year"),
    0x27: Qualifier(after="per_revolution", unit="/revolution"),
    0x28: Qualifier(after="per_input_0_pulse", unit="/pulse"),
    0x29: Qualifier(after="per_input_1_pulse", unit="/pulse"),
    0x2A: Qualifier(after="per_output_0_pulse", unit="/pulse"),
    0x2B: Qualifier(after="per_output_1_pulse", unit="/pulse"),
    0x2C: Qualifier(after="per_litre", unit="/l"),
    0x2D: Qualifier(after="per_cubic_metre", unit="/m³"),
    0x2E: Qualifier(after="per_kilogram", unit="/kg"),
    0x2F: Qualifier(after="per_kelvin", unit="/K"),
    0x30: Qualifier(after="per_kilowatt_hour", unit="/kWh"),
    0x31: Qualifier(after="per_gigajoule", unit="/GJ"),
    0x32: Qualifier(after="per_kilowatt", unit="/kW"),
    0x33: Qualifier(after="per_kelvin_litre", unit="/(K·l)"),
    0x34: Qualifier(after="per_volt", unit="/V"),
    0x35: Qualifier(after="per_ampere", unit="/A"),
    0x36: Qualifier(after="times_seconds", unit="·s"),
    0x37: Qualifier(after="times_seconds_per_volt", unit="·s/V"),
    0x38: Qualifier(after="times_seconds_per_ampere", unit="·s/A"),
    0x39: Qualifier(before="start", becomes=Meaning("datetime", "datetime", content="moment")),
    0x3A: Qualifier(before="uncorrected"),
    0x3B: Qualifier(before="forward"),
    0x3C: Qualifier(before="backward"),
    0x3D: Qualifier(before="non_metric"),
    0x3E: Qualifier(before="base_condition"),
    0x3F: Qualifier(before="obis_declaration"),
    **_limits(),
    0x69: Qualifier(before="leakage"),
    0x6D: Qualifier(before="overflow"),
    **{0x70 + n: Qualifier(factor=Fraction(10) ** (n - 6)) for n in range(8)},
    **{0x78 + n: Qualifier(offset=Fraction(10) ** (n - 3)) for n in range(4)},
    0x7D: Qualifier(factor=Fraction(1000)),
    0x7E: Qualifier(before="future"),
}
"""Combinable codes after any VIF (EN 13757-3, table 15)."""

NON_METRIC: Final = 0x3D

QUALIFIERS_FC: Final[dict[int, Qualifier]] = {
    0x01: Qualifier(before="phase_1"),
    0x02: Qualifier(before="phase_2"),
    0x03: Qualifier(before="phase_3"),
    0x04: Qualifier(before="neutral"),
    0x05: Qualifier(before="phase_1_to_2"),
    0x06: Qualifier(before="phase_2_to_3"),
    0x07: Qualifier(before="phase_3_to_1"),
    0x08: Qualifier(before="quadrant_1"),
    0x09: Qualifier(before="quadrant_2"),
    0x0A: Qualifier(before="quadrant_3"),
    0x0B: Qualifier(before="quadrant_4"),
    0x0C: Qualifier(before="import_less_export"),
    0x10: Qualifier(before="absolute"),
    0x11: Qualifier(content="unsigned"),
    0x12: Qualifier(content="flags"),
}
"""Combinable codes after VIFE FC (EN 13757-3, table 16)."""
