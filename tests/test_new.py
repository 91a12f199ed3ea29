"""A source of one's own begins by one command: what it writes runs, has a test that passes, and a page in the house's form."""

import re
import subprocess
import sys
from pathlib import Path

import pytest
from harness import PROJECT, Ear, House


def new(folder: Path, name: str, **environment: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "bootstrap_lib.cli", "new", "source", name, "--folder", folder]
    return subprocess.run(command, capture_output=True, text=True, cwd=PROJECT)


def test_what_is_written_is_a_source_that_measures_at_once(house: House, ear: Ear, tmp_path: Path) -> None:
    own, device = tmp_path / "own", tmp_path / "sensor"
    said = new(own, "room_co2")
    assert said.returncode == 0, said.stderr
    assert [line for line in said.stdout.splitlines() if line.startswith("written:")] == [
        f"written: {own}/services/room_co2.py",
        f"written: {own}/tests/test_room_co2.py",
        f"written: {own}/docs/services/room_co2.md",
    ]
    lines = re.search(r"(?ms)^sources:.*?\n\n", said.stdout)
    assert lines
    house.environment["CONSTELLATION_SERVICES"] = str(own / "services")
    house.write(lines[0].replace("every: 30s", "every: 100ms").replace("/run/sensor", str(device)))
    device.write_text("612")
    house.start("room_co2")
    assert ear.wait("home/data/house/room_co2/room_co2")["value"] == 612
    assert ear.last("home/data/house/room_co2/room_co2")["unit"] == "ppm"
    tested = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", own / "tests"],
        capture_output=True,
        text=True,
        cwd=PROJECT,
        env=house.environment,
    )
    assert tested.returncode == 0, tested.stdout
    page = (own / "docs/services/room_co2.md").read_text()
    assert re.match(r"# room_co2: [^.\n]+\n\n[A-Z]", page)
    assert "## What goes wrong" in page


def test_nothing_is_written_over(tmp_path: Path) -> None:
    (tmp_path / "docs/services").mkdir(parents=True)
    (tmp_path / "docs/services/co2.md").write_text("mine")
    said = new(tmp_path, "co2")
    assert (said.returncode != 0, "is there already: nothing was written" in said.stderr) == (True, True)
    assert not (tmp_path / "services").exists()
    assert (tmp_path / "docs/services/co2.md").read_text() == "mine"


@pytest.mark.parametrize(
    ("name", "said"),
    [("../x", "small letters"), ("Co2", "small letters"), ("class", "small letters"), ("onewire", "already")],
)
def test_a_name_that_cannot_be_is_a_sentence(tmp_path: Path, name: str, said: str) -> None:
    result = new(tmp_path, name)
    assert result.returncode != 0
    assert said in result.stderr
    assert "Traceback" not in result.stderr
    assert list(tmp_path.iterdir()) == []
