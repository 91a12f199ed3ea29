"""The clock of a machine that may have none: what is trusted when, and that no time is given twice."""

import time
from collections.abc import Callable
from pathlib import Path

import pytest

from bootstrap_lib import clock as module
from bootstrap_lib.clock import Clock, _battery_clock_agrees, boot_id, since_boot

HOUR = 3_600_000


@pytest.fixture
def synchronised(monkeypatch: pytest.MonkeyPatch) -> Callable[[bool], None]:
    """Say whether NTP keeps the clock, as the kernel would; it does not until told, and nobody overrides the patience."""
    monkeypatch.delenv("CONSTELLATION_CLOCK_PATIENCE", raising=False)

    def set_to(value: bool) -> None:
        monkeypatch.setattr(module, "is_synchronised", lambda: value)

    set_to(False)
    return set_to


@pytest.fixture
def booted(monkeypatch: pytest.MonkeyPatch) -> Callable[[float], None]:
    """Set how long ago the machine was booted, in seconds."""

    def set_to(seconds: float) -> None:
        monkeypatch.setattr(module, "since_boot", lambda: round(seconds * 1000))

    set_to(20.0)
    return set_to


def test_until_the_clock_is_synchronised_readings_carry_the_time_since_boot_and_the_boots_name(
    synchronised: Callable[[bool], None], booted: Callable[[float], None]
) -> None:
    clock = Clock()
    assert (clock.trusted, clock.certain) == (False, False)
    assert clock.stamp() == (20_000, boot_id())
    synchronised(True)
    booted(42.0)
    assert clock.check()
    assert clock.certain
    moment, boot = clock.stamp()
    assert boot is None
    assert abs(moment - time.time_ns() // 1_000_000) < 1000
    assert abs(20_000 + clock.offset() - (moment - 22_000)) < 1000  # a reading of second 20 was taken 22 s ago


def test_after_five_minutes_the_best_estimate_is_used_and_called_one(
    synchronised: Callable[[bool], None], booted: Callable[[float], None]
) -> None:
    clock = Clock()
    booted(299.9)
    assert not clock.check()
    booted(300.0)
    assert clock.check()
    assert (clock.estimated, clock.certain) == (True, False)
    synchronised(True)
    assert clock.check()
    assert (clock.estimated, clock.certain) == (False, True)
    synchronised(False)  # a network that is gone makes no good clock a bad one
    assert clock.check()
    assert clock.certain


def test_an_estimate_is_never_earlier_than_what_is_known_to_have_passed(
    synchronised: Callable[[bool], None], booted: Callable[[float], None]
) -> None:
    booted(300.0)
    known = time.time_ns() // 1_000_000 + HOUR
    clock = Clock(known=known)
    assert clock.now() == known
    booted(310.0)
    assert clock.now() == known + 10_000
    synchronised(True)
    clock.check()
    assert clock.now() < known, "a clock that is right is believed, whatever was thought"


def test_the_time_since_boot_never_steps_and_is_the_kernels() -> None:
    uptime = float(Path("/proc/uptime").read_text().split()[0]) * 1000
    assert abs(since_boot() - uptime) < 2000
    assert since_boot() <= since_boot()
    assert boot_id() == boot_id() != ""


def test_the_kernel_and_timesyncd_are_asked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_battery_clock_agrees", lambda: True)
    assert module.is_synchronised()
    monkeypatch.setattr(module, "_battery_clock_agrees", lambda: False)
    monkeypatch.setattr(module, "_UNSYNCHRONISED", 0)  # no flag of the kernel's speaks against it
    assert module.is_synchronised()


def test_a_clock_that_is_a_guess_and_behind_goes_on_from_what_is_known() -> None:
    clock = Clock(patience=0.0, known=time.time_ns() // 1_000_000 + 3_600_000)
    clock.trusted = clock.estimated = True
    begin, first = time.monotonic(), clock.now()
    while time.monotonic() < begin + 0.05:
        pass
    assert 40 <= clock.now() - first <= (time.monotonic() - begin) * 1000 + 2


def test_a_clock_that_is_a_guess_and_set_back_gives_no_time_twice(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = Clock(patience=0.0)
    clock.trusted = clock.estimated = True
    true = time.time_ns
    ahead = 3600 * 10**9
    monkeypatch.setattr("bootstrap_lib.clock.time.time_ns", lambda: true() + ahead)
    later = clock.now()
    monkeypatch.setattr("bootstrap_lib.clock.time.time_ns", true)
    assert clock.now() >= later


def test_after_a_kill_a_clock_that_was_set_back_meanwhile_gives_no_time_twice() -> None:
    now = time.time_ns() // 1_000_000
    behind = Clock(patience=0.0, known=now + 60_000, unknown=10_000)
    good = Clock(patience=0.0, known=now - 5_000, unknown=10_000)
    for clock in (behind, good):
        clock.trusted = clock.estimated = True
    assert behind.now() >= now + 70_000
    assert good.now() < now + 1_000


def test_how_far_ahead_a_reading_may_be_depends_on_what_the_clock_knows() -> None:
    clock, minute, day = Clock(patience=0.0), 60_000, 86_400_000
    now = clock.now()
    clock.trusted, clock.estimated = True, False
    assert not clock.ahead(now + minute - 100)
    assert clock.ahead(now + 2 * minute)
    clock.estimated = True
    assert not clock.ahead(now + 30 * day), "it may have been off for a month"
    assert clock.ahead(now + 70 * 365 * day)
    clock.trusted = clock.estimated = False
    assert not clock.ahead(now + 70 * 365 * day), "nobody knows yet"


def test_a_guess_of_1970_judges_no_reading(monkeypatch: pytest.MonkeyPatch) -> None:
    now = time.time_ns() // 1_000_000
    monkeypatch.setattr("bootstrap_lib.clock.time.time_ns", lambda: 86_400 * 10**9)
    clock = Clock(patience=0.0)
    clock.trusted = clock.estimated = True
    assert not clock.ahead(now)


@pytest.mark.parametrize(
    ("says", "synchronised"), [(time.time, True), (lambda: time.time() - 3600, False), (lambda: 300.0, False)]
)
def test_a_battery_clock_without_its_battery_is_not_believed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, says: Callable[[], float], synchronised: bool
) -> None:
    file = tmp_path / "since_epoch"
    file.write_text(f"{says():.0f}\n")
    monkeypatch.setattr("bootstrap_lib.clock._BATTERY_CLOCK", file)
    assert _battery_clock_agrees() == synchronised


def test_a_machine_without_a_battery_clock_has_none_that_agrees(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("bootstrap_lib.clock._BATTERY_CLOCK", tmp_path / "none")
    assert not _battery_clock_agrees()


def test_a_unit_that_does_not_see_the_kernels_boot_id_has_one_that_no_boot_outlives(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = boot_id()
    monkeypatch.setattr(module, "_BOOT_ID", tmp_path / "hidden")
    monkeypatch.setenv("RUNTIME_DIRECTORY", str(tmp_path))
    own = boot_id()
    assert own != seen
    assert boot_id() == own
    (tmp_path / "boot_id").unlink()  # as a boot empties /run
    assert boot_id() not in (own, seen)
