"""Adding a source is one file and its lines in topics.yaml: the shipped template, copied and run, proves it."""

import shutil
from pathlib import Path

from harness import PROJECT, Ear, House

from services._template import decode


def test_a_copied_template_is_a_source_at_once(house: House, ear: Ear, tmp_path: Path) -> None:
    own = tmp_path / "services"
    own.mkdir()
    shutil.copy(PROJECT / "services/_template.py", own / "co2.py")
    device = tmp_path / "sensor"
    house.environment["CONSTELLATION_SERVICES"] = str(own)
    house.write(
        f"sources: {{co2: {{every: 100ms, heartbeat: 1s, device: {device}}}}}\n"
        "topics: {kitchen/air/co2: {from: co2, factor: 2}, kitchen/air/raw_number: {from: co2}}\n"
    )
    house.start("co2")
    health = ear.wait("home/service/co2/health", lambda health: health["state"] == "degraded")
    assert health["last_error"]["text"] == f"{device} is not there: plug the sensor in"
    device.write_text("210")
    assert ear.wait("home/data/kitchen/air/co2")["value"] == 420
    assert ear.last("home/data/kitchen/air/co2")["unit"] == "ppm"
    assert ear.wait("home/data/kitchen/air/raw_number")["value"] == 210, "two lines of one file"
    device.write_bytes(b"rubb\xffsh")
    ear.wait("home/service/co2/health", lambda health: "no number" in (health["last_error"] or {}).get("text", ""))
    assert house.log("co2").count("plug the sensor in") == 1


def test_its_decoder_needs_no_hardware() -> None:
    assert decode("1.5\n", 2.0) == 3.0
    assert "is no number" in decode("x", 1.0).reason
