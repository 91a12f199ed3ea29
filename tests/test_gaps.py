"""What a store misses because the archive misses it too: a round-robin file takes readings in order only, so it must wait."""

import json
import time
from pathlib import Path
from types import SimpleNamespace

import pytest
from harness import Ear, House, wait_for
from voices import Voice, ask_database

from bootstrap_lib import Message, Registry
from bootstrap_lib.reading import format_time
from services.stores.backfill import Filling
from tests.chaos.picture import wrong_rows

pytestmark = pytest.mark.long

WATER = "boiler/water/temperature"
MARK = "home/service/archive/stored/onewire"
TOPICS = f"""
sources:
  onewire: {{every: 1s}}
subscribers:
  archive: {{commit: 50ms, every: 200ms, heartbeat: 1s}}
  rrd: {{every: 100ms, flush: 100ms, finest: 1s, heartbeat: 200ms}}
topics:
  {WATER}: {{from: onewire, id: 28-0316a4f1c9ff}}
"""


@pytest.fixture
def stores(house: House, ear: Ear) -> House:
    house.write(TOPICS)
    for name in ("archive", "rrd"):
        house.start(name)
        ear.wait(f"home/service/{name}/status")
    return house


def test_a_replay_waits_for_what_the_archive_misses_itself(stores: House, voice: Voice, ear: Ear) -> None:
    start = time.time_ns() // 1_000_000 - 10_000
    for number in (1, 2, 4):
        voice.say(WATER, 60.0 + number, start + number, number)
    ear.wait("home/service/onewire/request/resend")
    ear.ask("archive", "replay", {"from": format_time(start), "for": "rrd", "id": "x"})
    database = stores.state("archive") / "archive.sqlite"
    voice.say(WATER, 65.0, start + 5, 5)  # at each commit it looks whether it may begin
    wait_for(lambda: ask_database(database, "SELECT count(*) FROM readings") == [(4,)], what="a commit")
    ear.ask("archive", "ping")
    assert not any(b'"x"' in page for page in ear.all("home/service/archive/replay/rrd"))
    voice.say(WATER, 63.0, start + 3, 3)
    end = ear.wait("home/service/archive/replay/rrd", lambda page: isinstance(page, dict) and page.get("id") == "x")
    assert end["count"] == 5


def test_round_robin_files_are_whole_when_readings_come_late_after_two_gaps_in_a_row(
    stores: House, voice: Voice, ear: Ear
) -> None:
    start = time.time_ns() // 1_000_000 - 60_000
    database = stores.state("archive") / "archive.sqlite"

    def say(*numbers: int) -> None:
        for number in numbers:
            voice.say(WATER, 50.0 + number, start + 1000 * number, number)

    def whole(seconds: int) -> bool:
        rows = wrong_rows(stores.state("rrd") / "rrd", database, WATER)
        return rows[False] >= seconds and rows[True] == 0

    say(1, 2, 3, 5, 6)
    ear.wait("home/service/onewire/request/resend")
    time.sleep(4.0)  # longer than a store waits before it asks the archive
    say(4)  # as its source does when the archive has asked for it
    wait_for(lambda: whole(4), timeout=20)
    say(7, 9, 10)
    time.sleep(1.0)  # longer than files are left alone
    say(8)
    ear.wait(MARK, lambda mark: mark["after"] == 10)
    assert ask_database(database, "SELECT count(*) FROM readings") == [(10,)]
    wait_for(lambda: whole(8), timeout=20)


def test_a_replay_leaves_out_nothing_that_was_heard_and_waits_for_its_commit(
    house: House, voice: Voice, ear: Ear
) -> None:
    house.write(TOPICS.replace("commit: 50ms, every: 200ms", "commit: 3s, every: 100ms"))
    for name in ("archive", "rrd"):
        house.start(name)
        ear.wait(f"home/service/{name}/status")
    start = time.time_ns() // 1_000_000 - 30_000
    for number in (1, 3):
        voice.say(WATER, 40.0 + number, start + number, number)
    ear.wait("home/service/onewire/request/resend")
    voice.say(WATER, 42.0, start + 2, 2)
    asked = ear.ask("archive", "replay", {"from": format_time(start), "for": "rrd", "id": "late"})
    assert asked["status"] == "ok"
    pages = "home/service/archive/replay/rrd"
    end = ear.wait(pages, lambda page: isinstance(page, dict) and page.get("id") == "late")
    assert end["count"] == 3


def test_what_a_replay_has_of_another_unit_or_of_no_time_costs_itself(tmp_path: Path) -> None:
    (tmp_path / "topics.yaml").write_text(
        "sources: {modbus: {device: /dev/null}}\nsubscribers: {influx: {}, archive: {}}\n"
        "topics: {house/inverter/reactive_power: {quantity: number, unit: var, from: modbus, address: 1}}\n"
    )
    asker = SimpleNamespace(name="influx", registry=Registry(tmp_path / "topics.yaml"))
    filling = Filling(asker)  # type: ignore[arg-type]
    filling._id, name = "1", "house/inverter/reactive_power"
    rows = [(0.02, "kvar", "2026-11-27T10:00:00Z"), (20.0, "var", "2026-11-27T11:00:00Z"), (21.0, "var", "noon")]
    rows.append((22.0, "var", "2026-11-27T12:00:00Z"))
    page = [{"topic": name, "value": value, "unit": unit, "time": time} for value, unit, time in rows]
    page += [
        {"topic": name, "value": None, "unit": "var", "time": rows[0][2]},
        "nonsense",
        page[0] | {"span": 60, "time": ""},
    ]
    message = Message(
        "home/service/archive/replay/influx", json.dumps(page).encode(), retained=False, mid=1, connection=1
    )
    assert [(one, value) for one, _, value in filling.take(message)] == [(name, 20.0), (name, 22.0)]
