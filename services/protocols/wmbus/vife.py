"""What the codes after a value information field add to it (VIFEs), as the tables of EN 13757-3."""

from fractions import Fraction
from typing import Final, NamedTuple

from services.protocols.wmbus.vif import CodeMeaning, Content, durations

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
    becomes: CodeMeaning | None = None
    factor: Fraction = Fraction(1)
    offset: Fraction = Fraction(0)
    """Added to the value, in code units."""
    content: Content | None = None
    """How the data of a number is presented instead."""


def _limits() -> dict[int, Qualifier]:
    """Return the codes that speak of limits: their values, how often, when and for how long they were exceeded."""
    table: dict[int, Qualifier] = {}
    count = CodeMeaning("count", "count", content="unsigned")
    moment = CodeMeaning("datetime", "datetime", content="moment")
    for u, limit in enumerate(("lower_limit", "upper_limit")):
        table[0x40 | u << 3] = Qualifier(before=limit)
        table[0x41 | u << 3] = Qualifier(before=f"exceeded_{limit}", becomes=count)
        table[0x68 | u << 2] = Qualifier(before=f"exceeding_{limit}")
        for f, which in enumerate(("first", "last")):
            for b, edge in enumerate(("begin", "end")):
                code = 0x42 | u << 3 | f << 2 | b
                table[code] = Qualifier(before=f"{which}_exceeded_{limit}_{edge}", becomes=moment)
            for n, duration in durations(0, "duration").items():
                code = 0x50 | u << 3 | f << 2 | n
                table[code] = Qualifier(before=f"{which}_exceeded_{limit}", becomes=duration)
    for f, which in enumerate(("first", "last")):
        for n, duration in durations(0, "duration").items():
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
    0x39: Qualifier(before="start", becomes=CodeMeaning("datetime", "datetime", content="moment")),
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
