"""The spool: nothing that was taken is lost, whatever happens to the process, the tmpfs or the disk."""

import os
import shutil
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from harness import PROJECT

from bootstrap_lib.reading import Sequence
from bootstrap_lib.spool import Spool, SpoolError


@pytest.fixture(autouse=True)
def _closed_at_the_end(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Leave no spool open that a test left open to stand for a kill."""
    begin, made = Spool.__init__, []

    def remember(self: Spool, *arguments: Any, **options: Any) -> None:
        begin(self, *arguments, **options)
        made.append(self)

    monkeypatch.setattr(Spool, "__init__", remember)
    yield
    for spool in made:
        spool.close()


@pytest.fixture
def folders(tmp_path: Path) -> tuple[Path, Path]:
    return tmp_path / "run", tmp_path / "state"


def fill(spool: Spool, count: int, since: int = 0) -> list[int]:
    return [spool.append(f"a/b/{n}", f'{{"value":{n},', 1000 + n)[0].number for n in range(since, since + count)]


def waiting(spool: Spool) -> list[int]:
    return [row.number for row, _ in spool.after(0, 1_000_000)]


def test_readings_come_back_in_order_after_a_restart(folders: tuple[Path, Path]) -> None:
    spool = Spool(*folders)
    numbers = fill(spool, 5)
    spool.close()
    assert waiting(Spool(*folders)) == numbers


def test_a_number_is_never_given_twice_even_when_all_were_confirmed_before_a_kill(folders: tuple[Path, Path]) -> None:
    spool = Spool(*folders)
    last = fill(spool, 3)[-1]
    spool.confirm(spool.stream, last)
    del spool  # no close: as after kill -9
    assert fill(Spool(*folders), 1)[0] > last


def test_a_power_cut_that_empties_the_tmpfs_begins_a_new_stream(folders: tuple[Path, Path]) -> None:
    runtime, _ = folders
    spool = Spool(*folders)
    kept = fill(spool, 20)
    spool.settle(age=-1)
    last, stream = fill(spool, 50)[-1], spool.stream
    spool.close()
    for file in runtime.iterdir():
        file.unlink()
    spool = Spool(*folders)
    assert spool.stream != stream
    row, sequence = spool.append("a/b/c", None, 1)
    assert sequence == Sequence(spool.stream, kept[-1], row.number)
    spool.confirm(stream, last)
    assert waiting(spool) == [*kept, row.number], "a mark of the stream before confirms nothing"


def test_a_state_folder_put_back_from_an_image_is_not_emptied_by_a_mark_of_its_later_life(
    folders: tuple[Path, Path], tmp_path: Path
) -> None:
    runtime, state = folders
    spool = Spool(*folders)
    fill(spool, 5)
    spool.settle(age=-1)
    spool.close()
    shutil.copytree(state, tmp_path / "image")
    for _ in range(2):  # a life after the image was taken, and one with the image on a new card
        shutil.rmtree(runtime)
        spool = Spool(*folders)
        stream, last = spool.stream, fill(spool, 300)[-1]
        spool.close()
        shutil.rmtree(state)
        shutil.copytree(tmp_path / "image", state)
    shutil.rmtree(runtime)
    spool = Spool(*folders)
    numbers = fill(spool, 400)
    spool.confirm(stream, last)
    assert waiting(spool)[-400:] == numbers


def test_another_boot_of_the_machine_begins_a_new_stream_even_where_no_tmpfs_was_emptied(
    folders: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    spool = Spool(*folders)
    numbers, stream = fill(spool, 3), spool.stream
    spool.close()
    assert Spool(*folders).stream == stream
    monkeypatch.setattr("bootstrap_lib.spool.boot_id", lambda: "another")
    spool = Spool(*folders)
    assert (spool.stream != stream, waiting(spool)) == (True, numbers)


def test_a_mark_beyond_all_numbers_that_were_given_deletes_nothing(
    folders: tuple[Path, Path], caplog: pytest.LogCaptureFixture
) -> None:
    spool = Spool(*folders)
    numbers, stream = fill(spool, 3), spool.stream
    for far in (numbers[-1] + 1, 10**30):
        spool.confirm(spool.stream, far)
        assert waiting(spool) == numbers
    assert spool.stream != stream
    assert "not ours alone" in caplog.text
    spool.close()
    assert Spool(*folders).stream == spool.stream


def spoil(path: Path, how: str) -> None:
    """Do to a file in use what a card, or a person, does."""
    content = path.read_bytes()
    match how:
        case "deleted":
            path.unlink()
        case "emptied":
            os.truncate(path, 0)
        case "cut":
            os.truncate(path, len(content) // 2)
        case "flipped":
            path.write_bytes(bytes(byte ^ (index > 5000) for index, byte in enumerate(content)))
        case "older":
            path.unlink()
            path.write_bytes(path.with_name("older").read_bytes())
        case "folder":
            path.unlink()
            path.mkdir()
        case "link":
            path.unlink()
            path.symlink_to("/etc/passwd")


WAYS = ("deleted", "emptied", "cut", "flipped", "older", "folder", "link")


@pytest.mark.parametrize("how", WAYS)
@pytest.mark.parametrize("which", [0, 1])
def test_a_file_spoiled_under_a_running_spool_is_replaced_and_what_comes_next_is_kept(
    folders: tuple[Path, Path], which: int, how: str, caplog: pytest.LogCaptureFixture
) -> None:
    spool = Spool(*folders)
    fill(spool, 400)
    spool.settle(age=-1)
    path = folders[which] / "spool.sqlite"
    shutil.copy(path, path.with_name("older"))
    before = fill(spool, 200, 400)
    if which:
        spool.settle(age=-1)
    spoil(path, how)
    more = []
    for step in range(5):
        more += fill(spool, 10, 600 + 10 * step)
        spool.settle(age=-1 if step % 2 else 60)
        spool.after(0, 10_000)
    found = waiting(spool)
    assert set(more) <= set(found)
    if how in ("deleted", "older", "folder", "link"):
        assert set(before) <= set(found), "a file that is gone is still read through the open connection"
        assert "deleted or exchanged" in caplog.text
    assert "Traceback" not in caplog.text
    stream = spool.stream
    spool.close()
    again = Spool(*folders)
    assert waiting(again) == found
    newest = fill(again, 1)[0]
    assert newest > found[-1] or again.stream != stream
    again.close()
    assert not list(folders[which].glob("*.new*"))


@pytest.mark.parametrize("how", WAYS)
@pytest.mark.parametrize("which", [0, 1])
def test_a_file_spoiled_while_it_was_stopped_never_gives_a_number_twice(
    folders: tuple[Path, Path], which: int, how: str
) -> None:
    spool = Spool(*folders)
    fill(spool, 400)
    spool.settle(age=-1)
    path = folders[which] / "spool.sqlite"
    shutil.copy(path, path.with_name("older"))
    last, stream = fill(spool, 300, 400)[-1], spool.stream
    spool.settle(age=-1)
    spool.close()
    spoil(path, how)
    spool = Spool(*folders)
    numbers = fill(spool, 500)
    assert spool.stream != stream or numbers[0] > last
    spool.confirm(stream, last)
    assert set(numbers) <= set(waiting(spool)), "a mark from before deletes nothing that came after"


def test_what_waits_is_given_to_the_new_name_of_its_topic(folders: tuple[Path, Path]) -> None:
    spool = Spool(*folders)
    for topic in ("a/b/old", "a/b/other"):
        spool.append(topic, "x", 1)
    spool.settle(age=-1)
    spool.append("a/b/old", "x", 2)
    assert spool.rename("a/b/old", "a/b/new") == 2
    assert [row.topic for row, _ in spool.after(0, 9)] == ["a/b/new", "a/b/other", "a/b/new"]


def test_what_waits_for_two_seconds_is_on_disk_before_a_power_cut(folders: tuple[Path, Path]) -> None:
    runtime, _ = folders
    spool = Spool(*folders)
    numbers = fill(spool, 20)
    spool.settle(age=-1)
    fresh = fill(spool, 2, 20)
    assert waiting(spool) == numbers + fresh
    spool.close()
    for file in runtime.iterdir():
        file.unlink()
    assert waiting(Spool(*folders)) == numbers


def test_the_mark_frees_both_files_and_each_reading_names_its_unconfirmed_predecessor(
    folders: tuple[Path, Path],
) -> None:
    spool = Spool(*folders)
    numbers = fill(spool, 4)
    spool.settle(age=-1)
    numbers += fill(spool, 2, 4)
    spool.confirm("another", numbers[-1])
    assert waiting(spool) == numbers, "a mark of another stream frees nothing"
    spool.confirm(spool.stream, numbers[2])
    assert [(s.previous, s.number) for _, s in spool.after(0, 10)] == [
        (0, numbers[3]),
        (numbers[3], numbers[4]),
        (numbers[4], numbers[5]),
    ]


def test_a_dropped_reading_is_no_gap_for_those_behind_it(folders: tuple[Path, Path]) -> None:
    spool = Spool(*folders)
    first, second, third = fill(spool, 3)
    spool.drop(second)
    assert [(s.previous, s.number) for _, s in spool.after(0, 10)] == [(0, first), (first, third)]
    spool.drop(third)
    assert spool.append("a/b/c", None, 1)[1].previous == first


@pytest.mark.parametrize("which", [0, 1])
def test_a_damaged_file_is_set_aside_said_and_started_anew(
    folders: tuple[Path, Path], which: int, caplog: pytest.LogCaptureFixture
) -> None:
    spool = Spool(*folders)
    fill(spool, 300)
    spool.settle(age=-1)
    fill(spool, 300)
    stream = spool.stream
    spool.close()
    path = folders[which] / "spool.sqlite"
    data = bytearray(path.read_bytes())
    data[100:3000] = os.urandom(2900)
    path.write_bytes(data)
    spool = Spool(*folders)
    assert fill(spool, 1)
    assert "is set aside as spool.sqlite.damaged-" in caplog.text
    assert len(waiting(spool)) == 301
    assert spool.stream != stream, "a lost record of numbers begins a new stream"


def test_a_page_that_is_damaged_deep_in_a_file_is_found_when_it_is_opened(
    folders: tuple[Path, Path], caplog: pytest.LogCaptureFixture
) -> None:
    spool = Spool(*folders)
    fill(spool, 5000)
    spool.settle(age=-1)
    spool.close()
    path = folders[1] / "spool.sqlite"
    data = bytearray(path.read_bytes())
    page = len(data) // 4096 // 2 * 4096
    data[page : page + 4096] = bytes(4096)
    path.write_bytes(data)
    spool = Spool(*folders)
    assert "was damaged" in caplog.text
    assert 4000 < len(waiting(spool)) < 5000, "what can be read from either end is kept"
    assert list(folders[1].glob("spool.sqlite.damaged-*"))


def test_what_the_archive_did_not_mark_goes_to_disk_after_a_second_and_a_half_in_synchronised_steps(
    folders: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    spool, begin = Spool(*folders), time.monotonic()
    monkeypatch.setattr(time, "monotonic", lambda: begin)
    numbers = fill(spool, 3)

    def on_disk(seconds: float) -> list[int]:
        monkeypatch.setattr(time, "monotonic", lambda: begin + seconds)
        spool.settle()
        return [number for (number,) in spool._kept.ask("SELECT number FROM tail ORDER BY number")]

    assert on_disk(1.3) == []
    assert on_disk(1.5) == numbers
    assert spool._kept.first("PRAGMA synchronous") == 2  # FULL: sqlite.org/pragma.html


def test_a_full_disk_keeps_readings_in_the_tmpfs_and_says_so(folders: tuple[Path, Path]) -> None:
    spool = Spool(*folders)
    spool._kept.ask(f"PRAGMA max_page_count = {spool._kept.first('PRAGMA page_count')}")
    numbers = fill(spool, 2000)
    spool.settle(age=-1)
    assert "full" in spool.trouble
    assert waiting(spool) == numbers
    spool._kept.ask("PRAGMA max_page_count = 100000")
    spool.settle(age=-1)
    assert spool.trouble is None
    assert waiting(spool) == numbers


def test_a_full_tmpfs_lets_the_disk_take_over_and_both_full_is_an_error(folders: tuple[Path, Path]) -> None:
    spool = Spool(*folders)
    for file in (spool._fresh, spool._kept):
        file.ask(f"PRAGMA max_page_count = {file.first('PRAGMA page_count') + 4}")
    with pytest.raises(SpoolError, match="it is lost"):
        fill(spool, 5000)
    numbers = waiting(spool)
    assert numbers == list(range(numbers[0], numbers[0] + len(numbers)))


def test_a_bounded_spool_drops_the_oldest_and_counts_them(tmp_path: Path) -> None:
    spool = Spool(tmp_path / "run", tmp_path / "state", limit=100_000)
    for step in range(20):
        fill(spool, 300, 300 * step)
        spool.settle(age=-1)
    numbers = waiting(spool)
    assert spool.dropped > 0
    assert len(numbers) + spool.dropped == 6000
    assert numbers[-1] == 6000, "the newest are kept"


def test_monotonic_times_of_a_boot_are_corrected_in_both_files(folders: tuple[Path, Path]) -> None:
    spool = Spool(*folders)
    spool.append("a/b/c", "x", 5000, "boot")
    spool.settle(age=-1)
    spool.append("a/b/c", "x", 7000, "boot")
    spool.append("a/b/c", "x", 9, None)
    assert list(spool.uncertain()) == [("boot", 5000, 7000)]
    spool.correct("boot", 1_000_000)
    assert [row.time for row, _ in spool.after(0, 9)] == [1_005_000, 1_007_000, 9]
    assert not list(spool.uncertain())


def test_kill_9_at_any_moment_loses_nothing_that_append_returned(folders: tuple[Path, Path]) -> None:
    code = """
import sys, time
from pathlib import Path
from bootstrap_lib.spool import Spool
spool = Spool(Path(sys.argv[1]), Path(sys.argv[2]))
last = time.monotonic()
while True:
    print(spool.append("a/b/c", "x", 1)[0].number, flush=True)
    if time.monotonic() > last + 0.01:
        spool.settle(age=-1); last = time.monotonic()
"""
    taken: list[int] = []
    for lines in (1, 7, 50, 120, 300, 700):
        process = subprocess.Popen(
            [sys.executable, "-c", code, *map(str, folders)], stdout=subprocess.PIPE, cwd=PROJECT
        )
        taken += [int(process.stdout.readline()) for _ in range(lines)]
        process.send_signal(signal.SIGKILL)
        taken += [int(line) for line in process.stdout.read().split(b"\n")[:-1] if line]
        process.wait()
        process.stdout.close()
    stored = waiting(Spool(*folders))
    assert set(taken) <= set(stored)
    assert len(stored) == len(set(stored))


def test_what_settles_is_one_transaction_however_many_readings(folders: tuple[Path, Path]) -> None:
    spool, said = Spool(*folders), []
    fill(spool, 300)
    spool._kept._database.set_trace_callback(said.append)
    spool.settle(age=-1)
    assert said.count("COMMIT") == 1
    assert sum(line.startswith("BEGIN") for line in said) == 1


def test_a_disk_without_room_is_no_damage(folders: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    numbers = fill(Spool(*folders), 5)

    def full(*_: object) -> sqlite3.Connection:
        raise sqlite3.OperationalError("database or disk is full")

    with monkeypatch.context() as patch:
        patch.setattr("bootstrap_lib.spool_file._prepare", full)
        with pytest.raises(SpoolError, match="room"):
            Spool(*folders)
    assert waiting(Spool(*folders)) == numbers


def test_a_file_that_cannot_be_begun_anew_is_empty_and_begun_with_the_first_room(
    folders: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    spool = Spool(*folders)
    numbers = fill(spool, 50)
    spool.settle(age=-1)

    def full(*_: object) -> sqlite3.Connection:
        raise sqlite3.OperationalError("database or disk is full")

    with monkeypatch.context() as patch:
        patch.setattr("bootstrap_lib.spool_file._prepare", full)
        spool._kept.ask("PRAGMA query_only=ON")  # nothing can be deleted
        spool.confirm(spool.stream, numbers[-1])
        assert spool.count() == 0
        assert spool.trouble
        more = fill(spool, 5)
        spool.settle(age=-1)
        assert spool.trouble
        assert waiting(spool) == more
    stream = spool.stream
    spool.settle(age=-1)
    assert spool.trouble is None
    assert waiting(spool) == more
    spool.close()
    shutil.rmtree(folders[0])  # a power cut
    spool = Spool(*folders)
    assert waiting(spool) == more, "it is on disk"
    assert fill(spool, 1)[0] > more[-1]
    assert spool.stream != stream


def test_readings_of_one_step_follow_each_other_as_those_of_single_ones_do(tmp_path: Path) -> None:
    spool = Spool(tmp_path / "run", tmp_path / "state")
    spool.append("a/b/c", "1", 1)
    kept = spool.append_all([("a/b/c", "2", 2, None), ("a/b/d", "3", 3, None)])
    assert kept == spool.after(1, 10)
    assert [(row.number, sequence.previous) for row, sequence in kept] == [(2, 1), (3, 2)]
    assert spool.append_all([]) == []
    _, sequence = spool.append("a/b/c", "4", 4)
    assert (sequence.previous, sequence.number) == (3, 4)
    spool.close()


def test_a_step_for_which_there_is_no_room_keeps_nothing_and_uses_no_number(tmp_path: Path) -> None:
    spool = Spool(tmp_path / "run", tmp_path / "state")
    too_big: tuple[str, str | None, int, str | None] = ("a/b/c", "1", 1 << 70, None)
    with pytest.raises((SpoolError, OverflowError)):
        spool.append_all([("a/b/c", "1", 1, None), too_big])
    assert spool.after(0, 10) == []
    _, sequence = spool.append("a/b/c", "1", 1)
    assert (sequence.previous, sequence.number) == (0, 1)
    spool.close()
