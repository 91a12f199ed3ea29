"""Names for the values of known meters, because `storage_1_volume` is the volume of the due date only on some of them.

A profile renames; it never changes what the standard already says. A meter without one decodes all the same.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from types import MappingProxyType
from typing import Final, NamedTuple

Words = Mapping[int, str]


class BetterName(NamedTuple):
    """A better name for one generated name; for a manufacturer's own record also what its bytes mean."""

    name: str
    quantity: str | None = None
    unit: str | None = None
    read: Callable[[bytes], int | float | str | None] | None = None


@dataclass(frozen=True, eq=False)
class Profile:
    """What storages mean on one family of meters, and fields by the names made with those words."""

    name: str
    fields: Mapping[str, BetterName] = field(default_factory=dict)
    storages: Words = field(default_factory=dict)
    nothing: Mapping[str, frozenset[float]] = field(default_factory=dict)
    """Numbers by quantity that stand for no value: a probe that is not there, an integer at its end."""
    cannot: frozenset[str] = frozenset()
    """Quantities that a meter of this type does not have."""


def _number(data: bytes) -> int:
    return int.from_bytes(data, "little")


_SINCE: Final = ("", "1-8 hours", "9-24 hours", "2-3 days", "4-7 days", "8-14 days", "15-21 days", "22-31 days")
_WATER_ALARMS: Final = ("dry", "reverse", "leak", "burst")


def _water_alarms(data: bytes) -> str:
    """Alarms of a Multical 21: four bits that say which is on, then three bits each for how long in this month."""
    bits = _number(data)
    alarms = []
    for n, alarm in enumerate(_WATER_ALARMS):
        since = _SINCE[bits >> 4 + 3 * n & 7]
        if bits >> n & 1 or since:
            alarms.append(f"{alarm} {'on' if bits >> n & 1 else 'off'} {since}".rstrip())
    return ", ".join(alarms) or "ok"


_CONTACTS: Final = {0x11: "closed", 0x55: "open"}


def _contact(data: bytes) -> str | None:
    return _CONTACTS.get(_number(data))


_TARGET: Final = MappingProxyType({1: "target"})
_MONTH_AND_DAY: Final = MappingProxyType({1: "month", 2: "day"})
_FLAGS: Final = "flags"

OMNIPOWER: Final = Profile(
    "Kamstrup OmniPower",
    {
        f"{before}{backward}{quantity}": BetterName(f"{before}{direction}_{quantity}")
        for before in ("", *(f"tariff_{n}_" for n in range(1, 5)), *(f"phase_{n}_" for n in range(1, 4)))
        for backward, direction in (("", "import"), ("backward_", "export"))
        for quantity in ("energy", "reactive_energy", "power", "reactive_power")
    },
)
MULTICAL_WATER: Final = Profile(
    "Kamstrup Multical 21, flowIQ",
    {
        "manufacturer_20": BetterName("alarm_text", "text", "", _water_alarms),
        "manufacturer_23": BetterName("information_flags", _FLAGS, "", _number),
        "day_manufacturer_0f_external_temperature": BetterName("minimum_recent_external_temperature"),
    },
    storages=_MONTH_AND_DAY,
)
MULTICAL_HEAT: Final = Profile(
    "Kamstrup Multical 302, 402, 403, 602, 603, 803",
    {
        **{
            name: BetterName(f"{side}_energy_volume", "volume_temperature", "m³·°C", _number)
            for code, side in (("07", "flow"), ("08", "return"))
            for name in (f"manufacturer_{code}", f"manufacturer_{code}_heat_cost_units")
        },
        "manufacturer_21": BetterName("information_flags", _FLAGS, "", _number),
        "manufacturer_22": BetterName("information_flags", _FLAGS, "", _number),
        "subunit_1_volume": BetterName("input_a_volume"),
        "subunit_2_volume": BetterName("input_b_volume"),
    },
    storages=_TARGET,
)
IPERL: Final = Profile("Sensus iPERL", {"flow": BetterName("maximum_flow")})
DIEHL_WATER: Final = Profile("Diehl Hydrus", storages={1: "set_date", 8: "target"})
DIEHL_HEAT: Final = Profile("Diehl Sharky", storages={5: "target"})
QUNDIS: Final = Profile("Qundis water, heat, caloric", storages={1: "target_year", 17: "target"})
QUNDIS_SMOKE: Final = Profile(
    "Qundis smoke detector",
    {
        "test_button_custom_ui": BetterName("test_button_count", "count", ""),
        "alarm_custom_al": BetterName("alarm_count", "count", ""),
    },
    storages={4: "test_button", 6: "alarm"},
)
LANSEN_SMOKE: Final = Profile(
    "Lansen smoke detector",
    {
        "dimensionless": BetterName("since_test_duration", "duration", "min"),
        "access_count": BetterName("message_count"),
    },
)
RFM_AMB: Final = Profile("BMeters RFM-AMB", storages={1: "last_hour", 2: "last_day"})
NZR: Final = Profile("NZR electricity", storages={2: "phase_1", 4: "phase_2", 6: "phase_3"})
ABB: Final = Profile(
    "ABB B21, B23, B24",
    {
        "manufacturer_a015": BetterName("current_transformer_numerator"),
        "manufacturer_a115": BetterName("voltage_transformer_numerator"),
        "manufacturer_a215": BetterName("current_transformer_denominator"),
        "manufacturer_a315": BetterName("voltage_transformer_denominator"),
        "manufacturer_a600": BetterName("error_flags", _FLAGS, "", _number),
        "manufacturer_a700": BetterName("warning_flags", _FLAGS, "", _number),
        "manufacturer_a800": BetterName("information_flags", _FLAGS, "", _number),
        "manufacturer_a900": BetterName("alarm_flags", _FLAGS, "", _number),
        "manufacturer_aa00": BetterName("product_text", "text"),
    },
)
AXIOMA_WATER: Final = Profile(
    "Axioma Qalcosonic W1", {"battery_days": BetterName("battery_level", "level", "%")}, storages=_TARGET
)
LANSEN_DOOR: Final = Profile("Lansen door sensor", {"digital_input": BetterName("contact_text", "text", "", _contact)})
DUE_DATE: Final = Profile("Meters with one due date", storages=_TARGET)

