"""The command: help everywhere, and a sentence instead of a traceback for whatever a user gets wrong."""

import os
import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest
from harness import PROJECT, Broker, Ear, House, wait_for

from bootstrap_lib.cli import _verbs


def command(*arguments: object, **environment: str) -> subprocess.CompletedProcess[str]:
    words = [sys.executable, "-m", "bootstrap_lib.cli", *map(str, arguments)]
    return subprocess.run(words, capture_output=True, text=True, cwd=PROJECT, timeout=60, env=os.environ | environment)


@pytest.mark.parametrize("verb", _verbs())
def test_each_verb_has_help_that_says_what_it_is_for(verb: str) -> None:
    result = command(verb, "--help")
    assert result.returncode == 0
    assert len(result.stdout.split("\n\n")[1]) > 20


def test_a_wrong_config_says_which_file_and_what_to_do(tmp_path: Path) -> None:
    result = command("--config", tmp_path / "nothing.yaml", "check")
    assert result.returncode == 78
    assert (
        result.stderr.strip()
        == f"{tmp_path}/nothing.yaml:1: cannot be read: No such file or directory: {tmp_path}/nothing.yaml"
    )


def test_an_unknown_instance_is_named_with_those_there_are(tmp_path: Path) -> None:
    path = tmp_path / "topics.yaml"
    path.write_text("sources: {onewire: {}}\n")
    result = command("--config", path, "run", "onewyre")
    assert result.returncode == 78
    assert result.stderr.strip().endswith("no source or subscriber is named 'onewyre': there are onewire")


@pytest.mark.parametrize(
    ("broker", "sentence"),
    [
        ("{port: 1}", "no connection to the broker at localhost:1: Connection refused; trying on"),
        ("{host: no.such.host.invalid}", "its name is not known"),
        (
            "{password: 'secret:mqtt.{instance}'}",
            "secret 'mqtt.operator' is not there: put it into a file mqtt.operator (mode 0600)",
        ),
        ("{ca: /nonexistent/ca.crt}", "TLS: /nonexistent/ca.crt"),
    ],
)
def test_a_broker_that_cannot_be_reached_is_a_sentence(tmp_path: Path, broker: str, sentence: str) -> None:
    path = tmp_path / "topics.yaml"
    path.write_text(f"broker: {broker}\nsources: {{onewire: {{}}}}\n")
    result = command("--config", path, "status")
    assert result.returncode == 69
    assert sentence in result.stderr
    assert "Traceback" not in result.stderr


def test_status_says_who_is_alive_by_exit_code(house: House, ear: Ear, broker: Broker, tmp_path: Path) -> None:
    house.write("subscribers: {archive: {heartbeat: 1s}}\n")
    assert command("--config", house.config, "status").returncode == 1
    house.start("archive")
    ear.wait("home/service/archive/health", lambda health: health["state"] == "running")
    result = command("--config", house.config, "status")
    assert result.returncode == 0
    assert result.stdout.startswith("archive          running")
    house.stop("archive")
    assert command("--config", house.config, "status", "--quiet").returncode == 1


def test_prune_clears_what_nobody_owns_and_only_that(house: House, ear: Ear) -> None:
    house.write("sources: {onewire: {}}\ntopics: {a/b/temperature: {from: onewire, id: 28-0316a4f1c9ff}}\n")
    for topic in ("a/b/temperature", "old/thing/temperature"):
        ear.say(f"home/data/{topic}", "{}", retain=True)
    ear.say("home/service/gone/status", "offline", retain=True)
    result = command("--config", house.config, "prune")
    assert result.stdout.splitlines() == [
        "cleared home/data/old/thing/temperature",
        "cleared home/service/gone/status",
        "2 topics without an owner",
    ]
    ear.wait("home/data/old/thing/temperature", lambda value: value == b"")
    assert ear.last("home/data/a/b/temperature") == {}


