"""Everything that is told of a boiler: the last level of each output's topic, and its unit."""

from typing import Final

from services.boiler.rules import FAULTS

UNITS: Final[dict[str, str]] = {
    "phase": "",
    "since_text": "",
    "cycles": "",
    **{f"{fault}_fault": "" for fault in FAULTS},
    "cycle_duration": "s",
    "ignition_duration": "s",
    "auger_duration": "s",
    "cycle_mass": "kg",
    "cycle_seen_share": "%",
    "day_starts_count": "",
    "day_failed_count": "",
    "day_duty": "%",
    "day_seen_share": "%",
    "day_mass": "kg",
    "day_degreedays": "K·d",
    "day_intensity": "kg/(K·d)",
    "silo_mass": "kg",
    "silo_days": "d",
    "silo_text": "",
    "bags_count": "",
    "fuel_consumption": "kg",
    "fuel_energy": "kWh",
    "burner_hours": "h",
    "starts": "",
    "ash_mass": "kg",
    "ash_warning": "",
    "cleaning_warning": "",
    "service_warning": "",
}
"""Every output: the last level of its topic and its unit."""
