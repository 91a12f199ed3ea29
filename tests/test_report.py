"""The report of a house for whoever is to find a fault: it says what helps, and nothing of secrets, people and addresses."""

import json
import os
import re
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest
from harness import PROJECT, Ear, House, busy

from services.reporting.redaction import Redaction

SECRETS = {
    "credential": "correct-horse-battery",
    "credential of letters": "xylophone",
    "in JSON": "JsOnSeCrEt99",
    "meter's key": "00112233445566778899aabbccddeeff",
    "in a comment": "comment-hunter2",
    "password": "0000471199",
    "in an URL": "ursula:pa55w0rd",
    "host": "mqtt.at-adas-house.example",
    "user id": "uQiRzpo4DXghDmr9QzzfQu27cmVRsG",
    "person": "ada_lovelace",
    "label": "Bedroom of Ada",
    "serial number": "usb-FTDI_A1B2C3D4",
    "wrong value": "hunterxyz",
    "in the journal": "ghp_16C7e42F292c6912E7710c838347Ae178B4a",
    "mail": "ada@lovelace.example",
    "phone": "+33 6 12 34 56 78",
    "address": "192.168.17.23",
    "hardware address": "a4:c1:38:12:34:56",
    "bearer": "abcdefbearer",
    "in health": "health-s3cr3t-of-mine",
    "host of a beat": "cellar-of-ada",
    "in a file name": "5f2b9e0c77aa41d3",
    "key of a state folder": "statefoldersecret",
}

TOPICS = """
# the old password was comment-hunter2
broker: {port: PORT, host: localhost}
timezone: Europe/Paris
sources:
  onewire: {every: 5s}
  modbus: {device: /dev/serial/by-id/usb-FTDI_A1B2C3D4, every: 10s, baud: hunterxyz}
  http: {url: "https://ursula:pa55w0rd@mqtt.at-adas-house.example/x"}
subscribers:
  archive: {}
  pushover: {token: "secret:pushover.token", accounts: {ada_lovelace: {user: uQiRzpo4DXghDmr9QzzfQu27cmVRsG}}}
topics:
  boiler/water/temperature: {from: onewire, id: 28-000004b5c6d7, label: Bedroom of Ada, range: [0, 95]}
  boiler/pump/active: {from: modbus, password: 0000471199}
"""

JOURNAL = """#!/bin/sh
echo "2026-11-27T10:00:00 onewire: Authorization: Bearer abcdefbearer"
echo "2026-11-27T10:00:01 onewire: sent ghp_16C7e42F292c6912E7710c838347Ae178B4a to 192.168.17.23 (a4:c1:38:12:34:56)"
echo "2026-11-27T10:00:02 onewire: told ada@lovelace.example and +33 6 12 34 56 78 with xylophone"
echo "2026-11-27T10:00:03 onewire: the sensor does not answer: check its cable $*"
for n in $(seq 2000); do echo "2026-11-27T10:00:04 line $n of a long journal, the last ones stay"; done
"""


@pytest.fixture
def planted(house: House, tmp_path: Path) -> House:
    """A house with a secret in every place, and a journal."""
    root = tmp_path / "root"
    house.config = root / "etc/constellation/topics.yaml"
    keys = root / "etc/constellation/credentials"
    keys.mkdir(parents=True)
    house.config.write_text(TOPICS.replace("PORT", str(house.port)))
    (keys / "pushover.token").write_text("correct-horse-battery\n")
    (keys / "mail").write_text("xylophone")
    (keys / "fleet").write_text('{"private": "JsOnSeCrEt99"}')
    state = root / "var/lib/constellation/onewire"
    (state / "secrets").mkdir(parents=True)
    (state / "secrets/heat").write_text("00112233445566778899aabbccddeeff")
    (state / "secrets/other").write_text("statefoldersecret")
    (state / "spool.sqlite").write_bytes(b"statefoldersecret" * 100)
    (state / "cache_5f2b9e0c77aa41d3.json").write_text("{}")
    tools = tmp_path / "tools"
    tools.mkdir()
    (tools / "journalctl").write_text(JOURNAL)
    (tools / "journalctl").chmod(0o755)
    house.environment["PATH"] = f"{tools}:{os.environ['PATH']}"
    return house


def dump(house: House, *words: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "bootstrap_lib.cli", "dump", *map(str, words), "--root", house.config.parents[2]]
    return subprocess.run(
        command, env=house.environment | {"PYTHONPATH": str(PROJECT)}, cwd=house.folder, capture_output=True, text=True
    )


