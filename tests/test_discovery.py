"""Home Assistant's discovery by its documented keys, at a real broker: what is announced, kept, taken back, and asked.

The same with a real Home Assistant, which takes minutes, is a command: tests/homeassistant.py.
"""

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from harness import PROJECT, Broker, Ear, House, wait_for

from bootstrap_lib.registry import Registry
from services.homeassistant import devices

PLATFORMS = {"sensor", "binary_sensor", "switch", "button", "event"}
TOPICS = """
sources: {{onewire: {{stale: 90s}}, adc: {{bus: "sim:x"}}}}
subscribers:
  discovery: {{every: 100ms, heartbeat: 1s, control: true, url: "http://house:8080"}}
  alerts: {{}}
topics:
  boiler/water/temperature: {{from: onewire, id: 28-000000000001, label: Boiler water}}
  boiler/water/flow_temperature: {{from: onewire, id: 28-000000000002, label: Before the valve}}
  boiler/burner/fire_out_fault: {{from: adc, input: A0}}
  boiler/burner/phase: {{from: adc, input: A0, states: [unknown, "off", combustion]}}
  boiler/burner/note_text: {{from: adc, input: A0}}
  house/heat/energy: {{from: adc, input: A0}}
  house/heat/stored_energy: {{from: adc, input: A0, kind: gauge}}
  house/grid/power: {{from: adc, input: A0, unit: var}}
  {extra}
alerts: {{hot: {{when: boiler/water/temperature > 90}}}}
"""
FLUE = "boiler/flue/temperature: {from: onewire, id: 28-000000000003}"


class Announcing:
    """A house with discovery, and what it says."""

    def __init__(self, folder: Path, broker: Broker) -> None:
        self.ear, self.house = Ear(broker.port, "#"), House(folder / "house", broker.port)

    def write(self, *lines: str, **changes: str) -> None:
        text = TOPICS.format(extra="\n  ".join(lines))
        for old, new in changes.items():
            text = text.replace(old, new)
        self.house.write(text)

    def config(self, device: str, accept: Any = lambda _: True) -> Any:
        """Config of a device as it stands now, once it is as it should be."""
        return self.ear.wait(f"homeassistant/device/{device}/config", accept)

    def component(self, device: str, key: str) -> Any:
        return self.config(device, lambda config: key in config["components"])["components"][key]

    def said(self, device: str) -> list[Any]:
        return [json.loads(one or b"null") for one in self.ear.all(f"homeassistant/device/{device}/config")]

    def close(self) -> None:
        self.ear.close()
        self.house.close()


@pytest.fixture
def home(tmp_path: Path, broker: Broker) -> Iterator[Announcing]:
    home = Announcing(tmp_path, broker)
    home.write()
    yield home
    home.close()


@pytest.fixture(scope="module")
def seen(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Announcing]:
    """One that all look at, and nobody changes."""
    folder = tmp_path_factory.mktemp("discovery")
    broker = Broker(folder / "broker").start()
    home = Announcing(folder, broker)
    home.write()
    home.ear.say("home/alert/hot", '{"state":"ok","rule":"hot"}', retain=True)
    home.house.start("discovery")
    home.component("home_alerts", "binary_sensor_hot")
    yield home
    home.close()
    broker.stop()


# -- what is announced ------------------------------------------------------------------------------------------------


def test_a_thing_is_a_device_that_says_whose_it_is(seen: Announcing) -> None:
    config = seen.config("home_boiler_water")
    assert config["device"]["identifiers"] == ["home_boiler_water"]
    assert (config["device"]["name"], config["device"]["model"]) == ("Boiler water", "onewire")
    assert config["device"]["via_device"] == "home_service_onewire"
    assert config["device"]["configuration_url"] == "http://house:8080"
    assert config["origin"]["name"] == "Constellation"
    assert config["qos"] == 1
    assert seen.config("home_service_onewire")["device"]["identifiers"] == ["home_service_onewire"]
    retained = Ear(seen.house.port, "homeassistant/#")
    wait_for(lambda: len(retained.heard) > 5, what="what stands there")
    assert all(kept for _, _, kept in retained.heard), "retained"
    retained.close()


