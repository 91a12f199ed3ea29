"""A sensor that is pulled: after `stale` and five seconds neither Prometheus nor Home Assistant shows it, and not again before a new reading."""

import time
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from harness import Ear, House, free_port, wait_for

from services.simulators.onewire import Tree as OneWireBus

SENSORS = {"boiler/water/temperature": "28-0316a4f1c9ff", "boiler/flue/temperature": "28-0316a4f1d2aa"}
STALE = 2.0
LATEST = STALE + 5


class HomeAssistantModel:
    """What Home Assistant shows by the documented meaning of the keys: availability (all), expire_after. The real one: tests/homeassistant.py."""

    def __init__(self, port: int) -> None:
        self.ear = Ear(port, "#")
        self.came: dict[str, tuple[bytes, float]] = {}
        client = self.ear._client
        client.on_message = self._take

    def _take(self, _client: Any, _data: Any, message: Any) -> None:
        self.ear.heard.append((message.topic, message.payload, message.retain))
        self.came[message.topic] = message.payload, time.monotonic()

    def shows(self, topic: str) -> bool:
        place, thing, name = topic.split("/")
        config = self.ear.last(f"homeassistant/device/home_{place}_{thing}/config")
        one = (config or {}).get("components", {}).get(f"sensor_{name}")
        if not one or one["state_topic"] not in self.came:
            return False
        stands, status = one["availability"]
        assert (one["availability_mode"], stands["topic"]) == ("all", one["state_topic"])
        assert stands["value_template"] == "{{ 'online' if value else 'offline' }}"
        payload, at = self.came[one["state_topic"]]
        online = self.came.get(status["topic"], (b"", 0.0))[0] == b"online"
        return bool(payload) and online and time.monotonic() - at < one["expire_after"]


class Looked:
    """The house with real sensors' files, and both who look at it."""

    def __init__(self, house: House, bus: OneWireBus, folder: Path) -> None:
        self.house, self.bus, self.port = house, bus, free_port()
        lines = "".join(f"  {topic}: {{from: onewire, id: {sensor}}}\n" for topic, sensor in SENSORS.items())
        house.write(
            f"sources: {{onewire: {{every: 200ms, stale: {STALE:g}s, heartbeat: 1s, bus: {folder}/w1}}}}\n"
            f"subscribers: {{exporter: {{port: {self.port}, heartbeat: 1s}}, discovery: {{heartbeat: 1s, every: 100ms}}}}\ntopics:\n{lines}"
        )
        self.assistant = HomeAssistantModel(house.port)

    def scraped(self, topic: str) -> bool:
        place, thing, name = topic.split("/")
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self.port}/metrics", timeout=5) as answer:
                return f'name="{name}",place="{place}",thing="{thing}"}}' in answer.read().decode()
        except OSError:
            return False

    def both(self, topic: str) -> bool:
        return self.scraped(topic) and self.assistant.shows(topic)

    def neither(self, topic: str) -> bool:
        return not self.scraped(topic) and not self.assistant.shows(topic)

    def gone(self, topics: list[str], pull: Callable[[], object]) -> float:
        """Seconds from pulling until nobody shows any of the topics."""
        pull()
        began = time.monotonic()
        wait_for(lambda: all(self.neither(topic) for topic in topics), what=f"the end of {topics}")
        return time.monotonic() - began


@pytest.fixture
def looked(house: House, tmp_path: Path) -> Iterator[Looked]:
    with OneWireBus(tmp_path / "w1") as bus:
        for sensor in SENSORS.values():
            bus.set(sensor, 61.5)
        looked = Looked(house, bus, tmp_path)
        for name in ("exporter", "discovery", "onewire"):
            house.start(name)
        yield looked
        looked.assistant.ear.close()


def test_a_pulled_sensor_is_shown_by_neither_and_comes_back_with_a_new_reading_only(looked: Looked) -> None:
    for turn, (topic, sensor) in enumerate(SENSORS.items()):
        other = next(name for name in SENSORS if name != topic)
        wait_for(lambda topic=topic: looked.both(topic), what=f"{topic} at both")
        assert looked.gone([topic], lambda sensor=sensor: looked.bus.unplug(sensor)) < LATEST
        for name in () if turn else ("exporter", "discovery", "onewire"):
            looked.house.stop(name)
            looked.house.start(name)
        wait_for(lambda other=other: looked.both(other), what="the other one after a restart of all")
        assert looked.neither(topic), "a restart brings nothing back"
        looked.bus.set(sensor, 62.5)
        wait_for(lambda topic=topic: looked.both(topic), what=f"{topic} back at both")


def test_a_source_that_is_killed_leaves_nothing_on_show(looked: Looked, ear: Ear) -> None:
    wait_for(lambda: all(looked.both(topic) for topic in SENSORS), what="all at both")
    assert looked.gone(list(SENSORS), lambda: looked.house.kill("onewire")) < LATEST
    assert all(ear.last(f"home/data/{topic}") for topic in SENSORS), "they stand at the broker all the same"
    looked.house.stop("exporter")
    looked.house.start("exporter")
    ear.wait("home/service/exporter/status", lambda status: status == "online")
    assert all(looked.neither(topic) for topic in SENSORS)
    looked.house.start("onewire")
    wait_for(lambda: all(looked.both(topic) for topic in SENSORS), what="all at both again")
