"""State on disk: whole after a power cut, never written through a link, and no damaged file stops a service."""

import json
import os
import random
import signal
import subprocess
import sys
from pathlib import Path

import msgspec
import pytest
from harness import wait_for

from bootstrap_lib import state
from bootstrap_lib.state import DeadLetters, load, save


def test_a_write_that_fails_leaves_the_old_file_and_nothing_beside_it(tmp_path: Path) -> None:
    path = tmp_path / "file"
    state.write(path, b"old")
    with pytest.raises(ZeroDivisionError), state.replacing(path) as file:
        file.write(b"half of the new" * (1 // 0))
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]


def test_a_link_that_was_planted_is_replaced_and_never_followed(tmp_path: Path) -> None:
    victim = tmp_path / "victim"
    victim.write_text("precious")
    for name in ("file", ".file.new"):
        (tmp_path / name).symlink_to(victim)
    state.write(tmp_path / "file", b"new", mode=0o600)
    assert victim.read_text() == "precious"
    assert not (tmp_path / "file").is_symlink()
    assert (tmp_path / "file").read_bytes() == b"new"
    assert (tmp_path / "file").stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize("linked", [False, True])
def test_a_pipe_or_a_device_is_no_file_to_be_replaced(tmp_path: Path, linked: bool) -> None:
    pipe = path = tmp_path / "pipe"
    os.mkfifo(pipe)
    if linked:
        path = tmp_path / "stdout"
        path.symlink_to(pipe)
    with pytest.raises(FileExistsError, match="no plain file"):
        state.write(path, b"a backup")
    assert pipe.is_fifo()
    assert path.is_symlink() == linked
    save(path, 1)
    assert load(path, int, 0) == 1, "what is our own state begins anew beside it"


def test_file_and_folder_are_synchronised(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    true, synchronised = os.fsync, []
    monkeypatch.setattr(
        os, "fsync", lambda fd: (synchronised.append(str(Path(f"/proc/self/fd/{fd}").readlink())), true(fd))
    )
    state.write(tmp_path / "file", b"new")
    assert synchronised == [str(tmp_path / ".file.new"), str(tmp_path)]


def spoil(path: Path, how: str) -> None:
    content = path.read_bytes()
    path.unlink()
    match how:
        case "empty":
            path.touch()
        case "half":
            path.write_bytes(content[: len(content) // 2])
        case "other":
            path.write_bytes(b'{"word": 5}')
        case "nested":
            path.write_bytes(b"[" * 100_000)
        case "folder":
            path.mkdir()
            (path / "in it").touch()
        case "link":
            path.symlink_to("/etc/passwd")
        case "pipe":
            os.mkfifo(path)


@pytest.mark.parametrize("how", ["empty", "half", "other", "nested", "folder", "link", "pipe"])
def test_a_file_that_cannot_be_used_is_set_aside_and_said(
    tmp_path: Path, how: str, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "numbers.json"
    for _ in range(2):  # also beside one that was set aside before
        state.save(path, [1, 2, 3])
        spoil(path, how)
        assert state.load(path, list[int], []) == []
        assert "numbers.json was damaged" in caplog.text
        assert any(entry.name.startswith("numbers.json.damaged") for entry in tmp_path.iterdir())
        caplog.clear()
    state.save(path, [4])
    assert state.load(path, list[int], []) == [4]


def test_a_folder_in_the_place_of_a_state_file_does_not_hinder_it(tmp_path: Path) -> None:
    path = tmp_path / "numbers.json"
    path.mkdir()
    state.save(path, [1])
    assert state.load(path, list[int], []) == [1]


def test_dead_letters_that_are_full_say_so_and_overwrite_nothing(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    dead = DeadLetters(tmp_path / "dead.jsonl", limit=4000)
    kept = [dead.add(f"a/b/{n}", b"x" * 100, "no") for n in range(100)]
    assert kept == sorted(kept, reverse=True)
    assert 5 < sum(kept) < 100
    assert [letter.topic for letter in dead.letters()] == [f"a/b/{n}" for n in range(sum(kept))]
    assert caplog.text.count("the dead letters are full") == 1, "said once"
    assert dead.trouble is not None


def test_what_nobody_would_send_again_leaves_room_for_what_waits(tmp_path: Path) -> None:
    dead = DeadLetters(tmp_path / "dead.jsonl", limit=4000)
    while dead.add("a/b/c", b"x", "no", waits=False):
        pass
    assert (tmp_path / "dead.jsonl").stat().st_size <= 1000
    assert dead.add("a/b/c", b"x", "no")


def test_a_disk_that_is_full_keeps_no_half_letter(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    dead = DeadLetters(tmp_path / "dead.jsonl")
    assert dead.add("a/b/c", b"x", "no")
    dead.path.chmod(0o400)
    dead.path.unlink()
    dead.path.mkdir()
    assert not dead.add("a/b/c", b"y", "no")
    assert dead.trouble
    assert dead.add("a/b/c", b"z", "no"), "the folder in its place was moved away"


def test_letters_are_taken_out_only_once_that_lasts(tmp_path: Path) -> None:
    dead = DeadLetters(tmp_path / "dead.jsonl")
    for n in range(4):
        dead.add(f"a/b/{n}", b"x", "no")

    def fails() -> None:
        raise OSError("not now")

    with pytest.raises(OSError, match="not now"):
        dead.sort_out(lambda letter: True, fails)
    assert len(list(dead.letters())) == 4
    assert dead.sort_out(lambda letter: letter.topic != "a/b/2", lambda: None) == (3, 1)
    assert [letter.topic for letter in dead.letters()] == ["a/b/2"]


class Memory(msgspec.Struct):
    number: int = 0
    words: list[str] = msgspec.field(default_factory=list)


def test_what_was_saved_is_loaded_and_without_a_file_there_is_the_default(tmp_path: Path) -> None:
    path = tmp_path / "folder" / "memory.json"
    assert load(path, Memory, Memory(7)) == Memory(7)
    save(path, Memory(8, ["a", "b"]))
    assert load(path, Memory, Memory(7)) == Memory(8, ["a", "b"])
    assert [file.name for file in path.parent.iterdir()] == ["memory.json"]


@pytest.mark.parametrize("content", [b"", b"{", b"\xff\xfe", b'{"number":"seven"}', b"[]"])
def test_a_damaged_file_is_set_aside_and_said(tmp_path: Path, caplog: pytest.LogCaptureFixture, content: bytes) -> None:
    path = tmp_path / "memory.json"
    path.write_bytes(content)
    assert load(path, Memory, Memory(7)) == Memory(7)
    assert "was damaged" in caplog.text
    assert not path.exists()
    assert (tmp_path / "memory.json.damaged").read_bytes() == content
    save(path, Memory(9))
    assert load(path, Memory, Memory()) == Memory(9)


def test_it_is_on_the_disk_before_it_has_its_name_and_its_name_is_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, done = tmp_path / "memory.json", []
    true, replace = os.fsync, Path.replace

    def fsync(number: int) -> None:
        done.append(Path(f"/proc/self/fd/{number}").readlink().name)
        true(number)

    def renamed(self: Path, target: Path) -> Path:
        done.append("renamed")
        return replace(self, target)

    monkeypatch.setattr(state.os, "fsync", fsync)
    monkeypatch.setattr(Path, "replace", renamed)
    save(path, Memory(1))
    assert done == [".memory.json.new", "renamed", tmp_path.name]


def test_a_kill_at_any_moment_leaves_the_old_or_the_new_one_whole(tmp_path: Path) -> None:
    path = tmp_path / "memory.json"
    program = (
        "import sys; from pathlib import Path; from bootstrap_lib.state import save\n"
        f"for number in range(10**9): save(Path({str(path)!r}), {{'number': number, 'words': ['x' * 50] * 200}})"
    )
    last = -1
    for _ in range(5):
        process = subprocess.Popen([sys.executable, "-c", program])
        before = path.stat().st_mtime_ns if path.exists() else 0
        wait_for(lambda before=before: path.exists() and path.stat().st_mtime_ns > before, what="a file")
        process.send_signal(signal.SIGKILL)
        process.wait()
        memory = load(path, Memory, Memory(-1))
        assert len(memory.words) == 200
        last = max(last, memory.number)
    assert last >= 0
    assert not path.with_name("memory.json.damaged").exists()


def letters(path: Path) -> list[dict[str, str]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_a_dead_letter_has_its_topic_its_payload_and_the_reason(tmp_path: Path) -> None:
    dead = DeadLetters(tmp_path / "dead_letters.jsonl")
    dead.add("home/data/a/b/temperature", b'{"value":1}', "it is poison")
    dead.add("home/data/a/b/temperature", b"\xff" + b"x" * 10_000, "it is long")
    first, second = letters(dead.path)
    assert first.pop("time") > 1.7e12
    assert first == {"topic": "home/data/a/b/temperature", "payload": '{"value":1}', "reason": "it is poison"}
    assert second["payload"] == "�" + "x" * 4095
    assert dead.count == 2


def often(path: Path, *values: object) -> None:
    for value in values:
        save(path, value, often=True)


def test_what_is_saved_often_is_written_in_place_and_loaded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "memory.json"
    save(path, Memory(1))  # as an earlier version did
    often(path, Memory(2))
    made = path.stat().st_ino
    monkeypatch.setattr(os, "fsync", lambda fd: pytest.fail("neither a new file nor its folder"))
    for number in range(3, 20):
        often(path, Memory(number, ["word"] * number))
        assert load(path, Memory, Memory()) == Memory(number, ["word"] * number)
    assert (path.stat().st_ino, list(tmp_path.iterdir())) == (made, [path])


def test_each_write_in_place_is_synchronised_before_it_counts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path, true, synchronised = tmp_path / "memory.json", os.fdatasync, []
    often(path, 1)
    monkeypatch.setattr(os, "fdatasync", lambda fd: (synchronised.append(load(path, int, 0)), true(fd)))
    often(path, 2, 3)
    assert synchronised == [2, 3]


def test_a_power_cut_at_any_byte_of_a_write_in_place_leaves_the_old_or_the_new_value(tmp_path: Path) -> None:
    path = tmp_path / "memory.json"
    for first in (1, 2):  # each slot is the older one once
        path.unlink(missing_ok=True)
        values = [Memory(number, ["a word"] * (number % 3)) for number in range(first, first + 4)]
        often(path, *values[:-1])
        before = path.read_bytes()
        often(path, values[-1])
        after = path.read_bytes()
        changed = [n for n, (old, new) in enumerate(zip(before, after, strict=True)) if old != new]
        found = []
        for end in range(changed[0], changed[-1] + 2):
            path.write_bytes(after[:end] + before[end:])
            found.append(values.index(load(path, Memory, Memory())))
        assert found == sorted(found), "never anything else"
        assert (found[0], found[-1]) == (len(values) - 2, len(values) - 1)


@pytest.mark.parametrize("seed", range(8))
def test_any_bit_that_flips_is_said_or_was_in_no_value(
    tmp_path: Path, seed: int, caplog: pytest.LogCaptureFixture
) -> None:
    chance, path = random.Random(seed), tmp_path / "memory.json"
    for _ in range(40):
        path.unlink(missing_ok=True)
        values = [Memory(number, ["x" * chance.randrange(100)]) for number in range(chance.randrange(1, 5))] or [
            Memory()
        ]
        often(path, *values)
        content = bytearray(path.read_bytes())
        content[chance.choice((chance.randrange(len(content)), chance.randrange(200)))] ^= 1 << chance.randrange(8)
        path.write_bytes(content)
        caplog.clear()
        found = load(path, Memory, Memory(99))
        assert found == values[-1] or "was damaged" in caplog.text
        assert found in [*values[-2:], Memory(99)]
        often(path, Memory(7))
        assert load(path, Memory, Memory()) == Memory(7)


def test_a_file_of_slots_that_was_cut_is_said(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = tmp_path / "memory.json"
    often(path, Memory(1, ["x" * 9000]), Memory(2), Memory(3))
    os.truncate(path, path.stat().st_size // 2)
    load(path, Memory, Memory())
    assert "was damaged" in caplog.text


def test_a_second_name_a_link_and_a_value_that_grew_get_a_new_file(tmp_path: Path) -> None:
    path, other = tmp_path / "memory.json", tmp_path / "other"
    often(path, 1)
    other.hardlink_to(path)
    often(path, 2)
    assert (load(other, int, 0), load(path, int, 0)) == (1, 2)
    path.unlink()
    path.symlink_to(other)
    often(path, 3)
    assert (load(other, int, 0), load(path, int, 0), path.is_symlink()) == (1, 3, False)
    often(path, ["word"] * 10_000, ["word"] * 10_001)
    assert len(load(path, list[str], [])) == 10_001
