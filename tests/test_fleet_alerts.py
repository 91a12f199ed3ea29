"""Alerts at the centre of a fleet: rules over many houses, a house that is silent, a dead link that is one message."""

import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
from fleet_house import StandInHouse
from harness import Broker, Ear, House, wait_for

from bootstrap_lib import Sequence
from bootstrap_lib.document import from_text
from services.alerting import Rule, Scope, compile_rules
from services.alerting.desk import Desk
from services.alerting.houses import WatchedHouses, WatchedTopic
from services.fleet import roster
from services.fleet.roster import RosterHouse

WATER, FLUE = "boiler/water/temperature", "boiler/flue/temperature"
ROOT = "cellar"
"""The centre's own root; its houses are heard below `NAME/home/` all the same."""
FACTS = {"unit": "°C", "from": "onewire", "stale": 1.0, "decimals": 1}
RULES = """
root: cellar
alerts:
  cold: {{when: "+/boiler/water/temperature < 20", hold_off: 0s}}
  silent: {{stale: "+/#", for: 0s}}
  cut: {{when: house + is silent, for: 0s, hold_off: 0s}}
  dead: {{when: service +/onewire is dead, for: 0s}}
subscribers:
  alerts: {{houses: "{roster}", every: 100ms, settle: 0s, gather: 300ms, heartbeat: 300ms}}
"""


def now() -> int:
    return time.time_ns() // 1_000_000


class Fleet:
    """Three houses with an alerts service at their centre."""

    def __init__(self, folder: Path, broker: Broker, house: House, ear: Ear) -> None:
        self.file, self.house, self.ear = folder / "fleet.json", house, ear
        self.houses = [StandInHouse(broker.port, f"h{n}") for n in (1, 2, 3)]
        self.roster(*(one.name for one in self.houses))
        house.write(RULES.format(roster=self.file))

    def roster(self, *names: str, revoked: str = "") -> None:
        roster.write(self.file, roster.Roster({name: RosterHouse(revoked=name == revoked) for name in names}))

    def start(self) -> None:
        self.house.start("alerts")
        for one in self.houses:
            one.raw("link", b"1", retain=True)
            one.registry({WATER: FACTS, FLUE: FACTS})
            one.raw(
                "home/service/onewire/health",
                json.dumps({"state": "running", "beat": 30}),
                retain=True,
            )
        self.ear.wait(f"{ROOT}/service/alerts/health", lambda health: health["alerts"]["rules"] == 3 * (1 + 2 + 1 + 1))

    def speak(self, *values: float) -> None:
        """Let all houses say what they measure, often enough to be known for it."""
        for one, value in zip(self.houses, values, strict=True):
            for topic in (WATER, FLUE):
                for _ in range(4):
                    one.say(topic, value, now())
                    time.sleep(0.002)

    def alert(self, name: str) -> Any:
        return self.ear.last(f"{ROOT}/alert/{name}")

    def fires(self, name: str, state: str = "firing") -> None:
        self.ear.wait(f"{ROOT}/alert/{name}", lambda alert: alert and alert["state"] == state)

    def messages(self) -> list[dict[str, Any]]:
        said = {topic: payload for topic, payload, _ in list(self.ear.heard) if topic.startswith(f"{ROOT}/notify/")}
        return [json.loads(payload) for topic, payload in said.items() if topic.count("/") == 2]  # a repeat is the same

    def said(self, *words: str) -> list[dict[str, Any]]:
        """Messages of which all these words are told."""
        return [one for one in self.messages() if all(word in json.dumps(one) for word in words)]

    def close(self) -> None:
        for one in self.houses:
            one.close()


@pytest.fixture
def fleet(tmp_path: Path, broker: Broker, house: House) -> Iterator[Fleet]:
    fleet = Fleet(tmp_path, broker, house, ear := Ear(broker.port, f"{ROOT}/#"))
    yield fleet
    fleet.close()
    ear.close()


def test_a_rule_speaks_of_all_houses_and_each_fires_by_itself_also_after_a_restart(fleet: Fleet) -> None:
    fleet.start()
    fleet.speak(10.0, 60.0, 60.0)
    fleet.fires("cold_h1_boiler_water_temperature")
    wait_for(lambda: fleet.said("cold_h1"), what="its message")
    assert not fleet.said("cold_h2")
    fleet.house.kill("alerts")
    fleet.house.start("alerts")
    fleet.houses[1].say(WATER, 11.0, now())
    fleet.fires("cold_h2_boiler_water_temperature")
    wait_for(lambda: fleet.said("cold_h2"), what="its message")
    assert len(fleet.said("cold_h1")) == 1
    fleet.houses[0].say(WATER, 50.0, now())
    fleet.fires("cold_h1_boiler_water_temperature", "ok")


