"""What was confirmed stays: an archive that can only be read, what is taken in late, a load that is looked at before it replaces anything."""

import io
import subprocess
import tarfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from disk import SmallDisk, copy
from harness import Broker, Ear, House, wait_for
from test_rrd import GRID, WATER, constellation, fill, registry, topics
from voices import Voice, ask_database, now

from bootstrap_lib.reading import format_time
from services.stores.roundrobin import path_of

MARK = "home/service/archive/stored/onewire"
TOPICS = f"""
timezone: Europe/Paris
sources: {{onewire: {{}}}}
subscribers: {{archive: {{commit: 50ms, every: 100ms, heartbeat: 300ms, group: 1m}}}}
topics: {{{WATER}: {{from: onewire}}}}
"""
COUNT = "SELECT count(*) FROM readings"


def test_an_archive_whose_disk_takes_no_writing_marks_nothing_and_goes_on(house: House, voice: Voice, ear: Ear) -> None:
    house.write(TOPICS)
    process = house.start("archive")
    voice.say(WATER, 20.0, now(), 1)
    ear.wait(MARK, lambda mark: mark["after"] == 1)
    limit = ["prlimit", f"--pid={process.pid}"]
    subprocess.run(
        [*limit, "--fsize=0:unlimited"], check=True
    )  # each write fails from now on, as on a disk gone read-only
    voice.say(WATER, 21.0, now() + 1, 2)
    ear.wait("home/service/archive/health", lambda health: health["state"] == "degraded")
    ear.wait("home/service/archive/health", lambda health: "the database does not take" in str(health["last_error"]))
    assert ear.last(MARK)["after"] == 1
    subprocess.run([*limit, "--fsize=unlimited:unlimited"], check=True)
    ear.wait(MARK, lambda mark: mark["after"] == 2, 60)
    assert ask_database(house.state("archive") / "archive.sqlite", COUNT) == [(2,)]
    assert "damaged" not in house.log("archive"), "a disk that takes nothing is no damage"


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[SmallDisk]:
    disk = SmallDisk(tmp_path / "house/state/archive", 30_000)
    yield disk
    disk.close()


def test_an_archive_that_finds_its_disk_read_only_says_so_and_leaves_it_as_it_is(
    tmp_path: Path, disk: SmallDisk, broker: Broker, voice: Voice, ear: Ear
) -> None:
    (tmp_path / "house/config").mkdir()
    (tmp_path / "house/config").rmdir()
    house = House(tmp_path / "house", broker.port)
    try:
        house.write(TOPICS)
        house.start("archive", prefix=disk.prefix)
        ear.wait("home/service/archive/status", lambda status: status == "online")
        for number in range(1, 51):
            voice.say(WATER, 20.0, now() + number, number)
        ear.wait(MARK, lambda mark: mark["after"] == 50)
        house.stop("archive")
        remount = [*disk.prefix, "mount", "-o"]
        subprocess.run([*remount, "remount,ro", house.state("archive")], check=True)
        before = (disk.outside / "archive.sqlite").read_bytes()
        process = house.start("archive", wait=False, prefix=disk.prefix)
        assert process.wait(60) != 0
        assert "Read-only file system" in house.log("archive")
        assert "Traceback" not in house.log("archive")
        assert (disk.outside / "archive.sqlite").read_bytes() == before
        subprocess.run([*remount, "remount,rw", house.state("archive")], check=True)
        house.start("archive", prefix=disk.prefix)
        voice.say(WATER, 21.0, now() + 60, 51)
        ear.wait(MARK, lambda mark: mark["after"] == 51)
        assert ask_database(copy(disk.outside, tmp_path / "copy") / "archive.sqlite", COUNT) == [(51,)]
    finally:
        house.close()


def test_what_is_late_and_what_is_restored_is_in_days_and_months_at_once(house: House, voice: Voice, ear: Ear) -> None:
    house.write(TOPICS)
    house.start("archive")
    ear.wait("home/service/archive/status", lambda status: status == "online")
    database = house.state("archive") / "archive.sqlite"
    voice.say(WATER, 20.0, now(), 1)
    ear.wait(MARK, lambda mark: mark["after"] == 1)
    late = now() - 5 * 86_400_000
    voice.say(WATER, 30.0, late, 2)
    day = format_time(late)[:10]
    wait_for(
        lambda: (
            (30.0,) in ask_database(database, f"SELECT high FROM days WHERE day IN ('{day}', date('{day}', '+1 day'))")
        ),
        what="the late day",
    )
    assert ear.ask("archive", "backup")["status"] == "ok"
    assert house.stop("archive") == 0
    (house.state("archive") / "backup.sqlite").rename(house.folder / "backup.sqlite")
    for file in house.state("archive").iterdir():
        file.unlink()
    house.start("archive")
    ear.wait("home/service/archive/status", lambda status: status == "online")
    voice.say(WATER, 21.0, now() - 120_000, 3, 0)
    wait_for(lambda: ask_database(database, "SELECT count(*) FROM days") == [(1,)], what="today")
    (house.folder / "backup.sqlite").rename(house.state("archive") / "backup.sqlite")
    assert ear.ask("archive", "restore")["data"] == {"readings": 2}
    days = "SELECT count(*), max(high) FROM days"
    wait_for(lambda: ask_database(database, days) == [(2, 30.0)], 5, "the restored day, without waiting for a round")
    assert ask_database(database, "SELECT max(high) FROM months") == [(30.0,)]


def test_a_load_is_looked_at_as_a_whole_before_it_replaces_one_file(tmp_path: Path) -> None:
    house = registry(tmp_path, topics())
    before, after = tmp_path / "before", tmp_path / "after"
    for folder in (before, after):
        fill(folder / "rrd", house)
    good = tmp_path / "house.tar"
    constellation(house.path, "dump", "rrd", good, STATE_DIRECTORY=str(before))
    bad = tmp_path / "bad.tar"
    with tarfile.open(good) as old, tarfile.open(bad, "w") as new:
        members = old.getmembers()
        for number, member in enumerate(members):
            content = old.extractfile(member).read()
            if number == len(members) - 1:
                content = content[: len(content) // 2]
            member.size = len(content)
            new.addfile(member, io.BytesIO(content))
    files = {name: path_of(after / "rrd", name) for name in (WATER, GRID)}
    stood = {name: (path.stat().st_ino, path.read_bytes()) for name, path in files.items()}
    done = constellation(house.path, "load", "rrd", bad, STATE_DIRECTORY=str(after))
    assert done.returncode != 0
    assert "Traceback" not in done.stderr
    assert {name: (path.stat().st_ino, path.read_bytes()) for name, path in files.items()} == stood, (
        "not one is replaced"
    )
    assert not list((after / "rrd").glob(".loading-*"))
    done = constellation(house.path, "load", "rrd", good, STATE_DIRECTORY=str(after))
    assert done.returncode == 0, done.stderr
    assert all(path.stat().st_ino != stood[name][0] for name, path in files.items()), "each is replaced"
