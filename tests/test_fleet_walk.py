"""docs/fleet.md walked block by block: three machines with a systemd and an address each, from nothing to a second house on the page.

The engine has a node on each of them, as the page says; the first is the centre, the others are a house each.
"""

import json
import re
import subprocess
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import yaml
from containers import CONSTELLATION, CONTAINER, PATIENCE, Lab
from harness import PROJECT, wait_for
from once import tried_once
from test_fleet_pages import BLOCKS

CONFIG = "/etc/constellation/topics.yaml"
PASSWORD = "/etc/constellation/credentials/fleet.engine"
WORD = "a word of olga's"
SENSOR = "28-0316a4f1c9ff"
HOUSE = f"""\
broker: {{ca: /etc/constellation/ca.crt, password: "secret:mqtt.{{instance}}"}}
sources: {{onewire: {{every: 500ms, stale: 5s, heartbeat: 2s, bus: /srv/w1}}}}
subscribers: {{archive: {{heartbeat: 2s}}}}
topics: {{boiler/water/temperature: {{from: onewire, id: {SENSOR}}}}}
"""
HOSTS = """\
127.0.0.1 localhost
10.0.0.1 centre centre.example.org
10.0.0.2 one one.local
10.0.0.3 other other.local
"""
KNOCK = """\
import json, sys, urllib.request
at = "http://127.0.0.1:8090"
who = json.dumps({"name": "olga", "password": sys.argv[1]}).encode()
headers = {"Content-Type": "application/json", "Origin": at}
said = urllib.request.urlopen(urllib.request.Request(at + "/api/1/login", who, headers))
cookie = said.headers["Set-Cookie"].partition(";")[0]
print(urllib.request.urlopen(urllib.request.Request(at + sys.argv[2], headers={"Cookie": cookie})).read().decode())
"""
"""Somebody's browser: logs in at the page, and asks it for one thing."""


