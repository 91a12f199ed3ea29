"""The phase service as a process: what it tells must be what its machine says, through kills, restarts and late truth."""

import json
import sqlite3
import time
from collections.abc import Iterable
from contextlib import closing
from pathlib import Path
from types import SimpleNamespace

import msgspec
import paho.mqtt.client as mqtt
import pytest
from harness import Broker, Ear, House, wait_for

from bootstrap_lib.cli import main
from bootstrap_lib.commands.check import problems_of
from bootstrap_lib.document import DocumentError
from bootstrap_lib.reading import Reading, encode, format_time, parse_time
from bootstrap_lib.registry import Registry
from services.boiler.boiler import Boiler, BoilerEntry
from services.phase import Phase
from services.simulators.models.boiler import AUGER_KG_H, SimulatedBoiler

ROLES = ("water", "flue", "return", "igniter", "fan", "auger")
Row = tuple[int, str, float]

TOPICS = """
sources: {{onewire: {{}}, adc: {{}}}}
subscribers:
  archive: {{every: 200ms, commit: 100ms}}
  phase: {{stale: 3s, every: 100ms, settle: {settle}}}
topics:
  boiler/{{water,flue,return}}/temperature: {{from: onewire}}
  boiler/{{igniter,fan,auger}}/current: {{from: adc}}
  boiler/burner/phase: {{from: phase, states: [unknown, off, prepurge, ignition, combustion, burnout, keep_fire]}}
  boiler/burner/{{cycles,ignition_failed_fault,cycle_duration,auger_duration,cycle_mass,silo_mass}}: {{from: phase}}
  cellar/old/phase:
    {{from: phase, states: [undefined, combustion, allumage, maintien, arret, risque_bourage, surveillance]}}
phases:
  new:
    thing: boiler/burner
    inputs: &inputs
      water: boiler/water/temperature
      flue: boiler/flue/temperature
      return: boiler/return/temperature
      igniter: boiler/igniter/current
      fan: boiler/fan/current
      auger: boiler/auger/current
    rules: {{auger_rate: {rate}, hot_on: {hot_on}, dwell: {{unknown: {dwell}}}, stale_s: {stale}}}
  old:
    thing: cellar/old
    profile: legacy
    inputs: {{water: boiler/water/temperature, fan: boiler/fan/current, igniter: boiler/igniter/current}}
    legacy: {{sampled_together: false, igniter_on: 1, fan_on: 0.06}}
"""


def topics(hot_on: float = 10.0, dwell: float = 60.0, stale: float = 300.0, settle: str = "1s") -> str:
    return TOPICS.format(rate=AUGER_KG_H, hot_on=hot_on, dwell=dwell, stale=stale, settle=settle)


def topic_of(role: str) -> str:
    return f"boiler/{role}/{'current' if role in ROLES[3:] else 'temperature'}"


def history(hours: float) -> list[Row]:
    """Simulate readings of all inputs each ten seconds, up to a minute that is over."""
    boiler = SimulatedBoiler(1)
    count = int(hours * 360)
    end = time.time_ns() // 1_000_000 - 90_000
    rows = []
    for n in range(count):
        sample = boiler.step(10)
        now = end - (count - 1 - n) * 10_000
        rows += [(now, topic_of(r), getattr(sample, "return_" if r == "return" else r)) for r in ROLES]
    return rows


def publish(house: House, rows: Iterable[Row]) -> None:
    """Say readings as their sources would."""
    client = mqtt.Client(mqtt.CallbackAPIVersion.VERSION2, protocol=mqtt.MQTTv5)
    client.max_inflight_messages_set(500)
    client.connect("127.0.0.1", house.port)
    client.loop_start()
    for moment, name, value in rows:
        unit = "A" if name.endswith("current") else "°C"
        last = client.publish(f"home/data/{name}", encode(Reading(name, value, unit, moment)), 1, True)
    last.wait_for_publish(10)
    client.disconnect()
    client.loop_stop()


