"""Phases must be right with whatever inputs a house has, and stay right when those lie, stop, repeat or come late."""

import json
import random
import sys
import time
from datetime import UTC, datetime
from itertools import pairwise

import msgspec
import pytest

from services.boiler import (
    FAULTS,
    PHASES,
    ROLES,
    UNITS,
    DetectorState,
    Event,
    PhaseDetector,
    Rules,
    replay,
    replay_legacy,
)
from services.boiler.evidence import Motor, Temperature
from services.boiler.legacy import Legacy, LegacyRules
from services.boiler.records import day_of
from services.boiler.replay import line
from services.boiler.rules import MOTORS
from services.simulators.models.boiler import AUGER_KG_H, SimulatedBoiler

pytestmark = pytest.mark.long

START = 1_790_000_000_000  # 2026-09-21 14:13:20 UTC
SECOND = 1000
MINUTE = 60 * SECOND
HOUR = 60 * MINUTE
RULES = Rules(auger_rate=AUGER_KG_H)
ALL = frozenset(ROLES)
TOPICS = {f"home/data/boiler/{role}/{'current' if role in MOTORS else 'temperature'}": role for role in ROLES}


def readings(hours, seed=1, step=10, change=None):
    """Simulate: (role, value, time) of all inputs, and the true phase at each time."""
    boiler = SimulatedBoiler(seed)
    found, truth = [], []
    for n in range(int(hours * 3600 / step)):
        if change:
            change(boiler, n * step / 3600)
        sample = boiler.step(step)
        now = START + (n + 1) * step * SECOND
        truth.append((now, boiler.phase))
        found += [(role, getattr(sample, "return_" if role == "return" else role), now) for role in ROLES]
    return found, truth


def run(found, roles=ALL, rules=RULES, machine=None):
    machine = machine or PhaseDetector(rules, roles)
    events = []
    for role, value, now in found:
        if role in roles:
            events += machine.feed(role, value, now)
    return events, machine


def phases(events):
    return [(e.time, e.value) for e in events if e.name == "phase"]


def words(events):
    return [value for _, value in phases(events)]


def faults(events):
    """Faults that began and ended; that each is not, is told once before."""
    found, known = [], set()
    for event in events:
        if event.name.endswith("_fault"):
            if event.value or event.name in known:
                found.append((event.name.removesuffix("_fault"), event.value))
            known.add(event.name)
    return found


def agreement(events, truth):
    """Share of the time in which the phase found is the true one."""
    found, at, right = phases(events), 0, 0
    for now, phase in truth:
        while at + 1 < len(found) and found[at + 1][0] <= now:
            at += 1
        right += found[at][1] == phase
    return right / len(truth)


def burns(events):
    """Cycles that saw a flame; a boiler with embers needs no lighting."""
    return words(events).count("combustion")


@pytest.fixture(scope="module")
def day():
    return readings(14)


@pytest.fixture(scope="module")
def day_events(day):
    return run(day[0])[0]


