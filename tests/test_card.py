"""What the card is spared, and that nothing is lost by it: late writes, groups, small pages, and what stays out of memory."""

import os
import sqlite3
import subprocess
import sys
import time
from contextlib import closing
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import pytest
import rrdtool
from harness import PROJECT, Ear, House, wait_for
from voices import Voice, ask_database

from bootstrap_lib import Registry
from services import influx, rrd
from services.influx import Influx
from services.rrd import RoundRobin
from services.stores.database import Database
from services.stores.schema import MINUTE
from services.stores.upkeep import Upkeep
from tests.chaos.picture import wrong_rows

WATER, PUMP = "shed/water/temperature", "shed/pump/active"
TOPICS = f"""
sources:
  onewire: {{every: 1s}}
subscribers:
  archive: {{commit: 50ms, every: 200ms, group: 1m, heartbeat: 1s}}
  rrd: {{every: 100ms, flush: 1h, finest: 1s, heartbeat: 200ms}}
topics:
  {WATER}: {{from: onewire, id: 28-0316a4f1c9ff}}
  {PUMP}: {{from: onewire, id: 28-0316a4f1c9fe}}
"""


def newest(house: House, topic: str) -> int:
    path = house.state("rrd") / "rrd" / f"{topic}.rrd"
    return int(rrdtool.last(str(path))) if path.exists() else 0


def test_what_a_kill_takes_of_a_quarter_of_an_hour_is_filled_from_the_archive(
    house: House, voice: Voice, ear: Ear
) -> None:
    house.write(TOPICS)
    for name in ("archive", "rrd"):
        house.start(name)
        ear.wait(f"home/service/{name}/status")
    start = time.time_ns() // 1_000_000 - 60_000
    for number in range(1, 41):
        voice.say(WATER, 20.0 + number, start + 1000 * number, number)
    ear.wait("home/service/rrd/health", lambda health: health["counters"].get("stored", 0) >= 40)
    ear.wait("home/service/archive/stored/onewire", lambda mark: mark["after"] == 40)
    assert newest(house, WATER) < start // 1000, "it is acknowledged, and not written"
    house.kill("rrd")
    house.start("rrd")
    database = house.state("archive") / "archive.sqlite"

    def whole() -> bool:
        rows = wrong_rows(house.state("rrd") / "rrd", database, WATER)
        return rows[False] >= 38 and rows[True] == 0

    wait_for(whole, what="the file, filled")
    ear.wait("home/service/rrd/health", lambda health: health.get("filling") == 0)
    ear.ask("rrd", "ping")
    for number in (41, 42):
        voice.say(WATER, 99.0, start + 1000 * number, number)
    ear.wait("home/service/archive/stored/onewire", lambda mark: mark["after"] == 42)
    wait_for(lambda: ear.last("home/service/rrd/health")["counters"].get("stored", 0) >= 2, what="both")
    assert newest(house, WATER) < (start + 42_000) // 1000, "they wait"
    drawn = ear.ask("rrd", "graph", {"id": 1, "topics": [WATER], "from": "5m"})
    assert drawn["status"] == "ok", drawn
    assert newest(house, WATER) == (start + 42_000) // 1000, "a graph brings what it needs"


@pytest.mark.parametrize(
    ("subscribers", "seconds", "early"), [("rrd: {}", 30, False), ("archive: {}, rrd: {}", 900, True)]
)
def test_a_house_without_an_archive_writes_its_pictures_each_half_minute_and_acknowledges_then(
    house: House, subscribers: str, seconds: float, early: bool
) -> None:
    house.write(f"subscribers: {{{subscribers}}}\ntopics: {{{WATER}: {{from: rrd}}}}\n")
    registry = Registry(house.config)
    service = RoundRobin(registry, "rrd")
    service.options = registry.options_of("rrd", rrd.Options)
    assert (service.flush_every, service.early) == (seconds, early)


def test_influx_collects_for_a_minute(house: House) -> None:
    house.write(f"subscribers: {{influx: {{}}}}\ntopics: {{{WATER}: {{from: influx}}}}\n")
    registry = Registry(house.config)
    service = Influx(registry, "influx")
    service.options = registry.options_of("influx", influx.Options)
    assert service.flush_every == 60


def test_minutes_are_computed_in_groups_and_what_comes_late_at_once(tmp_path: Path) -> None:
    database = Database("sqlite:///{state}/archive.sqlite", tmp_path)
    with database.engine.begin() as connection:
        connection.exec_driver_sql("INSERT INTO topics VALUES (1, ?, '°C', 'gauge')", (WATER,))
    upkeep = Upkeep(database, tmp_path, ZoneInfo("UTC"))
    now = 1_795_000_000_000 - 1_795_000_000_000 % (10 * MINUTE)

    def minutes_at(moment: int, *stored: int) -> int:
        with database.engine.begin() as connection:
            for time_ in stored:
                connection.exec_driver_sql("INSERT INTO readings VALUES (?, 1, 5, NULL)", (time_,))
                connection.exec_driver_sql("INSERT INTO pending VALUES (?, 1)", (time_ - time_ % MINUTE,))
        upkeep.turn(moment, 8 * 86400, 3650 * 86400, 10**12, group=10 * MINUTE)
        with database.engine.connect() as connection:
            found: int = connection.exec_driver_sql("SELECT count(*) FROM minutes").scalar_one()
        return found

    assert minutes_at(now + 9 * MINUTE, now + 1, now + 3 * MINUTE) == 0
    assert minutes_at(now + 10 * MINUTE + 5000) == 2
    assert minutes_at(now + 11 * MINUTE, now + 5 * MINUTE, now + 10 * MINUTE + 1) == 3, "the late one at once"
    assert minutes_at(now + 20 * MINUTE + 5000) == 4
    database.close()


def test_a_new_archive_has_small_pages(tmp_path: Path) -> None:
    Database("sqlite:///{state}/archive.sqlite", tmp_path).close()
    assert ask_database(tmp_path / "archive.sqlite", "PRAGMA page_size") == [(1024,)]
    with closing(sqlite3.connect(tmp_path / "archive.sqlite")) as connection:
        assert connection.execute("PRAGMA auto_vacuum").fetchone() == (2,)


def test_what_the_host_has_of_dnspython_stays_out(tmp_path: Path) -> None:
    (tmp_path / "dns").mkdir()
    (tmp_path / "dns" / "__init__.py").write_text("")
    (tmp_path / "dns" / "resolver.py").write_text("")
    environment: dict[str, Any] = os.environ | {"PYTHONPATH": f"{tmp_path}:{PROJECT}"}
    code = "import bootstrap_lib, sys; print('dns.resolver' in sys.modules); import dns.resolver; print(dns.resolver.__name__)"
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["False", "dns.resolver"]
