"""A house that is on a broker already: values, words, age and absence as the devices say them themselves."""

import json
import subprocess
import sys
from datetime import UTC, datetime, timedelta, timezone, tzinfo
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from harness import PROJECT, Broker, Ear, House, wait_for
from hypothesis import given
from hypothesis import strategies as st

from bootstrap_lib.commands.check import problems_of
from bootstrap_lib.events import Message
from bootstrap_lib.registry import Registry
from services.links.foreign_line import ForeignLine
from services.links.foreign_news import ForeignNews
from services.protocols import foreign, path

HEALTH = "home/service/mqtt/health"
TOPICS = """
sources:
  mqtt: {heartbeat: 300ms, every: 1s, stale: 60s%s}
topics:
  kitchen/plug/power: {from: mqtt, topic: tele/plug/SENSOR, path: ENERGY.Power, available: tele/plug/LWT}
  kitchen/plug/energy: {from: mqtt, topic: tele/plug/SENSOR, path: ENERGY.Total, time: Time}
  kitchen/probe/temperature: {from: mqtt, topic: tele/plug/SENSOR, path: DS18B20-1.Temperature, unit: °F}
  hall/shelly/energy: {from: mqtt, topic: shellies/one/relay/0/energy, unit: Wmin}
  hall/shelly/relay_active: {from: mqtt, topic: shellies/one/relay/0}
  hall/pro/power: {from: mqtt, topic: "pro/status/switch:0", path: apower, available: pro/online}
  bath/air/temperature: {from: mqtt, topic: zigbee2mqtt/bath, path: temperature, changes: true,
                         available: {topic: zigbee2mqtt/bath/availability}}
  bath/window/open_active: {from: mqtt, topic: zigbee2mqtt/window, path: contact, invert: true}
  attic/air/temperature: {from: mqtt, topic: attic/sensor/air/state, available: attic/status}
  road/car/charging_state: {from: mqtt, topic: evcc/loadpoints/1/mode, states: [idle, pv, "fast now"],
                            words: {"off": idle, now: "fast now"}}
  road/meter/power: {from: mqtt, topic: rtl_433/+/events, path: power_W, when: {id: "17"}}
"""


def ago(seconds: float) -> str:
    """A time as devices say it."""
    return (datetime.now(UTC) - timedelta(seconds=seconds)).isoformat(timespec="milliseconds")


def topic(name: str) -> str:
    return f"home/data/{name}"


@pytest.fixture
def lit(house: House, ear: Ear) -> House:
    house.write(TOPICS % "")
    house.start("mqtt")
    ear.wait(HEALTH, lambda health: health["state"] == "running")
    return house


def say(ear: Ear, where: str, what: Any, *, retain: bool = False) -> None:
    ear.say(where, what if isinstance(what, (str, bytes)) else json.dumps(what), retain=retain)


@pytest.fixture
def ear(broker: Broker) -> Ear:
    return Ear(broker.port, "#")


