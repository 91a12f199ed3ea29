"""The alerts service as a process, with a real broker, real sources and the real notifier."""

import json
import os
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from harness import PROJECT, Broker, Ear, House, stand_in, wait_for

from bootstrap_lib import format_time, parse_time
from bootstrap_lib.registry import Registry
from services.alerting import explanation_of
from services.alerts import Alerts
from services.simulators.onewire import Tree
from services.simulators.pushover import PushoverServer
from services.stores.database import Database
from services.stores.minutes import compute

HOUR = 3_600_000
WATER, FLUE = "28-0316a2795f4b", "28-0316a2795f4c"
SILENT = "Silent boiler flue temperature"
HOUSE = """
sources:
  onewire: {{every: 500ms, stale: 2s, heartbeat: 1s, bus: {bus}}}
subscribers:
  alerts: {{every: 100ms, settle: {settle}, gather: 300ms, heartbeat: 1s{more}}}
  pushover: {{api_url: "{url}/1/", timeout: 1s, every: 100ms}}
  mail: {{service: apprise, urls: [secret:mail]}}
  other: {{service: apprise, urls: [secret:mail]}}
topics:
  boiler/water/temperature: {{from: onewire, id: 28-0316a2795f4b}}
  boiler/flue/temperature: {{from: onewire, id: 28-0316a2795f4c}}
alerts:
  hot: {{when: boiler/water/temperature > 85, clear: 80, for: 1s, hold_off: 5s, priority: 1, say: "water at {{value}} {{unit}}"}}
  silent: {{stale: boiler/+/temperature, for: 5s, inhibited_by: dead}}
  dead: {{when: service onewire is dead, for: 1s}}
"""

SERVICES = """
sources: {onewire: {}}
subscribers:
  alerts: {every: 100ms, settle: 1s, heartbeat: 300ms}
topics: {boiler/water/temperature: {from: onewire, id: 28-0316a2795f4b}}
alerts:
  dropping: {when: service onewire counters.dropped != 7}
  listing: {when: service onewire counters != 7}
  degraded: {when: service onewire is degraded}
"""

TRIED = """
sources: {onewire: {}, button: {pin: 17}}
subscribers: {archive: {}, alerts: {}}
topics:
  boiler/water/temperature: {from: onewire, id: 28-0316a2795f4b}
  boiler/flue/temperature: {from: onewire, id: 28-0316a2795f4c}
  boiler/fan/running_active: {from: button}
"""


@pytest.fixture
def tree(tmp_path: Path) -> Iterator[Tree]:
    with Tree(tmp_path / "w1") as tree:
        tree.set(WATER, 60.0)
        tree.set(FLUE, 50.0)
        yield tree


@pytest.fixture
def phone() -> Iterator[PushoverServer]:
    with PushoverServer() as server:
        yield server


@pytest.fixture
def home(house: House, ear: Ear, tree: Tree, phone: PushoverServer, tmp_path: Path) -> House:
    credentials = tmp_path / "credentials"
    credentials.mkdir()
    for name, text in (("pushover.token", "a" * 30), ("pushover.user", "u" * 30)):
        (credentials / name).write_text(text)
        (credentials / name).chmod(0o600)
    house.environment["CONSTELLATION_CREDENTIALS"] = str(credentials)
    write(house, tree, phone)
    for name in ("onewire", "pushover", "alerts"):
        house.start(name, wait=False)
    for name in ("onewire", "pushover", "alerts"):
        ear.wait(f"home/service/{name}/health")
    ear.wait("home/data/boiler/water/temperature")
    return house


def write(house: House, tree: Tree, phone: PushoverServer, settle: str = "2s", more: str = "") -> None:
    house.write(HOUSE.format(bus=tree.root, url=phone.url, settle=settle, more=more))


def told(phone: PushoverServer) -> list[str]:
    return [fields["title"] for fields in phone.taken]


def is_told(phone: PushoverServer, *titles: str, timeout: float = 30.0) -> None:
    wait_for(lambda: told(phone) == list(titles), timeout, f"{titles}, told {phone.taken}")


def state(name: str) -> Any:
    return lambda shown: isinstance(shown, dict) and shown["state"] == name


