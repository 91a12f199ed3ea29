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
}
"""Endings of the expected names, and the factors from the decoded units to theirs."""

NOT_STANDARD = {
    "apatoreitn": "contents of the manufacturer (CI A0, B6)",
    "apatorna1": "contents of the manufacturer (CI A0, A1)",
    "compact5": "contents of the manufacturer (CI A1, A2)",
    "fhkvdataiii": "contents of the manufacturer (CI A0, A2)",
    "mkradio3a": "contents of the manufacturer (CI A2)",
}
"""Whole drivers whose contents are proprietary: their header must be read, their values cannot."""
HEADER_ONLY = {
    "534424232004256092687A370045752235": "encrypted by the manufacturer's own method (configuration mode 21)",
}
"""Single telegrams of the same kind, by their start."""
FIELDS_NOT_STANDARD = (
    ("qwaterv2", "0DFF5F", "(?!meter_datetime).*", "a record of the manufacturer (0DFF5F) holds all but the time"),
    ("qwaterv2", "02BB56", "volume_flow_m3h", "by its VIFE 56 that record is a duration, not a flow"),
    ("microclima", "", "set_date_.*_date", "computed from the storage number; the telegram has no such dates"),
    ("supercal", "", "target_date", "a date of every year, which is not the year 2127"),
    ("werhlemodwm", "", "meter_datetime", "month 0, day 0 is no date"),
)
"""Single fields: driver, what the telegram contains, pattern of the names, and the reason."""
REFUSED = {
    "3C449344333333333537723333333393443506B8": "an odd number of hexadecimal digits",
    "3244372C763081233C168D2057D2ED112": "edited by hand: its full-frame CRC is that of a flow of 0, not of 0.035 m³/h",
}
"""Negatives, by their start: values are expected of them, but a check says that they are not what the meter sent."""


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
ALL = [*vectors("wmbus_open"), *ENCRYPTED]
GOOD = [param for param in ALL if not negative(param.values[0])]
FRAMINGS: dict[str, Framing] = {"dll-crc-A": "A", "dll-crc-B": "B"}


def has_number(telegram: Telegram, suffix: str, expected: float) -> bool:
    factors = UNITS.get(suffix, {})
    return any(
        isinstance(record.value, int | float)
        and record.unit in factors
        and math.isclose(record.value * factors[record.unit], expected, rel_tol=1e-6, abs_tol=1e-6)
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
    assert telegram.id == expected.get("id", telegram.id)
    if vector["driver"] in NOT_STANDARD or starts(HEADER_ONLY, vector["telegram"]):
        assert not telegram.records
        assert telegram.note
        return
    missing = []
    for name, value in expected.items():
        if isinstance(value, int | float) and name != "rssi_dbm":
            found = has_number(telegram, name.rpartition("_")[2], value)
        elif isinstance(value, str) and name != "timestamp" and re.match(r"\d{4}-\d\d-\d\d", value):
            found = has_moment(telegram, value.replace(" ", "T"))
        else:
            continue
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
