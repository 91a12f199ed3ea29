"""Recorded telegrams with known values: every number and date that follows the standard is found, and nothing else."""

import json
import math
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from services.protocols.wmbus import Framing, Telegram, TelegramError, decode, decode_lines

VECTORS = Path(__file__).parents[2] / "shared" / "vectors"
pytestmark = pytest.mark.skipif(
    not VECTORS.is_dir(), reason=f"The recorded telegrams are not part of the project; {VECTORS} is not here."
)

UNITS = {
    "kwh": {"kWh": 1},
    "kw": {"kW": 1},
    "m3": {"m³": 1},
    "m3h": {"m³/h": 1},
    "c": {"°C": 1, "K": 1},
    "v": {"V": 1},
    "a": {"A": 1},
    "h": {"h": 1, "s": 1 / 3600, "min": 1 / 60},
    "rh": {"%": 1},
    "hca": {"": 1},
    "counter": {"": 1, "min": 1},
    "factor": {"": 1},
    "s": {"s": 1},
    "y": {"d": 1 / 365.2422},
}
"""Endings of the expected names, and the factors from the decoded units to theirs."""

NOT_STANDARD = {
    "apatoreitn": "contents of the manufacturer (CI A0, B6)",
    "apatorna1": "contents of the manufacturer (CI A0, A1)",
    "rfmtx1": "contents of the manufacturer (configuration mode 16)",
    "zenner0b": "a block of the manufacturer (0F) whose scale nobody is sure of",
}
"""Whole drivers whose contents are proprietary and not sure: their header must be read, their values must not."""
HEADER_ONLY = {
    "534424232004256092687A370045752235": "encrypted by the manufacturer's own method (configuration mode 21)",
}
"""Single telegrams of the same kind, by their start."""
FIELDS_NOT_STANDARD = (
    ("qwaterv2", "02BB56", "volume_flow_m3h", "by its VIFE 56 that record is a duration, not a flow"),
    ("qwater", "02BB56", "volume_flow_m3h", "the same"),
    ("qwater", "37449344483635", "meter_datetime", "L ends inside that record"),
    ("qheat", "0DFF5F35", ".*_kwh", "by its code (0D) the record is in units of 0.1 MJ"),
    ("qwaterv2", "0DFF5F35", "volume_delta_.*", "8000 says that there is no difference"),
    ("microclima", "", "set_date_.*_date", "computed from the storage number; the telegram has no such dates"),
    ("supercal", "", "target_date", "a date of every year, which is not the year 2127"),
    ("werhlemodwm", "", "meter_datetime", "month 0, day 0 is no date"),
    ("kamwater", "", "(external|flow)_temperature_c", "127 °C says that there is no probe"),
    ("hydroclimav2", "", "total_consumption_hca", "the sources differ by a factor of ten: unread in version 53"),
    ("hydrodigit", "99999999", "total_m3", "ran backwards from 0: below zero, not 100 000 m³"),
)
"""Single fields: driver, what the telegram contains, pattern of the names, and the reason."""
REFUSED = {
    "3C449344333333333537723333333393443506B8": "an odd number of hexadecimal digits",
    "3244372C763081233C168D2057D2ED112": "edited by hand: its full-frame CRC is that of a flow of 0, not of 0.035 m³/h",
}
"""Negatives, by their start: values are expected of them, but a check says that they are not what the meter sent."""
NAMES = {
    "total_m3": "volume",
    "target_m3": "target_volume",
    "last_month_total_m3": "target_volume",
    "last_month_measure_date": "target_date",
    "current_hca": "heat_cost_units",
    "prev_hca": "target_heat_cost_units",
    "previous_hca": "target_heat_cost_units",
    "previous_date": "target_date",
    "current_date": "date",
    "temp_room_c": "room_temperature",
    "temp_radiator_c": "radiator_temperature",
    "total_kwh": "energy",
    "previous_kwh": "target_energy",
    "current_kwh": "period_energy",
    "target_kwh": "target_energy",
    "due_date_m3": "target_year_volume",
    "due_17_date_m3": "target_volume",
    "backflow_m3": "backward_volume",
    "voltage_v": "voltage",
    "transmit_period_s": "transmission_interval",
    "battery_y": "battery_days",
    "device_date": "date",
}
"""Names in makers' own codings, by those of the vectors."""
OWN = ("izar", "izarv2", "mkradio3", "mkradio4", "compact5", "vario451", "fhkvdataiii", "bfw240radio")


def vectors(name: str) -> Iterator[Any]:
    """Yield the lines of one file as parameters; nothing where the folder is missing."""
    path = VECTORS / f"{name}.jsonl"
    for number, line in enumerate(path.read_text().splitlines() if path.exists() else [], start=1):
        vector = json.loads(line)
        yield pytest.param(vector, id=f"{name}-{number}-{vector['driver']}")


def vector_key(vector: dict[str, Any]) -> bytes | None:
    return bytes.fromhex(vector["key"]) if vector.get("key") else None