@pytest.mark.slow
def test_hot_water_reaches_the_phone_once_and_its_end_once_through_kills_of_everything(
    home: House, ear: Ear, broker: Broker, tree: Tree, phone: PushoverServer
) -> None:
    assert ear.wait("home/alert/hot") == {
        "state": "ok",
        "rule": "hot",
        "topic": "boiler/water/temperature",
        "unit": "°C",
        "priority": 1,
        "acknowledged": False,
    }
    tree.set(WATER, 90.0)
    shown = ear.wait("home/alert/hot", state("firing"))
    assert (shown["value"], shown["text"]) == (90.0, "water at 90 °C")
    is_told(phone, "Hot")
    assert re.fullmatch(r"water at 90 °C \(\d\d:\d\d\)", phone.taken[0]["message"])
    house_after = ("onewire", "pushover", "alerts")
    home.kill("alerts")
    home.start("alerts")
    home.kill("pushover")
    home.start("pushover")
    broker.kill()  # its memory is gone
    for name in house_after:
        home.kill(name)
    broker.start()
    ear.heard.clear()
    for name in house_after:
        home.start(name, wait=False)
    assert ear.wait("home/alert/hot", state("firing"))["value"] == 90.0
    ear.wait("home/data/boiler/water/temperature")
    tree.unplug(FLUE)  # what begins now is told, and nothing before it
    is_told(phone, "Hot", SILENT)
    tree.set(FLUE, 50.0)
    is_told(phone, "Hot", SILENT, f"Over: {SILENT}")
    assert ear.ask("alerts", "acknowledge", {"rule": "hot"})["data"] == {"acknowledged": ["hot"]}
    assert ear.wait("home/alert/hot", lambda shown: shown["acknowledged"])["state"] == "firing"
    tree.set(WATER, 70.0)
    ear.wait("home/alert/hot", state("ok"))
    before = ("Hot", SILENT, f"Over: {SILENT}", "Over: Hot")
    is_told(phone, *before)
    assert "over after" in phone.taken[3]["message"]
    tree.set(WATER, 90.0)  # in the hold-off
    ear.wait("home/alert/hot", state("firing"))
    tree.set(WATER, 70.0)
    ear.wait("home/alert/hot", state("ok"))
    tree.set(WATER, 90.0)  # and for longer than that
    wait_for(lambda: told(phone)[4:][-1:] in (["Flaps: Hot"], ["Hot"]), what="that it comes and goes")
    assert told(phone)[:4] == list(before)


@pytest.mark.slow
def test_an_unplugged_sensor_a_dead_service_and_a_pause(
    home: House, ear: Ear, tree: Tree, phone: PushoverServer
) -> None:
    tree.unplug(FLUE)
    is_told(phone, SILENT)
    tree.set(FLUE, 50.0)
    is_told(phone, SILENT, f"Over: {SILENT}")
    assert ear.ask("onewire", "pause")["status"] == "ok"
    time.sleep(8)  # longer than silence, its `for`, and the gathering
    assert len(phone.taken) == 2
    ear.ask("onewire", "resume")
    ear.wait("home/data/boiler/water/temperature", lambda value: value != b"")
    home.kill("onewire")
    ear.wait("home/alert/dead", state("firing"))
    wait_for(lambda: told(phone)[2:] == ["Dead"], what="the dead service, which explains the silence")
    home.start("onewire")
    wait_for(lambda: told(phone)[2:] == ["Dead", "Over: Dead"], what="its end, and nothing of the silence")


@pytest.mark.slow
@pytest.mark.whole
def test_a_broker_and_a_service_that_restart_alarm_nobody(
    home: House, ear: Ear, broker: Broker, tree: Tree, phone: PushoverServer
) -> None:
    config = home.config.read_text()
    home.config.write_text(
        config.replace("when: service onewire is dead, for: 1s", "when: service onewire is dead, for: 1m")
    )
    wait_for(lambda: "topics.yaml is taken over" in home.log("alerts"), what="a restart may take a minute")
    tree.unplug(FLUE)
    is_told(phone, SILENT)  # silence is believed by now
    tree.set(FLUE, 50.0)
    is_told(phone, SILENT, f"Over: {SILENT}")
    broker.stop()
    time.sleep(4)  # twice what makes a topic stale
    broker.start()
    home.stop("onewire")
    home.start("onewire")
    ear.heard.clear()
    ear.wait("home/data/boiler/water/temperature")
    ear.wait("home/service/alerts/health")
    tree.unplug(WATER)  # what is silent now is told, and nothing before it
    is_told(phone, SILENT, f"Over: {SILENT}", "Silent boiler water temperature")


