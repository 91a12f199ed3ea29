"""Recorded JBD frames of real batteries decode to what is known of them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from services.protocols import jbd
from services.protocols.battery import Frame

FILE = Path(__file__).parent.parent.parent / "shared" / "vectors" / "bms_open.json"
CASES: list[dict[str, Any]] = json.loads(FILE.read_text()) if FILE.exists() else []

if not CASES:
    pytest.skip(f"the recorded frames ({FILE.name}) are not part of the project", allow_module_level=True)


def decoded(case: dict[str, Any]) -> list[dict[str, Any]]:
    return [json.loads(line) for line in jbd.decode_lines(case["frames_hex"])]


@pytest.mark.parametrize(
    "case", [case for case in CASES if "valid" not in case["expected"]], ids=lambda case: case["id"]
)
def test_a_recorded_frame_decodes_to_its_expected_values(case: dict[str, Any]) -> None:
    [said] = decoded(case)
    assert {name: said.get(name) for name in case["expected"]} == case["expected"]
    assert set(said) - set(case["expected"]) <= {"error"}


@pytest.mark.parametrize(
    "case", [case for case in CASES if case["expected"].get("valid") is False], ids=lambda case: case["id"]
)
def test_a_bad_frame_is_rejected_with_the_reason(case: dict[str, Any]) -> None:
    [said] = decoded(case)
    assert set(said) == {"error", "frame"}


def test_an_answer_that_comes_twice_is_said_twice() -> None:
    [case] = [case for case in CASES if case["expected"].get("valid") == "twice"]
    first, second = decoded(case)
    assert first == second
    assert first["voltage"] == 15.6


def test_all_recordings_one_after_another_give_the_same_as_each_alone() -> None:
    lines = [line for case in CASES for line in case["frames_hex"]]
    together = [json.loads(line) for line in jbd.decode_lines(lines)]
    alone = [said for case in CASES for said in decoded(case)]
    assert [said for said in together if "error" not in said] == [said for said in alone if "error" not in said]


def test_recorded_answers_become_named_measurements() -> None:
    requests = {request.frame.hex(): request for request in jbd.REQUESTS}
    seen = 0
    for case in CASES:
        expected = case["expected"]
        request = requests.get(case["request"])
        if request is None or not {"voltage", "cell_voltages"} & set(expected):
            continue
        assembler = jbd.assembler()
        [frame] = [found for line in case["frames_hex"] for found in assembler.feed(bytes.fromhex(line))]
        assert isinstance(frame, Frame)
        named = jbd.measurements(request, frame) or {}
        if "voltage" in expected:
            assert [named[name] for name in ("voltage", "current", "power", "soc", "remaining_charge")] == [
                expected[name] for name in ("voltage", "current", "power", "soc", "remaining_ah")
            ]
            assert named["balancing_cells_count"] == len(expected["balancing_cells"])
        else:
            cells = [named[f"cell_{cell}_voltage"] for cell in range(1, len(expected["cell_voltages"]) + 1)]
            assert cells == expected["cell_voltages"]
            assert named["cell_difference_voltage"] == expected["delta_v"]
        seen += 1
    assert seen >= 25
