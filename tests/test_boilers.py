"""A short run of `python -m tests.boilers`: no false fault, and every seeded one within its documented time."""

import pytest

from tests.boilers import SETUPS, table, winter

pytestmark = pytest.mark.long

SHORT = ("auger falls silent", "igniter clamp jumps by 3 A", "no flame: the igniter is burnt out", "switched off")


@pytest.mark.parametrize("name", ["everything", "no igniter", "no flue"])
def test_a_day_without_a_fault_tells_none(name):
    assert [found for _, found in winter(0.7, {name: SETUPS[name]})] == [[]]


def test_what_goes_wrong_is_told_in_time_and_nothing_else():
    lines, wrong = table({name: SETUPS[name] for name in ("everything", "only auger")}, lambda name: name in SHORT)
    assert wrong == []
    assert len(lines) == 2 + len(SHORT)