def test_requests_changed_rules_and_wrong_ones(home: House, ear: Ear, tree: Tree, phone: PushoverServer) -> None:
    assert "did you mean 'hot'" in ear.ask("alerts", "acknowledge", {"rule": "hott"})["error"]
    assert "no duration" in ear.ask("alerts", "snooze", {"rule": "hot", "for": "long"})["error"]
    assert ear.ask("alerts", "acknowledge", {"rule": "hot"})["data"] == {"acknowledged": []}
    assert ear.ask("alerts", "maintenance", {"for": "3s"})["status"] == "ok"
    tree.set(WATER, 90.0)
    ear.wait("home/alert/hot", state("firing"))
    assert not phone.taken
    is_told(phone, "Hot")  # when maintenance is over
    ear.ask("alerts", "snooze", {"rule": "hot", "for": "1h"})
    assert "snoozed_until" in ear.wait("home/alert/hot", lambda shown: "snoozed_until" in shown)
    old = home.config.read_text()
    home.write(old.split("\n", 1)[1].replace("temperature > 85", "temprature > 85"))
    wait_for(lambda: "topics.yaml:" in home.log("alerts"), what="the refusal with its line")
    assert "alerts.hot.when: 'boiler/water/temprature' is not known, did you mean" in home.log("alerts")
    home.write(old.split("\n", 1)[1].replace("  dead:", "  gone:").replace("inhibited_by: dead", "inhibited_by: gone"))
    ear.wait("home/alert/gone")
    ear.wait("home/alert/dead", lambda shown: shown == b"")
    assert ear.last("home/alert/hot")["state"] == "firing"
    assert told(phone) == ["Hot"]
    ear.say("home/notify/x/answer", b"nonsense")
    ear.say("home/service/onewire/health", b'{"state":1}')
    assert ear.ask("alerts", "ping")["status"] == "ok"


@pytest.mark.parametrize(
    "health",
    [
        b'{"state":"running","beat":1e308}',
        b'{"state":"running","beat":"inf"}',
        b'{"state":"running","beat":-1}',
        b'{"state":"running"}',
        b'{"state":["running"],"beat":10}',
        b'{"state":"running","beat":10,"counters":{"dropped":1000000000000000000000000}}',
        b'{"state":"running","beat":10,"counters":[1]}',
        b'{"state":"running","beat":10,"counters":{"dropped":{"all":1}}}',
        b"[" * 100_000,
        b'"\xff"',
    ],
)
def test_no_health_that_anybody_publishes_ends_it_or_what_it_remembers(house: House, ear: Ear, health: bytes) -> None:
    house.write(SERVICES)
    house.start("alerts")
    ear.wait("home/alert/dropping")
    ear.say("home/service/onewire/health", health)

    def is_degraded() -> bool:
        ear.say("home/service/onewire/health", b'{"state":"degraded","beat":10}')
        return bool((ear.last("home/alert/degraded") or {}).get("state") == "firing")

    wait_for(is_degraded, what="the alert")
    house.stop("alerts")
    ear.heard.clear()
    house.start("alerts")
    ear.wait("home/service/alerts/health")
    assert ear.ask("alerts", "ping")["status"] == "ok"
    assert "damaged" not in house.log("alerts")


@pytest.mark.parametrize("span", ["99999999d", "9" * 30 + "d", "9" * 400 + "d"])
@pytest.mark.parametrize("verb", ["snooze", "maintenance"])
def test_a_silence_without_end_is_refused_and_ends_nobody(house: House, ear: Ear, verb: str, span: str) -> None:
    house.write(SERVICES)
    house.start("alerts")
    ear.wait("home/alert/dropping")
    arguments = {"for": span} | ({"rule": "dropping"} if verb == "snooze" else {})
    assert "years" in ear.ask("alerts", verb, arguments)["error"]
    beat = ear.last("home/service/alerts/health")
    ear.wait("home/service/alerts/health", lambda said: said != beat)
    house.stop("alerts")
    ear.heard.clear()
    house.start("alerts")
    ear.wait("home/service/alerts/health")
    assert ear.ask("alerts", "ping")["status"] == "ok"


