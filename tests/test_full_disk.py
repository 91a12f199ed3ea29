"""Disks that are full to the last byte: nothing is lost, it is said once, and all catches up when there is room."""

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from disk import SmallDisk, copy
from harness import PROJECT, Ear, House, wait_for
from voices import Voice, ask_database, now

from tests.chaos.device import Device

pytestmark = pytest.mark.long

NUMBER, WATER = "chaos/sequence/number_1_count", "boiler/water/temperature"
READINGS = "SELECT count(*) FROM readings"
MakeDisk = Callable[[Path, int], SmallDisk]


@pytest.fixture
def small() -> Iterator[MakeDisk]:
    """Makes small disks."""
    disks: list[SmallDisk] = []

    def make(folder: Path, kilobytes: int) -> SmallDisk:
        disks.append(SmallDisk(folder, kilobytes))
        return disks[-1]

    yield make
    for disk in disks:
        disk.close()


SPOOL = """
import sys
from pathlib import Path
from bootstrap_lib.spool import Spool, SpoolError
run, state = map(Path, sys.argv[1:3])
disk, tmpfs = state / "ballast", run / "ballast"
spool, taken = Spool(run, state), []

def take(count):
    try:
        for _ in range(count):
            taken.append(spool.append("a/b/temperature", '{"value":20.5,"unit":"C",', 1)[0].number)
    except SpoolError as error:
        return str(error)

def fill(path):
    with path.open("ab", buffering=0) as file:
        for size in (65536, 512):
            try:
                while file.write(bytes(size)) == size: pass
            except OSError: pass

def waiting():
    return [row.number for row, _ in spool.after(0, 10**6)]

"""


def test_a_spool_whose_disk_is_full_keeps_on_in_the_tmpfs_and_moves_when_there_is_room(
    small: MakeDisk, tmp_path: Path
) -> None:
    run, state = small(tmp_path / "run", 4000), tmp_path / "run" / "state"
    disk = "import os; os.system(f'mount -t tmpfs -o size=500k small {sys.argv[2]}')\n"
    done = run.run(
        "import sys, pathlib; pathlib.Path(sys.argv[2]).mkdir()\n"
        + disk
        + SPOOL
        + """
assert take(200) is None; spool.settle(age=-1)
fill(disk)
assert take(3000) is None; spool.settle(age=-1)
assert "disk is full" in spool.trouble, spool.trouble
assert waiting() == taken
disk.unlink(); spool.settle(age=-1)
assert spool.trouble is None, spool.trouble
assert waiting() == taken
print("done")
""",
        tmp_path / "run",
        state,
    )
    assert done.stdout == "done\n", done.stderr


def test_what_is_confirmed_on_a_full_disk_is_forgotten_as_soon_as_can_be(small: MakeDisk, tmp_path: Path) -> None:
    state = small(tmp_path / "state", 500)
    done = state.run(
        SPOOL
        + """
assert take(200) is None; spool.settle(age=-1)
fill(disk)
spool.confirm(spool.stream, taken[99])
kept = waiting()
assert set(taken[100:]) <= set(kept), "what is not confirmed stays"
if kept != taken[100:]:
    assert "cannot be deleted" in spool.trouble, spool.trouble
    spool.settle()
    assert "cannot be deleted" in spool.trouble, spool.trouble
    disk.unlink(); spool.settle()
    assert waiting() == taken[100:], "without another mark"
    fill(disk)
assert spool.trouble is None, spool.trouble
spool.confirm(spool.stream, taken[-1])
assert waiting() == [], "a file with nothing to keep is begun anew, however full its disk is"
stream = spool.stream
spool.close()
disk.unlink(missing_ok=True)
spool = Spool(run, state)
assert take(1) is None and (taken[-1] > taken[-2] or spool.stream != stream), "no number is given twice"
print("done")
""",
        tmp_path / "run",
        tmp_path / "state",
    )
    assert done.stdout == "done\n", done.stderr


def test_a_disk_that_became_read_only_ends_nobody_and_what_is_confirmed_goes_when_it_takes_that_again(
    small: MakeDisk, tmp_path: Path
) -> None:
    state = small(tmp_path / "state", 500)
    done = state.run(
        "import os\n"
        + SPOOL
        + """
assert take(200) is None; spool.settle(age=-1)
spool._kept.ask("PRAGMA query_only=ON")  # what is open can be written through a mount that comes later
os.system(f"mount --bind {state} {state} && mount -o remount,ro,bind {state}")
try: (state / "any").touch()
except OSError: pass
else: raise SystemExit("it is not read-only: this proves nothing")
spool.confirm(spool.stream, taken[-1])
assert "cannot be deleted" in spool.trouble, spool.trouble
assert spool.count() == 200
assert waiting() == taken, "it is sent again, which is normal"
assert take(1) is None
spool.settle(age=-1)
assert spool.count() == 201
os.system(f"umount {state}")
spool._kept.ask("PRAGMA query_only=OFF")
spool.settle(age=-1)
assert spool.trouble is None, spool.trouble
assert waiting() == taken[-1:]
print("done")
""",
        tmp_path / "run",
        tmp_path / "state",
    )
    assert done.stdout == "done\n", done.stderr