def test_a_number_is_a_sensor_that_is_there_only_while_something_stands_on_its_topic_and_its_source_is_online(
    seen: Announcing,
) -> None:
    water = seen.component("home_boiler_water", "sensor_temperature")
    stands = "home/data/boiler/water/temperature"
    assert water == {
        "platform": "sensor",
        "unique_id": stands,
        "name": "Temperature",
        "state_topic": stands,
        "value_template": "{{ value_json.value if value else none }}",
        "default_entity_id": "sensor.boiler_water_temperature",
        "availability": [
            {"topic": stands, "value_template": "{{ 'online' if value else 'offline' }}"},
            {"topic": "home/service/onewire/status"},
        ],
        "availability_mode": "all",
        "expire_after": 180,
        "device_class": "temperature",
        "unit_of_measurement": "°C",
        "state_class": "measurement",
        "suggested_display_precision": 1,
    }
    assert seen.component("home_boiler_water", "sensor_flow_temperature")["name"] == "Before the valve"


def test_each_kind_is_what_home_assistant_calls_it(seen: Announcing) -> None:
    energy = seen.component("home_house_heat", "sensor_energy")
    assert (energy["state_class"], energy["device_class"]) == ("total_increasing", "energy")
    stored = seen.component("home_house_heat", "sensor_stored_energy")
    assert (stored["state_class"], stored["device_class"]) == ("measurement", "energy_storage")
    power = seen.component("home_house_grid", "sensor_power")
    assert (power["unit_of_measurement"], power["device_class"]) == ("var", "reactive_power")
    fault = seen.component("home_boiler_burner", "binary_sensor_fire_out_fault")
    assert (fault["platform"], fault["device_class"]) == ("binary_sensor", "problem")
    assert fault["value_template"] == "{{ ('ON' if value_json.value else 'OFF') if value else none }}"
    phase = seen.component("home_boiler_burner", "sensor_phase")
    assert (phase["device_class"], phase["options"]) == ("enum", ["unknown", "off", "combustion"])
    assert not {"state_class", "unit_of_measurement"} & phase.keys()
    assert "device_class" not in seen.component("home_boiler_burner", "sensor_note_text")


def test_a_service_says_whether_it_is_connected_and_how_it_is_and_a_source_can_be_paused(seen: Announcing) -> None:
    connection = seen.component("home_service_alerts", "binary_sensor_connection")
    assert (connection["device_class"], connection["entity_category"]) == ("connectivity", "diagnostic")
    assert connection["state_topic"] == "home/service/alerts/status"
    state = seen.component("home_service_alerts", "sensor_state")
    assert (state["device_class"], state["expire_after"]) == ("enum", 120), "four beats of thirty seconds"
    assert "switch_pause" not in seen.config("home_service_alerts")["components"]
    pause = seen.component("home_service_onewire", "switch_pause")
    assert pause["state_topic"] == "home/service/onewire/health"
    assert pause["command_topic"] == "home/service/discovery/request/command"
    seen.ear.say(pause["command_topic"], pause["payload_on"], qos=0)
    assert seen.ear.wait("home/service/onewire/request/pause") == {}
    seen.ear.say(pause["command_topic"], pause["payload_off"], qos=0)
    assert seen.ear.wait("home/service/onewire/request/resume") == {}


def test_an_alert_is_a_binary_sensor_with_a_button_and_messages_are_events(seen: Announcing) -> None:
    hot = seen.component("home_alerts", "binary_sensor_hot")
    assert (hot["state_topic"], hot["device_class"]) == ("home/alert/hot", "problem")
    assert hot["availability"][1] == {"topic": "home/service/alerts/status"}
    assert hot["json_attributes_template"] == "{{ value if value else '{}' }}"
    press = seen.component("home_alerts", "button_acknowledge_hot")
    seen.ear.say(press["command_topic"], press["payload_press"], qos=0)
    assert seen.ear.wait("home/service/alerts/request/acknowledge") == {"rule": "hot"}
    event = seen.component("home_alerts", "event_message")
    assert event["state_topic"] == "home/notify/+"
    assert event["event_types"] == ["quiet", "message", "urgent", "emergency"]