def oracle(house: House, rows: list[Row]) -> dict[tuple[str, int], object]:
    """All that the machines say of readings in order, by topic and time."""
    registry = Registry(house.config)
    told: dict[tuple[str, int], object] = {}
    for entry in registry.entries("phases", BoilerEntry).values():
        boiler = Boiler(entry, "UTC")
        events = [
            event
            for moment, name, value in sorted(rows)
            if name in boiler.roles
            for event in boiler.feed(name, value, moment)
        ]
        for event in events + boiler.advance(rows[-1][0] + 60_000):
            if topic := registry.topics.get(f"{entry.thing}/{event.name}"):
                told[topic.name, event.time] = topic.proper(event.value)
    return told


def heard(ear: Ear, last: int) -> dict[tuple[str, int], object]:
    """All that the service has told of the time up to the last reading, but for what it only said again."""
    found: dict[tuple[str, int], object] = {}
    before: dict[str, object] = {}
    for topic, payload, retained in list(ear.heard):
        name = topic.removeprefix("home/data/")
        if name.startswith(("boiler/burner/", "cellar/old/")) and payload and not retained:
            said = json.loads(payload)
            moment = parse_time(said["time"])
            if moment <= last and (name, moment) not in found and (name, said["value"]) != (name, before.get(name)):
                found[name, moment] = said["value"]
            before[name] = said["value"]
    return found


def changes(told: dict[tuple[str, int], object], last: int) -> dict[tuple[str, int], object]:
    """Leave out what was told again with the same value."""
    found: dict[tuple[str, int], object] = {}
    before: dict[str, object] = {}
    for (name, moment), value in sorted(told.items(), key=lambda item: item[0][1]):
        if moment <= last and before.get(name) != value:
            found[name, moment] = value
        before[name] = value
    return found


def subscribe(house: House, ear: Ear) -> None:
    """Let the broker know the service's session, so that it keeps what comes."""
    house.start("phase")
    ear.wait("home/service/phase/status", lambda status: status == "online")
    house.stop("phase")


def wait_until_judged(ear: Ear, last: int) -> None:
    """Wait until the service has caught up with the clock."""
    ear.wait("home/data/boiler/burner/phase", lambda said: parse_time(said["time"]) > last, 60)


@pytest.fixture
def fired(house: House) -> House:
    house.write(topics())
    return house


def test_two_boilers_tell_what_their_machines_say_and_a_kill_in_mid_cycle_changes_nothing(
    fired: House, ear: Ear
) -> None:
    rows = history(4.5)
    last = rows[-1][0]
    expected = changes(oracle(fired, rows), last)
    phases = [value for (name, _), value in expected.items() if name == "boiler/burner/phase"]
    assert {"ignition", "combustion", "burnout", "keep_fire"} <= set(phases)
    assert any(name == "cellar/old/phase" for name, _ in expected)
    fired.write(topics(settle="1m"))
    subscribe(fired, ear)
    publish(fired, rows[:6500])
    fired.start("phase")
    ear.wait("home/data/boiler/burner/phase", lambda said: said["value"] != "unknown")
    fired.kill("phase")
    publish(fired, rows[6500:9000])
    fired.start("phase")
    fired.stop("phase")
    publish(fired, rows[9000:])
    fired.write(topics())
    fired.start("phase")
    wait_until_judged(ear, last)
    assert heard(ear, last) == expected


