"""Recorded frames of JK and Daly batteries decode to what is known of them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from services.protocols import daly, daly_p81, jk
from services.protocols.battery import BatteryRequest, Frame, Rejection

FOLDER = Path(__file__).parent.parent.parent / "shared" / "vectors"


def cases(name: str) -> list[dict[str, Any]]:
    file = FOLDER / f"{name}.json"
    return json.loads(file.read_text()) if file.exists() else []


JK, DALY = cases("bms_jk"), cases("bms_daly")

if not JK:
    pytest.skip("the recorded frames are not part of the project", allow_module_level=True)

SAME = {
    "voltage": "voltage",
    "current": "current",
    "soc": "soc",
    "remaining_charge": "remaining_charge",
    "nominal_charge": "full_charge",
    "cycles": "cycles",
    "cycle_charge_total": "total_throughput",
    "soh": "health_level",
    "uptime_s": "operating_runtime",
    "charge_fet": "charge_fet_state",
    "discharge_fet": "discharge_fet_state",
    "balance_current": "balance_current",
    "probe_1_temperature": "probe_1_temperature",
    "probe_2_temperature": "probe_2_temperature",
    "fet_temperature": "mosfet_temperature",
}


def frames(module: Any, case: dict[str, Any]) -> list[Frame | Rejection]:
    assembler = module.assembler()
    return [found for line in case["frames_hex"] for found in assembler.feed(bytes.fromhex(line))]


@pytest.mark.parametrize("case", JK, ids=lambda case: case["id"])
def test_a_recorded_frame_of_jk_says_what_is_known_of_it(case: dict[str, Any]) -> None:
    found, expected = frames(jk, case), case["expected"]
    good = [one for one in found if isinstance(one, Frame)]
    assert len(good) == len(expected.get("frames", [1]))
    assert len(found) - len(good) == expected.get("rejected", 0)
    said: dict[str, Any] = {}
    for request in jk.REQUESTS:
        said |= jk.measurements(request, good[0]) or {}
    expected = expected.get("cells_frame", expected)
    for name, ours in SAME.items():
        if name in expected and not (name == "probe_1_temperature" and expected[name] == -200):
            if case["layout"] == "JK04" and name not in ("balance_current", "uptime_s"):
                continue
            if "cells" in expected or name not in ("nominal_charge", "uptime_s"):
                assert said[ours] == pytest.approx(expected[name], abs=1e-3), name
    cells = expected.get("cells", [])
    assert [said[f"cell_{number}_voltage"] for number in range(1, len(cells) + 1)] == pytest.approx(cells, abs=1e-3)
    if "alarms" in expected:
        assert {name for name, value in said.items() if name.endswith("_alarm") and value} == {
            "protection_alarm", *(f"{name}_alarm" for name in expected["alarms"])
        }  # fmt: skip
    if "software" in expected:
        assert said["software_version_text"] == expected["software"]
    assert -200.0 not in said.values()


@pytest.mark.parametrize("case", DALY, ids=lambda case: case["id"])
def test_a_recorded_frame_of_daly_says_what_is_known_of_it(case: dict[str, Any]) -> None:
    module = daly_p81 if case["request"].startswith("81") else daly
    found, expected = frames(module, case), case["expected"]
    if "rejected" in expected:
        assert [type(one) for one in found] == [Rejection] * expected["rejected"]
        return
    [frame] = found
    assert isinstance(frame, Frame)
    if "refused" in expected:
        assert frame.status == expected["refused"]
        return
    request = BatteryRequest("status", bytes.fromhex(case["request"]))
    names = {one.frame: one.name for one in module.REQUESTS}
    request = BatteryRequest(names.get(request.frame, "status"), request.frame)
    if "balancer_switch" in expected:
        return
    said = module.measurements(request, frame) or {}
    for name in ("voltage", "current", "soc", "remaining_charge", "cycles", "balance_current"):
        if name in expected and expected[name] is not None and name in said:
            assert said[name] == pytest.approx(expected[name]), name
    for name in ("voltage", "current", "soc"):
        assert name in said or name not in expected
    cells = expected.get("cells", [])
    assert [said[f"cell_{number}_voltage"] for number in range(1, len(cells) + 1)] == pytest.approx(cells)
    probes = expected.get("temperatures", [])
    assert [said[f"probe_{number}_temperature"] for number in range(1, len(probes) + 1)] == probes
    if "software" in expected:
        assert (said["software_version_text"], said["hardware_text"]) == (expected["software"], expected["hardware"])
    assert said.get("balance_current") != -30.0