def test_each_makers_payload_becomes_the_same_tree(lit: House, ear: Ear) -> None:
    say(ear, "tele/plug/LWT", "Online")
    say(
        ear,
        "tele/plug/SENSOR",
        {"Time": ago(1), "ENERGY": {"Total": 3.25, "Power": 71}, "DS18B20-1": {"Temperature": 68}},
    )
    assert ear.wait(topic("kitchen/plug/power"))["value"] == 71
    assert ear.wait(topic("kitchen/plug/energy"))["value"] == 3.25
    assert ear.wait(topic("kitchen/probe/temperature"))["value"] == 20.0
    say(ear, "shellies/one/relay/0/energy", "90000")
    say(ear, "shellies/one/relay/0", "on")
    assert ear.wait(topic("hall/shelly/energy"))["value"] == 1.5
    assert ear.wait(topic("hall/shelly/relay_active"))["value"] is True
    say(ear, "pro/online", "true")
    say(ear, "pro/status/switch:0", {"apower": 12.5, "temperature": {"tC": 40}})
    assert ear.wait(topic("hall/pro/power"))["value"] == 12.5
    say(ear, "zigbee2mqtt/bath", {"temperature": 21.5, "linkquality": 80})
    assert ear.wait(topic("bath/air/temperature"))["value"] == 21.5
    say(ear, "zigbee2mqtt/window", {"contact": True})
    assert ear.wait(topic("bath/window/open_active"))["value"] is False
    say(ear, "attic/sensor/air/state", "18.25")
    assert ear.wait(topic("attic/air/temperature"))["value"] == 18.25
    say(ear, "evcc/loadpoints/1/mode", "off")
    assert ear.wait(topic("road/car/charging_state"))["value"] == "idle"
    say(ear, "rtl_433/roof/events", {"id": 16, "power_W": 99})
    say(ear, "rtl_433/roof/events", {"id": 17, "power_W": 44})
    assert ear.wait(topic("road/meter/power"))["value"] == 44
    assert [json.loads(payload)["value"] for payload in ear.all(topic("road/meter/power"))] == [44]


def test_partial_empty_and_absurd_messages_are_no_values(lit: House, ear: Ear) -> None:
    for payload in (b"", b"{", b"[]", b'"x"', b"\xff", b'{"ENERGY":null}', b'{"ENERGY":{"Power":null}}', b"[" * 5000):
        say(ear, "tele/plug/SENSOR", payload)
    for text in ("nan", "unavailable", "---", "null"):
        say(ear, "attic/sensor/air/state", text)
    say(ear, "attic/sensor/air/state", "warm")
    ear.wait(HEALTH, lambda health: health["last_error"] and "'warm' is no number" in health["last_error"]["text"])
    say(ear, "attic/sensor/air/state", "19")
    assert ear.wait(topic("attic/air/temperature"), lambda value: value != b"")["value"] == 19
    assert not [payload for payload in ear.all(topic("kitchen/plug/power")) if payload]


def test_a_number_of_four_hundred_digits_is_no_value_and_ends_nothing(lit: House, ear: Ear) -> None:
    huge = b"9" * 400
    say(ear, "tele/plug/SENSOR", b'{"Time":' + huge + b',"ENERGY":{"Total":1,"Power":' + huge + b"}}", retain=True)
    say(ear, "shellies/one/relay/0/energy", huge)
    say(ear, "attic/sensor/air/state", "19")
    assert ear.wait(topic("attic/air/temperature"))["value"] == 19
    health = ear.wait(HEALTH, lambda health: health["counters"].get("errors", 0) > 0 and health["last_error"])
    assert "trying on" not in lit.log("mqtt"), health
    assert health["state"] in ("running", "degraded")


def test_a_device_that_says_it_is_away_has_no_value(lit: House, ear: Ear) -> None:
    power = topic("kitchen/plug/power")
    say(ear, "tele/plug/SENSOR", {"ENERGY": {"Power": 71}})
    ear.wait(power)
    say(ear, "tele/plug/LWT", "Offline")
    ear.wait(power, lambda value: value == b"")
    say(ear, "tele/plug/SENSOR", {"ENERGY": {"Power": 72}})
    say(ear, "zigbee2mqtt/bath/availability", {"state": "offline"})
    say(ear, "tele/plug/LWT", "Online")
    say(ear, "tele/plug/SENSOR", {"ENERGY": {"Power": 73}})
    ear.wait(power, lambda value: value != b"" and value["value"] == 73)
    assert 72 not in [json.loads(payload)["value"] for payload in ear.all(power) if payload]


