"""The services on real drivers: in an emulated PC with a stock kernel, where 1-wire, I²C and Bluetooth are the kernel's own.

What is tested stands in tests/lab/good_path.py and runs inside; each of its tests is one here. The fault matrix is run by
hand: `tests/lab/guest.sh faults`.
"""

import os
import re
import subprocess
import xml.etree.ElementTree as ET
from pathlib import Path

import pytest
from harness import PROJECT
from once import tried_once

LAB = PROJECT / "tests" / "lab"
GUEST = LAB / "guest.sh"
NOT_HERE = 77
"""Exit code of guest.sh on a host that cannot run it."""
PATIENCE = 900.0
"""Seconds; guest.sh itself ends a guest before."""
NAMES = re.findall(r"^def test_(\w+)", (LAB / "good_path.py").read_text("utf-8"), re.MULTILINE)

pytestmark = [pytest.mark.slow, pytest.mark.long, pytest.mark.whole]


@pytest.fixture(scope="module")
def reports(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """What each test in the guest had to complain of, by its name; nothing is "". One boot for all of them."""
    with tried_once("the guest"):
        return _reports(tmp_path_factory.mktemp("guest"))


def _reports(results: Path) -> dict[str, str]:
    with subprocess.Popen(
        [GUEST, "good"],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env=os.environ | {"LAB_RESULTS": str(results)},
    ) as guest:
        try:
            said, _ = guest.communicate(timeout=PATIENCE)
        except subprocess.TimeoutExpired:
            guest.terminate()
            raise
    if guest.returncode == NOT_HERE:
        pytest.skip(said.strip().splitlines()[-1])
    tests = results / "tests.xml"
    assert tests.exists(), f"the guest did not get as far as its tests:\n{said}"
    return {
        str(case.get("name")).removeprefix("test_"): "\n".join(text for part in case for text in part.itertext())
        for case in ET.parse(tests).iter("testcase")
    }


@pytest.mark.parametrize("name", NAMES)
def test_on_the_drivers_of_a_stock_kernel(name: str, reports: dict[str, str]) -> None:
    assert reports.get(name, "it did not run") == ""
