"""What the phone showed, in order: the real alerts and pushover services, a real broker, and a phone that fails as real ones may."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from harness import Ear, House, wait_for
from voices import Voice, now

from services.simulators.pushover import PushoverServer

pytestmark = pytest.mark.long

WATER, BOX = "boiler/water/temperature", "boiler/box/temperature"
TOPICS = """
sources: {{onewire: {{}}}}
subscribers:
  alerts: {{every: 100ms, settle: 1s, gather: 200ms, fallback: 3s, heartbeat: 1s}}
  pushover: {{api_url: "{url}/1/", timeout: 2s, every: 100ms, expire: 1h}}
topics:
  boiler/water/temperature: {{from: onewire, id: 28-0316a2795f4b}}
  boiler/box/temperature: {{from: onewire, id: 28-0316a2795f4c}}
alerts:
  {hot}: {{when: boiler/water/temperature > 85, clear: 80, for: {lasts}, hold_off: 0s, say: "water at {{value}} {{unit}}"}}
  fire: {{when: boiler/box/temperature > 60, priority: 2, say: "box at {{value}} {{unit}}"}}
  warm: {{when: boiler/box/temperature > 50, say: "box at {{value}} {{unit}}"}}
"""


class Boiler:
    """A source's voice, with numbers that go on."""

    def __init__(self, voice: Voice) -> None:
        self._voice, self._number = voice, 0

    def say(self, topic: str, value: float) -> None:
        self._number += 1
        self._voice.say(topic, value, now(), self._number).wait_for_publish(10)


@pytest.fixture
def phone() -> Iterator[PushoverServer]:
    with PushoverServer() as server:
        yield server


@pytest.fixture
def boiler(voice: Voice) -> Boiler:
    return Boiler(voice)


@pytest.fixture
def home(house: House, ear: Ear, phone: PushoverServer, tmp_path: Path) -> House:
    credentials = tmp_path / "credentials"
    credentials.mkdir()
    for name, text in (("pushover.token", "a" * 30), ("pushover.user", "u" * 30)):
        (credentials / name).write_text(text)
        (credentials / name).chmod(0o600)
    house.environment["CONSTELLATION_CREDENTIALS"] = str(credentials)
    write(house, phone)
    for name in ("pushover", "alerts"):
        house.start(name, wait=False)
    for name in ("pushover", "alerts"):
        ear.wait(f"home/service/{name}/health")
    ear.wait("home/alert/hot")
    return house


def write(house: House, phone: PushoverServer, hot: str = "hot", lasts: str = "0s") -> None:
    house.write(TOPICS.format(url=phone.url, hot=hot, lasts=lasts))


def titles(phone: PushoverServer) -> list[str]:
    return [fields["title"] for fields in phone.taken]


def state(name: str) -> Any:
    return lambda shown: isinstance(shown, dict) and shown["state"] == name


@pytest.mark.slow
def test_after_an_outage_the_phone_shows_the_newest_state_once(
    home: House, ear: Ear, boiler: Boiler, phone: PushoverServer
) -> None:
    phone.fail("500", count=1000)
    for value in (90, 70, 91, 70, 92):
        boiler.say(WATER, value)
        ear.wait("home/alert/hot", state("firing" if value > 80 else "ok"))
    ear.wait("home/service/alerts/health", lambda said: said["alerts"]["untold"] == ["hot"])
    boiler.say(WATER, 93.5)
    ear.wait("home/alert/hot", lambda said: said.get("value") == 93.5)
    assert phone.requests
    assert not phone.taken
    home.kill("alerts")
    home.start("alerts")
    phone.fail("")
    wait_for(lambda: phone.taken, 90, "what there is to tell")
    shown = ear.wait("home/alert/hot", lambda said: said.get("told") == ["pushover"])
    assert shown["state"] == "firing"
    assert len(phone.taken) == 1
    assert "3 times" in phone.taken[0]["message"]
    ear.wait("home/service/alerts/health", lambda said: said["alerts"]["untold"] == [] and said["state"] == "running")
    boiler.say(WATER, 60)
    wait_for(lambda: len(phone.taken) == 2, 60, "its end")
    assert titles(phone) == ["Flaps: Hot", "Over: Hot"]


@pytest.mark.slow
def test_a_months_limit_is_told_in_health_and_a_rename_ends_what_was_told(
    home: House, ear: Ear, boiler: Boiler, phone: PushoverServer
) -> None:
    boiler.say(WATER, 90)
    wait_for(lambda: titles(phone) == ["Hot"], what="the begin")
    write(home, phone, hot="too_hot")
    wait_for(lambda: titles(phone)[1:] in (["Over: Hot", "Too hot"], ["Too hot", "Over: Hot"]), 60, "the rename")
    phone.remaining = 0
    boiler.say(BOX, 55)
    ear.wait("home/service/alerts/health", lambda said: said["alerts"]["untold"] == ["warm"])
    assert "month's quota" in home.log("pushover")
    assert len(phone.taken) == 3


@pytest.mark.slow
def test_an_emergency_stands_alone_and_its_acknowledgement_waits_for_the_alerts_service(
    home: House, ear: Ear, boiler: Boiler, phone: PushoverServer
) -> None:
    boiler.say(BOX, 70)
    wait_for(lambda: sorted(titles(phone)) == ["Fire", "Warm"], what="both, each by itself")
    (receipt,) = phone.receipts
    home.kill("alerts")
    phone.acknowledge(receipt)
    wait_for(lambda: "acknowledged on the phone: fire" in home.log("pushover"), what="the look at the receipt")
    home.kill("pushover")
    home.start("pushover")
    home.start("alerts")
    ear.wait("home/alert/fire", lambda said: said["acknowledged"], timeout=60)
    boiler.say(BOX, 40)
    for name in ("fire", "warm"):
        ear.wait(f"home/alert/{name}", state("ok"))
    wait_for(lambda: len(phone.taken) == 4, 60, "the ends")
    assert sorted(titles(phone)[2:]) == ["Over: Fire", "Over: Warm"]


@pytest.mark.slow
@pytest.mark.whole
def test_what_has_only_begun_goes_on_after_a_kill(home: House, ear: Ear, boiler: Boiler, phone: PushoverServer) -> None:
    write(home, phone, lasts="12s")
    wait_for(lambda: "is taken over" in home.log("alerts"), what="the reload")
    boiler.say(WATER, 90)
    began = now()
    ear.wait("home/service/alerts/health")
    kept = home.folder / "run" / "alerts" / "heard.json"
    wait_for(
        lambda: kept.exists() and json.loads(kept.read_bytes())["judge"]["verdicts"]["hot"].get("met"),
        what="that it began",
    )
    for _ in range(2):
        home.kill("alerts")
        home.start("alerts")
    shown = ear.wait("home/alert/hot", state("firing"), timeout=60)
    assert shown["value"] == 90
    wait_for(lambda: titles(phone) == ["Hot"], what="the begin")
    assert now() - began >= 12_000