def test_a_retained_value_is_only_as_old_as_it_says(house: House, ear: Ear) -> None:
    """The last words of a device that died in spring come first, as if they were new."""
    house.write(TOPICS % "")
    old, new = datetime.now(UTC) - timedelta(days=90), datetime.now(UTC) - timedelta(seconds=5)
    say(ear, "attic/sensor/air/state", "11", retain=True)  # no time, and nobody says that it is there
    say(ear, "shellies/one/relay/0", "on", retain=True)  # no time, and nothing that says it is there
    say(ear, "pro/status/switch:0", {"apower": 5}, retain=True)
    say(ear, "pro/online", "true", retain=True)
    say(ear, "tele/plug/SENSOR", {"Time": old.isoformat(), "ENERGY": {"Total": 1.0, "Power": 1}}, retain=True)
    house.start("mqtt")
    assert ear.wait(topic("hall/pro/power"))["value"] == 5, "its availability vouches for it"
    say(ear, "attic/status", "online")
    assert ear.wait(topic("attic/air/temperature"))["value"] == 11
    house.stop("mqtt")
    say(ear, "tele/plug/SENSOR", {"Time": new.isoformat(), "ENERGY": {"Total": 2.0, "Power": 2}}, retain=True)
    house.start("mqtt")
    assert ear.wait(topic("kitchen/plug/energy"), lambda value: value != b"")["value"] == 2.0
    for name in ("kitchen/plug/energy", "kitchen/plug/power", "hall/shelly/relay_active"):
        assert not {1.0} & {json.loads(payload)["value"] for payload in ear.all(topic(name)) if payload}


def test_a_reading_has_the_time_that_its_message_says_and_goes_stale_by_it(house: House, ear: Ear) -> None:
    house.write(TOPICS % "")
    energy, then = topic("kitchen/plug/energy"), ago(20)
    say(ear, "tele/plug/SENSOR", {"Time": then, "ENERGY": {"Total": 2.0}}, retain=True)
    house.start("mqtt")
    assert ear.wait(energy)["time"] == then.replace("+00:00", "Z")
    say(ear, "tele/plug/SENSOR", {"Time": (later := ago(54)), "ENERGY": {"Total": 1.0}})  # older than what stands
    say(ear, "tele/plug/SENSOR", {"Time": ago(86400), "ENERGY": {"Total": 1.5}})
    ear.wait(HEALTH, lambda health: "ago by its own time" in str(health["last_error"]))
    assert [json.loads(payload)["value"] for payload in ear.all(energy)] == [2.0], "each once"
    house.stop("mqtt")
    say(ear, "tele/plug/SENSOR", b"", retain=True)
    house.start("mqtt")
    ear.wait(HEALTH, lambda health: health["start"] == 2)
    say(ear, "tele/plug/SENSOR", {"Time": later, "ENERGY": {"Total": 3.0}})
    ear.wait(energy, lambda value: value != b"" and value["value"] == 3.0)
    ear.wait(energy, lambda value: value == b"", timeout=20)


def test_what_came_in_a_pause_is_nobodys_reading_afterwards(lit: House, ear: Ear) -> None:
    air = topic("attic/air/temperature")
    say(ear, "attic/sensor/air/state", "10")
    ear.wait(air)
    ear.ask("mqtt", "pause")
    for value in ("11", "12"):
        say(ear, "attic/sensor/air/state", value)
    ear.ask("mqtt", "ping")  # it has heard them
    ear.ask("mqtt", "resume")
    ear.wait(HEALTH, lambda health: health["state"] == "running")
    say(ear, "attic/sensor/air/state", "13")
    ear.wait(air, lambda reading: reading["value"] == 13)
    assert [json.loads(payload)["value"] for payload in ear.all(air)] == [10, 13]


class Listener:
    """What becomes of messages one by one."""

    def __init__(self, folder: Path) -> None:
        (folder / "topics.yaml").write_text(TOPICS % "")
        registry = Registry(folder / "topics.yaml")
        self.topics, self.news = registry.topics_of("mqtt", ForeignLine), ForeignNews()
        self.zone: tzinfo = UTC

    def hear(self, where: str, what: str | bytes, *, retained: bool = False, now: float | None = 1e9) -> list[Any]:
        payload = what.encode() if isinstance(what, str) else what
        heard = Message(where, payload, retained, 0, 1, None, None, None)
        return [sample[1:] for sample in self.news.take(self.topics, heard, self.zone, now)]


