"""The first boiler's own recording, with all its faults, must give right phases and tell of what was real.

In it: a lighting that fails at 20:33, the boiler out until the next morning, a burn from 07:40 to 10:15, dead sensors,
values of -1 and 85, garbage of a serial line, gaps of hours, and a clock that steps back by minutes four times.
"""

import csv
import json
from collections import Counter
from datetime import datetime
from itertools import pairwise
from pathlib import Path

import pytest

from services.boiler import PhaseDetector, Rules, replay, replay_legacy
from services.boiler.legacy import Legacy, LegacyRules

RECORDING = Path(__file__).parents[2] / "shared" / "vectors" / "boiler_open.csv"
pytestmark = [
    pytest.mark.long,
    pytest.mark.skipif(
        not RECORDING.exists(),
        reason=f"the recording of the first boiler is not part of the project, {RECORDING} is not here",
    ),
]

COLUMNS = {"temp0": "water", "temp1": "flue", "temp2": "return", "watt1": "auger", "watt2": "fan"}
TOPICS = {f"home/data/boiler/{role}/value": role for role in COLUMNS.values()}
TEMPERATURES = {"water", "flue", "return"}
RULES = Rules()
HOUR = 3_600_000


def ms(text):
    return round(datetime.fromisoformat(text + "+00:00").timestamp() * 1000)


@pytest.fixture(scope="module")
def recorded():
    with RECORDING.open() as file:
        return [
            (role, float(row[column]), ms(row["timestamp"]))
            for row in csv.DictReader(file)
            for column, role in COLUMNS.items()
        ]


def as_lines(found):
    for role, value, now in found:
        moment = datetime.fromtimestamp(now / 1000).astimezone().isoformat(timespec="milliseconds")
        yield f'{{"topic":"home/data/boiler/{role}/value","value":{value},"unit":"","time":"{moment}"}}'


def run(found, roles=None, **options):
    """Replay; (name, value, time) of all outputs."""
    topics = {topic: role for topic, role in TOPICS.items() if roles is None or role in roles}
    said = []
    for text in replay(as_lines(found), topics, RULES, **options):
        topic, payload = text.split(" ", 1)
        decoded = json.loads(payload)
        said.append((topic.rpartition("/")[2], decoded["value"], ms(decoded["time"][:-1])))
    return said


def phases(said):
    return [(now, value) for name, value, now in said if name == "phase"]


def faults(said):
    """Faults that began and ended; that each is not, is told once before."""
    return [(name, value) for name, value, _ in changed(said)]


def changed(said):
    known = set()
    for name, value, now in said:
        if name.endswith("_fault"):
            if value or name in known:
                yield name, value, now
            known.add(name)


def at(said, text):
    moment = ms(text)
    return [value for now, value in phases(said) if now <= moment][-1]


@pytest.fixture(scope="module")
def said(recorded):
    return run(recorded)


def check_phases(said):
    for text, expected in (
        ("2018-04-24T20:31:00", {"off"}),
        ("2018-04-24T20:45:00", {"ignition"}),
        ("2018-04-24T21:30:00", {"off"}),
        ("2018-04-25T03:00:00", {"off"}),
        ("2018-04-25T07:35:00", {"off"}),
        ("2018-04-25T07:50:00", {"combustion"}),
        ("2018-04-25T09:00:00", {"combustion"}),
        ("2018-04-25T09:45:00", {"combustion"}),
        ("2018-04-25T10:10:00", {"combustion"}),
        ("2018-04-25T10:25:00", {"burnout"}),
        ("2018-04-25T11:00:00", {"keep_fire"}),
        ("2018-04-25T13:00:00", {"keep_fire"}),
        ("2018-04-25T16:00:00", {"unknown"}),
        ("2018-04-25T20:00:00", {"unknown"}),
        ("2018-04-25T21:50:00", {"off"}),
        ("2018-04-25T22:50:00", {"off"}),
    ):
        assert at(said, text) in expected, text
    assert Counter(value for _, value in phases(said))["combustion"] == 1
    assert Counter(value for _, value in phases(said))["ignition"] == 2


