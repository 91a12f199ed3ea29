"""What a house tells of its topics to those who have no topics.yaml of it: whole, current, and never too long for a broker."""

import time
from pathlib import Path

import msgspec
from harness import Ear, House
from voices import Voice

from bootstrap_lib.reading import format_time
from bootstrap_lib.registry import Registry
from services.stores import house_registry
from services.stores.house_registry import PublishedRegistry

WATER, DOOR = "boiler/water/temperature", "hall/door/active"
REGISTRY = "home/service/registry"
TOPICS = f"""
timezone: Europe/Vienna
sources:
  onewire: {{every: 2s}}
subscribers:
  archive: {{commit: 50ms, every: 200ms, centre: central}}
topics:
  {WATER}: {{from: onewire, label: Boiler, was: cellar/water/temperature}}
  {DOOR}: {{from: onewire, store: false}}
"""


def test_the_registry_says_unit_kind_and_label_and_follows_topics_yaml(house: House, ear: Ear) -> None:
    house.write(TOPICS)
    house.start("archive")
    said = msgspec.convert(ear.wait(REGISTRY), PublishedRegistry)
    water, door = said.topics[WATER], said.topics[DOOR]
    assert (water.unit, water.kind, water.label, water.source) == ("°C", "gauge", "Boiler", "onewire")
    assert (water.every, water.stale, water.was, water.stored) == (2.0, 30.0, ("cellar/water/temperature",), True)
    assert (door.kind, door.stored, said.timezone, said.left_out) == ("switch", False, "Europe/Vienna", 0)
    house.write(TOPICS.replace("label: Boiler", "label: Kettle"))
    newer = ear.wait(REGISTRY, lambda document: document["topics"][WATER].get("label") == "Kettle")
    assert newer["digest"] != said.digest
    late = Ear(house.port, REGISTRY)  # retained: who comes later has it too
    try:
        assert late.wait(REGISTRY) == newer
    finally:
        late.close()


def test_a_house_of_very_many_topics_leaves_out_what_has_no_room_and_says_how_many(tmp_path: Path) -> None:
    lines = "".join(
        f"  room_{n}/thing/cell_{{1..900}}_voltage: {{from: onewire, label: {'x' * 900}}}\n" for n in range(8)
    )
    path = tmp_path / "topics.yaml"
    path.write_text(f"sources:\n  onewire: {{}}\nsubscribers:\n  archive: {{}}\ntopics:\n{lines}")
    registry = Registry(path)
    document = house_registry.of(registry, "archive")
    assert len(msgspec.json.encode(document)) < 1 << 20
    assert document.left_out == len(registry.topics) - len(document.topics) > 0


def test_counts_say_what_is_stored_in_each_hour_and_a_range_of_days_is_refused(
    house: House, voice: Voice, ear: Ear
) -> None:
    house.write(TOPICS)
    house.start("archive")
    ear.wait("home/service/archive/status")
    hour = (time.time_ns() // 1_000_000) // 3_600_000 * 3_600_000
    for number, moment in enumerate((hour - 7_200_000, hour - 7_199_000, hour - 1, hour), 1):
        voice.say(WATER, 60.0, moment, number)
    ear.wait("home/service/archive/stored/onewire", lambda mark: mark["after"] == 4)
    asked = {"from": format_time(hour - 7_199_500), "to": format_time(hour + 1)}
    answer = ear.ask("archive", "counts", asked)["data"]
    assert answer == {
        "hours": [format_time(hour - 7_200_000), format_time(hour - 3_600_000), format_time(hour)],
        "topics": {WATER: [1, 1, 1]},
    }
    assert "no range" in ear.ask("archive", "counts", asked | {"from": format_time(0)})["error"]


def test_a_store_elsewhere_that_the_archive_is_told_of_may_ask_for_replays(house: House, ear: Ear) -> None:
    house.write(TOPICS)
    house.start("archive")
    ear.wait("home/service/archive/status")
    assert ear.ask("archive", "replay", {"from": format_time(0), "for": "central"})["status"] == "ok"
    house.write(TOPICS.replace(", centre: central", ""))
    ear.wait(REGISTRY, lambda _: len(ear.all(REGISTRY)) > 1)
    assert "names no 'central'" in ear.ask("archive", "replay", {"from": format_time(0), "for": "central"})["error"]
