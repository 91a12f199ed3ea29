"""A second host as docs/operate.md says: two machines, each with a systemd and a network of its own, one file carried."""

import json
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from containers import CONSTELLATION, PATIENCE, Lab
from harness import PROJECT, wait_for
from once import tried_once
from pages import blocks, section

from bootstrap_lib import broker as brokers
from bootstrap_lib import machine
from bootstrap_lib.commands import host
from bootstrap_lib.registry import Registry

TOPICS = """\
broker: {host: cellar.local, ca: /etc/constellation/ca.crt, password: "secret:mqtt.{instance}"}
sources:
  host: {every: 1s, heartbeat: 2s}
  host_barn: {service: host, host: barn.local, every: 1s, heartbeat: 2s}
  counting: {host: barn, every: 1s, heartbeat: 2s}
subscribers:
  archive: {heartbeat: 2s}
topics:
  house/pi/memory_usage: {from: host}
  barn/pi/memory_usage: {from: host_barn}
  barn/number/temperature: {from: counting, secret: secret:barn.key}
"""
SOURCE = """\
from collections.abc import Iterator

from bootstrap_lib import InstanceOptions, Sample, Source, Topic, secrets
from msgspec import Struct


class Line(Struct, frozen=True, kw_only=True):
    secret: str


class Counting(Source):
    options: InstanceOptions
    topics: tuple[Topic[Line], ...]

    def samples(self) -> Iterator[Sample]:
        while self.tick():
            yield self.topics[0], float(secrets.resolve(self.topics[0].options.secret))
"""


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ("barn", "barn.local", True),
        ("Barn.local.", "barn", True),
        ("barn.lan", "barn", True),
        ("barn.local", "barn.lan", True),
        ("barn.lan", "barn.example", False),
        ("barn", "barn2", False),
        ("barn.local", "barnlocal", False),
    ],
)
def test_a_name_with_and_without_local_is_the_same_machine(one: str, other: str, same: bool) -> None:
    assert machine.is_same(one, other) == machine.is_same(other, one) == same


def test_an_address_is_this_machine_if_an_interface_of_it_has_it() -> None:
    assert machine.is_this("127.0.0.1")
    assert not machine.is_this("192.0.2.77")


def test_an_instance_without_a_host_runs_on_the_brokers_machine_only(tmp_path: Path) -> None:
    (tmp_path / "topics.yaml").write_text(
        "broker: {host: elsewhere.local}\nsources: {onewire: {}, host: {host: localhost}}\n"
    )
    registry = Registry(tmp_path / "topics.yaml")
    assert {name: one.here for name, one in registry.instances.items()} == {"onewire": False, "host": True}
    assert not brokers.is_here(registry)


def test_whoever_looks_from_another_machine_asks_the_instances_there_and_no_others(tmp_path: Path) -> None:
    (tmp_path / "topics.yaml").write_text(TOPICS)
    granted = (
        brokers.rights(Registry(tmp_path / "topics.yaml")).partition("user operator_barn\n")[2].partition("\n\n")[0]
    )
    written = [line.split()[2] for line in granted.splitlines() if line.split()[1] != "read"]
    assert written == ["home/service/host_barn/request/+", "home/service/counting/request/+"]


