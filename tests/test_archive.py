"""The archive as a process: what it acknowledged is on disk, whatever is killed, full or late."""

import csv
import json
import os
import shutil
import sqlite3
import subprocess
import sys
from contextlib import closing
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from harness import PROJECT, Ear, House, wait_for
from voices import Voice, ask_database, now

from bootstrap_lib.reading import format_time, parse_time
from bootstrap_lib.registry import Registry
from services.stores import schema
from services.stores.database import Database
from services.stores.upkeep import Upkeep

WATER, PUMP, METER, PHASE = (
    "boiler/water/temperature",
    "boiler/pump/active",
    "house/meter/energy",
    "boiler/burner/phase",
)
PARIS = ZoneInfo("Europe/Paris")
FAKETIME = next(Path("/usr/lib").glob("*/faketime/libfaketimeMT.so.1"), None)
MARK = "home/service/archive/stored/onewire"
TOPICS = f"""
timezone: Europe/Paris
sources:
  onewire: {{}}
subscribers:
  archive: {{commit: 50ms, every: 200ms, group: 1m, heartbeat: 1s}}
  influx: {{}}
topics:
  {WATER}: {{from: onewire}}
  {PUMP}: {{from: onewire, stale: 30s}}
  {METER}: {{from: onewire}}
  {PHASE}: {{from: onewire, states: ["off", ignition, combustion]}}
  boiler/display/text: {{from: onewire}}
  boiler/hidden/temperature: {{from: onewire, store: false}}
"""


@pytest.fixture
def archive(house: House, ear: Ear) -> House:
    house.write(TOPICS)
    house.start("archive")
    ear.wait("home/service/archive/status")
    return house


def database(house: House) -> Path:
    return house.state("archive") / "archive.sqlite"


def query(house: House, text: str) -> list[tuple[Any, ...]]:
    return ask_database(database(house), text)


def command(house: House, *words: str) -> "subprocess.CompletedProcess[str]":
    environment = os.environ | {"STATE_DIRECTORY": str(house.state("archive"))}
    line = [sys.executable, "-m", "bootstrap_lib.cli", "--config", str(house.config), *words]
    return subprocess.run(line, env=environment, cwd=PROJECT, capture_output=True, text=True, timeout=30)


def test_readings_of_all_kinds_are_stored_and_those_not_meant_for_it_are_not(
    archive: House, voice: Voice, ear: Ear
) -> None:
    start = now() - 5000
    for number, (topic, value, unit) in enumerate(
        [
            (WATER, 61.4, "°C"),
            (PUMP, True, ""),
            (METER, 120, "kWh"),
            (PHASE, "off", ""),
            ("boiler/display/text", "E7", ""),
        ],
        1,
    ):
        voice.say(topic, value, start + number, number, unit=unit)
    voice.say("boiler/hidden/temperature", 20.0, start)
    ear.wait(MARK, lambda mark: mark["after"] == 5)
    assert query(archive, "SELECT name, value, unit FROM readings_by_name ORDER BY ms") == [
        (WATER, 61.4, "°C"),
        (PUMP, "true", ""),
        (METER, 120.0, "kWh"),
        (PHASE, "off", ""),
    ]