def lines_of(folder: Path, line: str) -> Listener:
    """A listener to one line."""
    ears = Listener(folder)
    (folder / "topics.yaml").write_text(f"sources: {{mqtt: {{stale: 60s}}}}\ntopics: {{{line}}}\n")
    ears.topics = Registry(folder / "topics.yaml").topics_of("mqtt", ForeignLine)
    return ears


def test_a_retained_value_without_a_time_is_taken_once_however_often_the_connection_is_lost(tmp_path: Path) -> None:
    """A will that is stuck at online and a shaky network would keep a dead device alive."""
    ears = Listener(tmp_path)
    for connection in range(3):
        assert ears.hear("attic/sensor/air/state", "21", retained=True) == []
        assert ears.hear("attic/status", "online", retained=True) == ([(21,)] if connection == 0 else [])
    assert ears.hear("attic/sensor/air/state", "22", retained=True) == [(22,)], "it was said meanwhile"
    assert ears.hear("attic/sensor/air/state", "22") == [(22,)], "what is live is news"


def test_a_device_that_comes_back_with_the_same_value_has_it_again(tmp_path: Path) -> None:
    ears = Listener(tmp_path)
    say = '{"temperature":21.5}'
    assert ears.hear("zigbee2mqtt/bath", say) == [(21.5,)]
    assert ears.hear("zigbee2mqtt/bath", say) == []
    assert ears.hear("zigbee2mqtt/bath/availability", "offline") == [(None,)]
    assert ears.hear("zigbee2mqtt/bath/availability", "online") == []
    assert ears.hear("zigbee2mqtt/bath", say) == [(21.5,)]
    assert ears.hear("zigbee2mqtt/bath", b"") == [(None,)]
    assert ears.hear("zigbee2mqtt/bath", say) == [(21.5,)]


def test_messages_of_one_second_follow_each_other_and_what_nobody_can_date_is_not_retained(tmp_path: Path) -> None:
    ears, now = Listener(tmp_path), 1_700_000_010.0

    def total(value: float, second: int, *, retained: bool = False, now: float | None = now) -> list[Any]:
        said = json.dumps({"Time": f"2023-11-14T22:13:{second:02}", "ENERGY": {"Total": value}})
        return ears.hear("tele/plug/SENSOR", said, retained=retained, now=now)

    assert total(1.0, 20, retained=True, now=None) == [], "while our own clock is not known"
    assert total(1.0, 20, retained=True) == [(1.0, 1_700_000_000_000)]
    assert total(1.0, 20, retained=True) == [], "another connection"
    assert total(1.1, 20) == [(1.1, 1_700_000_000_001)]
    assert total(1.2, 20) == [(1.2, 1_700_000_000_002)]
    assert total(1.0, 15) == [], "it is older"
    assert total(9.9, 20, retained=True, now=now - 3600) == [], "of the future"
    assert total(1.3, 25, now=None) == [(1.3,)]


def energy_at(text: str, value: float) -> str:
    return json.dumps({"Time": text, "ENERGY": {"Total": value}})


def test_a_clock_that_was_fast_silences_nobody_once_it_is_put_right(tmp_path: Path) -> None:
    """An ESP before NTP tells 2036; what it told then is of now, and so is nothing newer than what it tells afterwards."""
    ears, now = Listener(tmp_path), 1_700_000_000.0
    for told, value in (("2036-02-07T06:28:16", 1.0), ("2023-11-14T22:18:30", 1.1), ("2023-11-14T22:13:40", 1.2)):
        assert ears.hear("tele/plug/SENSOR", energy_at(told, value), now=now) == [(value, 1000 * now)]
        now += 10
    now += 5  # 22:13:55
    fast, slow = energy_at("2023-11-14T22:14:10", 1.3), energy_at("2023-11-14T22:13:52", 1.4)
    assert ears.hear("tele/plug/SENSOR", fast, retained=True, now=now) == [(1.3, 1000 * now)]
    assert ears.hear("tele/plug/SENSOR", fast, retained=True, now=now + 1) == [], "another connection"
    assert ears.hear("tele/plug/SENSOR", slow, now=now + 2) == [], "it is older than what stands"