class Walk:
    """Somebody who does what the page says, on three machines."""

    def __init__(self, centre: Lab, one: Lab, other: Lab) -> None:
        self.centre, self.houses = centre, {"h0001": one, "h0002": other}
        self.machines = (centre, one, other)
        self.anew = ""
        """Lines for whatever topics.yaml names later."""
        self.last = ""
        """What is walked at the end: a house is out with it."""
        self.joining: dict[str, str] = {}
        """Line that the centre printed for a house."""
        self._beside: list[subprocess.Popen[bytes]] = []

    def on(self, lab: Lab, line: str, *, text: str | None = None) -> str:
        """Do a line of the page as root; it must succeed, and say no traceback."""
        shown = line.strip().replace(
            "apt install", "DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-upgrade"
        )
        said = lab.run("sh", "-c", f"cd /root && {{ {shown}; }} 2>&1", text=text)
        assert "Traceback" not in said, said
        return said

    def passes_by(self, block: str) -> None:
        """Leave a picture, and what is run elsewhere: the demo below, PostgreSQL by `python -m tests.fleet`."""

    def notes_what_is_done_later(self, block: str) -> None:
        self.anew = block

    def keeps_for_the_end(self, block: str) -> None:
        self.last = block

    def everywhere(self, block: str) -> None:
        for lab in self.machines:
            for line in block.splitlines():
                self.on(lab, line)
                if line.startswith("apt "):
                    self.on(lab, "systemctl start mariadb")  # as Debian's package does where it is new

    def carries_the_password(self, block: str) -> None:
        made = self.centre.run("cat", PASSWORD)
        for lab in self.houses.values():
            self.on(lab, block, text=made)

    def on_the_others(self, block: str) -> None:
        for lab in self.houses.values():
            self.on(lab, block)

    def looks_at_the_engine(self, block: str) -> None:
        for lab in self.machines:
            said = self.on(lab, block)
            assert [line.split(", ")[1:3] for line in said.splitlines()[:3]] == [["primary", "sees 3"]] * 3
            assert said.endswith("all is well\n")

    def at_the_centre(self, block: str) -> None:
        for line in block.splitlines():
            self.on(self.centre, line)

    def writes(self, block: str) -> None:
        self._write((self.centre,), block)

    def writes_in_the_houses(self, block: str) -> None:
        self._write(tuple(self.houses.values()), block)

    def _write(self, labs: tuple[Lab, ...], block: str) -> None:
        """Put lines into a topics.yaml, among those that are there."""
        for lab in labs:
            known = yaml.safe_load(lab.run("sh", "-c", f"cat {CONFIG} 2>/dev/null || true")) or {}
            lab.write(CONFIG, yaml.safe_dump(merged(known, yaml.safe_load(block)), sort_keys=False))
            assert "good." in self.on(lab, "constellation check")

    def begins_the_centre(self, block: str) -> None:
        self.at_the_centre(block)
        self.runs(self.centre, "central")

    def runs(self, lab: Lab, *names: str) -> None:
        for name in names:
            what = f"{name} +running"
            wait_for(
                lambda what=what: re.search(what, lab.run("sh", "-c", "constellation status || true")), PATIENCE, name
            )

    def lets_houses_in(self, block: str) -> None:
        invite, serve = block.splitlines()
        for name in self.houses:
            said = self.on(self.centre, invite.replace("h0001", name))
            self.joining[name] = said.splitlines()[-1].strip().removeprefix("sudo ")
        self._beside.append(
            subprocess.Popen([CONTAINER, "enter", self.centre.init, "sh", "-c", serve], stdout=subprocess.PIPE)
        )
        assert b"are let in at" in self._beside[-1].stdout.readline()

    def join(self, block: str) -> None:
        line, *rest = block.splitlines()
        for name, lab in self.houses.items():
            token = self.joining[name].rpartition(" ")[2]
            assert self.joining[name] == line.replace("TOKEN", token), "the centre says what the page says"
            assert f"this house is {name} now" in self.on(lab, self.joining[name])
            for more in rest:
                self.on(lab, more)

    def renews(self, block: str) -> None:
        for lab in self.machines:
            self.on(lab, block)
            assert "renewed" in self.on(lab, f"{block} --now")

    def writes_a_second_store(self, block: str) -> None:
        self.writes(block)
        self.at_the_centre(self.anew)
        self.runs(self.centre, "central_south")

    def moves(self, block: str) -> None:
        self.at_the_centre(block)
        self.centre.says("h0001 is kept here now", "INSTANCE=central_south")

    def asks(self, block: str) -> None:
        for name in self.houses:
            said = json.loads(self.on(self.centre, block.replace("h0001", name)))
            assert said["boiler/water/temperature"]["value"] == celsius(name)

    def gives_a_password(self, block: str) -> None:
        for line in block.splitlines():
            self.on(self.centre, line, text=f"{WORD}\n" if " password " in line else None)
        self.at_the_centre(self.anew)
        self.runs(self.centre, "alerts", "fleet_page")

    def page(self, path: str) -> Any:
        return json.loads(self.centre.run("python3", "-c", KNOCK, WORD, path))

    def close(self) -> None:
        for process in self._beside:
            process.terminate()
            process.wait(PATIENCE)
            process.stdout.close()


def celsius(house: str) -> float:
    return 50.0 + int(house[1:])


def merged(known: Any, more: Any) -> Any:
    """What a file says with some more lines in it."""
    if not isinstance(known, dict) or not isinstance(more, dict):
        return more
    return known | {key: merged(known.get(key), value) for key, value in more.items()}


WAY: tuple[tuple[str, Callable[[Walk, str], None]], ...] = (
    ("house: sources", Walk.passes_by),
    ("constellation fleet demo", Walk.passes_by),
    ("apt install --no-install-recommends mariadb-server", Walk.everywhere),
    ("install -D -m 600 /dev/stdin", Walk.carries_the_password),
    ("systemctl stop mariadb && constellation fleet engine bootstrap", Walk.at_the_centre),
    ("systemctl restart mariadb", Walk.on_the_others),
    ("constellation fleet engine status", Walk.looks_at_the_engine),
    ("cluster_name = 'n1'", Walk.passes_by),
    ('psql -c "SET synchronous_commit', Walk.passes_by),
    ("pg_basebackup", Walk.passes_by),
    ('psql -c "SELECT pg_last_wal_receive_lsn()"', Walk.passes_by),
    ('psql -c "SELECT pg_promote()"', Walk.passes_by),
    ("/usr/lib/postgresql/15/bin/pg_rewind", Walk.passes_by),
    ("broker: {ca:", Walk.writes),
    ("constellation units --install\nconstellation fleet centre", Walk.begins_the_centre),
    ("constellation units --install\nsystemctl start", Walk.notes_what_is_done_later),
    ("constellation fleet house h0001", Walk.lets_houses_in),
    ("subscribers:\n  archive:", Walk.writes_in_the_houses),
    ("constellation fleet join", Walk.join),
    ("constellation fleet renew", Walk.renews),
    ("constellation fleet revoke h0001", Walk.keeps_for_the_end),
    ("subscribers:\n  central:", Walk.writes_a_second_store),
    ("constellation fleet move h0001 south", Walk.moves),
    ("subscribers:\n  alerts:", Walk.writes),
    ("constellation fleet ask h0001 onewire read", Walk.asks),
    ("subscribers:\n  fleet_page:", Walk.writes),
    ("constellation password fleet_page olga", Walk.gives_a_password),
    ("python -m tests.fleet", Walk.passes_by),
)
"""How each block of the page begins, in its order, and what is done with it."""


