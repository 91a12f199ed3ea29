"""A wrong clock is undone by a person: what is believed is shown and overruled, and readings of a false time are moved or dropped in all stores."""

import json
import os
import sqlite3
import subprocess
import sys
from contextlib import closing
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import ClassVar

import pytest
from harness import PROJECT, Ear, House, wait_for
from test_influx import MARK, WATER, Metrics, metrics, water  # noqa: F401 (a fixture)
from voices import Voice, ask_database, now

from bootstrap_lib.cli import main
from bootstrap_lib.reading import format_time
from bootstrap_lib.registry import Registry
from services.stores import moves, retiming, schema
from services.stores.open_archive import OpenArchive

DAY, MINUTE = 86_400_000, 60_000
OTHER = "boiler/return/temperature"


@pytest.fixture
def stores(house: House, metrics: Metrics, ear: Ear) -> House:  # noqa: F811
    house.write(f"""
sources: {{onewire: {{}}, other: {{service: onewire}}}}
subscribers:
  archive: {{commit: 50ms, every: 100ms, group: 1m}}
  rrd: {{flush: 200ms, finest: 1s, every: 200ms}}
  influx: {{url: "http://127.0.0.1:{metrics.port}", flush: 50ms, every: 200ms}}
topics:
  {WATER}: {{from: onewire}}
  {OTHER}: {{from: other}}
""")
    for name in ("archive", "rrd", "influx"):
        house.start(name)
        ear.wait(f"home/service/{name}/status", lambda status: status == "online")
    return house


def command(house: House, *words: str) -> str:
    line = [sys.executable, "-m", "bootstrap_lib.cli", "--config", str(house.config), *words]
    done = subprocess.run(line, env=os.environ, cwd=PROJECT, capture_output=True, text=True, timeout=120)
    assert done.returncode in (0, 1), done.stderr
    assert len(done.stderr.splitlines()) == 1, done.stderr  # that it is not the installed topics.yaml
    return done.stdout


def times(house: House, topic: str = WATER) -> list[int]:
    query = f"SELECT r.time FROM readings r JOIN topics t ON t.id = r.topic WHERE t.name = '{topic}' ORDER BY r.time"
    return [time for (time,) in ask_database(house.state("archive") / "archive.sqlite", query)]


def minutes(house: House, topic: str = WATER) -> list[tuple[int, int]]:
    query = f"SELECT m.time, m.count FROM minutes m JOIN topics t ON t.id = m.topic WHERE t.name = '{topic}' ORDER BY m.time"
    return ask_database(house.state("archive") / "archive.sqlite", query)  # type: ignore[return-value]


