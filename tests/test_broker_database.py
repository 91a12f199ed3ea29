"""A broker whose own database is of no use: said by `doctor`, and set aside; the real mosquitto is asked."""

import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

import pytest
from harness import PROJECT, Broker, Ear

from bootstrap_lib.broker_database import trouble


@pytest.fixture(scope="module")
def good(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A database as a real broker wrote it."""
    folder = tmp_path_factory.mktemp("good")
    broker = Broker(folder, f"persistence true\npersistence_location {folder}/\n").start()
    ear = Ear(broker.port)
    for number in range(50):
        ear.say(f"home/data/a/b/c_{number}", f"value {number}" * 10, retain=True)
    ear.close()
    broker.stop()
    return folder / "mosquitto.db"


def version(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[19:23] = (99).to_bytes(4, "big")
    path.write_bytes(content)


def flipped(path: Path) -> None:
    content = bytearray(path.read_bytes())
    for place in range(60, len(content), 7):
        content[place] ^= 0x5A
    path.write_bytes(content)


def into_a_folder(path: Path) -> None:
    path.unlink()
    path.mkdir()


def link(path: Path) -> None:
    path.unlink()
    path.symlink_to("/etc/hostname")


WAYS: dict[str, tuple[Callable[[Path], object], str]] = {
    "garbage": (lambda path: path.write_bytes(os.urandom(500)), "it is no database of mosquitto"),
    "cut": (lambda path: os.truncate(path, path.stat().st_size // 2 + 3), "the broker does not read it"),
    "version": (version, "version 99"),
    "flipped": (flipped, "the broker does not read it"),
    "folder": (into_a_folder, "a folder or something else stands in its place"),
    "link": (link, "it is a link"),
}


def run(root: Path, verb: str) -> subprocess.CompletedProcess[str]:
    line = [sys.executable, "-m", "bootstrap_lib.cli", "--config", str(root / "topics.yaml"), verb, "--root", str(root)]
    return subprocess.run(line, cwd=PROJECT, capture_output=True, text=True, timeout=60)


@pytest.mark.parametrize("way", WAYS)
def test_one_of_no_use_is_said_and_set_aside_and_the_broker_begins_anew(good: Path, tmp_path: Path, way: str) -> None:
    place = tmp_path / "var/lib/constellation-broker/mosquitto.db"
    place.parent.mkdir(parents=True)
    (tmp_path / "topics.yaml").write_text("topics: {}\n")
    shutil.copy(good, place)
    spoil, sentence = WAYS[way]
    assert f"ok    broker: its database {place} can be used" in run(tmp_path, "doctor").stdout
    said = run(tmp_path, "broker")
    assert said.returncode == 0
    assert place.read_bytes() == good.read_bytes(), "one that can be used is left alone"
    spoil(place)
    found = run(tmp_path, "doctor").stdout
    assert f"WRONG broker: its database {place} is of no use: " in found
    assert sentence in found
    assert "mend it: sudo constellation broker --start" in found
    done = run(tmp_path, "broker")
    assert done.returncode == 0, done.stderr
    assert "is set aside as" in done.stdout + done.stderr
    assert not os.path.lexists(place)
    assert len(list(place.parent.glob("mosquitto.db.damaged-*"))) == 1
    assert "its database" not in run(tmp_path, "doctor").stdout
    broker = Broker(tmp_path / "broker", f"persistence true\npersistence_location {place.parent}/\n").start()
    broker.stop()
    assert trouble(place) is None


def test_a_port_that_is_taken_and_a_broker_that_is_busy_are_no_damage(good: Path, tmp_path: Path) -> None:
    slow = tmp_path / "mosquitto"
    for folder in (tmp_path, *tmp_path.parents):  # it runs as whoever owns the database, or nobody
        if folder == Path(tempfile.gettempdir()):
            break
        folder.chmod(0o755)
    said = []
    for words in ("Address already in use", "the database is of no use"):
        slow.write_text(f"#!/bin/sh\necho '1: Error: {words}' >&2\nexit 1\n")
        slow.chmod(0o755)
        said.append(trouble(good, str(slow)))
    assert said == [None, "the broker does not read it: the database is of no use"]