def test_each_component_has_what_its_platform_requires_and_a_name_of_its_own(seen: Announcing) -> None:
    configs = [json.loads(payload) for topic, payload, _ in seen.ear.heard if topic.startswith("homeassistant/device/")]
    unique: dict[str, str] = {}
    for config in configs:
        for key, one in config["components"].items():
            assert one["platform"] in PLATFORMS
            assert unique.setdefault(one["unique_id"], key) == key, "no id twice"
            required = {"switch": "command_topic", "button": "command_topic"}.get(one["platform"], "state_topic")
            assert required in one
            for name, text in one.items():
                if "template" in name:
                    assert re.search(r"\bif value\b|value == 'online'", text), (
                        f"{key} {name} does not guard what is empty"
                    )


def test_two_things_whose_names_run_together_are_two_devices(tmp_path: Path) -> None:
    path = tmp_path / "topics.yaml"
    path.write_text(
        "sources: {s: {service: onewire}}\ntopics:\n  a_b/c/power: {from: s}\n  a/b_c/power: {from: s}\n  service/s/power: {from: s}\n"
    )
    found = list(devices.HouseDevices(Registry(path), None, None).things())
    assert [one.id for one in found] == ["home_a_b_c", "home__a__b_c", "home__service__s"]


# -- what goes, and what stays ----------------------------------------------------------------------------------------


def test_all_is_said_again_when_home_assistant_starts_and_when_the_broker_forgot(
    home: Announcing, broker: Broker
) -> None:
    home.house.start("discovery")
    home.config("home_boiler_water")
    wait_for(lambda: home.said("home_alerts"), what="alerts and messages, once the broker had time to name them")
    before = len(home.said("home_boiler_water"))
    home.ear.say("homeassistant/status", "offline")
    home.ear.say("homeassistant/status", "online")
    wait_for(lambda: len(home.said("home_boiler_water")) == before + 1, what="all once more")
    broker.kill()
    broker.start()
    wait_for(lambda: len(home.said("home_boiler_water")) == before + 2, what="all to a broker without memory")


def test_what_goes_is_taken_back_once_by_its_platform_also_when_it_went_while_nobody_looked(home: Announcing) -> None:
    home.write(FLUE, "boiler/water/old_temperature: {from: onewire, id: 28-000000000004}")
    home.house.start("discovery")
    home.component("home_boiler_water", "sensor_old_temperature")
    home.config("home_boiler_flue")
    home.house.kill("discovery")
    home.write()
    home.house.start("discovery")
    gone = home.config(
        "home_boiler_water",
        lambda config: "platform" not in config["components"].get("sensor_old_temperature", "platform"),
    )
    assert gone["components"]["sensor_old_temperature"] == {"p": "sensor"}
    assert home.config("home_boiler_flue", lambda config: config == b"") == b""
    home.ear.say("homeassistant/status", "online")
    home.config("home_boiler_water", lambda config: "sensor_old_temperature" not in config["components"])
    remembered = home.house.state("discovery") / "announced.json"
    wait_for(lambda: "old_temperature" not in remembered.read_text(), what="the broker's word that it has it")
    home.house.stop("discovery")
    heard = len(home.said("home_boiler_water"))
    home.house.start("discovery")
    wait_for(lambda: len(home.said("home_boiler_water")) > heard, what="the next start")
    stubs = [
        one
        for one in home.said("home_boiler_water")
        if one["components"].get("sensor_old_temperature") == {"p": "sensor"}
    ]
    assert len(stubs) == 1
    assert len([one for one in home.said("home_boiler_flue") if one is None]) == 1