def test_each_device_of_a_pattern_has_its_own_clock_and_no_reading_is_older_than_the_one_before(tmp_path: Path) -> None:
    now = 1_700_000_000.0
    ears = lines_of(tmp_path, "a/b/energy: {from: mqtt, topic: tele/+/SENSOR, path: ENERGY.Total, time: Time}")
    assert ears.hear("tele/fast/SENSOR", energy_at("2023-11-14T22:14:20", 1.0), now=now) == [(1.0, 1000 * now)]
    assert ears.hear("tele/slow/SENSOR", energy_at("2023-11-14T22:13:10", 2.0), now=now) == [(2.0, 1000 * now + 1)]
    assert ears.hear("tele/slow/SENSOR", energy_at("2023-11-14T22:13:05", 2.0), now=now) == [], "it is older"


@pytest.mark.parametrize("text", ["true", "True"])
def test_a_message_is_meant_by_what_json_writes_in_it(tmp_path: Path, text: str) -> None:
    ears = lines_of(tmp_path, f"a/b/power: {{from: mqtt, topic: x, path: p, when: {{on: '{text}', id: '17'}}}}")
    assert ears.hear("x", '{"p":5,"on":true,"id":17}') == [(5,)]
    assert ears.hear("x", '{"p":5,"on":true,"id":17.0}') == [(5,)]
    assert ears.hear("x", '{"p":5,"on":false,"id":17}') == []
    ears = lines_of(tmp_path, "a/b/power: {from: mqtt, topic: x, path: 'list[on=true].p', words: {'1': '7'}}")
    assert ears.hear("x", '{"list":[{"on":false,"p":4},{"on":true,"p":1.0}]}') == [(7,)]


@pytest.mark.parametrize(
    ("there", "away"),
    [
        ("connected", "disconnected"),
        ("ready", "lost"),
        ("2", "0"),
        ('{"state":"Alive"}', '{"state":"Dead"}'),
        ('{"state":"online"}', '{"state":"unavailable"}'),
        ('"online"', '"offline"'),
        ("\ufeffonline", "\ufeffoffline"),
    ],
)
def test_what_a_device_says_of_itself_is_understood(tmp_path: Path, there: str, away: str) -> None:
    ears = Listener(tmp_path)
    assert ears.hear("attic/status", there, retained=True) == []
    assert ears.hear("attic/sensor/air/state", "21", retained=True) == [(21,)]
    assert ears.hear("attic/status", away) == [(None,)]


