"""One reading all the way: from a DS18B20's scratchpad to a retained topic and into the archive, through every fault."""

import itertools
import json
import re
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
from harness import Broker, Ear, House, wait_for

from services.simulators.onewire import Fault
from services.simulators.onewire import Tree as OneWireBus

pytestmark = pytest.mark.long

WATER, FLUE = "28-0316a4f1c9ff", "28-0316a4f1d2aa"
WATER_TOPIC, FLUE_TOPIC = "home/data/boiler/water/temperature", "home/data/boiler/flue/temperature"


@pytest.fixture
def bus(tmp_path: Path) -> Iterator[OneWireBus]:
    with OneWireBus(tmp_path / "w1") as bus:
        bus.set(WATER, 61.5)
        bus.set(FLUE, 85.0)
        yield bus


@pytest.fixture
def lit(house: House, bus: OneWireBus, tmp_path: Path) -> House:
    house.write(topics(tmp_path))
    return house


def topics(tmp_path: Path, **water: str) -> str:
    options = "".join(f", {key}: {value}" for key, value in water.items())
    return f"""
sources:
  onewire: {{every: 200ms, stale: 1s, heartbeat: 1s, bus: {tmp_path}/w1}}
subscribers:
  archive: {{every: 1s, commit: 100ms, heartbeat: 1s}}
topics:
  boiler/water/temperature: {{from: onewire, id: {WATER}{options}}}
  boiler/flue/temperature: {{from: onewire, id: {FLUE}}}
"""


def rows(house: House) -> list[tuple[str, int, float]]:
    path = house.state("archive") / "archive.sqlite"
    if not path.exists():
        return []
    query = "SELECT name, time, value FROM readings JOIN topics ON topics.id = readings.topic ORDER BY time"
    with closing(sqlite3.connect(path)) as database:
        try:
            return database.execute(query).fetchall()
        except sqlite3.OperationalError:
            return []


def test_a_temperature_reaches_its_topic_and_the_archive_as_promised(lit: House, ear: Ear) -> None:
    lit.start("archive")
    lit.start("onewire")
    ear.wait(WATER_TOPIC)
    ear.wait(FLUE_TOPIC)
    payload = ear.all(WATER_TOPIC)[0].decode()
    assert re.fullmatch(r'\{"value":61\.5,"unit":"°C","time":"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z"\}', payload)
    assert json.loads(ear.all(FLUE_TOPIC)[0])["value"] == 85.0
    assert ear.wait("home/service/onewire/status") == "online"
    wait_for(lambda: len(rows(lit)) > 4, what="rows in the archive")
    mark = ear.wait("home/service/archive/stored/onewire", lambda mark: mark["after"] > 4)
    assert set(mark) == {"stream", "after"}
    health = ear.wait("home/service/onewire/health", lambda health: health["counters"].get("published", 0) > 2)
    assert health["state"] == "running"
    assert health["stale"] == []


def test_an_unplugged_sensor_is_cleared_said_once_and_heals_by_itself(lit: House, ear: Ear, bus: OneWireBus) -> None:
    lit.start("onewire")
    ear.wait(FLUE_TOPIC)
    bus.unplug(FLUE)
    ear.wait(FLUE_TOPIC, lambda value: value == b"", timeout=5)
    health = ear.wait("home/service/onewire/health", lambda health: health["stale"] == ["boiler/flue/temperature"])
    assert health["state"] == "degraded"
    heard = len(ear.all(WATER_TOPIC))
    wait_for(lambda: len(ear.all(WATER_TOPIC)) > heard + 3, what="the other sensor, which never notices")
    bus.set(FLUE, 84.0)
    ear.wait(FLUE_TOPIC, lambda value: value != b"" and value["value"] == 84.0)
    ear.wait("home/service/onewire/health", lambda health: health["state"] == "running" and not health["stale"])
    log = lit.log("onewire")
    assert log.count("is silent for 1s, it is cleared") == 1
    assert log.count("flue/temperature: sensor") == 1
    assert log.count("is back") == 1