def check_outage(said):
    assert faults(said) == [("ignition_failed_fault", True), ("ignition_failed_fault", False)]
    told, resolved = (now for name, _, now in changed(said) if name == "ignition_failed_fault")
    assert ms("2018-04-24T20:45:00") < told < ms("2018-04-24T21:00:00")
    assert ms("2018-04-25T07:40:00") < resolved < ms("2018-04-25T07:50:00")


def test_the_phases_are_those_that_the_curves_show(said):
    check_phases(said)


def test_no_phase_is_shorter_than_its_dwell_but_at_the_edges_of_unknown(said):
    for (begin, phase), (end, following) in pairwise(phases(said)):
        assert end > begin
        if phase != "unknown" and following != "unknown":
            assert end - begin >= getattr(RULES.dwell, phase) * 1000


def test_the_outage_is_told_once_and_resolved_once_and_nothing_else_is(said):
    check_outage(said)


def test_it_is_told_hours_before_the_first_system_did(recorded, said):
    legacy = list(replay_legacy(as_lines(recorded), TOPICS))
    first = next(json.loads(text.split(" ", 1)[1])["time"] for text in legacy if "fault" in text)
    told = next(now for name, _, now in changed(said) if name == "ignition_failed_fault")
    assert first == "2018-04-25T00:17:00.000Z"
    assert ms(first[:-1]) - told > 3 * HOUR


def test_values_of_minus_one_may_as_well_not_be_there(recorded, said):
    dropped = run([reading for reading in recorded if reading[1] != -1.0])
    assert [value for _, value in phases(dropped)] == [value for _, value in phases(said)]
    assert all(abs(a - b) < 10_000 for (a, _), (b, _) in zip(phases(dropped), phases(said), strict=True))
    check_outage(dropped)


@pytest.mark.parametrize(
    "missing",
    [{"auger"}, {"fan"}, {"auger", "fan"}, {"return"}, {"return", "auger", "fan"}],
    ids=lambda names: "_".join(sorted(names)),
)
def test_phases_are_right_with_each_clamp_missing(recorded, missing):
    said = run(recorded, set(COLUMNS.values()) - missing)
    check_phases(said)
    check_outage(said)


def test_the_flue_alone_finds_the_burn(recorded):
    said = run(recorded, {"flue"})
    assert at(said, "2018-04-25T09:00:00") == "combustion"
    assert at(said, "2018-04-25T03:00:00") == "off"
    assert faults(said) == [("ignition_failed_fault", True), ("ignition_failed_fault", False)]


@pytest.mark.parametrize("late", sorted(COLUMNS.values()))
def test_one_input_replayed_an_hour_late_changes_nothing(recorded, said, late):
    delivered = [r for _, r in sorted(enumerate(recorded), key=lambda item: item[0] + 7000 * (item[1][0] == late))]
    assert delivered != recorded
    again = run(delivered)
    assert phases(again) == phases(said)
    check_outage(again)


@pytest.mark.parametrize("late", ["auger", "fan", "return"])
def test_live_an_input_that_is_an_hour_late_makes_no_false_phase(recorded, late):
    machine = PhaseDetector(RULES, set(COLUMNS.values()))
    ordered = sorted(recorded, key=lambda reading: reading[2] + (HOUR if reading[0] == late else 0))
    events = [event for reading in ordered for event in machine.feed(*reading)]
    said = [(event.name, event.value, event.time) for event in events]
    check_phases(said)
    check_outage(said)


def test_in_the_order_of_the_file_clock_jumps_make_no_fire_and_no_fault(recorded):
    machine = PhaseDetector(RULES, set(COLUMNS.values()))
    events = [event for reading in recorded for event in machine.feed(*reading)]
    said = [(event.name, event.value, event.time) for event in events]
    assert all(a[0] <= b[0] for a, b in pairwise(phases(said)))
    check_phases(said)
    check_outage(said)


def test_noise_and_offsets_of_the_clamps_are_no_motor(recorded, said):
    assert "prepurge" not in {value for _, value in phases(said)}
    durations = [value for name, value, _ in said if name == "auger_duration"]
    assert all(value < 10 for value in durations)
    machine = PhaseDetector(RULES, TEMPERATURES | {"auger", "fan"})
    for reading in recorded:
        machine.feed(*reading)
        assert not machine.state.motors["fan"].running


