"""Only slow tests get a second try; each that took it is named, and a fourth fails the run."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from harness import PROJECT

TESTS = """
import pathlib
import pytest

def fails_at_first(name):
    mark = pathlib.Path(name)
    if not mark.exists():
        mark.touch()
        raise AssertionError(name)

@pytest.mark.slow
@pytest.mark.parametrize("number", range({slow}))
def test_slow(number):
    fails_at_first(f"slow-{{number}}")

@pytest.mark.parametrize("number", range({quick}))
def test_quick(number):
    fails_at_first(f"quick-{{number}}")
"""


@pytest.mark.parametrize(("slow", "quick", "code"), [(3, 0, 0), (4, 0, 1), (1, 1, 1)])
def test_a_second_try_is_for_slow_tests_and_for_three_of_them(tmp_path: Path, slow: int, quick: int, code: int) -> None:
    for name in ("conftest.py", "harness.py", "voices.py"):
        shutil.copy(PROJECT / "tests" / name, tmp_path)
    (tmp_path / "pytest.ini").write_text("[pytest]\nmarkers = slow: x\naddopts = --strict-markers\n")
    (tmp_path / "test_some.py").write_text(TESTS.format(slow=slow, quick=quick))
    command = [sys.executable, "-m", "pytest", "-q", "-n", "2", "-p", "no:cacheprovider"]
    path = {"PYTHONPATH": str(PROJECT)}
    run = subprocess.run(command, cwd=tmp_path, env=os.environ | path, capture_output=True, text=True, check=False)
    assert run.returncode == code, run.stdout
    said = [line for line in run.stdout.splitlines() if line.startswith("SECOND TRY ")]
    assert said == [f"SECOND TRY test_some.py::test_slow[{number}]" for number in range(slow)]
    assert f"{quick} failed" in run.stdout or not quick