_ELECTRICITY: Final = (0x02,)
_WATER: Final = (0x06, 0x07, 0x15, 0x16, 0x17)
_HEAT: Final = (0x04, 0x0A, 0x0B, 0x0C, 0x0D)
_COST: Final = (0x08,)
_SMOKE: Final = (0x1A,)
_ROOM: Final = (0x1B,)
_DOOR: Final = (0x1D,)

_FAMILIES: Final = (
    ("KAM", _ELECTRICITY, OMNIPOWER),
    ("KAM", _WATER, MULTICAL_WATER),
    ("KAW", _WATER, MULTICAL_WATER),
    ("KAM", _HEAT, MULTICAL_HEAT),
    ("SEN", _WATER, IPERL),
    ("SEN", _HEAT, DUE_DATE),
    ("DME", _WATER, DIEHL_WATER),
    ("HYD", _WATER, DIEHL_WATER),
    ("DME", _HEAT, DIEHL_HEAT),
    ("HYD", _HEAT, DIEHL_HEAT),
    ("QDS", (*_WATER, *_HEAT, *_COST), QUNDIS),
    ("QDS", _SMOKE, QUNDIS_SMOKE),
    ("LAS", _SMOKE, LANSEN_SMOKE),
    ("BMT", _ROOM, RFM_AMB),
    ("NZR", _ELECTRICITY, NZR),
    ("ABB", _ELECTRICITY, ABB),
    ("APA", (*_WATER, *_HEAT), DUE_DATE),
    ("ZRI", (*_WATER, *_HEAT), DUE_DATE),
    ("ITW", _WATER, DUE_DATE),
    ("AXI", _WATER, AXIOMA_WATER),
    ("AXI", _HEAT, DUE_DATE),
    ("LAS", _DOOR, LANSEN_DOOR),
)

_NO_PROBE: Final = {"temperature": frozenset((-100.0, 127.0, 180.0))}
"""°C of meters that have no probe, or a broken one."""
_NO_PROBE_HOT: Final = {"temperature": frozenset((-100.0, 180.0))}
_NO_VOLTAGE: Final = {"voltage": frozenset((-0.001, 65.535))}
"""V of a battery nobody measured: all bits of 16."""
_TYPES: Final[tuple[tuple[tuple[int, ...], Mapping[str, frozenset[float]], frozenset[str]], ...]] = (
    (_WATER, {**_NO_PROBE, **_NO_VOLTAGE}, frozenset(("units",))),
    (_HEAT, {**_NO_PROBE_HOT, **_NO_VOLTAGE}, frozenset()),
    (_COST, {**_NO_PROBE, **_NO_VOLTAGE}, frozenset(("energy", "volume", "mass", "flow", "mass_flow", "power"))),
    ((*_SMOKE, *_ROOM, *_DOOR), {**_NO_PROBE, **_NO_VOLTAGE}, frozenset(("energy", "volume", "mass", "flow", "power"))),
    (_ELECTRICITY, {}, frozenset(("volume", "mass", "flow", "mass_flow", "units"))),
)
BY_TYPE: Final = {
    type_: Profile(f"type {type_:02X}", nothing=nothing, cannot=cannot)
    for types, nothing, cannot in _TYPES
    for type_ in types
}
"""What holds for any meter of a type."""
PROFILES: Final = MappingProxyType(
    {
        (maker, type_): replace(profile, nothing=BY_TYPE[type_].nothing, cannot=BY_TYPE[type_].cannot)
        for maker, types, profile in _FAMILIES
        for type_ in types
    }
)
"""Profiles by manufacturer and type of meter."""