@pytest.mark.parametrize(
    "name",
    [
        "/etc/passwd",
        "/etc/constellation/../passwd",
        "/etc/constellation/credentials/../../x",
        "/etc/constellation/services/x.sh",
    ],
)
def test_a_file_that_was_carried_writes_nothing_elsewhere(
    tmp_path: Path, name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "x.constellation"
    file.write_text(json.dumps({"machine": "localhost", "files": {name: "x"}}))
    file.chmod(0o600)
    with pytest.raises(host.StartError, match="it would write"):
        host._read(file)
    file.write_text(json.dumps({"machine": "localhost", "files": {"/etc/constellation/ca.crt": "x"}}))
    file.chmod(0o666)
    with pytest.raises(host.StartError, match="can be written by others"):
        host._read(file)


# -- two machines ---------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def house() -> Iterator[tuple[Lab, Lab]]:
    with tried_once("two containers with systemd"):
        cellar, barn = Lab(PROJECT), None
        try:
            barn = Lab(PROJECT)
            subprocess.run(
                [
                    "ip",
                    "link",
                    "add",
                    "cbarn",
                    "netns",
                    cellar.init,
                    "type",
                    "veth",
                    "peer",
                    "cbarn",
                    "netns",
                    barn.init,
                ],
                check=True,
            )
            for number, (lab, name) in enumerate(((cellar, "cellar"), (barn, "barn")), 1):
                lab.run("hostname", name)
                lab.run("ip", "address", "add", f"10.77.0.{number}/24", "dev", "cbarn")
                lab.run("ip", "link", "set", "cbarn", "up")
                lab.run(
                    "sh",
                    "-c",
                    "printf '127.0.0.1 localhost\\n10.77.0.1 cellar.local\\n10.77.0.2 barn.local\\n' >/etc/hosts",
                )
                lab.show_project()
            yield cellar, barn
        finally:
            cellar.close()
            if barn:
                barn.close()


def as_the_page_says(lab: Lab, line: str) -> str:
    """Do a line of the page, on a shed that is called barn here."""
    ours = line.replace("shed", "barn").replace("sudo constellation", str(CONSTELLATION)).replace("sudo ", "")
    return lab.run("sh", "-c", f"cd /root && {ours}")


@pytest.mark.slow
@pytest.mark.whole
def test_a_second_host_joins_by_one_file_and_can_see_the_house(house: tuple[Lab, Lab]) -> None:
    cellar, barn = house
    cellar.write("/etc/constellation/topics.yaml", TOPICS)
    cellar.write("/etc/constellation/services/counting.py", SOURCE)
    cellar.write("/etc/constellation/credentials/barn.key", "20.5\n")
    cellar.run("chmod", "600", "/etc/constellation/credentials/barn.key")
    said = cellar.run("sh", "-c", f"{CONSTELLATION} host add barn 2>&1", check=False)
    assert "sudo constellation units --install, then this again" in said
    on_the_hub, on_the_shed = blocks(section("docs/operate.md", "A second host"))[1:]
    said = [as_the_page_says(cellar, line) for line in on_the_hub]
    assert "for host_barn, counting on barn" in said[-1]
    assert cellar.run("stat", "-c", "%a", "/root/barn.constellation").strip() == "600"
    carried = cellar.run("cat", "/root/barn.constellation")
    assert 'mqtt.operator"' not in carried
    assert "mqtt.archive" not in carried

    said = barn.run("sh", "-c", f"cd / && {CONSTELLATION} host join /nowhere 2>&1", check=False)
    assert "/nowhere cannot be read" in said
    barn.run("sh", "-c", "umask 077; cat >/root/barn.constellation", text=carried)
    said = [as_the_page_says(barn, line) for line in on_the_shed]
    assert "left the broker alone: it is on cellar.local" in said[0]
    assert "missing" not in said[0]
    listed = barn.run("systemctl", "list-units", "--plain", "--no-legend", "constellation*.service")
    assert {line.split()[0] for line in listed.splitlines()} == {
        "constellation@host_barn.service",
        "constellation@counting.service",
    }

    wait_for(
        lambda: cellar.run("sh", "-c", f"{CONSTELLATION} status --quiet; echo $?").strip() == "0",
        PATIENCE,
        "the whole house",
    )
    told = barn.run(CONSTELLATION, "status")
    assert re.findall(r"(?m)^(\w+) +running", told) == ["host", "host_barn", "counting", "archive"]
    seen = barn.run(CONSTELLATION, "watch", "--for", "3")
    assert {"house/pi/memory_usage", "barn/pi/memory_usage", "barn/number/temperature"} <= set(seen.split())
    assert "20.5" in seen
    look = barn.run(CONSTELLATION, "doctor", check=False)
    assert "ok    broker: cellar.local:8883 takes the operator_barn" in look
    assert not re.findall(r"WRONG (?!clock|disk|device).*", look)


@pytest.mark.slow
@pytest.mark.whole
def test_the_file_is_for_one_machine(house: tuple[Lab, Lab]) -> None:
    cellar, barn = house
    said = cellar.run("sh", "-c", f"cd /root && {CONSTELLATION} host add attic 2>&1", check=False)
    assert "gives nothing to 'attic': there are barn, barn.local" in said
    carried = cellar.run("cat", "/root/barn.constellation")
    barn.run("hostname", "attic")
    barn.run("sh", "-c", "umask 077; cat >/root/barn.constellation", text=carried)
    said = barn.run("sh", "-c", f"{CONSTELLATION} host join /root/barn.constellation 2>&1", check=False)
    assert "is for barn, and this machine is called attic: sudo hostnamectl set-hostname barn" in said
