"""What once misled the detector must not do so again: bursts, dead igniters, silent clamps, offsets, holes."""

import random
from datetime import UTC, datetime

import pytest

from services.boiler import PhaseDetector, Rules
from services.boiler.tellable import tellable_faults, tellable_phases

pytestmark = pytest.mark.long

MINUTE = 60_000
HOUR = 60 * MINUTE
DAY = 24 * HOUR
START = int(datetime(2026, 1, 12, tzinfo=UTC).timestamp() * 1000)
RULES = Rules(auger_rate=10.0)


class Plant:
    """A boiler by hand: what its inputs show from second to second, told to a detector every ten seconds."""

    def __init__(self, roles, rules=RULES, seed=4):
        self.detector = PhaseDetector(rules, set(roles))
        self.roles, self.now, self.events = set(roles), START, []
        self.water, self.flue = 63.0, 54.0
        self.silent, self.offset = set(), {}
        self._chance = random.Random(seed)

    def run(self, seconds, *, fan=0.0, auger=None, igniter=0.0, flue=0.0, water=0.0):
        """Let time pass; `auger` is (on, period) in seconds; `flue` and `water` are °C a minute."""
        for n in range(int(seconds / 10)):
            feeding = auger is not None and (n * 10) % auger[1] < auger[0]
            shown = {"water": self.water, "flue": self.flue, "fan": fan, "auger": 0.6 * feeding, "igniter": igniter}
            for role, value in shown.items():
                if role in self.roles and role not in self.silent:
                    noise = abs(self._chance.gauss(0, 0.003)) if role in ("fan", "auger", "igniter") else 0.0
                    seen = value + noise + self.offset.get(role, 0.0)
                    self.events += self.detector.feed(role, round(seen, 3), self.now)
            self.now += 10_000
            self.flue += flue / 6
            self.water += water / 6
        return self

    def burn(self, minutes=60):
        """Light, burn and burn out, as a boiler that works."""
        self.run(90, fan=0.4).run(300, fan=0.3, auger=(10, 40), igniter=3.7, flue=5.0)
        self.run(minutes * 60, fan=0.25, auger=(10, 30), flue=max(0.0, 12 / minutes), water=5 / minutes)
        self.run(480, fan=0.35, flue=-3.0)
        self.flue, self.water = max(54.0, self.flue - 20), 63.0
        return self

    def told(self, name):
        return [(event.time, event.value) for event in self.events if event.name == name]

    def values(self, name):
        return [value for _, value in self.told(name)]

    def faults(self):
        return [e.name.removesuffix("_fault") for e in self.events if e.name.endswith("_fault") and e.value is True]


CLAMPS = ({"fan", "auger"}, {"fan", "auger", "igniter"}, {"auger"}, {"fan"})