def test_a_report_tells_nothing_of_secrets_people_and_addresses_wherever_they_stand(
    planted: House, ear: Ear, tmp_path: Path
) -> None:
    beat = {
        "state": "degraded",
        "start": 7,
        "host": "cellar-of-ada",
        "last_error": {"text": "token=health-s3cr3t-of-mine 00112233445566778899aabbccddeeff JsOnSeCrEt99"},
    }
    ear.say("home/service/onewire/status", "online", retain=True)
    ear.say("home/service/onewire/health", json.dumps(beat), retain=True)
    target = tmp_path / "report.txt"
    done = dump(planted, target)
    assert done.returncode == 0, done.stderr
    text = target.read_text()
    told = {what for what, secret in SECRETS.items() if secret in text + done.stdout}
    assert told == set(), text
    assert socket.gethostname() not in text.partition("== What is in")[0]
    assert target.stat().st_mode & 0o777 == 0o600
    for words in (
        r"constellation \d", r"python 3\.", "Linux ", r"broker mosquitto version \d", "  msgspec ",
        "boiler/water/temperature:\n    from: onewire\n    id: <15 letters>", "timezone: Europe/Paris", r"every: 5s",
        "== check ==\n.*topics.yaml:", "== doctor ==\n.*topics.yaml", '"state": "degraded"', '"start": 7',
        r"\n +1700 spool\.sqlite", "secrets: 2 files", "token: secret:<21 letters>", r"credentials/pushover\.token can", "constellation@onewire", "the last ones stay",
    ):  # fmt: skip
        assert re.search(words, text), (words, text)
    assert "line 1 of" not in text, "of a journal the end stays"
    assert max(len(part) for part in text.split("\n== ")) < 25_000
    end = text.partition("== What is in this file ==")[2]
    assert end.strip() in done.stdout
    assert "Journal of onewire: " in end
    assert re.search(r"Taken out: .*mail [1-9].*, .*value of topics.yaml \d+", end)


@pytest.mark.parametrize(
    ("said", "shown"),
    [
        ("Authorization: Basic aGVpZGk6cGE=", "Authorization: Basic <secret>"),
        ('Authorization: Digest username="x", response=9', "Authorization: Digest <secret>"),
        ("authorization=Bearer abc.def.ghi rest", "authorization=Bearer <secret> rest"),
        ("password: three plain words", "password: <secret>"),
        ("the password is hunter2", "the password is <secret>"),
        ("Password for anna: hunter2", "Password for anna: <secret>"),
        ("wpa psk=hunter2", "wpa psk=<secret>"),
        ("GET /?day=1&pass=abc&x=2", "GET /?day=1&pass=<secret>&x=2"),
        (r'{"secret": "with \" inside", "n": 1}', '{"secret": <secret>, "n": 1}'),
        ("at 2001:db8::1, fe80::1ff:fe23:4567:890a and ::1", "at <address>, <address> and ::1"),
        ("at 12:00:00 (1:2:3)", "at 12:00:00 (1:2:3)"),
        ("call 079 123 45 67 or 0043/1 58858", "call <phone> or 0043/1 58858"),
        ("?lat=47.3769&lon=8.5417", "?lat=<place>&lon=<place>"),
        ("2026-11-28 04:03:02 monkey: key frame 3", "2026-11-28 04:03:02 monkey: key frame 3"),
    ],
)
def test_what_looks_like_a_secret_an_address_or_a_person_is_taken_out(said: str, shown: str) -> None:
    assert Redaction().text(said) == shown


@pytest.mark.parametrize("said", ["-", "_", "a-", "-token", "x-psk"])
def test_a_long_line_of_one_sign_holds_no_report_up(said: str) -> None:
    begun = time.process_time()
    Redaction().text(said * (100_000 // len(said)))
    assert time.process_time() - begun < busy(3)


@pytest.mark.parametrize("said", ["--key=5", "access_token=abc", "X-Api-Key: abc", "wifi-psk=abc"])
def test_an_option_is_hidden_as_a_word_is(said: str) -> None:
    word, sign, _ = said.partition("=" if "=" in said else ": ")
    assert Redaction().text(said) == f"{word}{sign}<secret>"


def test_what_a_line_says_beside_a_secret_stays(planted: House, tmp_path: Path) -> None:
    script = tmp_path / "tools/journalctl"
    script.write_text("\n".join(JOURNAL.splitlines()[:5]))
    assert dump(planted, tmp_path / "report.txt").returncode == 0
    assert (
        "onewire: the sensor does not answer: check its cable -u constellation@onewire"
        in (tmp_path / "report.txt").read_text()
    )


def test_a_report_is_written_exclusively_and_also_of_a_house_that_is_broken(planted: House, tmp_path: Path) -> None:
    target = tmp_path / "report.txt"
    target.symlink_to(tmp_path / "victim")
    done = dump(planted, target)
    assert (done.returncode, "is there already: name another file" in done.stderr) == (os.EX_UNAVAILABLE, True)
    assert not (tmp_path / "victim").exists()
    planted.config.write_text("broker: {password: comment-hunter2\n  x: [hunterxyz")
    done = dump(planted)
    assert done.returncode == 0, done.stderr
    (made,) = planted.folder.glob("constellation-report-*Z.txt")
    assert made.stat().st_mode & 0o777 == 0o600
    text = made.read_text()
    assert "it is no YAML: see check" in text
    assert "== Journal of onewire ==\n2026" in text or "== Journal of onewire ==\n…" in text
    assert "hunter" not in text


def test_a_store_without_its_file_is_no_report(planted: House) -> None:
    done = dump(planted, "rrd")
    assert (done.returncode, "or a store and a tar file" in done.stderr) == (os.EX_UNAVAILABLE, True)
    assert not (planted.folder / "rrd").is_file()