@pytest.fixture
def alerts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Alerts:
    """The service without a process, by a clock that is set."""
    monkeypatch.setenv("STATE_DIRECTORY", str(tmp_path))
    (tmp_path / "topics.yaml").write_text(SERVICES)
    service = Alerts(Registry(tmp_path / "topics.yaml"), "alerts")
    clock = SimpleNamespace(trusted=False, wall=1_795_000_000_000)
    clock.now = lambda: clock.wall
    stand_in(service, clock=clock, bus=SimpleNamespace(online=True, publish=lambda *_, **__: 0))
    service.begin()
    return service


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"{",
        b"[]",
        b"\xff",
        b'{"heads":{"judge":{"verdicts":{"dropping":{"time":99999999999999999}}}}}',
        b'{"heads":{"judge":{"verdicts":{"dropping":{"since":-5}}}}}',
        b'{"heads":{"judge":{"verdicts":{"x":{"window":{"span":5,"times":[1,2],"values":[1]}}}}}}',
        b'{"teller":{"waiting":[{"id":"m","notice":{"text":"x"},"targets":[]}]}}',
        b'{"teller":{"told":{"x":{"snoozed":1e300}}}}',
        b'{"published":7}',
        b"[" * 100_000,
    ],
)
def test_a_state_file_that_is_none_is_set_aside_and_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, content: bytes
) -> None:
    monkeypatch.setenv("STATE_DIRECTORY", str(tmp_path))
    monkeypatch.setenv("RUNTIME_DIRECTORY", str(tmp_path / "run"))
    (tmp_path / "topics.yaml").write_text(SERVICES)
    (tmp_path / "alerts.json").write_bytes(content)
    service = Alerts(Registry(tmp_path / "topics.yaml"), "alerts")
    clock = SimpleNamespace(trusted=True, now=lambda: 1_795_000_000_000)
    health = SimpleNamespace(counters={}, enter=lambda *_: None)
    bus = SimpleNamespace(online=True, publish=lambda *_, **__: 0, subscribe=lambda *_, **__: None)
    stand_in(service, clock=clock, bus=bus, health=health)
    service.begin()
    service.subscribe(False)
    service.on_tick()
    assert (tmp_path / "alerts.json.damaged").read_bytes() == content
    assert "it is set aside" in caplog.text


def test_an_alert_that_changes_while_its_rule_is_taken_away_ends_nobody(alerts: Alerts, tmp_path: Path) -> None:
    alerts.desk.judge.resume(0)
    alerts.desk.judge.changed.add("dropping")
    (tmp_path / "topics.yaml").write_text(SERVICES.replace("  dropping:", "  lost:"))
    alerts.on_reloaded(alerts.load(Registry(tmp_path / "topics.yaml")))
    alerts.on_tick()
    assert "lost" in alerts.desk.judge.alerts
    assert not {"dropping"} & (alerts.desk.judge.alerts.keys() | alerts.desk.judge.changed)


@pytest.fixture
def shown(alerts: Alerts, tmp_path: Path) -> dict[str, dict[str, Any]]:
    """What is retained on the alerts' topics, by a rule on all services and one on a value."""
    retained: dict[str, dict[str, Any]] = {}

    def publish(topic: str, payload: bytes, **_: Any) -> int:
        if topic.startswith("home/alert/"):
            retained[topic.rpartition("/")[2]] = json.loads(payload) if payload else {}
        return 0

    alerts.bus.publish = publish
    rules = "  dead: {when: service + is dead}\n  hot: {when: boiler/water/temperature > 85}\n"
    (tmp_path / "topics.yaml").write_text(SERVICES + rules)
    alerts.on_reloaded(alerts.load(Registry(tmp_path / "topics.yaml")))
    alerts.desk.judge.resume(0)
    return retained


def test_other_notifiers_and_another_time_zone_are_taken_over_by_a_reload(alerts: Alerts, tmp_path: Path) -> None:
    said = []
    for more in ("", "  pushover: {}", "  mail: {service: apprise, urls: [secret:mail]}", "timezone: Pacific/Auckland"):
        file = tmp_path / "topics.yaml"
        file.write_text(SERVICES.replace("\ntopics:", f"\n{more}\ntopics:"))
        alerts.on_reloaded(alerts.load(Registry(file)))
        settings = alerts.desk.teller.settings
        said.append((settings.channels(), settings.is_known("mail"), str(settings.timezone)))
    assert said == [
        ((("",),), False, "UTC"),
        ((("pushover",),), False, "UTC"),
        ((("mail",),), True, "UTC"),
        ((("",),), False, "Pacific/Auckland"),
    ]


