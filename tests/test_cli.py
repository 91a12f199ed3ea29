"""The command: help everywhere, and a sentence instead of a traceback for whatever a user gets wrong."""

import json
import os
import re
import sqlite3
import subprocess
import sys
import time
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from harness import PROJECT, Broker, Ear, House, busy, wait_for

from bootstrap_lib import Registry, location, state
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
        == f"{tmp_path}/nothing.yaml:1: there is no such file: put it there, or name another with --config"
    )


def test_an_unknown_instance_is_named_with_those_there_are(tmp_path: Path) -> None:
    path = tmp_path / "topics.yaml"
    path.write_text("sources: {onewire: {}}\n")
    result = command("--config", path, "run", "onewyre")
    assert result.returncode == 78
    assert result.stderr.strip().endswith("no source or subscriber is named 'onewyre', did you mean 'onewire'?")


@pytest.mark.parametrize(
    ("broker", "sentence"),
    [
        (
            "{port: 1}",
            "no connection to the broker at localhost:1: Connection refused; `constellation doctor` looks for the cause",
        ),
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
    used, said = result.stderr.splitlines()
    assert used == f"constellation: {path} is used, not /etc/constellation/topics.yaml"
    assert said.startswith("constellation status: ")
    assert sentence in said
    if "secret" in broker:  # the one that need not be waited for
        assert command("--config", path, "status", "--quiet").stderr.splitlines() == [said]


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
    with closing(sqlite3.connect(house.state("archive") / "archive.sqlite")) as database:
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


HOUSE = """broker: {port: 1}
sources: {onewire: {}, adc: {bus: "i2c:77"}}
subscribers: {archive: {}, rrd: {}, phase: {stale: 15m}}
topics:
  a/b/temperature: {from: onewire, id: 28-0316a4f1c9ff}
"""


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        ("status nobody", "constellation status: no source or subscriber is named 'nobody': there are onewire, adc"),
        ("once adc", "constellation once: topics.yaml has no line with `from: adc`: there is nothing to measure"),
        ("scan http", "constellation scan: 'http' cannot look without url: write `http: {url: …}` below sources:"),
        ("scan button", "constellation scan: 'button' cannot look without stops: write `button: {stops: …}`"),
        ("scan adc", "constellation scan: There is no /dev/i2c-77"),
        ("decode jbd FOLDER", "constellation decode: FOLDER cannot be read: Is a directory"),
        ("units --install --root BINARY", "constellation units: Not a directory: BINARY/"),
        ("export", "constellation export: FOLDER/archive.sqlite cannot be read: file is not a database"),
        (
            "backup FOLDER/archive.sqlite",
            "constellation backup: FOLDER/archive.sqlite is the archive itself: name another",
        ),
        ("graph a/b/temperature --output FOLDER", "constellation graph: FOLDER is a folder: name a file with --output"),
        ("restore missing", "constellation restore: missing is not there"),
        ("backup FOLDER/missing/copy.sqlite", "constellation backup: FOLDER/archive.sqlite cannot be copied to"),
        (
            "backup FOLDER/missing/house.tar",
            "constellation backup: FOLDER/missing/house.tar cannot be written: No such file",
        ),
        ("graph a/b/temperature", "constellation graph: 'a/b/temperature' has no file in FOLDER/rrd yet"),
        ("graph a/b/temperatur", "topics.yaml has no topic 'a/b/temperatur', did you mean 'a/b/temperature'?"),
        ("dump onewire x.tar", "constellation dump: 'onewire' keeps nothing that moves by `dump`"),
        ("load rrd BINARY", "constellation load: BINARY cannot be read: it is no whole tar file"),
        ("load rrd missing.tar", "constellation load: No such file or directory: missing.tar"),
        ("rename a/b/temperature x", "topics.yaml:5: topics.x: a topic is place/thing/name"),
        (
            "replay phase",
            "constellation replay: FOLDER/topics.yaml has no rules to apply: it says nothing below phases:",
        ),
        ("--config BINARY check", "BINARY:1: no text in UTF-8 (byte 1)"),
        ("--config FOLDER check", "FOLDER:1: cannot be read: Is a directory"),
    ],
)
def test_wrong_input_ends_in_one_sentence(tmp_path: Path, words: str, sentence: str) -> None:
    (tmp_path / "topics.yaml").write_text(HOUSE)
    for name in ("binary", "archive.sqlite"):
        (tmp_path / name).write_bytes(bytes(range(255, 127, -1)) * 10)
    places = {"FOLDER": str(tmp_path), "BINARY": str(tmp_path / "binary")}
    for word, place in places.items():
        words, sentence = words.replace(word, place), sentence.replace(word, place)
    result = command("--config", tmp_path / "topics.yaml", *words.split(), STATE_DIRECTORY=str(tmp_path))
    assert result.returncode != 0
    assert sentence in result.stderr
    assert len([line for line in result.stderr.splitlines() if " is used, not " not in line]) == 1


