"""What a boiler's service says again and again is what it still knows: of a silent input, or one that is gone, nothing."""

import types
from pathlib import Path
from typing import Any

import pytest

from services.boiler import work
from services.boiler.boiler import Boiler, BoilerEntry, BoilerInputs
from services.boiler.records import FuelDay
from services.boiler.rules import Rules
from services.boiler.units import UNITS

START, DAY = 1_800_000_000_000, 86_400_000
ROLES = ("water", "flue", "auger")


class Line:
    stale = 900.0

    def __init__(self, name: str) -> None:
        self.name = name

    def proper(self, value: Any) -> Any:
        return value


class Standing:
    """The work of one boiler on a time of its own, its inputs, and what it publishes."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now, self.told, self.file = START, [], folder / "phase.json"
        self.cleared: list[str] = []
        monkeypatch.setattr(work, "time", types.SimpleNamespace(monotonic=lambda: self.now / 1000))
        self.start()

    def start(self) -> None:
        """Begin, or begin anew with what was saved."""
        quiet = {"disown": lambda topics: None, "housekeep": lambda now: None}
        publisher: Any = types.SimpleNamespace(
            publish=lambda *told: self.told.append(told),
            clear=lambda name: self.cleared.append(name.removeprefix("b/burner/")),
            **quiet,
        )
        filling: Any = types.SimpleNamespace(topics={}, on_tick=lambda: None)
        bus, clock = (
            types.SimpleNamespace(online=True),
            types.SimpleNamespace(trusted=True, now=lambda: self.now + 2500),
        )
        self.work = work.PhaseWork(self.file, publisher, filling, bus=bus, clock=clock, error=lambda *said: None)
        self.take(*ROLES)

    def take(self, *roles: str) -> None:
        """Give the boiler these inputs, and every output a topic."""
        inputs = BoilerInputs(**{role: f"b/{role}/level" for role in roles})
        entry = BoilerEntry(inputs=inputs, thing="b/burner", rules=Rules(auger_rate=12.0 if "auger" in roles else None))
        topics: Any = {f"b/burner/{name}": Line(f"b/burner/{name}") for name in UNITS}
        self.work.take_boilers({"b": entry}, topics, "UTC")

    @property
    def boiler(self) -> Boiler:
        return self.work.boilers["b"]

    def run(self, seconds: int, *roles: str) -> dict[str, Any]:
        """Let time pass while these inputs speak; the last that was told of each output in the second half of it."""
        half = self.now + seconds * 500
        for n in range(seconds // 10):
            self.now += 10_000
            for role in roles:
                value = {"water": 65.0, "flue": 60.0, "auger": 0.0}[role] + n % 2 / 100
                self.work.backlog.take(f"b/{role}/level", value, self.now, self.now, self.now / 1000)
            self.work.judge(self.now / 1000, 60.0)
        told, self.told = [one for one in self.told if one[2] >= half], []
        return {line.name.removeprefix("b/burner/"): value for line, value, _ in told}


@pytest.fixture
def standing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Standing:
    return Standing(tmp_path, monkeypatch)


def test_the_silo_is_not_told_again_once_the_auger_was_not_seen_enough(standing: Standing) -> None:
    standing.run(4000, *ROLES)
    standing.boiler.memory.modern.silo.days = [FuelDay(START - n * DAY, 20.0, None) for n in (3, 2, 1)]
    standing.work.tell(standing.boiler, standing.boiler.refill(kg=1000.0))
    told = standing.run(3000, *ROLES)
    assert (told["silo_mass"], told["silo_days"]) == (1000.0, pytest.approx(50.0, rel=0.2))
    told = standing.run(DAY // 1000, "water", "flue")
    assert "its clamp is silent" in told["silo_text"]
    assert "starts" in told, "what is still so is told"
    assert not {"silo_mass", "silo_days", "auger_clamp_fault", "jam_or_empty_fault"} & told.keys()


def test_no_fault_is_told_to_be_off_while_nothing_is_heard(standing: Standing) -> None:
    told = standing.run(4000, *ROLES)
    assert {name for name, value in told.items() if value is False} >= {
        "overheating_fault",
        "fire_out_fault",
        "ignition_failed_fault",
    }
    told = standing.run(7200)
    assert told["phase"] == "unknown"
    assert not any(name.endswith("_fault") for name in told)


@pytest.mark.parametrize("restarted", [False, True])
def test_what_is_not_known_any_more_is_cleared_once_and_told_again_when_it_is(
    standing: Standing, restarted: bool
) -> None:
    standing.run(4000, *ROLES)
    standing.work.tell(standing.boiler, standing.boiler.refill(kg=1000.0))
    if restarted:
        standing.run(400, "water")
        standing.work.save()
        standing.start()
    standing.run(7200, "water")
    expected = {"ignition_failed_fault", "jam_or_empty_fault", "overheating_fault", "auger_clamp_fault", "silo_mass"}
    assert expected <= set(standing.cleared)
    assert len(standing.cleared) == len(set(standing.cleared))
    assert not {"phase", "fire_out_fault", "starts"} & set(standing.cleared), "what is still so stands"
    told = standing.run(4000, *ROLES)
    assert told["ignition_failed_fault"] is told["overheating_fault"] is False


def test_an_input_that_is_gone_from_topics_yaml_tells_nothing_more(standing: Standing) -> None:
    standing.run(4000, *ROLES)
    standing.take("water")
    told = standing.run(3600, "water")
    assert told["fire_out_fault"] is False
    assert not {"ignition_failed_fault", "jam_or_empty_fault", "auger_clamp_fault", "fuel_consumption"} & told.keys()


def test_a_fault_whose_inputs_never_spoke_is_not_told(standing: Standing) -> None:
    told = standing.run(4000, "water", "flue")
    assert told["ignition_failed_fault"] is False
    assert not {"jam_or_empty_fault", "auger_clamp_fault"} & standing.boiler.memory.outputs.keys()


def test_bags_count_while_nobody_knows_what_is_left(standing: Standing) -> None:
    standing.run(4000, *ROLES)
    standing.work.tell(standing.boiler, standing.boiler.refill(kg=1000.0))
    standing.run(7200, *ROLES)
    standing.run(1800, "water", "flue")
    standing.work.tell(standing.boiler, standing.boiler.refill(bags=10))
    assert "silo_mass" not in standing.run(DAY // 2400, *ROLES), "what was told before the bags is not told again"
    told = standing.run(DAY // 1000, *ROLES)
    assert told["silo_mass"] == 1000.0 + 10 * Rules().bag_kg


def test_a_button_of_the_legacy_profile_ends_nobody() -> None:
    inputs = BoilerInputs(water="b/water/level", fan="b/fan/level", igniter="b/igniter/level")
    entry = BoilerEntry(inputs=inputs, thing="b/burner", profile="legacy")
    boiler = Boiler(entry, "UTC")
    boiler.buttons = {"b/ash/pressed": "ash"}
    assert boiler.feed("b/ash/pressed", False, START) == boiler.feed("b/ash/pressed", True, START + 1000) == []