def test_a_renamed_topic_keeps_its_unique_id_whatever_is_remembered(home: Announcing) -> None:
    old = "home/data/boiler/flue/temperature"
    home.write(FLUE)
    home.house.start("discovery")
    assert home.component("home_boiler_flue", "sensor_temperature")["unique_id"] == old
    moved = FLUE.replace("boiler/flue/temperature: {", "cellar/flue/smoke_temperature: {was: boiler/flue/temperature, ")
    home.write(moved)
    component = home.component("home_cellar_flue", "sensor_smoke_temperature")
    assert (component["unique_id"], component["default_entity_id"]) == (old, "sensor.boiler_flue_temperature")
    order = [
        topic for topic, _, _ in home.ear.heard if topic.startswith("homeassistant/device/home_") and "flue" in topic
    ]
    assert [order.index(f"homeassistant/device/home_{place}_flue/config") for place in ("boiler", "cellar")] == [
        0,
        len(order) - 1,
    ]
    assert home.said("home_boiler_flue")[-1] is None, "taken back before it comes again"
    home.write(moved.replace("was: boiler/flue/temperature, ", ""))  # `was` is no longer needed: it is remembered
    home.house.stop("discovery")
    home.house.start("discovery")
    home.ear.say("homeassistant/status", "online")
    assert home.component("home_cellar_flue", "sensor_smoke_temperature")["unique_id"] == old
    home.house.stop("discovery")
    (home.house.state("discovery") / "announced.json").unlink()
    home.write(moved)
    heard = len(home.said("home_cellar_flue"))
    home.house.start("discovery")
    wait_for(lambda: len(home.said("home_cellar_flue")) > heard, what="a start without memory")
    assert home.component("home_cellar_flue", "sensor_smoke_temperature")["unique_id"] == old


def test_an_alert_that_is_cleared_goes_and_one_that_stands_is_not_taken_back_at_a_start(home: Announcing) -> None:
    for name in ("hot", "silent_boiler_water"):
        home.ear.say(f"home/alert/{name}", '{"state":"ok"}', retain=True)
    home.house.start("discovery")
    home.component("home_alerts", "binary_sensor_silent_boiler_water")
    home.house.stop("discovery")
    heard = len(home.said("home_alerts"))
    home.house.start("discovery")
    wait_for(lambda: len(home.said("home_alerts")) > heard, what="alerts once more")
    home.ear.say("home/alert/silent_boiler_water", "", retain=True)
    home.config(
        "home_alerts",
        lambda config: config["components"].get("binary_sensor_silent_boiler_water") == {"p": "binary_sensor"},
    )
    assert all(
        "platform" in one["components"]["binary_sensor_hot"]
        for one in home.said("home_alerts")
        if "binary_sensor_hot" in one["components"]
    )


def test_without_control_there_is_nothing_to_press_and_what_is_pressed_is_refused(home: Announcing) -> None:
    home.write(control="control: false #", true="")
    home.house.write(TOPICS.format(extra="").replace("control: true", "control: false"))
    home.ear.say("home/alert/hot", '{"state":"ok"}', retain=True)
    home.house.start("discovery")
    home.component("home_alerts", "binary_sensor_hot")
    told = [json.loads(payload) for topic, payload, _ in home.ear.heard if topic.startswith("homeassistant/device/")]
    assert not [one for config in told for one in config["components"].values() if "command_topic" in one]
    answer = home.ear.ask("discovery", "command", {"do": "pause", "name": "onewire"})
    assert answer == {"status": "error", "error": "Home Assistant may only look: write control: true in topics.yaml"}


def test_a_command_names_what_there_is(seen: Announcing) -> None:
    assert "did you mean" in seen.ear.ask("discovery", "command", {"do": "pause", "name": "onewir"})["error"]
    assert seen.ear.ask("discovery", "command", {"do": "pause", "name": "alerts"})["status"] == "error"
    assert seen.ear.ask("discovery", "command", {"do": "acknowledge", "name": "cold"})["status"] == "error"
    assert seen.ear.ask("discovery", "command", {"do": "stop", "name": "onewire"})["status"] == "error"


def test_without_discovery_in_topics_yaml_nothing_of_it_is_left(home: Announcing) -> None:
    process = home.house.start("discovery")
    home.config("home_boiler_water")
    home.house.write(re.sub(r"(?m)^  discovery:.*\n", "", TOPICS.format(extra="")))
    for device in ("home_boiler_water", "home_service_onewire"):
        home.config(device, lambda config: config == b"")
    assert process.wait(30) == 0


assert PROJECT
