"""The .deb on a fresh Debian 12 and 13 with a real systemd: installed, run, upgraded while it runs, removed, back again, purged."""

import subprocess

import pytest
from harness import PROJECT
from once import tried_once

from tests.packages.__main__ import live
from tests.packages.root import SUITES

pytestmark = [pytest.mark.slow, pytest.mark.whole]


@pytest.mark.parametrize("number", SUITES)
def test_a_package_lives_from_its_installation_to_its_purge(number: int) -> None:
    with tried_once(f"a fresh Debian {number}"):
        subprocess.run(["scripts/debian", str(number), "scripts/packages/deb"], cwd=PROJECT, check=True)
        steps = live(number)
    assert [step.split("  ")[-1].partition(":")[0].partition(" ")[0] for step in steps] == [
        "installed", "the", "upgraded", "removed", "installed", "purged",
    ]  # fmt: skip