def test_minutes_appear_by_themselves_and_a_late_reading_corrects_its_own(
    archive: House, voice: Voice, ear: Ear
) -> None:
    minute = (now() // 60_000 - 3) * 60_000
    for number, value in enumerate([60.0, 62.0], 1):
        voice.say(WATER, value, minute + number * 10_000, number)
    wait_for(lambda: query(archive, "SELECT count, mean FROM minutes_by_name") == [(2, 61.0)], what="the minute")
    voice.say(WATER, 67.0, minute + 5000, 3)
    wait_for(lambda: query(archive, "SELECT count, mean FROM minutes_by_name") == [(3, 63.0)], what="its correction")
    wait_for(lambda: query(archive, "SELECT count FROM days") == [(3,)], what="the day")
    assert query(archive, "SELECT count(*) FROM pending") == [(0,)]


def test_kill_9_in_mid_batch_loses_nothing_and_doubles_nothing(archive: House, voice: Voice, ear: Ear) -> None:
    start, total = now() - 7_000_000, 6000
    for number in range(1, total + 1):
        voice.say(WATER, float(number % 90), start + number * 1000, number)
        if number % 1500 == 0:
            archive.kill("archive")
            archive.start("archive", wait=False)
    ear.wait(MARK, lambda mark: mark["after"] == total, timeout=20)
    found = query(archive, "SELECT time, value FROM readings ORDER BY time")
    assert found == [(start + number * 1000, float(number % 90)) for number in range(1, total + 1)]
    wait_for(
        lambda: query(archive, "SELECT sum(count) FROM minutes") == [(total,)],
        what="minutes that count every reading once",
    )


def test_on_a_full_disk_nothing_is_acknowledged_before_it_is_stored(archive: House, voice: Voice, ear: Ear) -> None:
    voice.say(WATER, 20.0, now(), 1)
    ear.wait(MARK, lambda mark: mark["after"] == 1)
    process = archive.processes["archive"]
    subprocess.run(["prlimit", f"--pid={process.pid}", "--fsize=200000:unlimited"], check=True)
    start, total = now() - 600_000, 8000
    for number in range(2, total + 1):
        voice.say(WATER, 20.0, start + number, number)
    wait_for(lambda: "nothing is lost, trying on" in archive.log("archive"), what="the complaint")
    ear.wait("home/service/archive/health", lambda health: health["state"] == "degraded")
    assert "the database does not take readings" in archive.log("archive")  # health may say that minutes wait
    marked = ear.last(MARK)["after"]
    assert marked < total
    assert query(archive, "SELECT count(*) FROM readings") == [(marked,)]
    subprocess.run(["prlimit", f"--pid={process.pid}", "--fsize=unlimited:unlimited"], check=True)
    ear.wait(MARK, lambda mark: mark["after"] == total, timeout=20)
    assert query(archive, "SELECT count(*) FROM readings") == [(total,)]
    assert archive.log("archive").count("trying on") == 1


def test_a_replay_brings_what_was_stored_in_order_and_ends_with_its_count(
    archive: House, voice: Voice, ear: Ear
) -> None:
    start, total = now() - 100_000, 1234
    for number in range(1, total + 1):
        voice.say(WATER, number / 10, start + number, number)
    voice.say(PHASE, "ignition", start + total + 1, total + 1, unit="")
    voice.say(PUMP, True, start + total + 2, total + 2, unit="")
    ear.wait(MARK, lambda mark: mark["after"] == total + 2)
    asked = {"from": format_time(start), "to": format_time(start + total + 2), "for": "influx", "id": 5}
    assert ear.ask("archive", "replay", asked)["status"] == "ok"
    end = ear.wait("home/service/archive/replay/influx", lambda payload: isinstance(payload, dict))
    assert (end["count"], end["id"], end["next"]) == (total + 1, 5, format_time(start + total + 2))
    batches = [json.loads(payload) for payload in ear.all("home/service/archive/replay/influx")[:-1]]
    assert len(batches) == 3
    readings = [reading for batch in batches for reading in batch]
    assert [parse_time(reading["time"]) - start for reading in readings] == list(range(1, total + 2))
    assert readings[0] == {"topic": WATER, "value": 0.1, "unit": "°C", "time": format_time(start + 1)}
    assert readings[-1] == {"topic": PHASE, "value": "ignition", "time": format_time(start + total + 1)}
    ear.heard.clear()
    ear.ask("archive", "replay", asked | {"topics": [PUMP], "id": 6, "to": None})
    end = ear.wait("home/service/archive/replay/influx", lambda payload: isinstance(payload, dict))
    assert (end["count"], end["next"]) == (1, None)
    assert json.loads(ear.all("home/service/archive/replay/influx")[0])[0]["value"] is True


def test_a_replay_for_a_stranger_or_of_no_time_is_refused(archive: House, ear: Ear) -> None:
    assert "names no 'nobody'" in ear.ask("archive", "replay", {"from": format_time(0), "for": "nobody"})["error"]
    assert "is not of the form" in ear.ask("archive", "replay", {"from": "yesterday", "for": "influx"})["error"]


def test_no_replay_that_anybody_may_ask_for_ends_the_archive(house: House, voice: Voice, ear: Ear) -> None:
    house.write(TOPICS.replace("commit: 50ms", "commit: 3s"))  # it begins after a commit, which nobody has asked for
    house.start("archive")
    ear.wait("home/service/archive/status")
    start = now() - 300_000
    voice.say(WATER, 20.0, start, 1)
    asked = {"from": format_time(start), "for": "influx"}
    beyond = ear.ask("archive", "replay", asked | {"to": "9999-12-31T23:59:59.9997Z"})
    assert "lies beyond what a computer can name" in beyond["error"]
    for span in (60 * 2**57, 367 * 86_400):
        assert "<= 31622400" in ear.ask("archive", "replay", asked | {"span": span})["error"]
    ear.wait(MARK, lambda mark: mark["after"] == 1, timeout=30)
    with closing(sqlite3.connect(database(house))) as connection, connection:  # a time without a name
        connection.execute("INSERT INTO readings (time, topic, value) VALUES (253402300800000, 1, 1.0)")
    assert ear.ask("archive", "replay", asked)["status"] == "ok"
    ear.wait("home/service/archive/health", lambda health: "a store gets no replay" in json.dumps(health["last_error"]))
    voice.say(WATER, 21.0, start + 1, 2)
    ear.wait(MARK, lambda mark: mark["after"] == 2, timeout=30)
    assert ear.ask("archive", "ping")["status"] == "ok"


def test_a_backup_is_made_while_it_runs_and_a_lost_archive_is_restored_from_it(
    archive: House, voice: Voice, ear: Ear
) -> None:
    minute = (now() // 60_000 - 5) * 60_000
    for number in range(1, 101):
        voice.say(WATER, 20.0, minute + number, number)
    ear.wait(MARK, lambda mark: mark["after"] == 100)
    wait_for(lambda: query(archive, "SELECT count FROM minutes") == [(100,)], what="the minute")
    assert ear.ask("archive", "backup")["data"]["bytes"] > 10_000
    archive.stop("archive")
    for file in archive.state("archive").glob("archive.sqlite*"):
        file.unlink()
    archive.start("archive")
    voice.say(WATER, 30.0, minute + 200, 101, previous=0)
    ear.wait(MARK, lambda mark: mark["after"] == 101)
    wait_for(lambda: query(archive, "SELECT count(*) FROM readings") == [(101,)], what="what its backup holds")
    assert "its file is gone" in archive.log("archive")
    assert "100 readings came out of backup.sqlite" in archive.log("archive")
    assert ear.ask("archive", "restore") == {"status": "ok", "data": {"readings": 0}}
    assert ear.ask("archive", "restore") == {"status": "ok", "data": {"readings": 0}}
    wait_for(
        lambda: query(archive, "SELECT count, high FROM minutes") == [(101, 30.0)], what="the minute, put together"
    )


def test_the_commands_export_back_up_and_restore(archive: House, voice: Voice, ear: Ear, tmp_path: Path) -> None:
    day = datetime.now(PARIS).date() - timedelta(2)  # before anything that the archive has seen
    minute = round(datetime(day.year, day.month, day.day, 0, 10, tzinfo=PARIS).timestamp() * 1000)
    for number in range(1, 4):
        voice.say(WATER, 20.0 + number, minute + number * 1000, number)
    voice.say(PHASE, "off", minute + 9000, 4, unit="")
    ear.wait(MARK, lambda mark: mark["after"] == 4)
    wait_for(lambda: len(query(archive, "SELECT * FROM minutes")) == 2, what="the minutes")
    done = command(archive, "export", "--raw", "--topic", "boiler/water/#")
    assert done.returncode == 0, done.stderr
    assert done.stderr == f"constellation: {archive.config} is used, not /etc/constellation/topics.yaml\n"
    assert list(csv.DictReader(done.stdout.splitlines())) == [
        {"name": WATER, "time": format_time(minute + n * 1000), "value": str(20.0 + n), "unit": "°C"} for n in (1, 2, 3)
    ]
    (row,) = csv.DictReader(
        command(archive, "export", "--topic", "+/burner/phase", "--from", f"{day}").stdout.splitlines()
    )
    assert (row["name"], row["count"], row["word"], row["mean"]) == (PHASE, "1", "off", "")
    span = ("--from", f"{day}", "--to", "9999-12-31T23:59:59Z")
    (row, *_) = csv.DictReader(command(archive, "export", "--days", "--topic", WATER, *span).stdout.splitlines())
    assert (row["day"], row["count"], row["mean"]) == (f"{day}", "3", "22.0")  # the local day
    assert command(archive, "export", "--to", f"{day}", "--raw").stdout.count("\n") == 1
    assert "is not of the form" in command(archive, "export", "--from", "gestern").stderr
    assert command(archive, "backup", str(tmp_path / "copy.sqlite")).returncode == 0
    with closing(sqlite3.connect(tmp_path / "copy.sqlite")) as copy, copy:
        assert copy.execute("SELECT count(*) FROM readings").fetchone() == (4,)
        copy.execute("INSERT INTO readings SELECT time + 1, topic, value, word FROM readings")
    assert "4 readings" in command(archive, "restore", str(tmp_path / "copy.sqlite")).stdout
    assert query(archive, "SELECT count(*) FROM readings") == [(8,)]
    assert "is not there" in command(archive, "restore", str(tmp_path / "none.sqlite")).stderr


def test_a_changed_unit_begins_a_new_row_of_topics_and_never_mixes(archive: House, voice: Voice, ear: Ear) -> None:
    voice.say(WATER, 60.0, now() - 1000, 1)
    ear.wait(MARK, lambda mark: mark["after"] == 1)
    archive.write(TOPICS.replace(f"{WATER}: {{from: onewire", f"{WATER}: {{quantity: number, unit: K, from: onewire"))
    wait_for(lambda: "taken over" in archive.log("archive"), what="the reload")
    voice.say(WATER, 333.0, now(), 2, unit="K")
    ear.wait(MARK, lambda mark: mark["after"] == 2)
    assert query(archive, "SELECT value, unit FROM readings_by_name ORDER BY ms") == [(60.0, "°C"), (333.0, "K")]


def test_each_commit_is_synchronised_to_the_disk(tmp_path: Path) -> None:
    engine = schema.open_database("sqlite:///{state}/archive.sqlite", tmp_path)
    with engine.connect() as connection:
        asked = [connection.exec_driver_sql(f"PRAGMA {name}").scalar() for name in ("journal_mode", "synchronous")]
    engine.dispose()
    assert asked == ["wal", 2]  # FULL: sqlite.org/pragma.html


def test_days_begin_in_the_time_zone_of_the_house(house: House, ear: Ear) -> None:
    house.write("timezone: Asia/Tokyo\nsubscribers: {archive: {heartbeat: 1s}}\ntopics: {}\n")
    house.start("archive")
    begins = wait_for(lambda: query(house, "SELECT begin FROM calendar"), what="days")
    assert {begin // 3_600_000 % 24 for (begin,) in begins} == {15}


def test_over_budget_the_oldest_goes_and_health_says_so(house: House, ear: Ear) -> None:
    house.write(TOPICS.replace("commit: 50ms", "commit: 50ms, raw: 100d, budget: 1"))
    house.start("archive")
    house.stop("archive")
    old = now() - 40 * 86_400_000
    with closing(sqlite3.connect(database(house))) as archive, archive:
        rows = [(old + i * 60_000, 1, float(i), None) for i in range(40 * 1440)]
        archive.executemany("INSERT INTO readings VALUES (?, ?, ?, ?)", rows)
    house.start("archive")
    ear.wait("home/service/archive/health", lambda health: health.get("disk", {}).get("shortened", 0) > 5_000)
    disk = ear.wait("home/service/archive/health", lambda health: health["disk"]["archive"] <= 1_000_000)["disk"]
    assert disk["budget"] == 1_000_000
    ((first, last),) = query(house, "SELECT min(time), max(time) FROM readings")
    assert first > old + 86_400_000
    assert last == rows[-1][0]


def test_a_budget_that_cannot_be_kept_is_said_once(house: House, ear: Ear) -> None:
    house.write(TOPICS.replace("commit: 50ms", "commit: 50ms, budget: 1"))
    house.state("archive").mkdir(parents=True)
    (house.state("archive") / "dead_letters.jsonl").write_bytes(b"\n" * 2_000_000)
    house.start("archive")
    ear.wait("home/service/archive/health", lambda health: "raise `budget`" in str(health["last_error"]))
    assert house.log("archive").count("raise `budget`") == 1


def test_a_damaged_archive_is_set_aside_said_and_begun_anew(house: House, voice: Voice, ear: Ear) -> None:
    house.write(TOPICS)
    house.state("archive").mkdir(parents=True)
    database(house).write_bytes(b"\xa5" * 50_000)
    house.start("archive")
    ear.wait("home/service/archive/status")
    voice.say(WATER, 20.0, now(), 1)
    ear.wait(MARK, lambda mark: mark["after"] == 1)
    (aside,) = house.state("archive").glob("archive.sqlite.damaged-*")
    assert aside.stat().st_size == 50_000
    assert house.log("archive").count("it is set aside as archive.sqlite.damaged-") == 1


def test_minutes_count_readings_that_come_while_they_are_computed(tmp_path: Path) -> None:
    record = Database("sqlite:///{state}/archive.sqlite", tmp_path)
    path = tmp_path / "topics.yaml"
    path.write_text(TOPICS)
    record.take_topics(Registry(path).topics.values())
    upkeep = Upkeep(record, tmp_path, PARIS)
    start = now() - 600_000
    for second in range(300):
        record.store(WATER, start + second * 1000, 20.0)
        if second % 7 == 0:
            record.commit({})
        if second % 11 == 0:
            upkeep.turn(now(), 0, 1e9, 10**12)
    record.commit({})
    upkeep.turn(now(), 0, 1e9, 10**12)
    with record.engine.connect() as connection:
        assert connection.exec_driver_sql("SELECT sum(count) FROM minutes").scalar_one() == 300
    record.close()


WRONG_CLOCK = """
import select, time
import bootstrap_lib.clock
bootstrap_lib.clock.is_synchronised = lambda: {synchronised}
time.sleep = lambda seconds: select.select([], [], [], seconds)  # libfaketime makes the other fail
"""


def python_that_finds(folder: Path, *, synchronised: bool) -> str:
    """PYTHONPATH of processes that find their clock synchronised, or not."""
    folder.mkdir()
    (folder / "sitecustomize.py").write_text(WRONG_CLOCK.format(synchronised=synchronised))
    return f"{folder}:{PROJECT}"


@pytest.mark.skipif(FAKETIME is None, reason="libfaketime is missing")
@pytest.mark.parametrize("date", ["1970-01-02 00:00:00", "2099-01-02 00:00:00"])
def test_an_archive_whose_clock_is_wrong_stores_computes_and_keeps_what_it_should(
    house: House, voice: Voice, ear: Ear, tmp_path: Path, date: str
) -> None:
    house.write(TOPICS)
    house.start("archive")
    voice.say(WATER, 60.0, now() - 200_000, 1)
    ear.wait(MARK, lambda mark: mark["after"] == 1)
    wait_for(lambda: query(house, "SELECT value FROM settings WHERE name = 'reached'"), what="a round of retention")
    house.stop("archive")
    with closing(sqlite3.connect(database(house))) as archive, archive:
        old = [(now() - days * 86_400_000, 1, float(days), None) for days in (7, 20)]
        archive.executemany("INSERT INTO readings VALUES (?, ?, ?, ?)", old)
        years = [
            (1, (now() - years * 365 * 86_400_000) // 60_000 * 60_000, 1, 20.0, 20.0, 20.0) for years in range(1, 9)
        ]
        archive.executemany(
            "INSERT INTO minutes (topic, time, count, mean, low, high) VALUES (?, ?, ?, ?, ?, ?)", years
        )
    (house.state("archive") / "instance.json").unlink()
    shutil.rmtree(house.folder / "run" / "archive")

    house.start(
        "archive",
        LD_PRELOAD=str(FAKETIME),
        FAKETIME=f"@{date}",
        FAKETIME_DONT_FAKE_MONOTONIC="1",
        PYTHONPATH=python_that_finds(tmp_path / "wrong", synchronised=False),
    )
    began = now()
    voice.say(PUMP, True, began - 180_000, 2, unit="")
    voice.say(WATER, 61.0, began - 150_000, 3)
    voice.raw(PUMP, b"", 4)
    voice.say(WATER, 62.0, now(), 5)
    ear.wait(MARK, lambda mark: mark["after"] == 5)
    assert not (house.state("archive") / "dead_letters.jsonl").exists()
    ((cleared,),) = query(house, "SELECT time FROM clearings")
    assert 0 <= cleared - (began - 150_000) <= 30_000, "not by the archive's clock"
    wait_for(lambda: query(house, "SELECT sum(count) FROM minutes") >= [(8 + 3,)], what="the minutes")
    ear.wait("home/service/archive/health", lambda health: health["disk"]["archive"] > 0)
    kept = "SELECT count(*) FROM readings WHERE value = {}"
    assert query(house, kept.format(7)) == [(1,)], "a repeat of it must be recognised"
    assert query(house, "SELECT count(*) FROM minutes WHERE count = 1 AND mean = 20") == [(8,)]
    house.stop("archive")

    house.start("archive", PYTHONPATH=python_that_finds(tmp_path / "right", synchronised=True))
    wait_for(lambda: query(house, kept.format(20)) == [(0,)], what="retention by the right clock")
    assert query(house, kept.format(7)) == [(1,)]
    voice.say(WATER, 63.0, now() + 120_000, 6)
    voice.say(WATER, 64.0, now(), 7)
    ear.wait(MARK, lambda mark: mark["after"] == 7)
    assert query(house, "SELECT max(value) FROM readings") == [(64.0,)], "a minute ahead is too much again"


def test_a_clock_that_jumps_ahead_deletes_no_more_than_a_day_an_hour(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    record, start, moment = Database("sqlite:///{state}/archive.sqlite", tmp_path), now(), [1000.0]
    path = tmp_path / "topics.yaml"
    path.write_text(TOPICS)
    record.take_topics(Registry(path).topics.values())
    monkeypatch.setattr("services.stores.upkeep.time.monotonic", lambda: moment[0])
    for day in range(9):
        record.store(WATER, start - day * 86_400_000 - 61_000, float(day))  # whole minutes go
    record.commit({})

    def days_after(hours: int, clock: int, *, certain: bool = True) -> int:
        upkeep = Upkeep(record, tmp_path, PARIS)  # each time as after a restart
        for _ in range(hours):
            upkeep.turn(clock, 0, 1e9, 10**12, certain=certain)
            moment[0] += 3600
        upkeep.turn(clock, 0, 1e9, 10**12, certain=certain)
        with record.engine.connect() as connection:
            return connection.exec_driver_sql("SELECT count(*) FROM readings").scalar_one()

    far = start + 70 * 365 * 86_400_000
    assert days_after(1, start) == 8
    assert days_after(40, far, certain=False) == 7, "by a guess it grows old as time passes"
    assert days_after(3, far) == 4
    assert days_after(3, start) == 4, "and not further when it is right again"
    record.close()