@pytest.mark.parametrize(
    "fault", [Fault.CRC, Fault.EMPTY, Fault.ONE_LINE, Fault.POWER_ON, Fault.OVERFLOW, Fault.ZERO, Fault.EIO]
)
def test_a_bad_answer_of_a_sensor_is_never_a_value(lit: House, ear: Ear, bus: OneWireBus, fault: Fault) -> None:
    bus.fail(FLUE, fault)
    lit.start("onewire")
    health = ear.wait("home/service/onewire/health", lambda health: health["counters"].get("errors", 0) > 1)
    assert health["last_error"]["topic"] == "boiler/flue/temperature"
    assert all(payload == b"" for payload in ear.all(FLUE_TOPIC))
    assert ear.wait(WATER_TOPIC)["value"] == 61.5


def test_a_paused_source_is_neither_stale_nor_degraded(lit: House, ear: Ear) -> None:
    lit.start("onewire")
    ear.wait(WATER_TOPIC)
    assert ear.ask("onewire", "pause", {"id": 7}) == {"status": "ok", "data": {"paused": True}, "id": 7}
    ear.wait("home/service/onewire/health", lambda health: health["state"] == "paused")
    ear.wait(WATER_TOPIC, lambda value: value == b"", timeout=5)
    health = ear.wait("home/service/onewire/health")
    assert (health["state"], health["stale"]) == ("paused", [])
    assert "silent" not in lit.log("onewire")
    ear.ask("onewire", "resume")
    ear.wait(WATER_TOPIC, lambda value: value != b"")


def test_a_changed_registry_is_taken_over_and_a_broken_one_refused_with_its_line(
    lit: House, ear: Ear, tmp_path: Path
) -> None:
    process = lit.start("onewire")
    ear.wait(WATER_TOPIC)
    lit.write(topics(tmp_path, evry="5s"))
    wait_for(
        lambda: "did you mean 'every'?" in lit.log("onewire") or "unknown key 'evry'" in lit.log("onewire"),
        what="the refusal",
    )
    assert re.search(r"topics\.yaml:8: topics\.boiler/water/temperature\.evry: unknown key", lit.log("onewire"))
    heard = len(ear.all(WATER_TOPIC))
    wait_for(lambda: len(ear.all(WATER_TOPIC)) > heard + 2, what="readings under the old registry")
    lit.write(topics(tmp_path, decimals="0"))
    ear.wait(WATER_TOPIC, lambda value: value["value"] == 62)
    lit.write("\n".join(line for line in topics(tmp_path).splitlines() if "flue" not in line))
    ear.wait(FLUE_TOPIC, lambda value: value == b"")
    assert process.poll() is None


def test_the_clearing_of_a_removed_topic_is_confirmed_and_nothing_is_sent_for_ever(
    lit: House, ear: Ear, tmp_path: Path
) -> None:
    lit.start("archive")
    lit.start("onewire")
    ear.wait("home/service/archive/stored/onewire", lambda mark: mark["after"] > 4)
    lit.write("\n".join(line for line in topics(tmp_path).splitlines() if "flue" not in line))
    ear.wait(FLUE_TOPIC, lambda value: value == b"")
    ear.ask("onewire", "pause")
    wait_for(lambda: numbers(lit) == 0, 10, "confirmation of everything, the clearing included")


def test_an_instance_that_is_removed_clears_its_topics_and_ends(lit: House, ear: Ear) -> None:
    process = lit.start("onewire")
    ear.wait(WATER_TOPIC)
    lit.write("subscribers: {archive: {}}\n")
    assert process.wait(10) == 0
    for topic in (WATER_TOPIC, FLUE_TOPIC):
        ear.wait(topic, lambda value: value == b"")
    assert ear.wait("home/service/onewire/status") == "offline"


def test_a_read_on_request_answers_with_the_values(lit: House, ear: Ear, tmp_path: Path) -> None:
    lit.write(topics(tmp_path).replace("every: 200ms, stale: 1s", "every: 1h"))
    lit.start("onewire")
    ear.wait("home/service/onewire/status")
    ear.wait(FLUE_TOPIC)
    answer = ear.ask("onewire", "read", {"id": "now"})
    assert answer["data"]["boiler/water/temperature"] == {"value": 61.5, "unit": "°C"}