def test_what_never_fired_has_a_topic_while_it_is_snoozed_and_no_longer(
    alerts: Alerts, shown: dict[str, dict[str, Any]]
) -> None:
    now = alerts.clock.wall
    assert "dead_onewire" not in shown
    alerts.desk.teller.snooze(alerts.desk.teller.named("dead"), now + 60_000)
    alerts.desk.turn(1000, now)
    assert shown["dead_onewire"]["snoozed_until"]
    shown.clear()
    alerts.desk.show_all(1500, now)  # a broker that lost its memory
    assert shown["dead_onewire"]["snoozed_until"]
    said: list[bytes] = []
    alerts.bus.publish = lambda topic, payload, **_: said.append(payload) if topic.endswith("dead_onewire") else 0
    alerts.desk.turn(2000, now + 60_000)
    assert said == [b""]
    assert alerts.desk.kept.published.isdisjoint({"dead_onewire", "dead_alerts"})


def test_a_value_that_stands_has_its_newest_time(alerts: Alerts, shown: dict[str, dict[str, Any]]) -> None:
    begun = alerts.clock.wall
    for n in range(60):
        alerts.desk.judge.feed("boiler/water/temperature", 91.0, begun + n * 5000, n * 5000, 0, fresh=True)
        alerts.desk.turn(n * 5000, begun + n * 5000)
    assert shown["hot"]["value"] == 91.0
    assert begun + 59 * 5000 - parse_time(shown["hot"]["time"]) <= 10_000


def test_why_says_which_reading_made_it_fire(alerts: Alerts, shown: dict[str, dict[str, Any]]) -> None:
    begun = alerts.clock.wall
    found = []
    for n, value in enumerate((60.0, 91.0, 97.5, 88.0, 70.0, 60.0)):
        alerts.desk.judge.feed("boiler/water/temperature", value, begun + n * 5000, n * 5000, 0, fresh=True)
        alerts.desk.turn(n * 5000, begun + n * 5000)
        found.append(explanation_of(alerts.desk.teller, "hot", n * 5000, begun + n * 5000)["found"])
    worst = f"worst 97.5 °C at {format_time(begun + 10_000)}"
    assert worst in found[3]
    assert f"the last time began {format_time(begun + 5000)}, {worst}" in found[5]


def test_a_clock_that_is_right_for_the_first_time_moves_nothing_and_one_that_is_set_moves_all(alerts: Alerts) -> None:
    service, clock = alerts, alerts.clock
    hour = 3_600_000
    until = clock.wall + 9 * hour
    service.desk.teller.snooze(["dropping"], until)
    standing = service.desk.teller.memory.told["dropping"]
    clock.wall, clock.trusted = clock.wall + 8 * hour, True  # off for eight hours, and now it knows
    service.moment()
    assert standing.snoozed == until
    clock.wall -= hour
    service.moment()
    assert standing.snoozed == pytest.approx(until - hour, abs=10_000)


def test_where_nobody_can_be_told_a_test_says_so_at_once_and_snoozes_are_listed(house: House, ear: Ear) -> None:
    house.write(SERVICES.replace("300ms", "2s"))
    house.start("alerts")
    ear.wait("home/alert/dropping")
    assert ear.ask("alerts", "test")["data"] == {"messages": []}
    command = [sys.executable, "-m", "bootstrap_lib.cli", "--config", str(house.config), "alerts"]

    def run(*words: str) -> str:
        more = {"timeout": 30, "cwd": PROJECT, "env": house.environment}
        return subprocess.run([*command, *words], capture_output=True, text=True, check=False, **more).stdout

    assert run("test") == "there is nobody to tell\n"
    ear.ask("alerts", "snooze", {"rule": "dropping", "for": "1h"})
    ear.wait("home/service/alerts/health", lambda said: said["alerts"]["snoozed"] == ["dropping"])
    assert "snoozed: dropping" in run("list").splitlines()


