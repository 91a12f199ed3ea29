"""The simulated house must be believable, repeatable, and breakable in the ways that the services must notice."""

import itertools

import pytest

from bootstrap_lib.quantities import QUANTITIES
from services.simulators.models.battery import SimulatedBattery, cell_voltage, sunlight
from services.simulators.models.boiler import AUGER_KG_H, SimulatedBoiler
from services.simulators.models.chance import DAY
from services.simulators.models.curve import SHAPES, curve
from services.simulators.models.meter import electricity, heat, water


def run(boiler, hours, step=10.0):
    return [(boiler.phase, boiler.step(step)) for _ in range(int(hours * 3600 / step))]


def test_a_boiler_goes_through_its_phases_in_order():
    boiler = SimulatedBoiler(seed=1)
    seen = []
    for _ in range(800):
        if not seen or seen[-1] != boiler.phase:
            seen.append(boiler.phase)
        boiler.step(10)
    assert seen[:7] == ["off", "prepurge", "ignition", "combustion", "burnout", "keep_fire", "combustion"]


def test_a_burning_flue_is_hotter_than_the_water_and_an_idle_one_cooler():
    samples = run(SimulatedBoiler(seed=2), 12)
    burning = [s.flue - s.water for phase, s in samples if phase == "combustion"]
    assert 25 < max(burning) < 75
    assert -11 < min(s.flue - s.water for _, s in samples) < -7
    assert all(45 < s.water < 80 for _, s in samples)
    assert all(s.return_ < s.water for _, s in samples[60:])


def test_motors_draw_what_was_measured():
    samples = run(SimulatedBoiler(seed=3), 4, step=2.0)
    lighting = [s.igniter for phase, s in samples if phase == "ignition"]
    assert 3.5 < max(lighting) < 4.0
    burning = [s.auger > 0.2 for phase, s in samples if phase == "combustion"]
    assert 0.33 < sum(burning) / len(burning) < 0.42  # 12 s in 32 s
    assert max(s.auger for _, s in samples) < 0.6


def test_what_the_auger_moved_is_what_the_silo_lost():
    boiler = SimulatedBoiler(seed=4)
    before = boiler.silo_kg
    on = sum(10.0 for _, s in run(boiler, 6) if s.auger > 0.2)
    assert boiler.burned_kg == pytest.approx(before - boiler.silo_kg)
    assert boiler.burned_kg == pytest.approx(on / 3600 * AUGER_KG_H, rel=0.1)


def test_without_its_igniter_the_boiler_locks_out_and_cools():
    boiler = SimulatedBoiler(seed=5)
    boiler.igniter_works = False
    samples = run(boiler, 6)
    assert not boiler.enabled
    assert samples[-1][1].water < 45
    boiler.igniter_works = boiler.enabled = True
    run(boiler, 2)
    assert boiler.phase in ("combustion", "burnout", "keep_fire")


def test_an_empty_silo_ends_the_fire():
    boiler = SimulatedBoiler(seed=6)
    run(boiler, 1)
    boiler.silo_kg = 0.0
    run(boiler, 5)
    assert not boiler.enabled
    assert boiler.phase == "off"


def test_the_same_seed_gives_the_same_house_and_another_does_not():
    assert run(SimulatedBoiler(seed=7), 1) == run(SimulatedBoiler(seed=7), 1)
    assert run(SimulatedBoiler(seed=7), 1) != run(SimulatedBoiler(seed=8), 1)


def test_speed_lets_a_burn_pass_within_a_minute():
    boiler = SimulatedBoiler(seed=9, speed=120)
    phases = set()
    for _ in range(60):
        boiler.step(1)
        phases.add(boiler.phase)
    assert {"ignition", "combustion", "burnout", "keep_fire"} <= phases
    assert boiler.time == pytest.approx(7200)


def test_a_battery_charges_by_day_and_discharges_by_night():
    battery = SimulatedBattery(seed=1, time=0.0, soc=0.5)
    samples = [battery.step(300) for _ in range(288)]
    assert min(s.current for s in samples[:60]) < 0 < max(s.current for s in samples[120:170])
    assert all(len(s.cells) == 8 for s in samples)
    assert all(s.voltage == pytest.approx(sum(s.cells), abs=0.01) for s in samples)
    assert all(0 <= s.soc <= 100 for s in samples)
    assert all(a.throughput <= b.throughput for a, b in itertools.pairwise(samples))


def test_a_full_battery_takes_no_more_and_an_empty_one_gives_none():
    battery = SimulatedBattery(seed=2, time=12 * 3600, soc=1.0)
    assert battery.step(60).current < 1
    empty = SimulatedBattery(seed=2, time=0.0, soc=0.0)
    assert empty.step(600).soc == 0.0


def test_the_discharge_curve_of_lithium_iron_phosphate_is_flat_and_rises():
    voltages = [cell_voltage(n / 100) for n in range(101)]
    assert voltages == sorted(voltages)
    assert cell_voltage(0.8) - cell_voltage(0.2) < 0.1
    assert cell_voltage(-1) == voltages[0]
    assert cell_voltage(2) == voltages[-1]


def test_there_is_no_sun_at_night():
    assert sunlight(0) == sunlight(23 * 3600) == 0
    assert sunlight(13 * 3600) == pytest.approx(1)


@pytest.mark.parametrize("make", [electricity, water, heat])
def test_a_meter_only_grows_and_its_rate_is_its_growth(make):
    meter = make(seed=3)
    last = meter.step(0)
    for _ in range(2000):
        sample = meter.step(10)
        assert sample.total >= last.total
        assert sample.total - last.total == pytest.approx(sample.rate * 10 / 3600, abs=0.0011)
        last = sample


def test_a_house_that_sleeps_draws_less_water_than_one_that_is_awake():
    meter = water(seed=4)
    totals = [meter.step(3600).total for _ in range(24 * 20)]
    hours = [b - a for a, b in itertools.pairwise(totals)]
    night = sum(h for n, h in enumerate(hours, 1) if n % 24 < 5)
    day = sum(h for n, h in enumerate(hours, 1) if 7 <= n % 24 < 12)
    assert night < day / 2


@pytest.mark.parametrize("quantity", QUANTITIES)
def test_every_quantity_has_a_curve_within_its_range(quantity):
    row = QUANTITIES[quantity]
    values = [curve(quantity, 5, ("idle", "busy", "done"))(n * 300.0) for n in range(int(3 * DAY / 300))]
    if row.kind == "switch":
        assert set(values) == {True, False}
    elif row.kind == "state":
        assert set(values) <= {"idle", "busy", "done"}
        assert len(set(values)) > 1
    elif row.kind == "text":
        assert all(isinstance(v, str) for v in values)
    else:
        assert all(row.low is None or v >= row.low for v in values)
        assert all(row.high is None or v <= row.high for v in values)
        assert len(set(values)) > 1
        if row.kind == "counter":
            assert values == sorted(values)


def test_the_curves_are_those_of_the_table_of_quantities():
    assert set(SHAPES) == {w for w, q in QUANTITIES.items() if q.kind in ("gauge", "counter")}


def test_a_curve_is_a_function_of_seed_and_time_alone():
    assert curve("co2", 1)(5000.0) == curve("co2", 1)(5000.0)
    assert curve("co2", 1)(5000.0) != curve("co2", 2)(5000.0)
    with pytest.raises(KeyError):
        curve("phlogiston")