def test_when_both_are_full_what_was_taken_is_kept_and_it_goes_on_with_the_first_room(
    small: MakeDisk, tmp_path: Path
) -> None:
    run, state = small(tmp_path / "run", 1000), tmp_path / "run" / "state"
    done = run.run(
        "import sys, os, pathlib; pathlib.Path(sys.argv[2]).mkdir()\n"
        "os.system(f'mount -t tmpfs -o size=1500k small {sys.argv[2]}')\n"
        + SPOOL
        + """
fill(disk)
assert "it is lost" in take(10**6)
assert len(taken) > 5000, f"the tmpfs took only {len(taken)}"
assert waiting() == taken
spool.settle(age=-1)
assert spool.trouble
assert waiting() == taken
disk.unlink(); spool.settle(age=-1)
assert spool.trouble is None, spool.trouble
assert waiting() == taken
spool.close()
spool = Spool(run, state)
fill(disk)
assert take(1000) is None, "the tmpfs has room again"
assert taken == sorted(set(taken)), "no number is given twice"
assert waiting() == taken
fill(tmpfs)
take(10**6)
spool.confirm(spool.stream, taken[-1])
assert waiting() == []
spool.close()
disk.unlink(); tmpfs.unlink()
spool = Spool(run, state)
assert take(1) is None
assert taken == sorted(set(taken)), "not after all was confirmed either"
print("done")
""",
        tmp_path / "run",
        state,
    )
    assert done.stdout == "done\n", done.stderr


def test_a_backlog_gives_its_room_back(small: MakeDisk, tmp_path: Path) -> None:
    state = small(tmp_path / "state", 60_000)
    done = state.run(
        SPOOL
        + """
take(100_000)
for _ in range(2): spool.settle(age=-1)
before = (state / "spool.sqlite").stat().st_size
take(10); spool.settle(age=-1)
spool.confirm(spool.stream, taken[-5])
after = sum(file.stat().st_size for file in state.iterdir())
assert before > 5_000_000 and after < 200_000, (before, after)
assert waiting() == taken[-4:]
print("done")
""",
        tmp_path / "run",
        tmp_path / "state",
    )
    assert done.stdout == "done\n", done.stderr


def test_a_source_on_a_full_disk_measures_on_says_it_once_and_catches_up(
    small: MakeDisk, house: House, ear: Ear, tmp_path: Path
) -> None:
    (tmp_path / "services").mkdir()
    shutil.copy(PROJECT / "tests/chaos/sequence.py", tmp_path / "services")
    house.environment["CONSTELLATION_SERVICES"] = str(tmp_path / "services")
    house.write(
        f"sources:\n  sequence: {{every: 20ms, stale: 1h, heartbeat: 200ms, device: {tmp_path}/device}}\n"
        f"subscribers:\n  archive: {{commit: 50ms}}\ntopics:\n  {NUMBER}: {{from: sequence}}\n"
    )
    disk, device = small(house.state("sequence"), 400), Device(tmp_path / "device")
    taken = device.taken["sequence"]

    def more(count: int) -> None:
        until = len(taken) + count
        wait_for(lambda: len(taken) >= until, 30, f"{count} more readings")

    house.start("archive")
    house.start("sequence", prefix=disk.prefix)
    more(10)
    house.kill("archive")
    log = "sequence.log"
    wait_for(lambda: disk.outside.joinpath("spool.sqlite-wal").stat().st_size > 50_000, 30, "readings on the disk")
    disk.fill()
    wait_for(lambda: "the spool cannot be written to disk" in house.log("sequence"), 30, "the complaint")
    more(50)
    disk.empty()
    wait_for(lambda: "the spool can be written again" in house.log("sequence"), 30, "the all-clear")
    more(50)
    disk.fill()
    house.start("archive")
    more(50)
    disk.empty()
    device.silent = True

    def archived() -> set[int]:
        rows = ask_database(house.state("archive") / "archive.sqlite", "SELECT value FROM readings")
        return {int(value) for (value,) in rows}

    wait_for(lambda: archived() >= set(taken), 30, "all that was taken")
    ear.wait("home/service/sequence/health", lambda health: health["spool"]["waiting"] == 0, 30)
    counters = ear.last("home/service/sequence/health")["counters"]
    assert "lost" not in counters
    said = [line for line in (house.folder / log).read_text().splitlines() if "readings wait in memory" in line]
    assert 1 <= len(said) <= 2, said
    device.shutdown()
    device.server_close()


@pytest.mark.whole
def test_an_archive_on_a_full_disk_acknowledges_nothing_that_it_has_not_stored(
    small: MakeDisk, house: House, voice: Voice, ear: Ear, tmp_path: Path
) -> None:
    house.write(
        "sources:\n  onewire: {}\nsubscribers:\n  archive: {commit: 50ms, every: 200ms, heartbeat: 500ms}\n"
        f"topics:\n  {WATER}: {{from: onewire}}\n"
    )
    disk = small(house.state("archive"), 8000)
    house.start("archive", prefix=disk.prefix)
    ear.wait("home/service/archive/status")
    mark, start, total = "home/service/archive/stored/onewire", now() - 600_000, 8000
    voice.say(WATER, 20.0, start + 1, 1)
    ear.wait(mark, lambda mark: mark["after"] == 1)
    disk.fill()
    for number in range(2, total + 1):
        voice.say(WATER, 20.0, start + number, number)
    wait_for(lambda: "nothing is lost, trying on" in house.log("archive"), 30, "the complaint")
    health = ear.wait("home/service/archive/health", lambda health: health["state"] == "degraded", 30)
    assert "the database does not take readings" in str(health["last_error"])
    marked = ear.last(mark)["after"]
    assert marked < total
    assert ask_database(copy(disk.outside, tmp_path / "copy") / "archive.sqlite", READINGS)[0][0] >= marked
    disk.empty()
    ear.wait(mark, lambda mark: mark["after"] == total, 40)
    assert ask_database(copy(disk.outside, tmp_path / "end") / "archive.sqlite", READINGS) == [(total,)]
    assert house.log("archive").count("trying on") == 1