def test_once_measures_without_a_broker_and_asks_the_service_when_it_runs(
    house: House, ear: Ear, tmp_path: Path
) -> None:
    device = tmp_path / "sensor"
    device.write_text("21")
    own = tmp_path / "services"
    own.mkdir()
    (own / "probe.py").write_text((PROJECT / "services/_template.py").read_text())
    house.write(f"sources: {{probe: {{every: 1h, device: {device}}}}}\ntopics: {{a/b/temperature: {{from: probe}}}}\n")
    folders = {
        "STATE_DIRECTORY": str(house.state("probe")),
        "RUNTIME_DIRECTORY": str(tmp_path / "run"),
        "CONSTELLATION_SERVICES": str(own),
    }
    result = command("--config", house.config, "once", "probe", **folders)
    assert (result.returncode, result.stdout.split()) == (0, ["a/b/temperature", "21.0", "°C"])
    assert not ear.all("home/data/a/b/temperature")
    house.environment["CONSTELLATION_SERVICES"] = str(own)
    house.start("probe")
    ear.wait("home/data/a/b/temperature")
    device.write_text("22")
    result = command("--config", house.config, "once", "probe", **folders)
    assert result.stdout.split() == ["a/b/temperature", "22.0", "°C"]


def test_a_renamed_topic_keeps_its_history_in_archive_and_round_robin_file(
    house: House, ear: Ear, tmp_path: Path
) -> None:
    device = tmp_path / "sensor"
    device.write_text("21")
    own = tmp_path / "services"
    own.mkdir()
    (own / "probe.py").write_text((PROJECT / "services/_template.py").read_text())
    house.environment["CONSTELLATION_SERVICES"] = str(own)
    house.write(
        f"sources:\n  probe: {{every: 1s, device: {device}}}\nsubscribers: {{archive: {{commit: 100ms}}, rrd: {{flush: 1s}}}}\n"
        "topics:\n  a/b/temperature: {from: probe}   # the old cellar\n"
    )
    for name in ("archive", "rrd", "probe"):
        house.start(name)
    files = house.state("rrd") / "rrd"
    wait_for((files / "a/b/temperature.rrd").exists, what="the round-robin file")
    ear.wait("home/service/archive/stored/probe", lambda mark: mark["after"] >= 2)
    result = command(
        "--config", house.config, "rename", "a/b/temperature", "cellar/air/temperature", CONSTELLATION_SERVICES=str(own)
    )
    assert result.returncode == 0, result.stderr
    assert (
        "  cellar/air/temperature: {was: 'a/b/temperature', from: probe}   # the old cellar\n"
        in house.config.read_text()
    )
    ear.wait("home/data/cellar/air/temperature")
    ear.wait("home/data/a/b/temperature", lambda value: value == b"")
    wait_for((files / "cellar/air/temperature.rrd").exists, what="the renamed file")
    assert not (files / "a/b/temperature.rrd").exists()
    with sqlite3.connect(house.state("archive") / "archive.sqlite") as database:
        wait_for(
            lambda: [row[0] for row in database.execute("SELECT name FROM topics")] == ["cellar/air/temperature"],
            what="one name",
        )
        assert database.execute("SELECT count(*) FROM readings").fetchone()[0] >= 3


def test_a_rename_that_would_be_wrong_changes_nothing(tmp_path: Path) -> None:
    path = tmp_path / "topics.yaml"
    text = "sources: {onewire: {}}\ntopics:\n  a/b/temperature: {from: onewire, id: 28-0316a4f1c9ff}\n"
    path.write_text(text)
    result = command("--config", path, "rename", "a/b/temperature", "a/b/warmth")
    assert result.returncode == 78
    assert "'warmth' is no quantity" in result.stderr
    assert "did you mean" not in result.stdout
    result = command("--config", path, "rename", "a/b/temperatur", "a/c/temperature")
    assert "did you mean 'a/b/temperature'?" in result.stderr
    assert path.read_text() == text
    assert [file.name for file in tmp_path.iterdir()] == ["topics.yaml"]