def test_a_disk_that_takes_nothing_is_said_once_and_people_are_told_all_the_same(
    house: House, ear: Ear, tmp_path: Path
) -> None:
    house.write(SERVICES)
    (house.state("alerts") / ".alerts.json.new").mkdir(parents=True)
    house.start("alerts")
    ear.wait("home/alert/dropping")
    for state_ in ("degraded", "running", "degraded"):
        ear.say("home/service/onewire/health", json.dumps({"state": state_, "beat": 10}))
        ear.wait("home/alert/degraded", state("firing" if state_ == "degraded" else "ok"))
    assert house.log("alerts").count("alerts.json cannot be written") == 1


def test_where_pushover_does_not_deliver_the_next_notifier_is_asked_and_the_end_goes_to_who_was_told(
    home: House, ear: Ear, tree: Tree, phone: PushoverServer
) -> None:
    write(home, tree, phone, more=", fallback: 2s, notify: [pushover, other]")
    wait_for(lambda: "is taken over" in home.log("alerts"), what="the reload")

    def asked(which: str) -> list[dict[str, Any]]:
        """Messages for a notifier, each once, in the order in which it was first asked."""
        found: dict[str, dict[str, Any]] = {}
        for topic, payload, _ in list(ear.heard):
            if topic.count("/") == 2 and "/notify/" in topic:
                notice = json.loads(payload) | {"id": topic.rpartition("/")[2]}
                if notice["notify"] == which and not notice.get("withdraw"):
                    found.setdefault(notice["id"], notice)
        return list(found.values())

    def answer(identity: str, state: str) -> None:
        ear.say(f"home/notify/{identity}/answer", json.dumps({"notifier": "other", "state": state}))

    phone.fail("400")
    tree.set(WATER, 90.0)
    wait_for(lambda: len(asked("other")) == 1, what="the fallback of a refusal")
    (begin,) = asked("other")
    answer(begin["id"], "failed")
    wait_for(lambda: "nobody was told 'hot' so far" in home.log("alerts"), what="that nobody was told")
    shown = ear.wait("home/service/alerts/health", lambda said: said["alerts"]["untold"] == ["hot"])
    assert shown["state"] == "degraded"
    answer(begin["id"], "delivered")  # late, but there
    ear.wait("home/alert/hot", lambda said: said.get("told") == ["other"])
    shown = ear.wait("home/service/alerts/health", lambda said: said["alerts"]["untold"] == [])
    assert (shown["state"], shown["last_error"]) == ("running", None)
    tree.set(WATER, 70.0)
    wait_for(lambda: len(asked("other")) == 2, what="the end, to who got the begin")
    assert asked("other")[1]["title"] == "Over: Hot"
    answer(asked("other")[1]["id"], "delivered")
    ear.wait("home/alert/hot", lambda said: "told" not in said)
    assert [notice["title"] for notice in asked("pushover")] == ["Hot"]
    assert not phone.taken


def test_the_command_lists_tests_and_silences(home: House, ear: Ear, tree: Tree, phone: PushoverServer) -> None:
    def run(*words: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "bootstrap_lib.cli", "--config", str(home.config), *words]
        return subprocess.run(command, capture_output=True, text=True, timeout=30, cwd=PROJECT, env=home.environment)

    refused = run("alerts", "test", "--notify", "pushove")
    assert "did you mean 'pushover'" in refused.stderr
    done = run("alerts", "test", "--notify", "pushover")
    assert done.returncode == 0, done.stderr
    assert sorted(done.stdout.splitlines()) == [
        f"Test, priority {priority}: delivered by pushover" for priority in (-1, -2, 0, 1, 2)
    ]
    assert len(phone.taken) == 5
    assert sorted(int(fields["priority"]) for fields in phone.taken) == [-2, -1, 0, 1, 2]
    shown = run("alerts", "list").stdout
    assert [line.split()[:2] for line in shown.splitlines()] == [["dead", "ok"], ["hot", "ok"]]
    assert run("alerts", "list", "--firing").returncode == 0
    refused = run("alerts", "snooze", "hott", "1h")
    assert refused.returncode != 0
    assert "did you mean 'hot'" in refused.stderr
    assert "Traceback" not in refused.stderr