def test_what_a_broker_without_memory_has_lost_comes_from_the_archive(fired: House, ear: Ear, broker: Broker) -> None:
    rows = history(2.75)
    kept = fired.state("phase") / "phase.json"
    last = rows[-1][0]
    fired.start("archive")
    fired.write(topics(settle="1m"))
    subscribe(fired, ear)
    publish(fired, rows[:5200])
    fired.start("phase")
    wait_for(lambda: '"phase":"combustion"' in kept.read_text(), timeout=120, what="a state in mid-cycle on disk")
    fired.kill("phase")
    fired.write(topics())
    publish(fired, rows[5200:])
    wait_for(lambda: stored(fired, topic_of("auger")) == len(rows) // 6, what="readings in the archive")
    broker.kill()
    broker.start()
    wait_for(ear._client.is_connected, what="the test's own connection")
    fired.start("phase")
    wait_until_judged(ear, last)
    assert heard(ear, last) == changes(oracle(fired, rows), last)


def stored(house: House, name: str) -> int:
    return len(archive(house, name))


def archive(house: House, name: str) -> list[tuple[int, str | float]]:
    query = """SELECT time, coalesce(word, value) FROM readings JOIN topics ON topics.id = readings.topic
               WHERE name = ? ORDER BY time"""
    with closing(sqlite3.connect(house.state("archive") / "archive.sqlite")) as database:
        try:
            return database.execute(query, (name,)).fetchall()
        except sqlite3.OperationalError:
            return []


def stored_changes(house: House, name: str, last: int) -> dict[tuple[str, int], object]:
    return changes({(name, moment): value for moment, value in archive(house, name)}, last)


def test_a_rework_puts_right_what_wrong_rules_told_and_leaves_the_present_alone(
    house: House, ear: Ear, capfd: pytest.CaptureFixture[str]
) -> None:
    watched = """alerts:
  burning: {when: boiler/burner/phase == combustion, say: "There is a fire"}
"""
    house.write(topics(hot_on=80.0).replace("  phase:", "  alerts: {settle: 1s}\n  phase:") + watched)
    rows = history(2)
    last = rows[-1][0]
    house.start("archive")
    house.start("alerts")
    subscribe(house, ear)
    publish(house, rows)
    house.start("phase")
    wait_until_judged(ear, last)
    wrong = archive(house, "boiler/burner/phase")
    assert "combustion" not in {value for _, value in wrong}
    ear.wait("home/alert/burning", lambda alert: alert["state"] == "ok")
    house.write(topics().replace("  phase:", "  alerts: {settle: 1s}\n  phase:") + watched)
    wait_for(lambda: "topics.yaml is taken over" in house.log("phase"), what="the right rules")
    told = len(ear.heard)
    begin, end = format_time(rows[0][0]), format_time(last + 1)
    assert main(["--config", str(house.config), "rework", "--from", begin, "--to", end]) == 0
    said = capfd.readouterr()
    assert "corrected" in said.out
    right = changes(oracle(house, rows), last)
    phases = {key: value for key, value in right.items() if key[0] == "boiler/burner/phase"}
    deadline = time.monotonic() + 30
    while (kept := stored_changes(house, "boiler/burner/phase", last)) != phases:
        assert time.monotonic() < deadline, (kept, phases)
        time.sleep(0.1)
    late = [p for t, p, r in ear.heard[told:] if t == "home/data/boiler/burner/phase" and not r]
    assert late
    other = Ear(house.port, "home/data/boiler/burner/phase")
    try:
        standing = other.wait("home/data/boiler/burner/phase")
        assert parse_time(standing["time"]) > last, "what is retained is of the present"
    finally:
        other.close()
    assert {json.loads(payload)["state"] for payload in ear.all("home/alert/burning")} == {"ok"}
    assert main(["--config", str(house.config), "rework", "--from", begin, "--to", end]) == 0
    assert "corrected 0 readings" in capfd.readouterr().out
    answer = ear.ask("phase", "rework", {"from": end, "to": begin})
    assert "the span is empty" in answer["error"]
    assert "before the year 2000" in ear.ask("phase", "rework", {"from": "0001-01-01T00:00:00.000Z"})["error"]


@pytest.mark.whole
def test_silent_inputs_are_unknown_by_the_clock_and_a_refill_is_reckoned(house: House, ear: Ear) -> None:
    house.write(topics(dwell=1.0, stale=1.5))
    house.start("phase")
    ear.wait("home/service/phase/health")
    assert "nothing was heard of it yet" in ear.ask("phase", "refill", {"kg": 1500, "boiler": "new"})["error"]
    deadline = time.monotonic() + 60
    while (ear.last("home/data/boiler/burner/phase") or {}).get("value") != "off":
        assert time.monotonic() < deadline, house.log("phase")
        now = time.time_ns() // 1_000_000
        publish(house, [(now, topic_of("water"), 50.0), (now, topic_of("flue"), 41.0), (now, topic_of("auger"), 0.001)])
        time.sleep(0.3)
    ear.wait("home/data/boiler/burner/ignition_failed_fault", lambda said: said["value"] is False)
    assert ear.ask("phase", "refill", {"kg": 1500, "boiler": "new"})["data"] == {"boiler": "new", "kg": 1500}
    assert ear.wait("home/data/boiler/burner/silo_mass")["value"] == 1500
    assert "say which" in ear.ask("phase", "refill", {"kg": 1500})["error"]
    assert ear.ask("phase", "refill", {"bags": 4, "boiler": "new"})["data"] == {"boiler": "new", "bags": 4}
    ear.wait("home/data/boiler/burner/silo_mass", lambda said: said["value"] == 1560)
    assert "silo_kg" in ear.ask("phase", "refill", {"level": 50, "boiler": "new"})["error"]
    assert "one of kg" in ear.ask("phase", "refill", {"kg": 1, "bags": 2, "boiler": "new"})["error"]
    assert "reminds of nothing" in ear.ask("phase", "reset", {"what": "ash", "boiler": "old"})["error"]
    assert ear.ask("phase", "reset", {"what": "ash", "boiler": "new"})["data"] == {"boiler": "new", "what": "ash"}
    ear.wait("home/data/boiler/burner/phase", lambda said: said["value"] == "unknown")
    house.stop("phase")
    house.start("phase")
    ear.wait("home/data/boiler/burner/ignition_failed_fault", lambda said: said == b"")
    assert ear.last("home/data/boiler/burner/phase")["value"] == "unknown", "which is what it knows"


def test_an_input_that_is_cleared_is_missing_at_once(house: House, ear: Ear) -> None:
    house.write(topics(dwell=1.0, stale=600))
    house.start("phase")
    ear.wait("home/service/phase/health")
    deadline = time.monotonic() + 90
    while (ear.last("home/data/boiler/burner/phase") or {}).get("value") != "off":
        assert time.monotonic() < deadline, house.log("phase")
        now = time.time_ns() // 1_000_000
        publish(house, [(now, topic_of("water"), 50.0), (now, topic_of("flue"), 41.0)])
        time.sleep(0.3)
    client = mqtt.Client(mqtt.CallbackAPIVersion.VERSION2, protocol=mqtt.MQTTv5)
    client.connect("127.0.0.1", house.port)
    client.loop_start()
    client.publish(f"home/data/{topic_of('flue')}", b"", 1, retain=True).wait_for_publish(10)
    client.loop_stop()
    client.disconnect()
    ear.wait("home/data/boiler/burner/phase", lambda said: said["value"] == "unknown", 60)


@pytest.mark.parametrize(
    ("wrong", "right", "sentence"),
    [
        ("flue: boiler/flux/temperature", "flue: boiler/flue/temperature", "did you mean 'boiler/flue/temperature'?"),
        ("flu: boiler/flue/temperature", "flue: boiler/flue/temperature", "unknown key 'flu', did you mean 'flue'?"),
        ("thing: boiler/burn", "thing: boiler/burner", "did you mean 'boiler/burn'?"),
        ("cycle_durations", "cycle_duration", "'durations' is no quantity"),
        ("cycle_mas_mass", "cycle_mass", "did you mean 'cycle_mass'?"),
        ("[unknown, prepurge,", "[unknown, off, prepurge,", "off is missing: write states: [unknown, off,"),
        ("{water: boiler/none/temperature, fan", "{water: boiler/water/temperature, fan", "has no topic"),
        ("{fan", "{water: boiler/water/temperature, fan", "give the topic of the water"),
        ("thing: boiler/burner\n    buttons: {ash: boiler/ash/done_active}", "thing: boiler/burner", "has no topic"),
        ("hot_onn: ", "hot_on: ", "unknown key 'hot_onn', did you mean 'hot_on'?"),
        ("thing: boiler/burner\n", "thing: cellar/old\n", "is that of 'new' too"),
    ],
)
def test_a_wrong_line_is_named_with_what_was_meant(house: House, wrong: str, right: str, sentence: str) -> None:
    assert right in topics()
    house.write(topics().replace(right, wrong, 1))
    try:
        problems = problems_of(Registry(house.config))
    except DocumentError as error:
        problems = list(error.problems)
    assert any(sentence in str(problem) for problem in problems), problems


def test_another_time_zone_is_taken_over_by_a_reload(house: House) -> None:
    house.write(topics())
    service, zones = Phase(Registry(house.config), "phase"), []
    service.load(service.registry)
    boilers = lambda _entries, _topics, zone: zones.append(zone)  # noqa: E731
    service._work = SimpleNamespace(take_boilers=boilers, subscribe_inputs=lambda: None)
    for more in ("", "timezone: Pacific/Auckland\n"):
        house.write(more + topics())
        service.on_reloaded(service.load(Registry(house.config)))
    assert zones == ["Pacific/Auckland"], "and what did not change is not disturbed"


def test_a_topics_yaml_that_is_refused_leaves_all_of_the_old_one(house: House) -> None:
    house.write(topics())
    service = Phase(Registry(house.config), "phase")
    service.load(service.registry)
    before = service.registry, service.options, service.topics
    house.write(
        topics().replace("settle: 1s", "settle: 2s").replace("boiler/flue/temperature\n", "boiler/flux/temperature\n")
    )
    with pytest.raises(DocumentError):
        service.load(Registry(house.config))
    assert (service.registry, service.options, service.topics) == before


def test_the_lines_of_a_good_house_have_no_problem(fired: House, tmp_path: Path) -> None:
    assert [p for p in problems_of(Registry(fired.config)) if "phase" in p.path] == []


def test_check_says_what_the_inputs_can_tell_and_what_nothing_will_come_of(house: House) -> None:
    house.write(topics().replace("      igniter: boiler/igniter/current\n      fan: boiler/fan/current\n", "", 1))
    said = list(Phase.cost(Registry(house.config), "phase"))
    assert "new: phases: unknown, off, ignition, combustion, burnout, keep_fire" in said
    assert "new: faults: ignition_failed, jam_or_empty, overheating, fire_out, auger_clamp" in said
    house.write(topics().replace("      auger: boiler/auger/current\n", "", 1))
    said = list(Phase.cost(Registry(house.config), "phase"))
    assert "new: nothing is published on boiler/burner/cycle_mass: it wants the input auger" in said
    assert "new: faults: ignition_failed, overheating, fire_out, igniter_clamp, fan_clamp" in said
    house.write(
        topics().replace("      flue: boiler/flue/temperature\n", "", 1).replace("adc: {}", "adc: {every: 30s}")
    )
    (said,) = [line for line in Phase.cost(Registry(house.config), "phase") if "hardly told" in line]
    assert said.startswith(
        "new: combustion is hardly told: without the input flue the pauses of boiler/auger/current show it"
    )
    assert "its source reads it every 30s: read it every 20s or more often" in said
    for enough in (
        ("adc: {}", "adc: {every: 20s}"),
        ("rules: {", "rules: {auger: {on: 0.2, off: 0.1, tau_s: 60, duty_on: 0.1, duty_off: 0.03}, "),
    ):
        text = topics().replace("      flue: boiler/flue/temperature\n", "", 1).replace(*enough)
        house.write(text if "20s" in enough[1] else text.replace("adc: {}", "adc: {every: 30s}"))
        assert not any("hardly told" in line for line in Phase.cost(Registry(house.config), "phase"))


def test_readings_as_json_lines_are_replayed_by_the_rules_of_the_house(
    fired: House, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = history(3)
    file = tmp_path / "rows.jsonl"
    lines = [{"topic": name, "value": value, "unit": "", "time": format_time(moment)} for moment, name, value in rows]
    file.write_bytes(b"\n".join(map(msgspec.json.encode, lines)))
    assert main(["--config", str(fired.config), "replay", "phase", str(file)]) == 0
    said = capsys.readouterr().out
    assert 'home/data/boiler/burner/phase {"value":"combustion",' in said
    assert 'home/data/cellar/old/phase {"value":"allumage",' in said