def drawn(house: House, begin: int, end: int, topic: str = WATER) -> bool:
    """Whether the picture shows anything from a time (ms) to another."""
    path = house.state("rrd") / "rrd" / f"{topic}.rrd"
    line = ["rrdtool", "fetch", str(path), "AVERAGE", "-s", str(begin // 1000), "-e", str(end // 1000)]
    said = subprocess.run(line, capture_output=True, text=True).stdout
    return any(":" in row and "nan" not in row for row in said.splitlines())


def test_readings_of_a_false_time_are_listed_moved_and_dropped_in_all_stores(
    stores: House,
    voice: Voice,
    ear: Ear,
    metrics: Metrics,  # noqa: F811
) -> None:
    right = (now() - 3 * MINUTE) // MINUTE * MINUTE
    false = right - DAY // 4 - 10 * MINUTE
    wrong = [false + 1000 * n + 5 for n in range(150)]
    good = [right + 1000 * n for n in range(100)]
    for number, moment in enumerate([*wrong, *good], 1):
        voice.say(WATER, 20.0, moment, number)
    voice.stream = "cd34"
    for number, moment in enumerate(wrong, 1):
        voice.say(OTHER, 30.0, moment, number)
    wait_for(lambda: times(stores, OTHER) == wrong, what="the other's")
    wait_for(lambda: len(water(metrics)) == 250, what="all in the series")
    wait_for(lambda: sum(count for _, count in minutes(stores)) == 250, what="minutes")
    around = (false - 20 * MINUTE, false + 20 * MINUTE)
    wait_for(lambda: drawn(stores, *around), what="the picture of the false time")
    span = ("--from", format_time(false - MINUTE), "--to", format_time(false + 5 * MINUTE), "--source", "onewire")

    listed = command(stores, "rework", "--list", *span)
    assert listed == f"{WATER:40} {150:8} readings, {format_time(wrong[0])} to {format_time(wrong[-1])}\n"
    assert times(stores) == [*wrong, *good], "a list changes nothing"

    by = DAY // 4 + 5 * MINUTE
    said = command(stores, "rework", f"--move={by // 1000}s", *span)
    assert "archive: 150 readings moved" in said
    moved = [time + by for time in wrong]
    assert times(stores) == [*moved, *good]
    assert times(stores, OTHER) == wrong, "another source's stay"
    wait_for(lambda: [time for time, _ in water(metrics)] == [*moved, *good], what="the series")
    wait_for(lambda: sum(count for _, count in minutes(stores)) == 250, what="minutes again")
    assert {time for time, _ in minutes(stores)} == {time // MINUTE * MINUTE for time in (*moved, *good)}
    wait_for(lambda: drawn(stores, moved[0], moved[-1]), what="the picture of the right time")
    assert not drawn(stores, *around)

    early = moved[0], good[0] - 10_000
    span = ("--from", format_time(moved[0]), "--to", format_time(moved[-1] + 1), "--source", "onewire")
    assert "archive: 150 readings dropped" in command(stores, "rework", "--drop", *span)
    assert times(stores) == good
    wait_for(lambda: [time for time, _ in water(metrics)] == good, what="the series without them")
    wait_for(lambda: sum(count for _, count in minutes(stores)) == 100, what="minutes without them")
    wait_for(lambda: drawn(stores, good[0], good[-1]) and not drawn(stores, *early), what="the picture without them")
    before = len(stores.log("archive"))
    assert stores.stop("archive") == 0
    stores.start("archive")
    assert "copy" not in stores.log("archive")[before:], "what was dropped is no older file"


class InfluxServerStub(BaseHTTPRequestHandler):
    """What InfluxDB 2 answers: it takes what is written, and says what is to be deleted."""

    deleted: ClassVar[list[dict[str, str]]] = []

    def do_GET(self) -> None:
        self.send_response(200)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def do_POST(self) -> None:
        content = self.rfile.read(int(self.headers["Content-Length"]))
        if self.path.startswith("/api/v2/delete"):
            self.deleted.append(json.loads(content))
        self.send_response(204)
        self.end_headers()

    def log_message(self, *_: object) -> None:
        """Say nothing."""


def test_influxdb_loses_nothing_that_nobody_named(
    house: House, voice: Voice, ear: Ear, capsys: pytest.CaptureFixture[str]
) -> None:
    server = ThreadingHTTPServer(("127.0.0.1", 0), InfluxServerStub)
    Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
    beside = "boiler/water/outlet_temperature"
    house.write(f"""
sources: {{onewire: {{}}, other: {{service: onewire}}}}
subscribers:
  archive: {{commit: 50ms, every: 100ms, group: 1m}}
  influx: {{url: "http://127.0.0.1:{server.server_port}", flush: 50ms, every: 200ms}}
topics:
  {WATER}: {{from: onewire}}
  {beside}: {{from: other}}
  {OTHER}: {{from: other}}
""")
    for name in ("archive", "influx"):
        house.start(name)
        ear.wait(f"home/service/{name}/status", lambda status: status == "online")
    right = now() // MINUTE * MINUTE - 30 * MINUTE
    voice.say(WATER, 20.0, right, 1)
    wait_for(lambda: times(house) == [right], what="a reading")
    voice.stream = "cd34"
    voice.say(beside, 1.0, right, 1)
    wait_for(lambda: times(house, beside) == [right], what="one of the other topic")
    with closing(sqlite3.connect(house.state("archive") / "archive.sqlite", timeout=5)) as db, db:
        db.execute(
            "INSERT INTO minutes (topic, time, count, mean, low, high)"
            " SELECT id, ?, 1, 1.0, 1.0, 1.0 FROM topics WHERE name IN (?, ?)",
            (right - 10 * MINUTE, beside, OTHER),
        )

    def drop(since: int, until: int = right + MINUTE) -> int:
        span = ("--from", format_time(since), "--to", format_time(until), "--source", "onewire")
        return main(["--config", str(house.config), "rework", "--drop", *span])

    assert drop(right - 10 * MINUTE) != 0
    said = capsys.readouterr().err
    assert f"nothing was changed: the server of influx deletes by thing, and of {beside} the archive has no raw" in said
    assert (InfluxServerStub.deleted, times(house), times(house, beside)) == ([], [right], [right])
    with closing(sqlite3.connect(house.state("archive") / "archive.sqlite", timeout=5)) as db, db:
        hour = (right - 240 * MINUTE) // (60 * MINUTE) * 60 * MINUTE
        query = "INSERT INTO hours (topic, time, count, minutes) SELECT id, ?, 1, 1 FROM topics WHERE name = ?"
        db.execute(query, (hour, beside))
    assert drop(hour, hour + 60 * MINUTE) != 0, "minutes may be gone too, where hours stay"
    gone = "boiler/water/inlet_temperature"
    with closing(sqlite3.connect(house.state("archive") / "archive.sqlite", timeout=5)) as db, db:
        past = [(100, gone, "°C", right - 100 * MINUTE), (101, beside, "°F", right - 120 * MINUTE)]
        db.executemany("INSERT INTO topics (id, name, unit, kind) VALUES (?, ?, ?, 'gauge')", [row[:3] for row in past])
        db.executemany(
            "INSERT INTO readings (topic, time, value) VALUES (?, ?, 1.0)", [(row[0], row[3]) for row in past]
        )
    capsys.readouterr()
    for _, name, _, moment in past:
        assert drop(moment, moment + 1) != 0, "what topics.yaml has no more, or in another unit, is not filled"
        assert f"of {name} the archive" in capsys.readouterr().err
    assert (InfluxServerStub.deleted, times(house)) == ([], [right])
    assert drop(right - 9 * MINUTE) == 0, "there raw readings are"
    assert [one["predicate"] for one in InfluxServerStub.deleted] == [
        '_measurement="home" AND place="boiler" AND thing="water"'
    ]
    server.shutdown()
    server.server_close()


@pytest.mark.parametrize("by", [60 * MINUTE, -60 * MINUTE, 61 * MINUTE + 7])
@pytest.mark.parametrize("hours", [0, 5, 10])
def test_a_move_that_was_killed_goes_on_where_it_was(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, by: int, hours: int
) -> None:
    path = tmp_path / "archive.sqlite"
    engine = schema.open_file(path)
    schema.migrate(engine)
    engine.dispose()
    start = now() // DAY * DAY - 2 * DAY
    taken = [start + 10 * MINUTE * n + 3 for n in range(60)]
    with closing(sqlite3.connect(path)) as connection, connection:
        for topic, name in enumerate((WATER, OTHER), 1):
            connection.execute("INSERT INTO topics VALUES (?, ?, '°C', 'gauge')", (topic, name))
            connection.executemany("INSERT INTO readings VALUES (?, ?, 1.0, NULL)", [(time, topic) for time in taken])

    def left(topic: int = 1) -> list[int]:
        return [time for (time,) in ask_database(path, f"SELECT time FROM readings WHERE topic = {topic}")]

    span, deal, dealt = (start, start + 10 * 60 * MINUTE), retiming._Change.hour, list[int]()

    def killed(change: retiming._Change, begin: int, end: int) -> None:
        dealt.append(begin)
        deal(change, begin, end)
        if len(dealt) > hours:
            raise KeyboardInterrupt  # before its commit

    def move(names: set[str], by: int | None = by) -> int:
        return retiming.change(path, names, *span, by)

    with monkeypatch.context() as patch:
        patch.setattr(retiming._Change, "hour", killed)
        if hours < 10:
            with pytest.raises(KeyboardInterrupt):
                move({WATER})
        else:
            assert move({WATER}) == 60  # and it was killed before anybody heard of it
    moved = [time + by for time in taken]
    assert (left() == taken, left() == moved) == (hours == 0, hours == 10)
    assert move({WATER}) == (0 if hours == 10 else 60)
    assert left() == moved, "none lost, none moved twice"
    assert move({WATER, OTHER}) == 60, "what was moved already stays"
    assert (left(), left(2)) == (moved, moved)
    assert move({WATER}) == 0
    assert left() == moved, "an order that is given again, as while another store is away, moves nothing twice"
    assert retiming.change(path, {WATER}, *span, by, again=True) == sum(span[0] <= time < span[1] for time in moved)
    monkeypatch.setattr(moves, "REMEMBERED", -1)
    before = left()
    assert move({WATER}) == sum(span[0] <= time < span[1] for time in before), "what was done long ago is forgotten"


def test_a_move_that_was_killed_is_said_and_ended_by_the_next_order(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "topics.yaml").write_text(
        f"sources: {{onewire: {{}}}}\nsubscribers: {{archive: {{}}}}\ntopics: {{{WATER}: {{from: onewire}}}}\n"
    )
    registry = Registry(tmp_path / "topics.yaml")

    def opened() -> OpenArchive:
        return OpenArchive("sqlite:///{state}/archive.sqlite", tmp_path, registry, lambda _, page: len(page), now())

    archive, start = opened(), now() // DAY * DAY - 2 * DAY
    for hour in range(3):
        archive.database.store(WATER, start + 60 * MINUTE * hour, 1.0)
    archive.commit(now())
    path, note = archive.database.path, moves.note

    def killed(connection: sqlite3.Connection, known: list[moves.Moving]) -> None:
        note(connection, known)
        if known[-1].count == 2:
            connection.execute("COMMIT")
            raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(moves, "note", killed)
        with pytest.raises(KeyboardInterrupt):
            retiming.change(path, {WATER}, start, start + DAY, 61 * MINUTE)
    archive.close()
    archive = opened()
    assert "rework --move" in " ".join(archive.news())
    assert retiming.change(path, {WATER}, start + DAY // 2, start + DAY, None) == 0, "another order, of nothing"
    moved = [start + 60 * MINUTE * hour + 61 * MINUTE for hour in range(3)]
    assert ask_database(path, "SELECT time FROM readings") == [(time,) for time in moved]
    assert retiming.change(path, {WATER}, start, start + DAY, 61 * MINUTE) == 0, "it was ended by that other one"
    assert ask_database(path, "SELECT time FROM readings") == [(time,) for time in moved]
    archive.close()
    archive = opened()
    assert "rework --move" not in " ".join(archive.news()), "it is done"
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute("UPDATE settings SET value = 'q' || value WHERE name = 'moving'")
    assert retiming.change(path, {WATER}, start, start + DAY, None) == 3, "one that cannot be read stops nobody"
    archive.close()


def test_what_each_service_believes_is_shown_and_a_person_may_overrule_it(
    house: House, ear: Ear, tmp_path: Path
) -> None:
    house.write("subscribers: {archive: {every: 100ms, heartbeat: 300ms}}\n")
    house.start("archive")
    ear.wait("home/service/archive/status", lambda status: status == "online")
    house.stop("archive")
    year = now() + 365 * DAY
    (house.folder / "run/archive/known.json").write_text(str(year))  # a clock that was far ahead had been believed
    house.start("archive")
    ear.wait("home/service/archive/status", lambda status: status == "online")
    shown = command(house, "clock")
    assert "archive" in shown
    if "this machine" in shown and " synchronised\n" in shown.replace("not synchronised", ""):
        return  # nobody has to guess
    assert "estimated" in shown
    assert (
        "s from its machine's: the system's clock is not synchronised, and behind what is known to have passed" in shown
    )
    assert "constellation clock --trust" in shown
    ear.wait("home/service/archive/health", lambda health: health["clock"] == "estimated")
    trusted = command(house, "clock", "--trust")
    assert "overruled: a person said that the system's clock is right" in trusted
    health = ear.wait("home/service/archive/health", lambda health: health["clock"] == "overruled")
    assert health["since"]
    assert house.stop("archive") == 0
    house.start("archive")
    ear.wait("home/service/archive/status", lambda status: status == "online")
    again = command(house, "clock")
    assert "from its machine's" not in again, "what was believed before is forgotten, also over a start"