def test_a_word_for_there_that_nobody_knows_is_said_once(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    ears = Listener(tmp_path)
    for said in ("", "{}", "anwesend", "abwesend", '{"state":null}'):
        assert ears.hear("attic/status", said) == []
    assert [record.message for record in caplog.records] == [
        "attic/air/temperature: attic/status: 'anwesend' says neither that it is there nor that it is away"
    ]


@pytest.mark.parametrize(
    ("utc", "local"), [("00:30:00", "02:30:00"), ("01:30:00", "02:30:00"), ("02:30:00", "03:30:00")]
)
def test_the_hour_that_autumn_has_twice_is_heard_twice(tmp_path: Path, utc: str, local: str) -> None:
    ears, now = Listener(tmp_path), datetime.fromisoformat(f"2026-10-25T{utc}Z").timestamp()
    ears.zone = ZoneInfo("Europe/Berlin")
    heard = ears.hear("tele/plug/SENSOR", energy_at(f"2026-10-25T{local}", 1.0), now=now)
    assert heard == [(1.0, 1000 * now)]


def test_what_a_bridge_repeats_is_no_news(lit: House, ear: Ear) -> None:
    bath = topic("bath/air/temperature")
    for value in (20.5, 20.5, 20.5, 21.0):
        say(ear, "zigbee2mqtt/bath", {"temperature": value})
    ear.wait(bath, lambda value: value["value"] == 21.0)
    assert [json.loads(payload)["value"] for payload in ear.all(bath)] == [20.5, 21.0]


def test_another_broker_is_listened_to_and_asked_to_go_on(house: House, ear: Ear, tmp_path: Path) -> None:
    other = Broker(tmp_path / "other").start()
    try:
        strangers = Ear(other.port, "#")
        house.write(TOPICS % f", broker: {{host: 127.0.0.1, port: {other.port}}}, alive: {{R/c0619a/keepalive: ''}}")
        house.start("mqtt")
        wait_for(lambda: strangers.all("R/c0619a/keepalive"), what="the sign that a Victron GX wants")
        say(strangers, "attic/sensor/air/state", "17.5")
        assert ear.wait(topic("attic/air/temperature"))["value"] == 17.5
        house.stop("mqtt")
    finally:
        other.stop()


def test_a_scan_proposes_lines(house: House, ear: Ear) -> None:
    house.write(TOPICS % "")
    say(ear, "zigbee2mqtt/cellar", {"temperature": 14.5, "battery": 90}, retain=True)
    say(ear, topic("a/b/power"), '{"value":1}', retain=True)
    code = "import services.mqtt as m; m.SCAN = 3.0; print(*m.Mqtt.scan(m.Options()), sep='\\n')"
    environment = house.environment | {"CONSTELLATION_CONFIG": str(house.config), "PYTHONPATH": str(PROJECT)}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environment, cwd=PROJECT)
    assert "zigbee2mqtt/cellar temperature  14.5  PLACE/THING/temperature: {from: mqtt" in done.stdout, done.stderr
    assert "a/b/power" not in done.stdout


@pytest.mark.parametrize(
    ("topic", "where", "value", "line"),
    [
        (
            "shellies/one/relay/0/energy",
            "",
            "123456",
            "energy: {from: mqtt, topic: 'shellies/one/relay/0/energy', unit: Wmin}",
        ),
        (
            "shellies/em/emeter/0/total",
            "",
            "812.4",
            "energy: {from: mqtt, topic: 'shellies/em/emeter/0/total', unit: Wh}",
        ),
        ("a/status/switch:0", "aenergy.total", 5.5, "path: 'aenergy.total', unit: Wh}"),
        (
            "tele/plug/SENSOR",
            "ENERGY.Total",
            3.2,
            "energy: {from: mqtt, topic: 'tele/plug/SENSOR', path: 'ENERGY.Total'}",
        ),
        ("tele/plug/SENSOR", "ENERGY.ApparentPower", 3.2, ""),
        ("stat/plug/RESULT", "POWER", "ON", ""),
        (
            "zigbee2mqtt/door",
            "voltage",
            3000,
            "voltage: {from: mqtt, topic: 'zigbee2mqtt/door', path: 'voltage', unit: mV}",
        ),
        ("zigbee2mqtt/plug", "voltage", 231, "path: 'voltage'}"),
        ("zigbee2mqtt/plug", "energy", 1.5, "path: 'energy'}"),
        ("zigbee2mqtt/lamp", "color_temp", 370, ""),
        ("zigbee2mqtt/lamp", "battery", True, ""),
        ("zigbee2mqtt/air", "pressure", 1013, "path: 'pressure', unit: hPa}"),
        ("a/pump/pressure", "", "1.4", ""),
        ("attic/sensor/air_temperature/state", "", "18.2", "temperature: {from: mqtt, topic: 'attic/sensor/air_temp"),
        ("attic/sensor/total_energy/state", "", "18.2", ""),
        ("attic/switch/power/state", "", "1", ""),
        ("rtl_433/roof/events", "temperature_C", 8.5, "path: 'temperature_C'}"),
        ("rtl_433/roof/events", "temperature_2_F", 47.1, "unit: °F}"),
        ("rtl_433/roof/events", "temperature_F", 47.1, "path: 'temperature_F', unit: °F}"),
        ("rtl_433/roof/events", "power_W", 9, "power: {from"),
        ("rtl_433/roof/events", "pressure_kPa", 220, "unit: kPa}"),
        ("rtl_433/roof/events", "battery_mV", 2900, ""),
        ("evcc/loadpoints/1/chargePower", "", "7360", "power: {from: mqtt, topic: 'evcc/loadpoints/1/chargePower'}"),
        ("evcc/loadpoints/1/vehicleSoc", "", "61", "soc: {from"),
        ("evcc/loadpoints/1/limitSoc", "", "80", ""),
        ("evcc/loadpoints/1/chargedEnergy", "", "4120", ""),
    ],
)
def test_what_a_scan_proposes_is_in_the_unit_that_the_device_has(topic: str, where: str, value: Any, line: str) -> None:
    """Where the unit may be this or that there is no line: a stand that is false by a thousand looks like one."""
    found = foreign.proposal(topic, where, value)
    assert line in found
    assert bool(line) is bool(found)


