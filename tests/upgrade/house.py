"""A house whose state folders one version fills and another takes over: readings, a backlog, alerts, a phase, a phone."""

import json
import lzma
import os
import re
import shutil
import signal
import sqlite3
import subprocess
import tarfile
from collections import Counter
from contextlib import closing
from pathlib import Path
from typing import Any

from harness import PROJECT, Broker, House, wait_for

from services.simulators.pushover import PushoverServer
from tests.chaos.device import Device

PATIENCE = 60.0
NUMBERS = "chaos/sequence/number_1_count"
WATER, FLUE, ROOM = "boiler/water/temperature", "boiler/flue/temperature", "hall/room/temperature"
SOURCES, STORES = ("sequence", "dial", "phase"), ("archive", "rrd")
SERVICES = (*STORES, "phase", "alerts", "pushover", "sequence", "dial")

TOPICS = f"""\
timezone: Europe/Paris
sources:
  sequence: {{every: 50ms, stale: 1h, heartbeat: 2s, device: DEVICE}}
  dial: {{every: 500ms, stale: 1h, heartbeat: 2s, file: DIAL}}
subscribers:
  archive: {{commit: 200ms, heartbeat: 2s, raw: 36500d}}
  rrd: {{flush: 1s, finest: 1s, heartbeat: 2s}}
  phase: {{heartbeat: 2s}}
  alerts: {{notify: pushover, gather: 0s, settle: 1s, heartbeat: 2s}}
  pushover: {{api_url: "PHONE", timeout: 2s, every: 100ms, keep: 36500d, heartbeat: 2s}}
topics:
  {NUMBERS}: {{from: sequence}}
  {WATER}: {{from: dial}}
  {FLUE}: {{from: dial}}
  {ROOM}: {{from: dial}}
  boiler/burner/phase: {{from: phase, states: [unknown, off, prepurge, ignition, combustion, burnout, keep_fire]}}
  boiler/burner/cycles: {{from: phase}}
phases:
  boiler: {{thing: boiler/burner, inputs: {{water: {WATER}, flue: {FLUE}}}}}
alerts:
  boiler_hot: {{when: {WATER} > 88, clear: 82, priority: 1, say: "Boiler at {{value}}"}}
  flue_hot: {{when: {FLUE} > 300, clear: 200, say: "Flue at {{value}}"}}
  room_cold: {{group: room, when: {ROOM} < 10, clear: 12, say: "Room at {{value}}"}}
"""
WARM = {WATER: 70.0, FLUE: 180.0, ROOM: 20.0}
HOT = WARM | {WATER: 95.0, ROOM: 5.0}