def test_a_dead_link_is_one_message_and_what_hangs_on_it_alarms_nobody(fleet: Fleet) -> None:
    fleet.start()
    fleet.speak(60.0, 60.0, 60.0)
    for one in fleet.houses[:2]:
        one.raw("link", b"0", retain=True)
    fleet.fires("cut_h1")
    fleet.fires("cut_h2")
    fleet.fires("silent_h3_boiler_water_temperature")  # as those of the others would, long since
    wait_for(lambda: fleet.said("cut_h1"), what="its message")
    wait_for(lambda: fleet.said("silent_h3"), what="the message of who is linked")
    assert fleet.said("cut_h1") == fleet.said("cut_h2")
    assert len(fleet.said("cut_h1")) == 1
    assert not [
        one
        for one in fleet.messages()
        if any(f"{word}_h{n}" in one["rules"] for word in ("silent", "dead") for n in (1, 2))
    ]
    assert (
        not fleet.alert("silent_h1_boiler_water_temperature")
        or fleet.alert("silent_h1_boiler_water_temperature")["state"] == "ok"
    )
    fleet.houses[0].raw("link", b"1", retain=True)
    fleet.fires("cut_h1", "ok")


def test_what_one_house_says_of_itself_costs_no_other_its_alerts(fleet: Fleet) -> None:
    fleet.start()
    evil, good, _ = fleet.houses
    odd = {"kind": "state", "states": ["x"] * 3, "label": "{value!r} \x1b[2J" * 40, "from": "a/b", "unit": "x" * 500}
    evil.registry(
        {WATER: odd, "boiler/x_boiler/temperature": odd, "a/b/c/d": odd, "x": odd, "a/b+/#": odd}
        | {f"a/b/t{n}": {"unit": "x"} for n in range(4000)}
    )
    fleet.ear.wait(f"{ROOT}/service/alerts/health", lambda health: health["alerts"]["rules"] > 1000)
    endless = '{"digest":"1","topics":{"boiler/flue/temperature":{"unit":"°C","from":"a","stale":1e308,"decimals":-9}}}'
    evil.raw("home/service/registry", endless)
    for topic in ("home/service/registry", "home/service/onewire/health", f"home/data/{WATER}", "link"):
        for payload in (b"\xff", b"[" * 5000, b"{}", b'{"value":1,"time":"x"}', b'{"state":5}'):
            evil.raw(topic, payload)
    evil.raw(f"home/data/{WATER}", json.dumps({"value": "cold", "unit": "°C", "time": "2026-12-24T00:00:00.000Z"}))
    evil.raw(f"home/data/{WATER}", json.dumps({"value": 1, "unit": "°C", "time": "2099-12-24T00:00:00.000Z"}))
    good.say(WATER, 5.0, now())
    fleet.fires("cold_h2_boiler_water_temperature")
    fleet.ear.wait(f"{ROOT}/service/alerts/health", lambda health: health["alerts"]["rules"] < 15)
    good.say(WATER, 50.0, now())
    fleet.fires("cold_h2_boiler_water_temperature", "ok")


def test_a_house_whose_topic_can_never_fire_a_rule_is_left_out_of_that_rule_alone() -> None:
    def mass(kind: str) -> WatchedTopic:
        return WatchedTopic(kind, "kg", 1, (), 60.0, "h/phase", "pellets")

    topics = {"h1/silo/pellets/mass": mass("gauge"), "h2/silo/pellets/mass": mass("counter")}
    rule = msgspec.convert({"when": "growth of +/silo/pellets/mass over 6h < -50"}, Rule, dec_hook=from_text)
    watches, problems = compile_rules({"leak": rule}, Scope(topics, (), (), frozenset(("h1", "h2"))))
    assert [watch.key for watch in watches] == ["h1/silo/pellets/mass"]
    assert problems == []


def test_a_house_is_no_other_house_by_a_name_that_looks_alike(tmp_path: Path) -> None:
    houses = WatchedHouses(tmp_path / "houses.json", lambda _file, _value: None)
    houses.take({}, ("north", "north_1"))
    assert houses._is_like_another("north", "1_cellar/water/temperature")
    assert not houses._is_like_another("north", "cellar/water/temperature")
    assert not houses._is_like_another("north_1", "cellar/water/temperature")


def test_runs_of_numbers_that_one_house_makes_up_cost_no_other_its_own() -> None:
    desk = Desk((Path("kept"), Path("run")), lambda *_, **__: None, lambda *_: None, 0, Memory())
    assert desk.is_fresh(Sequence("good:a", 0, 7)) is None
    for number in range(3000):
        desk.is_fresh(Sequence(f"evil:{number}", 0, 1))
    assert desk.is_fresh(Sequence("good:a", 6, 7)) is False, "a repeat is known as one"
    assert len(desk.kept.heads.numbers) < 100


class Memory:
    """A disk with nothing on it."""

    def load(self, _path: Path, _kind: Any, default: Any) -> Any:
        return default


def test_a_house_that_is_revoked_is_no_longer_watched_and_a_new_one_is(fleet: Fleet) -> None:
    fleet.start()
    fleet.speak(10.0, 60.0, 60.0)
    fleet.fires("cold_h1_boiler_water_temperature")
    fleet.roster("h1", "h2", "h4", revoked="h1")
    fleet.ear.wait(f"{ROOT}/alert/cold_h1_boiler_water_temperature", lambda alert: alert == b"")
    fleet.houses[0].raw("link", b"0", retain=True)
    fleet.houses[1].raw("link", b"0", retain=True)
    fleet.fires("cut_h2")
    assert not fleet.alert("cut_h1")