def as_lines(found):
    topics = {role: topic for topic, role in TOPICS.items()}
    for role, value, now in found:
        moment = datetime.fromtimestamp(now / 1000, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
        yield json.dumps({"topic": topics[role], "value": value, "unit": "", "time": moment})


# phases


def test_a_whole_day_is_followed_without_a_fault(day, day_events):
    assert words(day_events)[:7] == ["unknown", "off", "prepurge", "ignition", "combustion", "burnout", "keep_fire"]
    assert set(words(day_events)) <= set(PHASES)
    assert agreement(day_events, day[1]) > 0.85
    assert burns(day_events) == sum(a != b == "combustion" for (_, a), (_, b) in pairwise(day[1]))
    assert faults(day_events) == []


@pytest.mark.parametrize(
    ("missing", "least"),
    [
        ({"igniter"}, 0.85),
        ({"fan"}, 0.78),
        ({"auger"}, 0.73),
        ({"return"}, 0.85),
        ({"water"}, 0.85),
        ({"flue"}, 0.83),
        ({"flue", "igniter"}, 0.82),
        ({"flue", "fan"}, 0.78),
        ({"flue", "auger"}, 0.6),
        ({"igniter", "fan", "auger", "return"}, 0.7),
        ({"flue", "igniter", "fan", "auger", "return"}, 0.6),
    ],
)
def test_phases_are_right_with_inputs_missing(day, missing, least):
    events, _ = run(day[0], ALL - missing)
    true_burns = sum(a != b == "combustion" for (_, a), (_, b) in pairwise(day[1]))
    assert burns(events) == pytest.approx(true_burns, abs=1)
    assert agreement(events, day[1]) > least
    assert faults(events) == []


def test_neither_flue_nor_water_is_refused():
    with pytest.raises(ValueError, match="give at least one"):
        PhaseDetector(RULES, {"fan", "auger"})


@pytest.mark.parametrize("missing", [set(), {"igniter", "fan", "auger"}, {"flue"}])
@pytest.mark.parametrize("seed", [11, 12])
def test_no_phase_is_shorter_than_its_dwell(seed, missing):
    found, _ = readings(12, seed, step=5)
    changes = phases(run(found, ALL - missing)[0])
    for (begin, phase), (end, following) in pairwise(changes):
        if phase != "unknown" and following != "unknown":
            assert end - begin >= getattr(RULES.dwell, phase) * SECOND


def test_readings_of_a_minute_are_enough():
    found, truth = readings(24, step=60)
    events, _ = run(found)
    assert agreement(events, truth) > 0.8
    assert faults(events) == []


def test_readings_that_come_only_when_they_change_are_enough():
    found, truth = readings(12)
    told, sparse = {}, []
    for role, value, now in found:
        deadband = 0.03 if role in ("igniter", "fan", "auger") else 0.25
        last, when = told.get(role, (-99.0, 0))
        if abs(value - last) > deadband or now - when >= 2 * MINUTE:
            told[role] = (value, now)
            sparse.append((role, value, now))
    assert len(sparse) < len(found) / 3
    for roles in (ALL, {"water", "flue"}, ALL - {"flue"}):
        events, _ = run(sparse, roles)
        assert agreement(events, truth) > agreement(run(found, roles)[0], truth) - 0.06
        assert faults(events) == []


def test_clamps_that_were_swapped_make_no_fault_while_the_flue_is_seen():
    swapped = {"fan": "auger", "auger": "fan"}
    found, truth = readings(12)
    exchanged = [
        (swapped.get(r, r) if now > START + 5 * HOUR else r, 9 + v * 40 if r in swapped else v, now)
        for r, v, now in found
    ]
    events, _ = run(exchanged)
    assert {name for name, _ in faults(events)} <= {"auger_clamp"}, "what runs without a pause is no auger"
    assert agreement(events, truth) > 0.7


def test_the_phase_carries_its_beginning(day_events):
    named = [e for e in day_events if e.name in ("phase", "since_text")]
    for phase, since in zip(named[::2], named[1::2], strict=True):
        assert datetime.fromisoformat(since.value).timestamp() * 1000 == phase.time == since.time


def test_every_output_is_in_the_table_of_units(day_events):
    assert {e.name for e in day_events} <= set(UNITS)
    assert {f"{fault}_fault" for fault in FAULTS} < set(UNITS)


@pytest.mark.parametrize("last", [0.001, 0.4])
def test_a_motor_in_silence_is_missing_and_neither_on_nor_off(last):
    detector = PhaseDetector(RULES, {"water", "flue", "fan"})
    events = []
    for n in range(240):
        now = START + n * 10 * SECOND
        if n <= 60:
            events += detector.feed("fan", 0.4 if n >= 54 and (n < 60 or last > 0.1) else 0.001, now)
        events += detector.feed("water", 62.0, now)
        events += detector.feed("flue", 53.0, now)
    assert words(events) == ["unknown", "off", "prepurge", "off"]
    silent = START + 600 * SECOND
    ended = phases(events)[3][0]
    assert ended == silent + int(RULES.stale_s * SECOND) + 1, (
        "nothing is concluded while it is silent, then it is missing"
    )


def test_the_return_stands_in_for_a_missing_water_temperature():
    for roles, expected in (({"flue", "return"}, "combustion"), ({"flue"}, "off")):
        machine = PhaseDetector(RULES, roles)
        for n in range(30):
            for role, value in (("flue", 60.0), ("return", 40.0)):
                if role in roles:
                    machine.feed(role, value, START + n * 10 * SECOND)
        assert machine.state.phase == expected


def test_a_boiler_that_modulates_has_no_burnout_even_beside_a_dead_clamp():
    machine = PhaseDetector(RULES, {"water", "flue", "auger"})
    events = []
    for n in range(600):
        now = START + n * 10 * SECOND
        events += machine.feed("auger", 0.002, now)
        events += machine.feed("water", 60.0, now)
        events += machine.feed("flue", 115.0 - min(25.0, max(0, n - 200) / 6), now)  # 1 °C a minute
    assert words(events) == ["unknown", "combustion"]


@pytest.mark.parametrize(("gap", "cycles"), [(20, 1), (120, 2)])
def test_a_fire_seen_again_after_a_gap_is_the_same_cycle_if_the_gap_was_short(gap, cycles):
    machine = PhaseDetector(RULES, {"water", "flue"})
    events = []
    for n in range(600):
        now = START + n * 10 * SECOND + (gap * MINUTE if n >= 300 else 0)
        events += machine.feed("water", 60.0, now)
        events += machine.feed("flue", 53.0 if n < 60 else 110.0, now)
    assert words(events)[-3:] == ["combustion", "unknown", "combustion"]
    assert machine.state.cycles == cycles
    assert [e.name for e in events].count("cycle_duration") == cycles - 1
    if cycles == 2:
        assert machine.state.finished.outcome == "interrupted"
        assert machine.state.finished.end < START + HOUR


# readings that lie


@pytest.mark.parametrize("lie", [-1.0, 85.0, 0.0, 17_603.0, -127.0])
def test_single_lies_do_not_matter(day, day_events, lie):
    chance = random.Random(3)
    disturbed = []
    for role, value, now in day[0]:
        if lie == 0.0 and role in ("igniter", "fan", "auger"):
            disturbed.append((role, value, now))  # there 0 is no lie
            continue
        disturbed.append((role, value, now))
        if chance.random() < 0.05:
            disturbed.append((role, lie, now + 5 * SECOND))
    disturbed.sort(key=lambda reading: reading[2])
    events, _ = run(disturbed)
    assert faults(events) == []
    assert words(events) == words(day_events)


def test_85_degrees_that_were_reached_are_kept_and_those_of_a_restart_are_not():
    flue = Temperature()
    limits = RULES.flue
    values = [83.0, 83.5, 84.0, 84.5, 85.0, 85.0, 85.5]
    taken = [flue.feed(value, START + n * 10 * SECOND, limits, RULES) for n, value in enumerate(values)]
    assert taken == [False, *[True] * 6]
    assert not flue.feed(60.0, START + 80 * SECOND, limits, RULES)
    restarted = Temperature()
    assert not any(restarted.feed(85.0, START + n * SECOND, limits, RULES) for n in range(20))
    assert [restarted.feed(70.0, START + n * SECOND, limits, RULES) for n in (30, 31)] == [False, True]
    assert not restarted.feed(85.0, START + 60 * SECOND, limits, RULES)


def test_a_step_that_lasts_is_believed_in_the_end():
    water = Temperature()
    for n in range(10):
        water.feed(60.0, START + n * 10 * SECOND, RULES.water, RULES)
    taken = [water.feed(40.0, START + (100 + n * 10) * SECOND, RULES.water, RULES) for n in range(20)]
    assert taken.index(True) * 10 == RULES.water.settle_s
    assert water.value == 40.0


def test_one_wild_value_does_not_bend_the_slope():
    flue = Temperature()
    for n in range(31):
        flue.feed(60.0 + n / 6 * 0.5 + (3.0 if n == 15 else 0.0), START + n * 10 * SECOND, RULES.flue, RULES)
    flue.fit()
    assert flue.slope == pytest.approx(0.5, abs=0.1)


def test_dead_thermometers_make_the_phase_unknown_and_nothing_else():
    found, _ = readings(10)
    dead = [
        (
            role,
            -1.0 if START + 3 * HOUR <= now < START + 7 * HOUR and role in ("water", "flue", "return") else value,
            now,
        )
        for role, value, now in found
    ]
    events, _ = run(dead, ALL - {"igniter", "fan", "auger"})
    inside = [(now, phase) for now, phase in phases(events) if START + 3 * HOUR <= now < START + 7 * HOUR]
    assert [phase for _, phase in inside] == ["unknown"]
    last_good = START + 3 * HOUR - 10 * SECOND
    assert inside[0][0] - last_good <= RULES.stale_s * SECOND + 10 * SECOND
    assert faults(events) == []


def test_a_gap_makes_it_unknown_at_the_time_at_which_the_inputs_went_stale():
    machine = PhaseDetector(RULES, {"water", "flue"})
    for n in range(60):
        machine.feed("water", 62.0, START + n * 10 * SECOND)
        machine.feed("flue", 53.0, START + n * 10 * SECOND)
    events = machine.feed("water", 61.0, START + 5 * HOUR)
    last = START + 590 * SECOND
    assert phases(events) == [(last + int(RULES.stale_s * SECOND) + 1, "unknown")]


def test_time_without_readings_makes_it_unknown_as_well():
    machine = PhaseDetector(RULES, {"water"})
    for n in range(20):
        machine.feed("water", 62.0, START + n * 10 * SECOND)
    assert machine.state.phase == "off"
    assert phases(machine.advance(START + HOUR))[0][1] == "unknown"
    assert machine.advance(START + 2 * HOUR) == []


def test_an_offset_that_drifts_or_jumps_is_not_a_motor():
    chance = random.Random(5)
    machine = PhaseDetector(RULES, {"water", "flue", "fan", "auger"})
    events = []
    for n in range(6 * 360):
        now = START + n * 10 * SECOND
        offset = 0.02 + 0.05 * n / 2160 if n < 1500 else 0.3
        if not 1450 < n < 1500:
            events += machine.feed("fan", offset + abs(chance.gauss(0, 0.002)), now)
            events += machine.feed("auger", offset + abs(chance.gauss(0, 0.004)), now)
        events += machine.feed("water", 62.0, now)
        events += machine.feed("flue", 53.0, now)
    assert words(events) == ["unknown", "off"]


def test_a_clamp_that_shows_a_current_for_an_hour_is_an_offset_and_no_auger():
    machine = PhaseDetector(RULES, {"water", "flue", "auger"})
    auger, ran = machine.state.motors["auger"], []
    for n in range(600):
        now = START + n * 10 * SECOND
        machine.feed("water", 62.0, now)
        machine.feed("flue", 53.0, now)
        machine.feed("auger", 1.5 if n > 100 else 0.0, now)
        ran.append(auger.running)
    assert any(ran), "for as long as it may be a motor"
    assert not any(ran[140:]), "it never pauses"
    assert auger.doubted
    assert auger.on_ms == 0.0


def test_a_zero_that_creeps_up_is_followed():
    machine = PhaseDetector(RULES, {"water", "auger"})
    auger = machine.state.motors["auger"]
    for n in range(6000):
        machine.feed("auger", 0.3 * n / 6000, START + n * 10 * SECOND)
        assert not auger.on
    assert auger.zero == pytest.approx(0.3, abs=0.05)


def test_the_heat_of_a_fire_has_two_limits():
    machine = PhaseDetector(RULES, {"water", "flue"})
    hot = []
    for n, above in enumerate((6.0, 9.9, 10.0, 6.0, 4.0, 3.9, 6.0, 9.9, 10.0)):
        machine.feed("water", 60.0, START + n * 10 * SECOND)
        machine.feed("flue", 60.0 + above, START + n * 10 * SECOND + SECOND)
        machine.advance(START + n * 10 * SECOND + 2 * SECOND)
        hot.append(machine.state.hot)
    assert hot == [False, False, True, True, True, False, False, False, True]


def test_what_a_motor_did_while_its_clamp_was_silent_is_not_reckoned():
    auger = Motor()
    for n in range(400):
        auger.feed(1.5 if n > 350 else 0.0, START + n * 10 * SECOND, RULES.auger, RULES)
    assert auger.on
    seen = auger.on_ms
    auger.feed(1.5, START + 400 * 10 * SECOND + 6 * HOUR, RULES.auger, RULES)
    assert auger.on_ms - seen <= RULES.stale_s * 1000


def test_embers_go_out_some_hours_after_the_last_burn():
    machine = PhaseDetector(RULES, {"water", "flue"})
    events = []
    for n in range(5 * 360):
        now = START + n * 10 * SECOND
        events += machine.feed("water", 65.0, now)
        events += machine.feed("flue", 65.0 + min(60.0, n / 3) if n < 360 else max(55.0, 125.0 - (n - 360) / 3), now)
    assert words(events)[-3:] == ["burnout", "keep_fire", "off"]
    kept = next(time for time, word in phases(events) if word == "keep_fire")
    out = next(time for time, word in phases(events) if word == "off" and time > kept)
    assert RULES.keep_fire_s * 1000 - 30 * MINUTE < out - kept <= RULES.keep_fire_s * 1000


def test_a_noisy_clamp_in_another_unit_learns_what_noise_is():
    chance = random.Random(6)
    auger = Motor()
    for n in range(300):
        auger.feed(chance.choice((5, 6, 7, 8, 9)), START + n * 3 * SECOND, RULES.auger, RULES)
    assert not auger.running
    on = [
        bool(auger.feed(31 if n % 10 < 4 else 7, START + (900 + n * 3) * SECOND, RULES.auger, RULES) and auger.on)
        for n in range(100)
    ]
    assert auger.running
    assert sum(on) == 40


# time


def test_repeated_and_old_readings_change_nothing(day, day_events):
    found = day[0][: len(day[0]) // 4]
    once, _ = run(found)
    machine = PhaseDetector(RULES, ALL)
    twice = []
    for n, (role, value, now) in enumerate(found):
        twice += machine.feed(role, value, now)
        twice += machine.feed(role, value, now)
        if n % 5000 == 4999:
            for old in found[max(0, n - 3000) : n]:
                twice += machine.feed(*old)
    assert twice == once


@pytest.mark.parametrize("cut", [7, 700, 1900, 2600, 5000, 9000, 13_001])
def test_a_restart_in_the_middle_changes_nothing(day, cut):
    found = day[0][:20_000]
    whole, uninterrupted = run(found)
    first, machine = run(found[:cut])
    restored = PhaseDetector.restore(RULES, ALL, machine.snapshot())
    second, _ = run(found[cut:], machine=restored)
    assert first + second == whole
    assert restored.state == uninterrupted.state


def test_a_damaged_snapshot_is_an_error_and_not_a_phase():
    with pytest.raises(msgspec.DecodeError):
        PhaseDetector.restore(RULES, ALL, b'{"phase":"combustion",')
    with pytest.raises(msgspec.ValidationError):
        PhaseDetector.restore(RULES, ALL, b'{"phase":"dancing"}')


@pytest.mark.parametrize("late", ["fan", "auger", "igniter", "return", "flue"])
def test_one_input_an_hour_late_gives_no_false_phase_and_loses_no_fuel(day, late):
    delivered = sorted(day[0], key=lambda r: (r[2] + (HOUR if r[0] == late else 0), r[0]))
    events, machine = run(delivered)
    _, complete = run(day[0])
    without, _ = run(day[0], ALL - {late})
    assert words(events) == words(without)
    assert faults(events) == []
    if late == "auger":
        lost = HOUR * 0.4
        assert machine.state.motors["auger"].on_ms == pytest.approx(complete.state.motors["auger"].on_ms, abs=lost)


@pytest.mark.parametrize("late", ROLES)
def test_a_replay_puts_late_readings_in_order(day, late):
    found = day[0][: len(day[0]) // 5]
    delivered = sorted(found, key=lambda r: r[2] + (HOUR if r[0] == late else 0))
    ordered = list(replay(as_lines(found), TOPICS, RULES))
    assert len(ordered) > 10
    assert list(replay(as_lines(delivered), TOPICS, RULES)) == ordered


def test_a_clock_that_steps_back_some_minutes_makes_no_phase():
    found, _ = readings(8)
    back = [(r, v, now - (9 * MINUTE if now > START + 4 * HOUR else 0)) for r, v, now in found]
    straight, _ = run(found)
    events, _ = run(back)
    assert words(events) == words(straight)
    assert len(list(replay(as_lines(back), TOPICS, RULES))) == pytest.approx(len(straight), abs=4)


def test_a_clock_that_was_days_ahead_is_corrected_by_a_rebase():
    found, _ = readings(10)
    ahead = [(r, v, now + (72 * HOUR if now < START + 6 * HOUR else 0)) for r, v, now in found]
    lines = list(replay(as_lines(ahead), TOPICS, RULES))
    said = [json.loads(text.split(" ", 1)[1]) for text in lines if "/phase " in text]
    straight = [now for now, phase in phases(run(found)[0]) if phase == "combustion" and now > START + 7 * HOUR]
    assert [p["value"] for p in said if p["time"] < "2026-09-22"].count("combustion") == pytest.approx(
        len(straight), abs=1
    )
    machine = PhaseDetector(RULES, ALL)
    run(found, machine=machine)
    assert phases(machine.rebase(START)) == [(START, "unknown")]
    assert machine.state.time == START
    assert machine.rebase(START + HOUR) == []


# faults


def test_a_failed_ignition_is_told_once_and_resolved_once():
    def change(boiler, hour):
        boiler.igniter_works = hour >= 5
        boiler.enabled = boiler.enabled or hour >= 5

    found, _ = readings(8, change=change)
    for roles in (ALL, ALL - {"fan"}, ALL - {"igniter"}, ALL - {"igniter", "fan"}):
        events, _ = run(found, roles)
        assert faults(events) == [("ignition_failed", True), ("ignition_failed", False)], roles
    assert faults(run(found, ALL - {"flue", "return"})[0]) == [], "without a flue nobody sees a flame"
    told = next(e.time for e in run(found)[0] if e.name == "ignition_failed_fault" and e.value)
    assert told < START + 0.5 * HOUR


def test_short_attempts_without_a_flame_are_counted_and_told_after_the_third():
    machine = PhaseDetector(RULES, {"water", "flue", "igniter"})
    events = []
    for n in range(34 * 360):
        now = START + n * 10 * SECOND
        lighting = 3960 <= n < 4500 and n % 90 < 30  # 5 minutes in 15
        events += machine.feed("igniter", 3.7 if lighting else 0.002, now)
        events += machine.feed("water", 62.0, now)
        events += machine.feed("flue", 53.0, now)
    assert faults(events) == [("ignition_failed", True)]
    told = next(e.time for e in events if e.name == "ignition_failed_fault" and e.value)
    third = START + (3960 + 2 * 90 + 30) * 10 * SECOND
    assert third <= told < third + 2 * MINUTE
    failed = next(e.value for e in events if e.name == "day_failed_count")
    assert failed == words(events).count("ignition") == 6


def test_an_attempt_that_is_not_repeated_is_told_as_well():
    machine = PhaseDetector(RULES, {"water", "flue", "igniter"})
    events = []
    for n in range(720):
        now = START + n * 10 * SECOND
        events += machine.feed("igniter", 3.7 if 360 <= n < 390 else 0.002, now)
        events += machine.feed("water", 62.0, now)
        events += machine.feed("flue", 53.0, now)
    assert faults(events) == [("ignition_failed", True)]


def test_an_empty_silo_is_told_once_and_resolved_once():
    def change(boiler, hour):
        if 1.25 < hour < 5:
            boiler.silo_kg = 0.0
        elif hour >= 5:
            boiler.silo_kg, boiler.enabled = 500.0, True

    found, _ = readings(9, change=change)
    for roles in (ALL, ALL - {"fan"}, ALL - {"igniter"}, ALL - {"return", "igniter", "fan"}):
        assert faults(run(found, roles)[0]) == [("jam_or_empty", True), ("jam_or_empty", False)]
    # without the auger's clamp nothing shows why, but that the fire is out
    assert faults(run(found, {"water", "flue"})[0]) == [("fire_out", True), ("fire_out", False)]


def test_a_boiler_that_was_never_warm_does_not_go_out():
    machine = PhaseDetector(RULES, {"water", "flue"})
    events = []
    for n in range(2000):
        events += machine.feed("water", 20.0, START + n * 10 * SECOND)
        events += machine.feed("flue", 18.0, START + n * 10 * SECOND)
    assert faults(events) == []


@pytest.mark.parametrize("role", ["water", "flue"])
def test_overheating_is_told_once_although_it_swings_about_the_limit(role):
    limit = RULES.water_max if role == "water" else RULES.flue_max
    other = "flue" if role == "water" else "water"
    machine = PhaseDetector(RULES, {"water", "flue"})
    events, value = [], limit - 20.0
    for n in range(400):
        target = limit + (2.0 if n // 10 % 2 else -2.0) if 100 < n < 300 else limit - 20.0
        value += max(-1.0, min(1.0, target - value))
        events += machine.feed(role, value, START + n * 10 * SECOND)
        events += machine.feed(other, 60.0, START + n * 10 * SECOND)
    assert [f for f in faults(events) if f[0] == "overheating"] == [("overheating", True), ("overheating", False)]


@pytest.mark.parametrize(("seconds", "told"), [(10, False), (30, True)])
def test_overheating_counts_once_it_has_lasted(seconds, told):
    machine = PhaseDetector(RULES, {"water"})
    events = []
    for n in range(400):
        above = 200 <= n < 200 + seconds // 10
        machine.feed("water", 89.0 if not above else 90.5, START + n * 10 * SECOND)
        events += machine.advance(START + n * 10 * SECOND + 9 * SECOND)
    assert (("overheating", True) in faults(events)) == told


@pytest.mark.parametrize("roles", [{"water", "flue"}, {"water", "flue", "auger"}])
def test_water_that_is_too_hot_is_told_although_the_flue_is_dead_and_stands_as_long_as_it_is(roles):
    machine = PhaseDetector(RULES, roles)
    events = []
    for n in range(400):
        now = START + n * 10 * SECOND
        events += machine.feed("water", min(97.0, 60.0 + max(0, n - 100) / 2), now)
        if "auger" in roles:
            events += machine.feed("auger", 0.0, now)
        if n < 100:
            events += machine.feed("flue", 60.0, now)
        elif n == 100:
            machine.clear("flue", now)
    assert ("overheating", True) in faults(events)
    assert "overheating_fault" not in machine.unheard, "it is so, and said again"
    cooled = [max(50.0, 97.0 - n / 2) for n in range(200)] + [min(97.0, 50.0 + n / 2) for n in range(200)]
    for water in cooled:
        now += 10 * SECOND
        events += machine.feed("water", water, now)
    assert [value for name, value in faults(events) if name == "overheating"] == [True, False, True], (
        "by the water alone"
    )
    machine.advance(now + HOUR)
    assert "overheating_fault" in machine.unheard, "nobody knows"


def test_overheating_does_not_end_because_the_hot_sensor_fell_silent():
    machine = PhaseDetector(RULES, {"water", "flue", "fan"})
    events = []
    for n in range(400):
        now = START + n * 10 * SECOND
        events += machine.feed("fan", 0.0, now)
        events += machine.feed("water", 60.0, now)
        if n < 200:
            events += machine.feed("flue", min(310.0, 200.0 + n), now)
    assert faults(events) == [("overheating", True)]
    for n in range(400, 440):
        events += machine.feed("fan", 0.0, START + n * 10 * SECOND)
        events += machine.feed("water", 60.0, START + n * 10 * SECOND)
        events += machine.feed("flue", 200.0, START + n * 10 * SECOND)
    assert faults(events) == [("overheating", True), ("overheating", False)]


# sums


def test_a_cycle_tells_its_length_its_lighting_and_its_fuel():
    burned = []

    def change(boiler, _hour):
        if boiler.phase == "keep_fire" and not burned:
            burned.append(boiler.burned_kg)

    found, _ = readings(1.1, change=change)
    events, machine = run(found)
    cycle = machine.state.finished
    assert cycle.number == 1
    assert cycle.outcome == "burned"
    assert cycle.fuel_kg == pytest.approx(burned[0], rel=0.08)
    assert 120 < cycle.ignition_s < 600
    told = {e.name: e.value for e in events}
    assert told["cycle_duration"] == (cycle.end - cycle.start) / 1000
    assert told["ignition_duration"] == cycle.ignition_s
    assert told["auger_duration"] == cycle.auger_s
    assert told["cycle_mass"] == cycle.fuel_kg
    assert told["cycles"] == 1


def test_a_local_day_ends_at_its_own_midnight():
    rules = msgspec.structs.replace(RULES, timezone="Europe/Paris")
    found, truth = readings(33)
    events, _ = run(found, rules=rules)
    begin, end = (int(datetime(2026, 9, day, 22, 0, tzinfo=UTC).timestamp() * 1000) for day in (21, 22))
    first = {e.name for e in events if e.time == begin - 1 and e.name.startswith("day_")}
    assert first == {"day_seen_share"}, "of a third of a day only that is told"
    sums = {e.name: e.value for e in events if e.time == end - 1 and e.name.startswith("day_")}
    burning = sum(p in ("ignition", "combustion") for now, p in truth if begin <= now < end) * 10 * SECOND
    assert sums["day_duty"] == pytest.approx(100 * burning / (end - begin), abs=3)
    assert sums["day_failed_count"] == 0
    assert sums["day_mass"] > 5
    assert sums["day_seen_share"] > 99


def test_days_of_summer_time_have_23_and_25_hours():
    spring = day_of(int(datetime(2026, 3, 29, 12, tzinfo=UTC).timestamp() * 1000), "Europe/Paris")
    autumn = day_of(int(datetime(2026, 10, 25, 12, tzinfo=UTC).timestamp() * 1000), "Europe/Paris")
    assert spring.end - spring.start == 23 * HOUR
    assert autumn.end - autumn.start == 25 * HOUR


def test_a_refill_gives_the_days_that_are_left():
    found, _ = readings(58)
    detector = PhaseDetector(RULES, ALL)
    assert [e.name for e in detector.refill(500.0, START)] == ["silo_mass", "silo_text"]
    events, _ = run(found, machine=detector)
    left = {e.name: e.value for e in detector.refill(300.0, START + 58 * HOUR)}
    days = [e.value for e in events if e.name == "day_mass"]
    assert len(days) == 2
    assert left["silo_mass"] == 300.0
    assert 300 / max(days) / 1.6 < left["silo_days"] < 300 / min(days), "the season is on the way to winter"
    mass = [e.value for e in events if e.name == "silo_mass"][-1]
    assert 500 - sum(days) - 20 < mass < 500 - sum(days) + 0.1
    with pytest.raises(ValueError, match="less than nothing"):
        detector.refill(-1.0, START)


def test_without_a_calibrated_rate_no_fuel_is_told(day):
    events, _ = run(day[0], rules=Rules())
    assert not {"cycle_mass", "day_mass", "silo_mass", "silo_days"} & {e.name for e in events}
    assert "auger_duration" in {e.name for e in events}


# replay


def test_a_line_is_what_mosquitto_sub_prints():
    event = Event("phase", "combustion", 1_795_186_913_120)
    assert (
        line("home/data/boiler/burner", event)
        == 'home/data/boiler/burner/phase {"value":"combustion","time":"2026-11-20T15:01:53.120Z"}'
    )
    assert (
        line("a/b", Event("cycle_mass", 2.5, 0))
        == 'a/b/cycle_mass {"value":2.5,"unit":"kg","time":"1970-01-01T00:00:00.000Z"}'
    )
    assert line("a/b", Event("fire_out_fault", True, 0)).startswith('a/b/fire_out_fault {"value":true,"time"')


def test_a_replay_says_what_the_machine_says(day, day_events):
    lines = list(replay(as_lines(day[0]), TOPICS, RULES, prefix="home/data/cellar/stove"))
    said = [line("home/data/cellar/stove", event) for event in day_events]
    assert lines[: len(said)] == said


def test_other_topics_and_empty_lines_are_passed_over_and_a_broken_line_is_named():
    good = next(as_lines([("water", 60.0, START)]))
    other = good.replace("water", "kettle")
    assert len(list(replay([good, "", other, other.replace("60.0", '"warm"')], TOPICS, RULES))) == 2
    with pytest.raises(ValueError, match=r"line 2: .*give one JSON object"):
        list(replay([good, "garbage"], TOPICS, RULES))


def test_a_year_of_minutes_takes_minutes_at_the_most():
    part = 100
    found, _ = readings(8760 / part, step=60)
    lines = list(as_lines(found))
    begun = time.process_time()
    assert sum(1 for _ in replay(lines, TOPICS, RULES)) > 100
    measured = 1 if sys.gettrace() is None else 4  # what a measurement of coverage costs
    assert (time.process_time() - begun) * part < 180 * measured  # 40 s on a quiet machine, 60 on a busy one


# the first system


def minutes(rows, rules=None, first=START // MINUTE * MINUTE):
    """Judge rows of (water, fan, igniter), one a minute; None for a minute without a row."""
    legacy = Legacy(rules or LegacyRules())
    judged = []
    for n, row in enumerate(rows):
        for role, value in zip(("water", "fan", "igniter"), row or (), strict=False):
            judged += legacy.feed(role, value, first + n * MINUTE)
    return judged + legacy.close()


def test_legacy_names_its_phases():
    rows = [(60, 0, 0), (60, 9, 0), (60, 9, 30), (60, 0, 30), (50, 0, 0), (50, 0, 30), None, (60, 5, 19)]
    assert [m.phase for m in minutes(rows)] == [
        "maintien", "combustion", "allumage", "allumage", "arret", "allumage", "undefined", "maintien",
    ]  # fmt: skip


def test_legacy_watches_a_low_burn_after_lighting_and_suspects_it_later():
    low = [(50, 9, 30)] + [(50, 9, 0)] * 40
    assert [m.phase for m in minutes(low)] == ["allumage"] + ["risque_bourage"] * 40
    rising = [(40, 9, 30)] + [(40 + n * 0.1, 9, 0) for n in range(1, 41)]
    judged = [m.phase for m in minutes(rising)]
    assert judged[1:10] == ["risque_bourage"] * 9
    assert judged[31:] == ["surveillance"] * 10
    fast = [(40 + n * 0.02, 9, 0) for n in range(45)]
    assert {m.phase for m in minutes(fast)} == {"risque_bourage"}


def test_legacy_alerts_once_for_low_water_and_holds_off_ten_minutes():
    rows = [(60, 0, 0)] * 3 + [(50, 0, 0)] * 3 + [(60, 0, 0)] * 3 + [(50, 0, 0)] * 2 + [(60, 0, 0)] * 12 + [(50, 0, 0)]
    assert [n for n, m in enumerate(minutes(rows)) if m.alert] == [3, 23]
    assert [m.phase for m in minutes([(50, 0, 0)])] == ["arret"]
    assert not minutes([(50, 0, 0)])[0].alert


def test_legacy_remembers_a_lighting_for_19_minutes_and_an_alert_for_9():
    lit = minutes([(40, 9, 30)] + [(42, 9, 0)] * 22)
    assert [m.phase for m in lit[11:21]] == ["surveillance"] * 9 + ["combustion"]
    for between, alerts in ((8, 1), (9, 2)):
        rows = [(60, 0, 0), (50, 0, 0), *[(60, 0, 0)] * between, (50, 0, 0)]
        assert sum(m.alert for m in minutes(rows)) == alerts


def test_legacy_keeps_the_faults_that_make_its_phases():
    # a dead clamp reads as a motor that stands, a dead thermometer as cold
    assert [m.phase for m in minutes([(60, -1, -1), (-1, 9, 0)])] == ["maintien", "risque_bourage"]
    # a value that is missing counts in the divisor of its minute
    together = Legacy(LegacyRules())
    apart = Legacy(LegacyRules(sampled_together=False))
    for legacy in (together, apart):
        for n in range(10):
            legacy.feed("fan", 0.0, START // MINUTE * MINUTE + n * SECOND)
        for n in range(5):
            legacy.feed("water", 80.0, START // MINUTE * MINUTE + n * SECOND)
    assert together.close()[0].phase == "arret"
    assert apart.close()[0].phase == "maintien"


def test_legacy_judges_as_time_passes_or_waits_for_late_readings():
    first = START // MINUTE * MINUTE
    legacy = Legacy(LegacyRules())
    assert legacy.feed("water", 60.0, first) == []
    assert [m.phase for m in legacy.advance(first + MINUTE)] == ["maintien"]
    assert legacy.feed("water", 20.0, first + 1) == []
    patient = Legacy(LegacyRules(late_minutes=None))
    patient.feed("water", 60.0, first)
    patient.feed("water", 60.0, first + 5 * MINUTE)
    patient.feed("water", 20.0, first + 1)
    assert [m.phase for m in patient.close()] == ["arret", *["undefined"] * 4, "maintien"]


def test_a_restart_of_the_legacy_profile_changes_nothing():
    chance = random.Random(8)
    found = [
        (role, chance.choice((0, 9, 30, 55, 57)), START + n * 20_000)
        for n in range(600)
        for role in ("water", "fan", "igniter")
    ]
    whole, parts = Legacy(LegacyRules()), Legacy(LegacyRules())
    for n, reading in enumerate(found):
        if n % 101 == 0:
            parts = Legacy.restore(parts.rules, parts.snapshot())
        assert parts.feed(*reading) == whole.feed(*reading)
    assert parts.close() == whole.close()


def test_a_legacy_replay_prints_the_changes_and_the_alert():
    found = [(role, value, START + n * MINUTE) for n in range(20) for role, value in (("water", 60 - n), ("fan", 0.0))]
    lines = list(replay_legacy(as_lines(found), TOPICS))
    told = [(text.split(" ")[0].rpartition("/")[2], json.loads(text.split(" ", 1)[1])["value"]) for text in lines]
    assert [one for one in told if one[0] != "since_text"] == [
        ("phase", "maintien"), ("phase", "arret"), ("fire_out_fault", True),
    ]  # fmt: skip


def test_a_state_is_plain_data(day):
    _, machine = run(day[0][:8000])
    again = msgspec.json.decode(machine.snapshot(), type=DetectorState)
    assert again == machine.state
    assert msgspec.to_builtins(again)["phase"] == machine.state.phase