def test_a_replay_of_nothing_says_that_nothing_was_read(tmp_path: Path) -> None:
    readings = tmp_path / "readings.jsonl"
    readings.write_text("")
    result = command("--config", PROJECT / "topics.yaml", "replay", "phase", readings)
    assert (result.returncode, result.stdout) == (69, "")
    assert result.stderr.splitlines()[-1].startswith(f"constellation replay: nothing was read: {readings} is empty")
    readings.write_text('{"topic":"a/b/temperature","value":1,"time":"2026-11-20T15:01:53Z"}\n')
    result = command("--config", PROJECT / "topics.yaml", "replay", "phase", readings)
    assert (result.returncode, result.stdout) == (69, "")
    assert result.stderr.endswith(
        f"\nconstellation replay: no line of {readings} is a reading of an input of phases:\n"
    )


def test_a_scan_tells_two_chips_apart_and_knows_an_address_in_either_base(tmp_path: Path) -> None:
    (tmp_path / "chips.json").write_text(json.dumps({"0x48": {}, "0x49": {}}))
    path = tmp_path / "topics.yaml"
    path.write_text(
        f"sources: {{adc: {{bus: 'sim:{tmp_path}/chips.json'}}, other: {{service: adc}}}}\ntopics:\n"
        "  a/first/current:  {from: adc, input: A0-A3, amperes_per_volt: 30}\n"
        "  a/second/current: {from: adc, address: 73, input: A0-A3, amperes_per_volt: 30}\n"
        "  a/third/current:  {from: adc, address: 0x49, input: A1-A3, amperes_per_volt: 30}\n"
        "  a/elsewhere/current: {from: other, input: A1-A3, amperes_per_volt: 30}\n"
    )
    result = command("--config", path, "scan", "adc")
    shown = {line.partition("  ")[0]: line.rpartition("   ")[2] for line in result.stdout.splitlines()}
    assert shown == {
        "0x48 A0-A3": "-> a/first/current",
        "0x48 A1-A3": "(not yet named)",
        "0x48 A2-A3": "(not yet named)",
        "0x48 A3": "(not yet named)",
        "0x49 A0-A3": "-> a/second/current",
        "0x49 A1-A3": "-> a/third/current",
        "0x49 A2-A3": "(not yet named)",
        "0x49 A3": "(not yet named)",
    }, result.stderr


