"""Rules that are proposed from stored readings must fit the boiler, and be left alone where they do already."""

import sqlite3
from contextlib import closing

import msgspec
import pytest
import yaml
from harness import PROJECT, Ear, House, wait_for
from test_phase import ALL, RULES, START, readings
from test_phase_service import history, publish, stored, topic_of, topics
from test_rrd import has, pixels

from bootstrap_lib.cli import main
from bootstrap_lib.reading import format_time
from services.boiler import Rules
from services.boiler.calibrate import Proposal, as_yaml, find, propose, two_levels, with_proposals
from services.stores import graph


@pytest.fixture(scope="module")
def day():
    found, _ = readings(12, step=20)
    return [(time, role, value) for role, value, time in found]


def test_rules_that_fit_are_left_alone(day):
    assert propose(day, ALL, RULES) == []


def test_clamps_in_another_unit_get_limits_with_which_phases_are_right(day):
    other = [
        (time, role, 9.0 + 40.0 * value if role in ("fan", "auger", "igniter") else value) for time, role, value in day
    ]
    rules = with_proposals(RULES, propose(other, ALL, RULES))
    assert {role for role in ("fan", "auger") if getattr(rules, role).on > 20 * getattr(RULES, role).on} == {
        "fan",
        "auger",
    }
    for role in ("fan", "auger", "igniter"):
        assert getattr(rules, role).off < getattr(rules, role).on
    right, *_ = find(day, ALL, RULES)
    found, *_ = find(other, ALL, rules)
    assert found.cycles == right.cycles
    assert found.share("combustion") == pytest.approx(right.share("combustion"), abs=0.05)
    assert found.faults == {}


def test_a_condensing_boiler_gets_a_lower_limit_of_its_fire(day):
    cool = []
    water = 60.0
    for time, role, value in day:
        water = value if role == "water" else water
        cool.append((time, role, water + 0.3 * (value - water) if role == "flue" else value))
    found = {proposal.rule: proposal.better for proposal in propose(cool, ALL, RULES)}
    assert found["hot_off"] < found["hot_on"] < RULES.hot_on
    before, *_ = find(cool, ALL - {"fan", "auger", "igniter"}, RULES)
    after, *_ = find(cool, ALL - {"fan", "auger", "igniter"}, with_proposals(RULES, propose(cool, ALL, RULES)))
    assert after.cycles >= before.cycles


def test_too_little_says_nothing():
    assert propose([], ALL, RULES) == []
    assert two_levels([1.0] * 10_000) is None
    assert two_levels([1.0, 5.0] * 10) is None
    lower, deviation, upper = two_levels([1.0] * 900 + [5.0] * 100)
    assert (lower, deviation, upper) == (1.0, 0.0, 5.0)


def test_proposals_are_what_topics_yaml_takes():
    rules = msgspec.structs.replace(RULES, hot_on=60.0)
    day_ = [
        (START + n * 20_000, role, 60.0 + (40.0 if n % 400 > 200 else -9.0) * (role == "flue"))
        for n in range(4000)
        for role in ("water", "flue")
    ]
    proposals = propose(day_, frozenset({"water", "flue"}), rules)
    text = as_yaml(rules, proposals)
    assert text.startswith("rules: {hot_on: ")
    clamps = [Proposal("fan.on", 0.06, 3.5, "it draws more")]
    written = yaml.load(as_yaml(RULES, clamps), yaml.BaseLoader)["rules"]
    assert msgspec.convert(written, Rules, strict=False).fan == msgspec.structs.replace(RULES.fan, on=3.5)
    assert isinstance(with_proposals(rules, proposals), Rules)


def test_a_file_of_one_input_after_the_other_is_read_as_any(tmp_path, capsys):
    given = [(topic, START + n * 60_000) for topic in ("water", "flue") for n in range(240)]
    lines = [
        {"topic": f"boiler/{role}/temperature", "value": 60.0, "unit": "°C", "time": format_time(at)}
        for role, at in given
    ]
    file = tmp_path / "grouped.jsonl"
    file.write_bytes(b"\n".join(map(msgspec.json.encode, lines)))
    assert main(["--config", str(PROJECT / "topics.yaml"), "phase", "calibrate", str(file)]) == 0
    assert capsys.readouterr().out.splitlines() == [
        "boiler: 480 readings of 4 hours",
        "its rules fit: nothing is proposed",
    ]


@pytest.mark.whole
def test_the_command_reads_the_archive_says_what_changes_and_draws_it(
    house: House, ear: Ear, capsys: pytest.CaptureFixture[str], tmp_path, monkeypatch
) -> None:
    house.write(topics(hot_on=60.0))
    rows = history(3)
    house.start("archive")
    ear.wait("home/service/archive/health")
    publish(house, rows)
    wait_for(lambda: stored(house, topic_of("auger")) == len(rows) // 6, what="readings in the archive")
    house.stop("archive")
    monkeypatch.setenv("STATE_DIRECTORY", str(house.state("archive")))
    picture = tmp_path / "rules.png"
    assert main(["--config", str(house.config), "phase", "calibrate", "--since", "1d", "--picture", str(picture)]) == 0
    said = capsys.readouterr().out
    assert "hot_on: 60 ->" in said
    assert "what it changes:   cycles " in said
    assert "rules: {hot_on:" in said
    assert has(pixels(picture.read_bytes())[2], graph.BANDS[4], 0.6), "combustion, by the proposed rules"
    assert main(["--config", str(house.config), "replay", "phase", "--since", format_time(rows[0][0])]) == 0
    assert "home/data/boiler/burner/phase" in capsys.readouterr().out
    with closing(sqlite3.connect(house.state("archive") / "archive.sqlite")) as database, database:
        assert database.execute("SELECT count(*) FROM readings").fetchone()[0] >= len(rows)
    database.close()