def starts(table: dict[str, str], telegram: str) -> str | None:
    return next((reason for start, reason in table.items() if telegram.startswith(start)), None)


def negative(vector: dict[str, Any]) -> bool:
    return vector.get("payload_crc_ok") is False or starts(REFUSED, vector["telegram"]) is not None


ENCRYPTED = [*vectors("wmbus_encrypted_open"), *vectors("omnipower")]
ALL = [*vectors("wmbus_open"), *vectors("wmbus_proprietary"), *ENCRYPTED]
GOOD = [param for param in ALL if not negative(param.values[0])]
FRAMINGS: dict[str, Framing] = {"dll-crc-A": "A", "dll-crc-B": "B"}


def has_number(telegram: Telegram, suffix: str, expected: float) -> bool:
    factors = UNITS.get(suffix, {})
    return any(
        isinstance(record.value, int | float)
        and record.unit in factors
        and math.isclose(record.value * factors[record.unit], expected, rel_tol=1e-5, abs_tol=1e-6)
        for record in telegram.records
    )


def has_moment(telegram: Telegram, expected: str) -> bool:
    return any(isinstance(record.value, str) and record.value.startswith(expected) for record in telegram.records)


def excused(vector: dict[str, Any], name: str) -> bool:
    return any(
        driver == vector["driver"] and part in vector["telegram"] and re.fullmatch(pattern, name)
        for driver, part, pattern, _ in FIELDS_NOT_STANDARD
    )


@pytest.mark.parametrize("vector", ALL)
def test_expected_values_are_found(vector: dict[str, Any]) -> None:
    if negative(vector):
        with pytest.raises((TelegramError, ValueError)):
            decode(bytes.fromhex(vector["telegram"]), vector_key(vector))
        return
    telegram = decode(bytes.fromhex(vector["telegram"]), vector_key(vector))
    expected = vector["expected"]
    assert telegram.id == expected.get("id", telegram.id).upper()
    if vector["driver"] in NOT_STANDARD or starts(HEADER_ONLY, vector["telegram"]):
        assert not [record for record in telegram.records if record.name != "manufacturer_data"]
        assert telegram.note or telegram.records
        return
    missing = []
    for name, value in expected.items():
        if isinstance(value, int | float) and name != "rssi_dbm":
            found = has_number(telegram, name.rpartition("_")[2], value)
        elif isinstance(value, str) and name != "timestamp" and re.match(r"\d{4}-\d\d-\d\d", value):
            found = has_moment(telegram, value.replace(" ", "T"))
        else:
            continue
        if found and name in NAMES and vector["driver"] in OWN:
            found = any(record.name == NAMES[name] and record.value is not None for record in telegram.records)
        if not found and not excused(vector, name):
            missing.append((name, value))
    assert not missing, [(record.name, record.value, record.unit) for record in telegram.records]


@pytest.mark.parametrize("vector", GOOD)
def test_names_are_unique_and_proper(vector: dict[str, Any]) -> None:
    telegram = decode(bytes.fromhex(vector["telegram"]), vector_key(vector))
    names = [record.name for record in telegram.records]
    assert len(set(names)) == len(names)
    assert all(re.fullmatch("[a-z0-9]+(_[a-z0-9]+)*", name) for name in names)


@pytest.mark.parametrize("vector", [param for param in ENCRYPTED if param.values[0]["key"]])
def test_another_key_is_refused(vector: dict[str, Any]) -> None:
    with pytest.raises(TelegramError) as refused:
        decode(bytes.fromhex(vector["telegram"]), bytes(16))
    assert refused.value.kind in ("key", "mac")


@pytest.mark.parametrize("vector", [param for param in ENCRYPTED if param.values[0].get("synth") in FRAMINGS])
def test_a_frame_with_a_flipped_bit_is_refused(vector: dict[str, Any]) -> None:
    framing = FRAMINGS[vector["synth"]]
    frame = bytes.fromhex(vector["telegram"])
    for bit in range(0, len(frame) * 8, 3):
        damaged = bytearray(frame)
        damaged[bit // 8] ^= 1 << bit % 8
        with pytest.raises(TelegramError):
            decode(bytes(damaged), framing=framing)


def test_lines_are_answered_in_order() -> None:
    lines = [f"{param.values[0]['telegram']} {param.values[0].get('key') or ''}" for param in ALL]
    answers = [json.loads(line) for line in decode_lines(lines)]
    assert len(answers) == len(lines)
    assert sum("error" in answer for answer in answers) == 4


PRELUDES = [line for param in ALL for line in param.values[0].get("prelude") or ()]


@pytest.mark.parametrize("line", PRELUDES)
def test_what_was_heard_before_is_read_or_refused_with_a_sentence(line: str) -> None:
    try:
        telegram = decode(bytes.fromhex(line))
    except TelegramError as error:
        said = str(error)
    else:
        said = telegram.note or "."
        assert telegram.records or telegram.note
    assert said.endswith(".")