def test_a_restart_anywhere_changes_nothing(recorded):
    roles = set(COLUMNS.values())
    ordered = sorted(recorded, key=lambda reading: reading[2])
    machine = PhaseDetector(RULES, roles)
    whole = [event for reading in ordered for event in machine.feed(*reading)]
    restarted = PhaseDetector(RULES, roles)
    events = []
    for n, reading in enumerate(ordered):
        if n % 9973 == 0:
            restarted = PhaseDetector.restore(RULES, roles, restarted.snapshot())
        events += restarted.feed(*reading)
    assert events == whole
    assert restarted.state == machine.state


def test_legacy_gives_the_phases_of_the_first_system_minute_by_minute(recorded):
    legacy = Legacy(LegacyRules(late_minutes=None))
    for reading in recorded:
        legacy.feed(*reading)
    judged = legacy.close()
    assert Counter(minute.phase for minute in judged) == {
        "combustion": 150,
        "undefined": 347,
        "maintien": 281,
        "risque_bourage": 87,
        "arret": 794,
    }
    assert sum(minute.change for minute in judged) == 36
    assert [minute.time for minute in judged if minute.alert] == [
        ms("2018-04-25T00:17:00"),
        ms("2018-04-25T13:30:00"),
        ms("2018-04-25T18:59:00"),
    ]
    # the same rules, said once more on rows
    expected = by_rows(recorded)
    assert {minute.time: minute.phase for minute in judged} == expected


def by_rows(recorded):
    """State the first system's rules again, on whole rows and without an igniter."""
    rows = {}
    for n in range(0, len(recorded), len(COLUMNS)):
        row = {role: value for role, value, _ in recorded[n : n + len(COLUMNS)]}
        rows.setdefault(recorded[n][2] // 60_000, []).append(row)
    first, last = min(rows), max(rows)
    water = {m: sum(r["water"] for r in rows[m]) / len(rows[m]) for m in rows}

    def rise(minute, back):
        begin = max(first, minute - back)
        return None if begin not in water else water[minute] - water[begin]

    expected = {}
    for minute in range(first, last + 1):
        if minute not in rows:
            phase = "undefined"
        else:
            blowing = any(8 <= r["fan"] < 1000 for r in rows[minute])
            phase = "combustion" if blowing else "maintien"
            if water[minute] < 56:
                phase = "combustion" if blowing else "arret"
                if blowing and (rise(minute, 10) or 0) > 0.2:
                    phase = "surveillance"
                change = rise(minute, 30)
                if blowing and change is not None and change < 1:
                    phase = "risque_bourage"
        expected[minute * 60_000] = phase
    return expected


def test_the_shipped_house_tells_the_outage_once_and_its_end_once(recorded, tmp_path, capsys):
    from harness import PROJECT

    from bootstrap_lib.cli import main

    lines = []
    for role, value, now in recorded:
        if role in TEMPERATURES:
            moment = datetime.fromtimestamp(now / 1000).astimezone().isoformat(timespec="milliseconds")
            lines.append(
                json.dumps({"topic": f"boiler/{role}/temperature", "value": value, "unit": "°C", "time": moment})
            )
    file = tmp_path / "recording.jsonl"
    file.write_text("\n".join(lines) + "\n")
    assert main(["--config", str(PROJECT / "topics.yaml"), "replay", "alerts", str(file)]) == 0
    told = [line.split(" ", 1) for line in capsys.readouterr().out.splitlines()]
    about_fire = [(topic, json.loads(payload)) for topic, payload in told if topic.endswith(("no_fire", "fire_out"))]
    assert [(topic, body["state"], body["since"][:16]) for topic, body in about_fire] == [
        ("home/alert/no_fire", "firing", "2018-04-24T20:51"),
        ("home/alert/no_fire", "ok", "2018-04-25T07:43"),
    ]
    silent = Counter(topic.rpartition("silent_")[2] for topic, _ in told if "sensor_silent" in topic)
    assert set(silent) == {f"boiler_{role}_temperature" for role in TEMPERATURES}, (
        "the sensors that died, and nothing else"
    )
