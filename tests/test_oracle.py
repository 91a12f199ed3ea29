"""The rules of alerts at the phone's end: a short run of the oracle, and that it finds each rule that is broken."""

import pytest

from tests.oracle.__main__ import found_at
from tests.oracle.mutants import MUTANTS, mutated

pytestmark = pytest.mark.long


def test_every_rule_holds_whatever_happens() -> None:
    assert found_at(range(60)) is None


@pytest.mark.parametrize("seed", [319, 5_000_197, 6_002_358, 12_000_348, 12_002_329])
def test_what_longer_runs_found_stays_mended(seed: int) -> None:
    assert found_at(range(seed, seed + 1)) is None


@pytest.mark.parametrize("name", MUTANTS)
def test_a_rule_that_is_broken_is_found(name: str) -> None:
    with mutated(name):
        assert found_at(range(120)) is not None