@pytest.mark.parametrize("clamps", CLAMPS, ids=lambda names: "_".join(sorted(names)))
def test_a_burst_is_a_burst_in_every_phase_whatever_is_configured(clamps):
    plant = Plant({"water", "flue"} | clamps).run(3600).run(70, fan=0.3, auger=(10, 80)).run(7200)
    assert set(plant.values("phase")) <= {"unknown", "off", "keep_fire", "prepurge"}
    assert plant.faults() == []
    if clamps >= {"fan", "auger"}:
        assert plant.values("phase") == ["unknown", "off", "keep_fire"], "a boiler that keeps its fire is not off"
    plant.run(10 * HOUR // 1000, water=-0.06, flue=-0.06)
    assert plant.faults() == ["fire_out"], "what was no lighting explains no outage"


def test_bursts_hours_apart_keep_the_fire():
    plant = Plant({"water", "flue", "fan", "auger"}).run(1800)
    for _ in range(6):
        plant.run(60, fan=0.3, auger=(10, 70)).run(2 * 3600)
    assert plant.values("phase") == ["unknown", "off", "keep_fire"]


@pytest.mark.parametrize("minutes", [10, 15, 25])
@pytest.mark.parametrize("igniter", [3.7, 0.0, None])
def test_a_dead_igniter_is_told_as_quickly_as_a_dead_flame(igniter, minutes):
    roles = {"water", "flue", "fan", "auger"} | ({"igniter"} if igniter is not None else set())
    plant = Plant(roles).run(3600)
    begun = plant.now
    plant.run(minutes * 60, fan=0.3, auger=(20, 60), igniter=igniter or 0.0).run(3600)
    assert plant.faults() == ["ignition_failed"]
    told = next(time for time, value in plant.told("ignition_failed_fault") if value)
    assert told - begun < 20 * MINUTE
    assert plant.values("phase")[-1] == "off", "an attempt that failed ends"
    plant.burn()
    assert plant.values("ignition_failed_fault")[-1] is False


@pytest.mark.parametrize("last_on", [False, True])
@pytest.mark.parametrize("clear", [False, True])
def test_a_clamp_that_falls_silent_is_missing_and_not_off_and_feeds_nothing(last_on, clear):
    plant = Plant({"water", "flue", "fan", "auger"}).run(1800)
    plant.run(90, fan=0.4).run(300, fan=0.3, auger=(10, 40), flue=6.0)
    plant.run(1800 + 10 * last_on, fan=0.25, auger=(10, 30), flue=0.4)
    before = plant.detector.state.motors["auger"].on_ms
    plant.silent.add("auger")
    if clear:
        plant.detector.clear("auger", plant.now)
    plant.run(1200, fan=0.25, flue=-0.45)
    assert plant.values("phase")[-1] == "combustion", "it modulates, nobody saw that it is not fed"
    assert plant.detector.state.motors["auger"].on_ms - before <= 20_000
    plant.run(1800, fan=0.0, flue=-2.0).run(3600)
    assert plant.values("cycle_duration")
    assert plant.values("cycle_mass") == plant.values("auger_duration") == []
    assert plant.values("cycle_seen_share")[-1] < 70


def test_feeding_counts_for_two_intervals_of_silence_and_no_more():
    plant = Plant({"water", "flue", "fan", "auger"}).run(1800).run(40, fan=0.3, auger=(60, 120))
    plant.silent.add("auger")
    plant.run(240, fan=0.3)
    plant.silent.clear()
    plant.run(60, fan=0.3, auger=(60, 120)).run(600)
    assert plant.detector.state.motors["auger"].on_ms <= (40 + 20 + 70) * 1000


def test_an_igniter_that_draws_without_air_is_an_offset_of_its_clamp():
    plant = Plant({"water", "flue", "fan", "auger", "igniter"}).burn().run(1800)
    before = len(plant.values("phase"))
    plant.offset["igniter"] = 3.0
    for _ in range(4):
        plant.run(1800).run(60, fan=0.3, auger=(10, 70))
    assert plant.faults() == ["igniter_clamp"]
    assert set(plant.values("phase")[before:]) <= {"off", "keep_fire", "prepurge"}


def test_cleared_inputs_are_unknown_at_once_and_come_back():
    plant = Plant({"water", "flue"}).run(900)
    for role in ("water", "flue"):
        plant.detector.clear(role, plant.now)
    plant.silent |= {"water", "flue"}
    assert [e.value for e in plant.detector.advance(plant.now + 1000) if e.name == "phase"] == ["unknown"]
    plant.silent.clear()
    plant.now += MINUTE
    plant.run(300)
    assert plant.values("phase")[-1] == "off"
    late = Plant({"water", "flue"}).run(900)
    late.detector.clear("flue", late.now - 5 * MINUTE)
    late.run(60)
    assert late.values("phase") == ["unknown", "off"], "a clearing that is older than a reading says nothing"


def test_an_offset_that_looks_like_endless_feeding_is_a_fault_of_the_clamp_and_no_fuel():
    plant = Plant({"water", "flue", "fan", "auger"})
    for _ in range(6):
        plant.burn().run(3 * 3600)
    good = plant.detector.state.motors["auger"].on_ms
    plant.offset["auger"] = 0.3
    moved = plant.now
    plant.run(6 * 3600)
    assert plant.faults() == ["auger_clamp"]
    told = next(time for time, value in plant.told("auger_clamp_fault") if value)
    assert told - moved <= RULES.auger.run_max_s * 1000 + 30_000
    plant.burn().run(3600)
    assert plant.detector.state.motors["auger"].on_ms == good, "what it shows is not believed for a day"
    for _ in range(10):
        plant.burn().run(3 * 3600)
    assert plant.values("auger_clamp_fault")[-1] is False, "it is believed again after a day of good readings"
    assert all(mass < 30 for mass in plant.values("day_mass"))
    assert plant.detector.state.motors["auger"].on_ms > good


@pytest.mark.parametrize("shift", [0.15, 0.3, -0.02])
def test_an_offset_in_the_middle_of_a_burn_makes_no_false_phase(shift):
    plant = Plant({"water", "flue", "fan", "auger"}).run(1800)
    plant.run(90, fan=0.4).run(300, fan=0.3, auger=(10, 40), flue=4.0).run(900, fan=0.25, auger=(10, 30))
    plant.offset["auger"] = shift
    plant.run(3600, fan=0.25, auger=(10, 30))
    assert plant.values("phase")[-1] == "combustion"
    assert set(plant.faults()) <= {"auger_clamp"}


@pytest.mark.parametrize("dead_from", [None, 12, 0])
def test_silo_and_days_left_stop_when_the_auger_is_not_seen_and_say_why(dead_from):
    plant = Plant({"water", "flue", "fan", "auger"})
    plant.events += plant.detector.refill(1000.0, START)
    told = 0
    for day in range(8):
        for burn in range(4):
            dead = day >= 4 and dead_from is not None and burn * 6 >= dead_from
            plant.silent = {"auger"} if dead else set()
            plant.burn().run(6 * 3600 - 60 * 60 - 870)
        if day == 4:
            told = len(plant.values("silo_days"))
    if dead_from is None:
        assert plant.values("silo_mass")[-1] < 1000 - 7 * 12
        assert len(plant.values("silo_days")) == 8 - 1
    else:
        assert len(plant.values("silo_days")) == told, "they stop"
        assert "not known: the auger was seen" in plant.values("silo_text")[-1]
        assert len(plant.values("day_mass")) == 4


def test_a_stuck_fan_clamp_is_told_and_no_lighting():
    plant = Plant({"water", "flue", "fan", "auger"}).run(3600)
    plant.offset["fan"] = 0.2
    begun = plant.now
    plant.run(2 * 3600)
    assert plant.faults() == ["fan_clamp"]
    told = next(time for time, value in plant.told("fan_clamp_fault") if value)
    assert told - begun <= RULES.prepurge_max_s * 1000 + 2 * MINUTE
    assert plant.values("phase")[-1] == "off"


def test_without_a_flue_faults_that_need_one_are_not_told():
    assert tellable_faults({"water", "fan", "auger"}) == ("overheating", "fire_out", "auger_clamp")
    assert "ignition" not in tellable_phases({"water", "fan", "auger"})
    assert "prepurge" not in tellable_phases({"water", "flue"})
    plant = Plant({"water", "igniter", "fan", "auger"}).run(3600)
    for _ in range(4):
        plant.run(900, fan=0.3, auger=(20, 60), igniter=3.7).run(900)
    assert plant.faults() == []
    assert not plant.told("ignition_failed_fault")
    assert not plant.told("jam_or_empty_fault")


def test_false_states_are_told_once_when_they_are_known():
    plant = Plant({"water", "flue"}).run(1800)
    assert {e.name: e.value for e in plant.events if e.name.endswith("_fault")} == {
        "ignition_failed_fault": False,
        "overheating_fault": False,
        "fire_out_fault": False,
    }
    assert len([e for e in plant.events if e.name.endswith("_fault")]) == 3