@pytest.mark.parametrize(
    ("line", "sentence"),
    [
        ("topic: home/data/#", "reads our own tree home/"),
        ("topic: '#'", "reads our own tree"),
        ("topic: +/data/x/y/z", "reads our own tree"),
        ("topic: home/service/+/health", "reads our own tree"),
        ("topic: home/notify/+", "reads our own tree"),
        ("topic: x/y, available: '+/+/+/+/+'", "reads our own tree"),
        ("topic: a/#/b", "is no pattern of MQTT"),
        ("topic: a/b+", "is no pattern of MQTT"),
        ("topic: a/b, path: 'x..y'", "is not understood"),
        ("topic: a/b, words: 5", "words"),
    ],
)
def test_a_wrong_line_is_found_by_check(tmp_path: Path, line: str, sentence: str) -> None:
    (tmp_path / "topics.yaml").write_text(f"sources: {{mqtt: {{}}}}\ntopics:\n  a/b/power: {{from: mqtt, {line}}}\n")
    assert sentence in str(problems_of(Registry(tmp_path / "topics.yaml")))


@pytest.mark.parametrize(
    ("house", "other", "own"),
    [
        ("{}", "{host: 127.0.0.1}", True),
        ("{host: hub.local, port: 8883}", "{host: HUB, ca: /x}", True),
        ("{host: localhost, port: 8883}", "{host: localhost}", False),  # Debian's beside the house's
        ("{host: hub}", "{host: shed}", False),
    ],
)
def test_our_own_broker_by_another_name_is_no_other_one(tmp_path: Path, house: str, other: str, own: bool) -> None:
    (tmp_path / "topics.yaml").write_text(
        f"broker: {house}\nsources: {{mqtt: {{broker: {other}}}}}\ntopics:\n"
        "  a/b/power: {from: mqtt, topic: home/data/a/c/power}\n  a/d/power: {from: mqtt, topic: home/data/+/d/power}\n"
        "  a/e/power: {from: mqtt, topic: '#'}\n"
    )
    said = str(problems_of(Registry(tmp_path / "topics.yaml")))
    expected = ("it is the house's own broker", "a/c/power' reads our own tree", "'#' reads our own tree")
    assert [sentence in said for sentence in expected] == [own] * 3
    assert "home/data/+/d/power' reads our own tree" in said, "a line that reads itself is a loop also over a bridge"


def test_a_gateway_below_our_root_is_no_loop(tmp_path: Path) -> None:
    (tmp_path / "topics.yaml").write_text(
        "sources: {mqtt: {}}\ntopics:\n  a/b/power: {from: mqtt, topic: home/OMG/BTtoMQTT/A4C138, path: tempc}\n"
    )
    assert problems_of(Registry(tmp_path / "topics.yaml")) == []


