"""What owners ask for: fuel, hours and starts that only grow, ash, reminders, degree days, and days left by the season."""

from datetime import UTC, datetime

import msgspec
import pytest
from test_phase_cases import DAY, HOUR, RULES, START, Plant

from services.boiler.boiler import Boiler, BoilerButtons, BoilerEntry, BoilerInputs
from services.boiler.records import FuelDay
from services.boiler.season import days_left, weight

ROLES = {"water", "flue", "fan", "auger"}


def ms(year, month, day):
    return int(datetime(year, month, day, tzinfo=UTC).timestamp() * 1000)


def test_fuel_energy_hours_and_starts_only_grow_and_are_right():
    plant = Plant(ROLES)
    for _ in range(3):
        plant.burn().run(3600)
    for name in ("fuel_consumption", "fuel_energy", "burner_hours", "starts"):
        values = plant.values(name)
        assert values == sorted(values)
    fuel = plant.values("fuel_consumption")[-1]
    assert fuel == pytest.approx(sum(plant.values("cycle_mass")), abs=0.1)
    assert plant.values("fuel_energy")[-1] == pytest.approx(fuel * RULES.heating_value, abs=0.05)
    assert plant.values("starts")[-1] == 3
    assert plant.values("burner_hours")[-1] == pytest.approx(3 * 65 / 60, abs=0.3)
    assert plant.values("ash_mass")[-1] == pytest.approx(fuel * 0.005, abs=0.02)


def test_another_rate_does_not_change_what_was_burned():
    plant = Plant(ROLES).burn().run(3600)
    before = plant.values("fuel_consumption")[-1]
    again = Plant(ROLES, msgspec.structs.replace(RULES, auger_rate=1.0))
    again.detector = type(plant.detector).restore(again.detector.rules, ROLES, plant.detector.snapshot())
    again.now, again.flue, again.water = plant.now, plant.flue, plant.water
    again.burn().run(3600)
    after = again.values("fuel_consumption")[-1]
    assert after - before == pytest.approx(again.values("cycle_mass")[-1], abs=0.05)
    assert after - before < 0.2 * before


def test_reminders_come_when_due_and_begin_anew_with_a_reset():
    rules = msgspec.structs.replace(RULES, ash_kg=0.02, cleaning_hours=2.0, service_days=0.2)
    plant = Plant(ROLES, rules)
    for _ in range(3):
        plant.burn().run(3600)
    for chore in ("ash", "cleaning", "service"):
        assert plant.values(f"{chore}_warning") == [False, True], chore
        told = {event.name: event.value for event in plant.detector.reset(chore, plant.now)}
        assert told[f"{chore}_warning"] is False
    plant.run(1800)
    assert not [e for e in Plant(ROLES).burn().run(3600).events if e.name.endswith("_warning")], (
        "only who asks is reminded"
    )


def test_a_button_says_that_it_was_done():
    buttons = BoilerButtons(ash="a/ash/done_active")
    inputs = BoilerInputs(water="a/b/temperature", flue="a/c/temperature", auger="a/d/current")
    rules = msgspec.structs.replace(RULES, ash_kg=1.0)
    boiler = Boiler(BoilerEntry(inputs=inputs, thing="boiler/burner", rules=rules, buttons=buttons), "UTC")
    for n in range(60):
        boiler.feed("a/b/temperature", 60.0, START + n * 10_000)
    burned = boiler.memory.modern.upkeep.get("ash")
    boiler.feed("a/ash/done_active", False, START + HOUR)
    assert boiler.memory.modern.upkeep.get("ash") == burned, "a button that stands is no press"
    boiler.feed("a/ash/done_active", True, START + HOUR + 1000)
    assert boiler.memory.modern.upkeep["ash"].time == START + HOUR + 1000
    boiler.feed("a/ash/done_active", True, START + 2 * HOUR)
    assert boiler.memory.modern.upkeep["ash"].time == START + HOUR + 1000, "pressed once"


def test_bags_and_levels_fill_the_silo():
    plant = Plant(ROLES).burn()
    assert [e.name for e in plant.detector.fill_bags(3, plant.now)] == ["bags_count"], "nobody knows what was there"
    plant.detector.refill(100.0, plant.now)
    told = {e.name: e.value for e in plant.detector.fill_bags(2, plant.now)}
    assert told["silo_mass"] == 130.0
    assert told["bags_count"] == 5
    boiler = Boiler(
        BoilerEntry(
            inputs=BoilerInputs(water="a/b/temperature", auger="a/d/current"),
            thing="boiler/burner",
            rules=msgspec.structs.replace(RULES, silo_kg=2000.0),
        ),
        "UTC",
    )
    boiler.feed("a/b/temperature", 60.0, START)
    assert {e.name: e.value for e in boiler.refill(level=60)}["silo_mass"] == 1200.0


def test_degree_days_and_fuel_per_degree_day():
    plant = Plant(ROLES)
    for hour in range(24 * 2):
        plant.detector.feed("outdoor", 4.0 if hour % 24 < 12 else 8.0, START + hour * HOUR)
        plant.now = max(plant.now, START + hour * HOUR)
        if hour % 6 == 0:
            plant.burn().run(3600)
        while plant.now < START + (hour + 1) * HOUR:
            plant.run(600)
    assert plant.values("day_degreedays")[0] == pytest.approx(12.0, abs=0.3)
    assert plant.values("day_intensity")[0] == pytest.approx(plant.values("day_mass")[0] / 12, rel=0.05)
    assert Plant(ROLES).run(DAY // 1000 + 3600).values("day_degreedays") == [], "not measured, not told"


def test_days_left_follow_the_season_and_not_a_flat_mean():
    autumn = [FuelDay(ms(2026, 10, day), 10.0) for day in range(1, 15)]
    spring = [FuelDay(ms(2026, 4, day), 10.0) for day in range(1, 15)]
    flat = 600 / 10
    assert days_left(600, autumn, ms(2026, 10, 15), 14) < 0.85 * flat
    assert days_left(600, spring, ms(2026, 4, 15), 14) > 1.3 * flat
    assert days_left(600, [], ms(2026, 4, 15), 14) is None
    assert days_left(600, autumn, ms(2027, 6, 1), 14) is None, "days of long ago say nothing"
    assert weight(ms(2026, 1, 15)) == 10.0
    assert weight(ms(2026, 7, 30)) < 1.3


def test_a_cold_spell_shortens_what_is_left():
    def days(last):
        colds = [8.0, 10.0, 12.0, 9.0, 11.0, 10.0, 8.0, *[last] * 3]
        return [FuelDay(ms(2026, 1, n + 1), 2.0 + 1.5 * cold, cold) for n, cold in enumerate(colds)]

    mild, cold = (days_left(150, days(last), ms(2026, 1, 11), 14) for last in (6.0, 18.0))
    assert cold < 0.75 * mild
