"""The names that two exporters gave before this one, so that their dashboards and rules go on: `bms_*` and `solarshed_*`.

The first read a JBD battery over Bluetooth, the second a Renogy Rover charge controller; both said all as gauges without place or
thing. A topic stands for a name by the key of its line, or its last level.
"""

from collections.abc import Mapping
from typing import Final, Literal

from bootstrap_lib import Registry
from services.metrics.families import Families, Standing

Predecessor = Literal["bms", "solarshed"]
"""One of the first exporters."""

CELLS: Final = 8

BMS: Final = {
    "soc": "ah_percent",
    "remaining_charge": "ah_remaining",
    "nominal_charge": "ah_full",
    "power": "power",
    "voltage": "voltage",
    "current": "current",
    "probe_1_temperature": "temperature",
    "probe_2_temperature": "temperature2",
    "cycles": "cycles",
    **{f"cell_{cell}_voltage": f"voltage{cell:02d}" for cell in range(1, CELLS + 1)},
}
"""What is one number."""

BMS_STATES: Final = {
    "cell_overvoltage": "Cell_Block_Over_Vol",
    "cell_undervoltage": "Cell_Block_Under_Vol",
    "pack_overvoltage": "Battery_Over_Vol",
    "pack_undervoltage": "Battery_Under_Vol",
    "charge_overtemperature": "Charging_Over_Temp",
    "charge_undertemperature": "Charging_Under_Temp",
    "discharge_overtemperature": "Discharging_Over_Temp",
    "discharge_undertemperature": "Discharging_Under_Temp",
    "charge_overcurrent": "Charging_Over_Current",
    "discharge_overcurrent": "Discharging_Over_Current",
    "short_circuit": "Short_Circuit",
    "frontend_ic_error": "Fore-end_IC_Error",
    "mosfet_software_lock": "MOS_Software_Lock-in",
}
"""Protection bits, as `bms_state{state=…}`."""

BMS_LABELLED: Final = {
    **{f"{ours}_alarm": ("state", "state", theirs) for ours, theirs in BMS_STATES.items()},
    **{f"cell_{cell}_balancing_state": ("balance_status", "cell", f"celbals[{cell}]") for cell in range(1, CELLS + 1)},
    "charge_fet_state": ("fetst", "fetst", "FET_charging"),
    "discharge_fet_state": ("fetst", "fetst", "FET_discharging"),
    "remaining_duration": ("time_left", "mode", "discharging"),
}
"""What is one of several series: name, label, and the label's value as it was spelled."""

SOLARSHED: Final = {
    "battery_soc": "battery_percentage",
    "battery_voltage": "battery_volts",
    "battery_temperature": "battery_temperature_celsius",
    "controller_temperature": "controller_temperature_celsius",
    "charging_state": "controller_charging_state",
    "load_voltage": "load_volts",
    "load_current": "load_amperes",
    "load_power": "load_power_watts",
    "solar_voltage": "solar_volts",
    "solar_current": "solar_amperes",
    "solar_power": "solar_watts",
}

CHARGING: Final = ("deactivated", "activated", "mppt", "equalizing", "boost", "floating", "current_limiting")
"""Words of the charging state in the order of the register's numbers, which is what was exported."""


def add(families: Families, kind: Predecessor, whose: str, registry: Registry, alive: Mapping[str, Standing]) -> None:
    """Add what one of the first exporters would have shown of what is alive; `whose` is an instance, or a place and thing."""
    topics = [registry.topics[name] for name in alive]
    found = {t.key: alive[t.name] for t in topics if t.source == whose or t.name.startswith(f"{whose}/")}
    for key, one in found.items():
        if kind == "solarshed" and key in SOLARSHED:
            value = CHARGING.index(one.value) if one.value in CHARGING else one.value
            _add(families, f"solarshed_{SOLARSHED[key]}", {}, value)
        elif kind == "bms" and key in BMS:
            _add(families, f"bms_{BMS[key]}", {}, one.value)
        elif kind == "bms" and key in BMS_LABELLED:
            name, label, word = BMS_LABELLED[key]
            _add(families, f"bms_{name}", {label: word}, {"off": 0, "on": 1}.get(str(one.value), one.value))
    if kind == "bms" and found:
        _add(families, "bms_last_update", {}, max(one.time for one in found.values()) / 1000)
        if "power" in found:
            charging = float(found["power"].value) >= 0
            _add(families, "bms_mode", {"bms_mode": "discharging"}, not charging)
            _add(families, "bms_mode", {"bms_mode": "charging"}, charging)


def _add(families: Families, name: str, labels: dict[str, str], value: float | str) -> None:
    if not isinstance(value, str):
        families.add(name, f"As the first exporter called it: {name}", labels, value)