def test_no_block_of_the_page_is_left_out() -> None:
    assert [block[: len(begin)] for block, (begin, _) in zip(BLOCKS, WAY, strict=True)] == [begin for begin, _ in WAY]


@pytest.fixture(scope="module")
def walk() -> Iterator[Walk]:
    labs: list[Lab] = []
    with tried_once("three containers with systemd"):
        try:
            for number, name in enumerate(("centre", "one", "other"), 1):
                lab = Lab(PROJECT)
                labs.append(lab)
                lab.run("hostname", name)
                lab.write("/etc/hosts", HOSTS)
                lab.run("ln", "-sf", CONSTELLATION, "/usr/local/bin/constellation")
                lab.show_project()
                _plug_in(lab, labs[0], number)
            walk = Walk(*labs)
            try:
                yield walk
            finally:
                walk.close()
        finally:
            for lab in labs:
                lab.close()


def _plug_in(lab: Lab, switch: Lab, number: int) -> None:
    """Give a machine its address in the network of the three; the first is its switch."""
    if lab is switch:
        lab.run("ip", "link", "add", "lan", "type", "bridge")
    else:
        ends = ["name", f"port{number}", "netns", switch.init, "type", "veth", "peer", "lan", "netns", lab.init]
        subprocess.run(["ip", "link", "add", *ends], check=True)
        switch.run("ip", "link", "set", f"port{number}", "master", "lan", "up")
    lab.run("ip", "address", "add", f"10.0.0.{number}/24", "dev", "lan")
    lab.run("ip", "link", "set", "lan", "up")


def _a_house_runs(lab: Lab, name: str) -> None:
    """What README and docs/operate.md bring, and tests/test_installs_from_the_pages.py walks: a house that measures."""
    lab.plug((SENSOR, celsius(name)))
    lab.write(CONFIG, HOUSE)
    lab.run(CONSTELLATION, "units", "--install")
    lab.run("systemctl", "start", "constellation.target")


@pytest.mark.slow
@pytest.mark.whole
def test_from_nothing_to_a_second_house_on_the_page(walk: Walk) -> None:
    for name, lab in walk.houses.items():
        _a_house_runs(lab, name)
    for block, (_, deed) in zip(BLOCKS, WAY, strict=True):
        deed(walk, block.rstrip())

    def shown() -> bool:
        return all(
            (house["state"], house["linked"]) == ("whole", True)
            and walk.page(f"/api/1/houses/{name}")["stored_today"] > 20
            for name, house in ((house["name"], house) for house in walk.page("/api/1/houses"))
        )

    assert [house["name"] for house in walk.page("/api/1/houses")] == ["h0001", "h0002"]
    assert {house["name"]: house["shard"] for house in walk.page("/api/1/houses")} == {"h0001": "south", "h0002": "all"}
    wait_for(shown, PATIENCE, "twenty readings of each house on the page")
    for name in walk.houses:
        (topic,) = walk.page(f"/api/1/houses/{name}")["topics"]
        assert (topic["name"], topic["unit"], topic["value"]) == ("boiler/water/temperature", "°C", celsius(name))
    walk.at_the_centre(walk.last)
    wait_for(
        lambda: [house["state"] for house in walk.page("/api/1/houses")] == ["out", "whole"],
        PATIENCE,
        "h0001 to be out",
    )


@pytest.mark.slow
@pytest.mark.whole
def test_the_demo_of_the_page(tmp_path: object) -> None:
    (line,) = (block for block in BLOCKS if block.startswith("constellation fleet demo"))
    done = subprocess.run(
        [CONSTELLATION, *line.split()[1:]], cwd=str(tmp_path), capture_output=True, text=True, timeout=600
    )
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
    assert re.search(
        r"5 houses, \d+ readings in their archives, \d+ rounds counted without a hole; node 1", done.stdout
    )