@pytest.mark.parametrize(
    ("verb", "payload", "sentence"),
    [
        ("pause", "{not json", "payload is not JSON"),
        ("paus", "{}", "did you mean 'pause'?"),
        ("log_level", '{"value":"loud"}', "payload: Invalid enum value 'loud' - at `value`"),
        ("pause", '{"for":5}', "5 is no duration"),
        ("pause", '{"fro":"5m"}', "Object contains unknown field `fro`"),
        ("read", " " * (1 << 20) + "1", "too long for a request"),
    ],
)
def test_a_bad_request_gets_a_sentence(lit: House, ear: Ear, verb: str, payload: str, sentence: str) -> None:
    lit.start("onewire")
    ear.wait("home/service/onewire/status")
    ear.say(f"home/service/onewire/request/{verb}", payload, qos=0)
    answer = ear.wait(f"home/service/onewire/response/{verb}")
    assert answer["status"] == "error"
    assert sentence in answer["error"]


@pytest.mark.parametrize(
    "topic", ["home/service/archive/request/ping", WATER_TOPIC, "home/service/archive/request/replay"]
)
def test_content_that_is_nested_thousands_deep_ends_nobody(lit: House, ear: Ear, topic: str) -> None:
    process = lit.start("archive")
    ear.wait("home/service/archive/status")
    ear.say(topic, "[" * 30_000 if "request" in topic else "[" * 4000)
    assert ear.ask("archive", "ping")["status"] == "ok"
    assert process.poll() is None


def test_a_retained_or_repeated_request_is_not_acted_on(lit: House, ear: Ear) -> None:
    ear.say("home/service/onewire/request/stop", "{}", retain=True)
    lit.start("onewire")
    ear.wait(WATER_TOPIC)
    wait_for(lambda: "was retained by its sender" in lit.log("onewire"), what="the warning")
    ear.say("home/service/onewire/request/stop", "{}", retain=True)
    wait_for(
        lambda: lit.log("onewire").count("was retained by its sender") == 2, what="the warning of one that comes live"
    )
    for _ in range(2):
        ear.say("home/service/onewire/request/ping", '{"id":1}', qos=0)
    wait_for(lambda: "came again" in lit.log("onewire"), what="the note")
    ear.wait("home/service/onewire/response/ping")
    assert len(ear.all("home/service/onewire/response/ping")) == 1


@pytest.mark.parametrize(
    ("payload", "sentence"),
    [
        ("rubbish", "not a reading"),
        ('{"value":null,"time":"2026-11-20T15:01:53.120Z"}', "not a reading"),
        ('{"value":1,"unit":"°C","time":"yesterday"}', "is not of the form"),
        ('{"value":1,"unit":"°F","time":"2026-11-20T15:01:53.120Z"}', "its unit is '°F'"),
        ('{"value":true,"unit":"°C","time":"2026-11-20T15:01:53.120Z"}', "True is no number"),
        ('{"value":1,"unit":"°C","time":"2126-11-20T15:01:53.120Z"}', "more than a minute ahead"),
        ("x" * 100_000, "too long for a reading"),
    ],
)
def test_rubbish_on_a_data_topic_is_put_aside_with_a_sentence(
    lit: House, ear: Ear, payload: str, sentence: str
) -> None:
    lit.start("archive")
    ear.wait("home/service/archive/status")
    ear.say(WATER_TOPIC, payload)
    wait_for(lambda: sentence in lit.log("archive"), what=sentence)
    ear.say(WATER_TOPIC, '{"value":20,"unit":"°C","time":"2026-11-20T15:01:53.120Z"}')
    wait_for(lambda: [row[2] for row in rows(lit)] == [20.0], what="the good reading behind it")
    letter = json.loads((lit.state("archive") / "dead_letters.jsonl").read_text().splitlines()[0])
    assert sentence in letter["reason"]


def test_a_topics_yaml_that_is_deleted_is_missed_aloud_and_all_goes_on(lit: House, ear: Ear, tmp_path: Path) -> None:
    lit.start("onewire")
    ear.wait("home/service/onewire/health", lambda health: health["state"] == "running")
    lit.config.unlink()
    error = ear.wait("home/service/onewire/health", lambda health: health["last_error"])["last_error"]
    assert "topics.yaml:1: there is no such file" in error["text"]
    assert "topics.yaml is refused, the old one goes on" in lit.log("onewire")
    known = len(ear.all(WATER_TOPIC))
    wait_for(lambda: len(ear.all(WATER_TOPIC)) > known + 2, what="readings")
    lit.write(topics(tmp_path, decimals="0"))
    wait_for(lambda: "topics.yaml is taken over" in lit.log("onewire"), what="the new one")


