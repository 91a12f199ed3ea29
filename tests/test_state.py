"""Small state on disk: whole at any moment, and what cannot be delivered or stored is kept with its reason."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import msgspec
import pytest
from harness import wait_for

from bootstrap_lib import state
from bootstrap_lib.state import DeadLetters, load, save


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
    assert done == ["memory.json.new", "renamed", tmp_path.name]


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
    assert first == {"topic": "home/data/a/b/temperature", "payload": '{"value":1}', "reason": "it is poison"}
    assert second["payload"] == "�" + "x" * 4095
    assert dead.count == 2


def test_dead_letters_are_bounded_and_the_newest_are_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(DeadLetters, "LIMIT", 5000)
    dead = DeadLetters(tmp_path / "dead_letters.jsonl")
    for number in range(500):
        dead.add("a", b"x" * 40, f"reason {number}")
    assert dead.count == 500
    assert sum(file.stat().st_size for file in tmp_path.iterdir()) < 2 * 5000 + 500
    kept = letters(tmp_path / "dead_letters.jsonl.1") + letters(dead.path)
    assert [letter["reason"] for letter in kept] == [f"reason {number}" for number in range(500 - len(kept), 500)]
    assert len(kept) > 50


def test_a_disk_that_takes_no_letter_stops_nobody(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    dead = DeadLetters(tmp_path / "missing" / "dead_letters.jsonl")
    dead.add("a/b", b"", "why")
    assert dead.count == 1
    assert "a dead letter of a/b could not be kept" in caplog.text
