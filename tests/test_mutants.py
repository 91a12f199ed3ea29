"""Each mutant can still be applied, says what it breaks and who must notice; those that nobody notices do not grow in number."""

import ast
import shutil
from pathlib import Path

import pytest

from tests.mutants.table import PROJECT, Mutant, MutantError, mutants, sources, survivors

MOST_SURVIVORS = 0
"""Never raised: a promise that no test can hold is written with its reason in survivors.toml, or is no promise."""


@pytest.fixture(scope="module")
def product() -> dict[Path, str]:
    return sources(PROJECT)


@pytest.mark.parametrize("mutant", mutants().values(), ids=lambda mutant: mutant.name)
def test_a_mutant_can_be_applied_and_says_what_it_breaks(mutant: Mutant, product: dict[Path, str]) -> None:
    path, broken = mutant.find(PROJECT, product)
    assert broken != product[path]
    ast.parse(broken)
    assert mutant.tests
    for file in mutant.tests:
        assert (PROJECT / file).is_file(), file
    assert mutant.promise
    assert mutant.page.startswith("DESIGN ") or (PROJECT / mutant.page).is_file(), mutant.page


def test_those_that_nobody_notices_have_a_reason_and_do_not_grow() -> None:
    known = survivors()
    assert known.reasons.keys() <= mutants().keys()
    assert all(len(reason) > 20 for reason in known.reasons.values())
    assert len(known.reasons) == known.most <= MOST_SURVIVORS


def test_a_text_is_found_however_it_is_broken_into_lines_and_must_stand_once(tmp_path: Path) -> None:
    shutil.copytree(PROJECT / "bootstrap_lib", tmp_path / "bootstrap_lib", ignore=lambda folder, names: names)
    (tmp_path / "services").mkdir()
    file = tmp_path / "services" / "some.py"
    mutant = Mutant("m", "p", "DESIGN 4", "if a and b: return 1", "return 2", ("t",))
    file.write_text("def f():\n    if (\n        a and b\n    ):\n        return 1\n")
    with pytest.raises(MutantError, match="stands in no file"):
        mutant.find(tmp_path)
    file.write_text("def f():\n    if a and b:\n        return 1\n")
    assert mutant.find(tmp_path) == (file, "def f():\n    return 2\n")
    (tmp_path / "services" / "other.py").write_text(file.read_text())
    with pytest.raises(MutantError, match=r"must stand once, and stands in services/other\.py, services/some\.py"):
        mutant.find(tmp_path)
