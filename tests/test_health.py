"""Whether a service lives: `online` and a health that is there; both are gone when it is."""

import json
import socket
import sqlite3
from contextlib import closing

import pytest
from harness import Broker, Ear, House, wait_for
from voices import Voice, now

STATUS, HEALTH = "home/service/archive/status", "home/service/archive/health"


@pytest.fixture
def archive(house: House, ear: Ear) -> House:
    house.write(
        "subscribers: {archive: {heartbeat: 400ms, commit: 50ms}}\ntopics: {a/b/temperature: {from: archive}}\n"
    )
    house.start("archive")
    ear.wait(HEALTH)
    return house


def retained(broker: Broker) -> dict[str, bytes]:
    """What stands on the topics of the archive, asked by somebody who comes anew."""
    late = Ear(broker.port, "home/service/archive/#")

    def ended() -> bool:
        late.say("home/service/archive/end", "what was retained came before this")
        return bool(late.all("home/service/archive/end"))

    wait_for(ended, what="an answer of the broker")
    late.close()
    return {topic: payload for topic, payload, kept in late.heard if kept}


def test_health_says_who_it_is_since_when_and_what_it_counted(archive: House, voice: Voice, ear: Ear) -> None:
    voice.say("a/b/temperature", 20.5, now())
    health = ear.wait(HEALTH, lambda health: health["counters"].get("stored") == 1)
    assert (health["state"], health["start"], health["beat"], health["stale"]) == ("running", 1, 0.4, [])
    assert health["host"] == socket.gethostname()
    assert health["pid"] == archive.processes["archive"].pid
    assert health["last_error"] is None
    assert len(health["registry"]) == 12
    archive.stop("archive")
    archive.start("archive")
    ear.wait(HEALTH, lambda health: health["start"] == 2 and health["counters"].get("stored", 0) == 0)


def test_the_last_error_has_its_time_its_text_and_its_topic(archive: House, voice: Voice, ear: Ear) -> None:
    voice.raw("a/b/temperature", b"rubbish")
    error = ear.wait(HEALTH, lambda health: health["last_error"])["last_error"]
    assert error["topic"] == "home/data/a/b/temperature"
    assert "not a reading" in error["text"]
    assert error["time"].endswith("Z")


def test_it_beats_as_often_as_it_says(archive: House, ear: Ear) -> None:
    known = len(ear.all(HEALTH))
    wait_for(lambda: len(ear.all(HEALTH)) >= known + 3, 10, "three beats")


def test_a_clean_stop_says_offline_by_itself_at_once(archive: House, ear: Ear, broker: Broker) -> None:
    assert retained(broker)[STATUS] == b"online"
    archive.stop("archive")
    ear.wait(
        STATUS, lambda status: status == "offline", timeout=5
    )  # the will is spoken ten seconds later at the earliest
    assert json.loads(ear.all(HEALTH)[-1])["state"] == "stopping"


def test_the_health_of_one_that_was_killed_expires_after_three_beats(archive: House, broker: Broker) -> None:
    assert HEALTH in retained(broker)
    archive.kill("archive")
    wait_for(lambda: HEALTH not in retained(broker), 6, "the end of its health")


def test_everything_it_says_is_said_again_to_a_broker_that_forgot(archive: House, broker: Broker) -> None:
    broker.kill()
    broker.start()
    wait_for(lambda: {STATUS, HEALTH} <= retained(broker).keys(), what="status and health")


def test_the_spool_of_a_house_without_an_archive_is_emptied_by_the_broker_alone(house: House, ear: Ear) -> None:
    house.write("sources: {host: {every: 50ms, heartbeat: 300ms}}\ntopics: {house/pi/uptime_duration: {from: host}}\n")
    house.start("host")
    health = ear.wait("home/service/host/health", lambda health: health["counters"].get("published", 0) > 20)
    assert health["spool"]["waiting"] <= 2
    assert health["spool"]["dead"] == 0
    house.stop("host")
    with closing(sqlite3.connect(house.state("host") / "spool.sqlite")) as spool:
        assert spool.execute("SELECT count(*) FROM tail").fetchone()[0] <= 2