class Upgraded:
    """Folders, devices and a phone that stay, and services of any version on them."""

    def __init__(self, folder: Path) -> None:
        """Lay it out; nothing runs yet."""
        self.folder = folder
        self.broker = Broker(folder / "broker")
        self.house = House(folder / "house", self.broker.port)
        self.device = Device(folder / "device")
        self.phone = PushoverServer().__enter__()
        credentials, own = folder / "credentials", folder / "services"
        for made in (credentials, own):
            made.mkdir()
        for name, letter in (("pushover.token", "a"), ("pushover.user", "u")):
            (credentials / name).write_text(letter * 30)
            (credentials / name).chmod(0o600)
        shutil.copy(PROJECT / "tests/chaos/sequence.py", own)
        shutil.copy(PROJECT / "tests/upgrade/dial.py", own)
        self.house.environment |= {"CONSTELLATION_CREDENTIALS": str(credentials), "CONSTELLATION_SERVICES": str(own)}
        self.turn(WARM)
        self.house.write(
            TOPICS.replace("DEVICE", str(folder / "device"))
            .replace("DIAL", str(folder / "dial.json"))
            .replace("PHONE", f"{self.phone.url}/1/")
        )

    def close(self) -> None:
        """End all."""
        self.house.close()
        self.broker.stop()
        self.device.shutdown()
        self.device.server_close()
        self.phone.__exit__(None, None, None)

    def turn(self, values: dict[str, float]) -> None:
        """Let the source of dials measure these from now on."""
        beside = self.folder / "dial.new"
        beside.write_text(json.dumps(values))
        beside.replace(self.folder / "dial.json")

    def run(self, code: Path) -> None:
        """Start all services of a version."""
        self.house.code = code
        self.house.environment["PYTHONPATH"] = str(code)
        for name in SERVICES:
            self.house.start(name)

    def end(self, *names: str, number: int = signal.SIGTERM) -> None:
        """End services."""
        for name in names:
            self.house.stop(name, number)

    # -- what is there ------------------------------------------------------------------------------------------

    @property
    def archive(self) -> Path:
        """The database of the archive."""
        return self.house.state("archive") / "archive.sqlite"

    def query(self, text: str, path: Path | None = None) -> list[tuple[Any, ...]]:
        """Rows of the archive, or another database; none while it is not there."""
        path = path or self.archive
        if not path.exists():
            return []
        with closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True, timeout=10)) as database:
            return database.execute(text).fetchall()

    def rows(self) -> list[tuple[Any, ...]]:
        """All readings of the archive: topic, time, value, word."""
        return self.query(
            "SELECT name, time, value, word FROM readings JOIN topics ON topics.id = topic ORDER BY name, time"
        )

    def numbers(self) -> Counter[int]:
        """How often each number is in the archive."""
        found = self.query(f"SELECT value FROM readings JOIN topics ON topics.id = topic WHERE name = '{NUMBERS}'")
        return Counter(int(value) for (value,) in found)

    def waiting(self, name: str) -> int:
        """Readings in the two spools of a source."""
        places = self.house.state(name), self.folder / "house" / "run" / name
        found = [self.query("SELECT count(*) FROM tail", place / "spool.sqlite") for place in places]
        return sum(rows[0][0] for rows in found if rows)

    def taken(self) -> set[int]:
        """Numbers that the source has taken over for good."""
        return set(self.device.taken["sequence"])

    def graph(self) -> dict[int, float]:
        """What the round-robin file of the numbers shows, by second."""
        import rrdtool

        file = self.house.state("rrd") / "rrd" / f"{NUMBERS}.rrd"
        if not file.exists():
            return {}
        (start, _, step), _, rows = rrdtool.fetch(
            str(file), "AVERAGE", "-r", "1", "-s", "end-1h", "-e", str(rrdtool.last(str(file)))
        )
        return {start + step * (n + 1): row[0] for n, row in enumerate(rows) if row[0] is not None}

    def drawing(self) -> tuple[int, dict[str, Any]]:
        """Until when (s) the round-robin file of the numbers is drawn, and what it was made as."""
        import rrdtool

        found = rrdtool.info(str(self.house.state("rrd") / "rrd" / f"{NUMBERS}.rrd"))
        made = {
            name: value
            for name, value in found.items()
            if re.search(r"^step|type|heartbeat|\.(cf|rows|pdp_per_row)$", name)
        }
        return found["last_update"], made

    def told(self) -> list[str]:
        """Titles that the phone has shown."""
        return [message.get("title", "") for message in self.phone.taken]

    def complaints(self) -> list[str]:
        """What services said of damage, or set aside."""
        lines = [line for name in SERVICES for line in self.house.log(name).splitlines() if "damaged" in line]
        return lines + [str(path) for path in (self.folder / "house").rglob("*.damaged*")]

    # -- the life before ----------------------------------------------------------------------------------------

    def live(self, code: Path) -> None:
        """A day of a version: readings are stored, people are told of two alerts; then the broker dies and a backlog grows."""
        self.broker.start()
        self.run(code)
        wait_for(lambda: len(self.numbers()) > 40, PATIENCE, "numbers in the archive")
        self.turn(HOT)
        wait_for(lambda: len(self.told()) >= 2, PATIENCE, "two alerts on the phone")
        wait_for(lambda: len(self.graph()) > 2, PATIENCE, "a picture")
        self.broker.kill()
        wait_for(lambda: self.waiting("sequence") > 100, PATIENCE, "a backlog")
        self.turn(HOT | {WATER: 71.0})
        before = self.waiting("dial")
        wait_for(lambda: self.waiting("dial") > before + 6, PATIENCE, "the end of an alert in the backlog")


def checkout(commit: str, folder: Path) -> Path:
    """Code of a commit, in a folder."""
    archive = subprocess.run(["git", "-C", PROJECT, "archive", commit], check=True, capture_output=True).stdout
    folder.mkdir()
    subprocess.run(["tar", "-x", "-C", folder], input=archive, check=True)
    return folder


def keep(upgraded: Upgraded, file: Path) -> None:
    """Pack what a version left: state and runtime folders, and what must be found again."""
    known = {"taken": sorted(upgraded.taken()), "rows": upgraded.rows(), "told": upgraded.told()}
    (upgraded.folder / "house" / "known.json").write_text(json.dumps(known))
    for database in (upgraded.folder / "house").rglob("*.sqlite"):
        with closing(sqlite3.connect(database)) as opened:
            opened.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    with tarfile.open(file, "w:xz") as packed:
        for name in ("state", "run", "known.json"):
            packed.add(upgraded.folder / "house" / name, name)


def unpack(file: Path, upgraded: Upgraded) -> dict[str, Any]:
    """Put a kept state where a house looks for it; returns what must be found again."""
    content = lzma.decompress(file.read_bytes())
    subprocess.run(["tar", "-x", "--no-same-owner", "-C", upgraded.folder / "house"], input=content, check=True)
    for path in (upgraded.folder / "house").rglob("*"):
        os.utime(path)
    return dict(json.loads((upgraded.folder / "house" / "known.json").read_text()))