def test_recorded_readings_are_replayed_by_the_command(house: House, tmp_path: Path) -> None:
    house.write(HOUSE.format(bus=tmp_path, url="http://127.0.0.1:9", settle="1s", more=""))
    recording = tmp_path / "readings.jsonl"
    start = 1_795_000_000
    recording.write_text(
        "".join(
            json.dumps(
                {
                    "topic": "boiler/water/temperature",
                    "value": 90 if 20 <= n < 60 else 60,
                    "unit": "°C",
                    "time": datetime.fromtimestamp(start + n, UTC).isoformat(),
                }
            )
            + "\n"
            for n in range(100)
        )
    )
    command = [sys.executable, "-m", "bootstrap_lib.cli", "--config", str(house.config), "replay", "alerts"]
    done = subprocess.run([*command, str(recording)], capture_output=True, text=True, timeout=30, cwd=PROJECT)
    assert done.returncode == 0, done.stderr
    assert [line.split(" ")[0] for line in done.stdout.splitlines()] == ["home/alert/hot"] * 2
    recording.write_text("{\n")
    done = subprocess.run([*command, str(recording)], capture_output=True, text=True, timeout=30, cwd=PROJECT)
    assert "line 1" in done.stderr
    assert "Traceback" not in done.stderr
    assert done.returncode == os.EX_UNAVAILABLE


@pytest.mark.parametrize("age", [1, 20])
def test_a_rule_is_tried_on_what_the_archive_holds_of_all_topics(house: House, age: int) -> None:
    """The sensor dies hot while the other speaks; after eight days the archive has minutes of it."""
    house.write(TRIED)
    folder = house.state("archive")
    folder.mkdir(parents=True, exist_ok=True)
    database = Database("sqlite:///{state}/archive.sqlite", folder)
    database.take_topics(Registry(house.config).topics.values())
    begin = (time.time_ns() // 1_000_000 // HOUR - 24 * age) * HOUR
    for n in range(3 * 360):
        moment = begin + n * 10_000
        database.store("boiler/flue/temperature", moment, 60.0 + n % 7 / 10)
        database.store("boiler/fan/running_active", moment, n % 360 in (97, 98))
        if n <= 360:
            database.store("boiler/water/temperature", moment, 95.0 if n > 350 else 60.0)
    database.commit({})
    if age > 8:
        with database.engine.begin() as connection:
            while compute(connection, begin + 3 * HOUR, 0, database.holds):
                pass
            connection.exec_driver_sql("DELETE FROM readings")
    database.close()
    command = [
        sys.executable,
        "-m",
        "bootstrap_lib.cli",
        "--config",
        str(house.config),
        "alerts",
        "try",
        "--since",
        "30d",
    ]

    def fired(*words: str) -> str:
        more = {"timeout": 60, "cwd": PROJECT, "env": house.environment | {"STATE_DIRECTORY": str(folder)}}
        done = subprocess.run([*command, *words], capture_output=True, text=True, check=False, **more)
        assert done.returncode == 0, done.stderr
        return done.stdout.splitlines()[-1].partition(",")[0]

    assert fired("boiler/water/temperature is stale", "--for", "5m") == "would have fired 1 time"
    assert fired("boiler/water/temperature > 85", "--for", "10m") == "would have fired 1 time"
    assert fired("boiler/flue/temperature is stale") == "would have fired 0 times"
    assert fired("boiler/fan/running_active == true") == "would have fired 3 times"


def test_a_wrong_rule_is_found_by_check_with_its_line(house: House, tmp_path: Path) -> None:
    text = HOUSE.format(bus=tmp_path, url="http://127.0.0.1:9", settle="1s", more=", notify: pushove")
    house.write(text.replace("clear: 80", "clear: 90").replace("inhibited_by: dead", "inhibitedby: dead"))
    command = [sys.executable, "-m", "bootstrap_lib.cli", "--config", str(house.config), "check"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=30, cwd=PROJECT)
    assert done.returncode == os.EX_CONFIG
    assert "did you mean 'pushover'?" in done.stderr
    assert "unknown key 'inhibitedby', did you mean 'inhibited_by'?" in done.stderr
    house.write(text.replace("clear: 80", "clear: 90"))
    done = subprocess.run(command, capture_output=True, text=True, timeout=30, cwd=PROJECT)
    assert "topics.yaml:14: alerts.hot.clear: it would be over at 90 and begin at 85" in done.stderr
