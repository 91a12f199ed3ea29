"""README, docs/install.md and docs/operate.md, block by block, in a real systemd: what they say is done, and what they promise is there.

Packages of Python come from a folder of wheels that is filled once from the index, so that nothing else needs a network.
"""

import hashlib
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from containers import Lab
from harness import PROJECT, wait_for
from once import tried_once
from pages import blocks, section

pytestmark = [pytest.mark.slow, pytest.mark.whole]

LOCK = PROJECT / "requirements" / "users.txt"
PATIENCE = 300.0

HOUSE = """\
broker: {ca: /etc/constellation/ca.crt, password: "secret:mqtt.{instance}"}
sources: {host: {every: 1s, heartbeat: 2s}}
subscribers: {archive: {heartbeat: 2s}}
topics: {house/pi/memory_usage: {from: host}}
"""


def wheels() -> Path:
    """Folder with all that the lock names."""
    cache = Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "constellation"
    folder = cache / f"wheels-{hashlib.sha256(LOCK.read_bytes()).hexdigest()[:12]}-{sys.version_info[1]}"
    if not folder.exists():
        beside = folder.with_suffix(".new")
        command = [sys.executable, "-m", "pip", "download", "-q", "--require-hashes", "-r", LOCK, "-d", beside]
        done = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE)
        if done.returncode:
            pytest.skip(f"the index of packages is not reached: {done.stderr.strip()[-200:]}")
        beside.replace(folder)
    return folder


README = blocks(section("README.md", "Use it"))[0]


class Reader:
    """Somebody who pastes lines into a root shell, in a clone."""

    def __init__(self, lab: Lab, wheels: Path) -> None:
        self.lab = lab
        self.environment = (
            f"PIP_NO_INDEX=1 PIP_FIND_LINKS={wheels} PIP_DISABLE_PIP_VERSION_CHECK=1 DEBIAN_FRONTEND=noninteractive"
        )
        lab.write("/usr/local/bin/sudo", '#!/bin/sh\nexec env "$@"\n')
        lab.run("chmod", "755", "/usr/local/bin/sudo")
        listed = f"git -C {PROJECT} ls-files -z --cached --others --exclude-standard"
        lab.run(
            "sh",
            "-c",
            f"mkdir -p /srv/clone && cd {PROJECT} && {listed} | xargs -0 ls -d 2>/dev/null | grep -vx .venv | tar -c -T - | tar -x -C /srv/clone",
        )

    def pastes(self, line: str, *, fails: bool = False) -> str:
        """Do a line; it must succeed, unless what it says may be bad news."""
        shown = line.replace("apt install", "apt-get install -y -qq --no-upgrade")
        return self.lab.run(
            "sh", "-c", f"cd /srv/clone && export {self.environment} && {{ {shown}; }} 2>&1", check=not fails
        )


@pytest.fixture(scope="module")
def reader() -> Iterator[Reader]:
    folder = wheels()
    with tried_once("the container with systemd"):
        lab = Lab(PROJECT)
        try:
            yield Reader(lab, folder)
        finally:
            lab.close()


def failed(lab: Lab) -> str:
    return lab.run("systemctl", "list-units", "--failed", "--plain", "--no-legend", "constellation*")


def test_the_readme_installs_a_house(reader: Reader) -> None:
    install, *_, look = blocks(section("README.md", "Use it"))
    assert install[0].startswith("sudo apt install")
    said = {line: reader.pastes(line) for line in install}
    assert "good." in said["sudo constellation check"]
    assert "enabled constellation@archive.service" in said["sudo constellation units --install"]
    assert "missing: pushover needs" in said["sudo constellation units --install"]
    wait_for(
        lambda: "archive          running" in reader.pastes("sudo constellation status", fails=True),
        PATIENCE,
        "the archive",
    )
    assert failed(reader.lab) == ""
    commands = [line.split("  ")[0] for line in look]
    assert commands[0] == "sudo constellation doctor"
    told = reader.pastes("sudo constellation doctor", fails=True)
    assert "ok    broker: localhost:8883 takes the operator" in told
    assert "Traceback" not in told
    assert (
        "house/pi/memory_usage" in reader.pastes("sudo constellation watch --for 15")
        or "host" not in said["sudo constellation check"]
    )
    for line in commands:
        if "watch" not in line:
            assert "Traceback" not in reader.pastes(line, fails=True)


def test_the_pages_on_installation_and_operation_install_a_house_and_remove_it(reader: Reader) -> None:
    reader.pastes("sudo constellation units --remove; rm -r /etc/constellation")
    first, second = blocks(section("docs/install.md", "In a clone"))
    for line in first:
        if line not in README:  # what is the same was done there
            reader.pastes(line)
    assert second[0].startswith("sudo /opt/constellation/bin/pip install '.[")  # for a 32-bit Pi
    reader.lab.write("/etc/constellation/topics.yaml", HOUSE)
    begin = next(
        block
        for block in blocks(section("docs/install.md", "Begin"))
        if block[0].startswith("sudo constellation check")
    )
    said = {line: reader.pastes(line, fails="doctor" in line) for line in begin}
    assert "On this machine: host, archive." in said["sudo constellation check"]
    wait_for(
        lambda: reader.pastes("sudo constellation status --quiet; echo $?").strip() == "0", PATIENCE, "the whole house"
    )
    for block in blocks(section("docs/operate.md", "See what it does"))[:1]:
        for line in block:
            shown = line.replace("mosquitto_sub", "mosquitto_sub -C 1 -W 20").replace("watch", "watch --for 3")
            assert "Traceback" not in reader.pastes(shown.replace("systemctl status", "systemctl status --no-pager"))
    (remove,) = blocks(section("docs/operate.md", "Remove"))
    assert "left /etc/constellation" in reader.pastes(remove[0])
    assert reader.lab.run("systemctl", "list-unit-files", "--no-legend", "constellation*", check=False) == ""