# -- words, times, patterns ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("found", "seconds"),
    [
        (1_700_000_000, 1_700_000_000),
        (1_700_000_000_000, 1_700_000_000),
        ("1700000000", 1_700_000_000),
        ("1700000000000", 1_700_000_000),
        ("20231114T221320Z", 1_700_000_000),
        ("2023-11-14T22:13:20Z", 1_700_000_000),
        ("2023-11-14T23:13:20+01:00", 1_700_000_000),
        ("2023-11-14 23:13:20", 1_700_000_000),
    ],
)
def test_times_are_numbers_or_text_with_or_without_a_zone(found: object, seconds: float) -> None:
    assert foreign.moment(found, timezone(timedelta(hours=1)), 0) == seconds


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("21.5%", 21.5),
        ("21.5°C", 21.5),
        ("5,5kWh", 5.5),
        ("-3 W", -3),
        ("1e3", 1000),
        (".5", 0.5),
        ("7 m3", 7),
        ("7m³", 7),
    ],
)
def test_a_number_has_its_unit_behind_it(text: str, value: float) -> None:
    assert foreign.number(text) == value


@pytest.mark.parametrize(
    "text", ["1 234,5 W", "1 234", "1_000", "1'000", "1,234.5", "10 h 30", "0x1F", "12:30", "", "W"]
)
def test_a_part_of_a_text_is_no_number(text: str) -> None:
    with pytest.raises(foreign.NoValue):
        foreign.number(text)


def test_a_line_whose_time_gives_none_is_said_once(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    ears = lines_of(tmp_path, "a/b/energy: {from: mqtt, topic: x, path: p, time: Tiem}")
    assert [ears.hear("x", '{"p":5,"Time":1000000000}') for _ in range(2)] == [[(5,)], [(5,)]]
    assert [record.message for record in caplog.records] == ["a/b/energy: x: its `time: Tiem` gives none"]


@given(
    st.recursive(
        st.none()
        | st.booleans()
        | st.floats()
        | st.text()
        | st.integers()
        | st.integers(10**400)
        | st.datetimes().map(str),
        lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    )
)
def test_anything_is_a_value_or_none(found: Any) -> None:
    for read in (foreign.number, foreign.switch, lambda one: foreign.moment(one, UTC, 0)):
        try:
            read(found)
        except foreign.NoValue:
            continue


@given(st.lists(st.sampled_from(["a", "b", "+"]), min_size=1, max_size=4), st.booleans())
def test_patterns_match_as_the_standard_says(levels: list[str], rest: bool) -> None:
    pattern = "/".join(levels) + ("/#" if rest else "")
    name = "/".join("a" if level == "+" else level for level in levels)
    assert foreign.matches(pattern, name)
    assert foreign.matches(pattern, f"{name}/x") is rest
    assert not foreign.matches(pattern, f"x{name}") or levels[0] == "+"


def test_a_name_with_dots_stands_in_quotes() -> None:
    document = {"a": {"b.c": {"d[0]": 5}}}
    assert path.follow(document, path.parse('a["b.c"]["d[0]"]')) == 5
    assert [where for where, _ in path.leaves(document)] == ['a["b.c"]["d[0]"]']


def test_a_connection_binds_no_port(broker: Broker, house: House, ear: Ear, tmp_path: Path) -> None:
    """SocketBindDeny=any of the units, which systemd keeps from Debian 13 on, denies a bind to no port too."""
    (tmp_path / "sitecustomize.py").write_text(
        "import socket\n"
        "def bind(self, address):\n"
        "    if self.family != socket.AF_UNIX:\n"
        "        raise PermissionError(1, 'Operation not permitted')\n"
        "socket.socket.bind = bind\n"
    )
    house.write("sources: {host: {}}\ntopics: {house/pi/memory_usage: {from: host}}\n")
    house.start("host", PYTHONPATH=f"{tmp_path}:{PROJECT}")
    ear.wait("home/service/host/status", lambda said: said == "online")
