"""State on disk: whole after a power cut, never written through a link, and no damaged file stops a service."""

import os
from pathlib import Path

import pytest

from bootstrap_lib import state
from bootstrap_lib.state import DeadLetters


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