def test_watch_hears_on_after_the_broker_began_anew(house: House, ear: Ear, broker: Broker) -> None:
    house.write("sources: {onewire: {}}\ntopics: {a/b/temperature: {from: onewire, id: 28-0316a4f1c9ff}}\n")
    words = [sys.executable, "-m", "bootstrap_lib.cli", "--config", house.config, "watch", "--for", "30"]
    with subprocess.Popen(words, cwd=PROJECT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as watch:
        ear.say("home/data/a/b/temperature", '{"value":1}', retain=True)
        assert " 1 " in watch.stdout.readline()
        broker.kill()
        assert watch.stderr.readline().endswith(" is used, not /etc/constellation/topics.yaml\n")
        assert watch.stderr.readline().endswith("is gone: the connection was lost; trying on\n")
        broker.start()
        deadline = time.monotonic() + 10
        while not ear._client.is_connected() and time.monotonic() < deadline:
            time.sleep(0.05)
        ear.say("home/data/a/b/temperature", '{"value":2}', retain=True)
        assert " 2 " in watch.stdout.readline()
        watch.terminate()


PWN = "\x1b]0;pwn\x07\x9b2J\u202e"
HARMLESS = "\\x1b]0;pwn\\x07\\x9b2J\\u202e"


def test_what_others_published_is_shown_escaped_and_ends_no_verb(house: House, ear: Ear, tmp_path: Path) -> None:
    house.write(
        "sources: {onewire: {}}\nsubscribers: {archive: {}}\n"
        "topics: {a/b/temperature: {from: onewire, id: 28-0316a4f1c9ff}}\n"
    )
    health = {"state": PWN, "since": PWN, "spool": {"waiting": PWN}, "stale": [PWN], "last_error": {"text": PWN}}
    for name, payload in (("onewire", json.dumps(health)), ("archive", "[" * 200_000)):
        ear.say(f"home/service/{name}/status", "online", retain=True)
        ear.say(f"home/service/{name}/health", payload, retain=True)
    ear.say("home/data/a/b/temperature", "[" * 200_000, retain=True)
    ear.say("home/data/a/b\u202e/temperature", json.dumps({"value": PWN, "unit": PWN}), retain=True)
    status = command("--config", house.config, "status")
    watch = command("--config", house.config, "watch", "--for", "2")
    pruned = command("--config", house.config, "prune", "--dry-run")
    said = status.stdout + watch.stdout + pruned.stdout
    assert not {"\x1b", "\x07", "\x9b", "\u202e"} & set(said), said
    assert "archive          online, but its heartbeat is missing" in status.stdout
    assert f"{HARMLESS} waiting" in status.stdout
    assert re.search(r"(?m)^a/b/temperature +- +cleared", watch.stdout)
    assert "would clear home/data/a/b\\u202e/temperature" in pruned.stdout
    assert "Traceback" not in status.stderr + watch.stderr + pruned.stderr


@pytest.mark.parametrize(
    ("words", "answer", "code", "shown"),
    [
        ("once onewire", {"status": "error", "error": PWN}, 69, f"constellation once: onewire: {HARMLESS}"),
        ("once onewire", {"status": "ok", "data": [PWN]}, 69, f"answers nothing that can be read: ['{HARMLESS}']"),
        (
            "once onewire",
            {"status": "ok", "data": {PWN: {"value": PWN, "unit": PWN}}},
            0,
            f"{HARMLESS} {HARMLESS}",
        ),
        ("dead archive --drop", {"status": "ok", "data": {PWN: PWN}}, 0, f"{HARMLESS} {HARMLESS}"),
    ],
)
def test_what_a_service_answers_is_shown_escaped(  # noqa: PLR0917
    house: House, ear: Ear, tmp_path: Path, words: str, answer: dict[str, Any], code: int, shown: str
) -> None:
    house.write("sources: {onewire: {}}\nsubscribers: {archive: {}}\n")
    verb, instance, *_ = words.split()
    ear.say(f"home/service/{instance}/status", "online", retain=True)
    topic = f"home/service/{instance}/request/{'read' if verb == 'once' else 'dead'}"
    line = [sys.executable, "-m", "bootstrap_lib.cli", "--config", str(house.config), *words.split()]
    environment = os.environ | {"STATE_DIRECTORY": str(tmp_path)}
    with (
        state.hold(tmp_path, instance),
        subprocess.Popen(
            line, cwd=PROJECT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment
        ) as asking,
    ):
        asked = ear.wait(topic)
        for payload in ("[" * 200_000, json.dumps(answer | {"id": asked["id"]})):
            ear.say(topic.replace("/request/", "/response/"), payload)
        out, errors = asking.communicate(timeout=60)
    assert asking.returncode == code, errors
    assert shown in out + errors
    assert errors.startswith(f"constellation: {house.config} is used, not ")
    assert not {"\x1b", "\x07", "\x9b", "\u202e"} & set(out + errors)
    assert "Traceback" not in errors


def test_dead_letters_of_any_depth_can_be_listed(house: House, tmp_path: Path) -> None:
    house.write(
        "sources: {onewire: {}}\nsubscribers: {archive: {}}\n"
        "topics: {a/b/temperature: {from: onewire, id: 28-0316a4f1c9ff}}\n"
    )
    state.DeadLetters(tmp_path / "dead_letters.jsonl").add("home/data/a/b/temperature", b'{"x":' + b"[" * 4000, PWN)
    done = command("--config", house.config, "dead", "archive", STATE_DIRECTORY=str(tmp_path))
    assert done.returncode == 0, done.stderr
    assert HARMLESS in done.stdout


def test_a_request_to_a_service_that_does_not_run_is_not_waited_for(house: House, ear: Ear) -> None:
    house.write("subscribers: {phase: {stale: 15m}}\n")
    begun = time.monotonic()
    result = command("--config", house.config, "rework", "--from", "2026-11-20")
    assert result.returncode == 69
    assert result.stderr.splitlines()[-1].startswith(
        "constellation rework: phase does not run, or has no connection to the broker"
    )
    assert time.monotonic() - begun < busy(8)


def test_the_demo_takes_the_shipped_house_where_none_is_installed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("CONSTELLATION_CONFIG", raising=False)
    monkeypatch.setattr(location, "INSTALLED", installed := tmp_path / "topics.yaml")
    assert (Registry.locate(), Registry.locate(shipped=True)) == (installed, PROJECT / "topics.yaml")
    assert Registry.locate("mine.yaml", shipped=True) == Path("mine.yaml")
    installed.write_text("sources: {host: {}}\n")
    assert Registry.locate(shipped=True) == installed


def test_a_pyyaml_without_libyaml_gets_a_sentence(tmp_path: Path) -> None:
    path = tmp_path / "topics.yaml"
    path.write_text("sources: {onewire: {}}\n")
    code = f"import sys; sys.modules['yaml._yaml'] = None; from bootstrap_lib.cli import main; sys.exit(main(['check', {str(path)!r}]))"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=PROJECT, timeout=60)
    assert result.returncode == 78
    assert "PyYAML was built without libyaml: pip install" in result.stderr
    assert "Traceback" not in result.stderr


def test_it_says_its_version() -> None:
    from bootstrap_lib.version import VERSION

    assert command("--version").stdout == f"constellation {VERSION}\n"


def test_without_a_verb_it_says_what_there_is() -> None:
    said = command()
    assert (said.returncode, said.stderr) == (0, "")
    assert "doctor" in said.stdout