def test_measuring_goes_on_without_a_broker_and_nothing_is_lost(lit: House, ear: Ear, broker: Broker) -> None:
    broker.kill()
    lit.start("onewire")
    wait_for(lambda: "no connection to the broker" in lit.log("onewire"), what="the sentence")
    lit.start("archive")
    wait_for(lambda: numbers(lit) >= 15, what="readings in the spool")
    broker.start()
    wait_for(lambda: len(rows(lit)) >= 15, 30, "readings in the archive")
    wait_for(lambda: numbers(lit) < 10, 10, "confirmation of the spool")
    times = [time for name, time, _ in rows(lit) if name == "boiler/water/temperature"]
    assert max(later - earlier for earlier, later in itertools.pairwise(times)) < 3000
    assert lit.log("onewire").count("no connection to the broker") == 1


def numbers(house: House) -> int:
    count = 0
    for folder in (house.state("onewire"), house.folder / "run" / "onewire"):
        if (folder / "spool.sqlite").exists():
            with closing(sqlite3.connect(folder / "spool.sqlite")) as database:
                try:
                    count += database.execute("SELECT count(*) FROM tail").fetchone()[0]
                except sqlite3.OperationalError:
                    return 0
    return count


def test_killing_broker_source_and_archive_at_once_loses_nothing(
    lit: House, ear: Ear, broker: Broker, bus: OneWireBus
) -> None:
    lit.start("archive")
    lit.start("onewire")
    for step in range(3):
        wait_for(lambda step=step: len(rows(lit)) > 8 * (step + 1), 20, "readings in the archive")
        lit.kill("archive")
        broker.kill()
        lit.kill("onewire")
        broker.start()
        lit.start("onewire")
        lit.start("archive")
    wait_for(lambda: len(rows(lit)) > 40, 20, "readings in the archive")
    ear.ask("onewire", "pause")
    wait_for(lambda: numbers(lit) == 0, 20, "confirmation of everything")
    with closing(sqlite3.connect(lit.state("archive") / "archive.sqlite")) as database:
        (mark,) = database.execute("SELECT number FROM marks").fetchone()
        (stored,) = database.execute("SELECT count(*) FROM readings").fetchone()
        (cleared,) = database.execute("SELECT count(*) FROM clearings").fetchone()
    assert stored + cleared == mark, "each number of the stream is one stored row"


def test_offline_is_said_after_the_will_delay_and_at_once_on_a_clean_stop(lit: House, ear: Ear) -> None:
    lit.start("onewire")
    ear.wait("home/service/onewire/status", lambda status: status == "online")
    lit.stop("onewire")
    ear.wait("home/service/onewire/status", lambda status: status == "offline", timeout=2)
    lit.start("onewire")
    ear.wait("home/service/onewire/status", lambda status: status == "online")
    lit.kill("onewire")
    ear.wait("home/service/onewire/status", lambda status: status == "offline", timeout=14)


def test_two_starts_at_once_are_refused_with_a_sentence(lit: House, ear: Ear) -> None:
    lit.start("onewire")
    running = lit.processes.pop("onewire")
    second = lit.start("onewire", wait=False)
    assert second.wait(10) == 69
    assert "'onewire' runs already" in lit.log("onewire")
    lit.processes["onewire"] = running


def test_readings_of_one_topic_never_share_a_time(house: House, ear: Ear, tmp_path: Path) -> None:
    own = tmp_path / "services"
    own.mkdir()
    (own / "crowd.py").write_text(
        "from bootstrap_lib import InstanceOptions, Source\n\n\n"
        "class Crowd(Source):\n    options: InstanceOptions\n\n"
        "    def samples(self):\n"
        "        while self.tick():\n"
        "            for number in range(500):\n"
        "                yield self.topics[0], number\n"
    )
    house.environment["CONSTELLATION_SERVICES"] = str(own)
    house.write("sources: {crowd: {every: 1h}}\nsubscribers: {archive: {}}\ntopics: {a/b/count: {from: crowd}}\n")
    house.start("archive")
    house.start("crowd")
    wait_for(
        lambda: sorted(row[2] for row in rows(house)) == [float(n) for n in range(500)], 20, "all 500 in the archive"
    )
