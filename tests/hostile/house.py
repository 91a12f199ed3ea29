"""A house of real services behind the shipped configuration of the broker, and what is to be true of it at the end."""

import os
import re
import shutil
import sqlite3
import subprocess
import sys
import time
from collections import Counter
from contextlib import closing, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from bootstrap_lib import Registry, broker
from bootstrap_lib.needs import needs_of
from services.simulators.onewire import Tree
from services.simulators.pushover import PushoverServer
from tests.chaos.device import Device
from tests.chaos.house import free_port
from tests.hostile.attack import Attacker
from tests.hostile.words import Words

PROJECT: Final = Path(__file__).resolve().parent.parent.parent
SENSORS: Final = [f"28-0316a4f1c9{number:02x}" for number in range(10)]
"""Each gets too hot once: an alert for each."""
LIMIT: Final = 192
"""Megabytes of MemoryMax in systemd/constellation@.service; a service may say another in its NEEDS."""
TOPICS: Final = """
root: home
broker: {{host: localhost, port: {port}, ca: {ca}, password: "secret:mqtt.{{instance}}"}}
sources:
  sequence: {{every: 50ms, stale: 1h, heartbeat: 1s, device: {folder}/device}}
  onewire: {{every: 500ms, stale: 10m, heartbeat: 1s, bus: {folder}/w1}}
  adc: {{every: 1s, heartbeat: 1s, bus: "sim:{folder}/adc.json"}}
  bikes: {{service: http, every: 1s, heartbeat: 1s, url: "http://127.0.0.1:9/"}}
  wmbus: {{device: {folder}/nothing, every: 16s, stale: 5m, heartbeat: 1s}}
  host: {{every: 1s, heartbeat: 1s}}
subscribers:
  archive: {{heartbeat: 1s}}
  rrd: {{heartbeat: 1s, flush: 5s}}
  influx: {{url: "http://127.0.0.1:9", heartbeat: 1s}}
  phase: {{stale: 15m, heartbeat: 1s}}
  alerts: {{notify: [pushover], heartbeat: 1s, settle: 1s, gather: 300ms, every: 200ms}}
  pushover: {{api_url: "{phone}/1/", timeout: 5s, every: 100ms, heartbeat: 1s}}
  web: {{port: {page}, heartbeat: 1s}}
topics:
  chaos/sequence/number_{{1..2}}_count: {{from: sequence}}
{rooms}
  boiler/water/temperature: {{from: onewire, id: 28-0316a4f1d2aa}}
  boiler/igniter/current: {{from: adc, input: A0-A3, gain: 2, amperes_per_volt: 30}}
  street/bikes/stands_count: {{from: bikes, path: "stands"}}
  house/machine/load_duty: {{from: bikes, path: "load"}}
  boiler/burner/phase: {{from: phase, states: [unknown, off, prepurge, ignition, combustion, burnout, keep_fire]}}
phases: {{boiler: {{thing: boiler/burner, inputs: {{water: boiler/water/temperature}}}}}}
alerts:
{alerts}
"""


@dataclass
class Service:
    """One process, and the most memory that it ever had."""

    name: str
    process: subprocess.Popen[bytes]
    log: Path
    most: float
    """Megabytes that its unit allows."""
    peak: float = 0.0

    def measure(self) -> None:
        """Look how much it has taken."""
        with suppress(OSError):
            found = re.search(r"VmHWM:\s+(\d+) kB", Path(f"/proc/{self.process.pid}/status").read_text())
            self.peak = max(self.peak, int(found[1]) / 1000) if found else self.peak


class House:
    """One run."""

    def __init__(self, folder: Path, seed: int) -> None:
        """Lay it out; nothing is started."""
        self.folder, self.seed = folder, seed
        self.device = Device(folder / "device")
        self.phone = PushoverServer()
        self.tree = Tree(folder / "w1")
        for sensor in (*SENSORS, "28-0316a4f1d2aa"):
            self.tree.set(sensor, 20.0)
        own = folder / "services"
        own.mkdir()
        shutil.copy(PROJECT / "tests/chaos/sequence.py", own)
        os.environ["CONSTELLATION_SERVICES"] = str(own)
        self.port = free_port()
        self.config = folder / "etc/topics.yaml"
        self.config.parent.mkdir()
        text = {
            "port": self.port, "folder": folder, "phone": self.phone.url, "page": free_port(), "rooms": "\n".join(f"  guarded/room_{n}/temperature: {{from: onewire, id: {one}}}" for n, one in enumerate(SENSORS)),
            "ca": folder / "broker/etc/constellation/ca.crt",
            "alerts": "".join(f"  hot_{n}: {{when: guarded/room_{n}/temperature > 80, clear: 70, for: 500ms, say: 'room {n} burns'}}\n" for n in range(10)),
        }  # fmt: skip
        self.config.write_text(TOPICS.format(**text))
        self.registry = Registry(self.config)
        self.broker = broker.prepare_broker(folder / "broker", self.registry, self.port)
        os.environ["CONSTELLATION_CREDENTIALS"] = str(self.broker.credentials)
        for name, secret in (("pushover.token", "a" * 30), ("pushover.user", "u" * 30)):
            (self.broker.credentials / name).write_text(secret)
            (self.broker.credentials / name).chmod(0o600)
        self.services: list[Service] = []
        self.attackers: list[Attacker] = []
        self.hot: list[int] = []
        """Rooms that got too hot, in their order."""

    def start(self) -> None:
        """Start broker and services, and wait until readings are stored."""
        self._broker = subprocess.Popen(["mosquitto", "-c", self.broker.config], stderr=subprocess.DEVNULL)
        self.device_taken = self.device.taken["sequence"]
        self.phone.__enter__()
        self.tree.__enter__()
        time.sleep(1)
        for name, instance in self.registry.instances.items():
            log = self.folder / f"{name}.log"
            environment = os.environ | {
                "STATE_DIRECTORY": str(self.folder / "state" / name), "RUNTIME_DIRECTORY": str(self.folder / "run" / name),
                "CONSTELLATION_CLOCK_PATIENCE": "0", "PYTHONUNBUFFERED": "1",
            }  # fmt: skip
            line = [sys.executable, "-m", "bootstrap_lib.cli", "--config", str(self.config), "run", name]
            with log.open("wb") as output:
                process = subprocess.Popen(line, env=environment, stdout=output, stderr=output, cwd=PROJECT)
            said = " ".join(needs_of(instance.service).unit)
            own = re.search(r"MemoryMax=(\d+)M", said)
            self.services.append(Service(name, process, log, float(own[1]) if own else LIMIT))
        deadline = time.monotonic() + 90
        while not self._stored("SELECT count(*) FROM readings"):
            if time.monotonic() > deadline:
                raise RuntimeError(f"nothing is stored: {self.logs()}")
            time.sleep(0.2)

    def attack(self, rate: float) -> None:
        """Begin it: `rate` messages a second of all users together."""
        names = list(self.registry.instances)
        users = list(broker.users(self.registry))
        free = [topic for topic in self.registry.topics if not topic.startswith(("chaos/", "guarded/"))]
        verbs = sorted(set(_verbs()))
        for user in users:
            password = (self.broker.credentials / f"mqtt.{user}").read_text().strip()
            words = Words(f"{self.seed} {user}", names, list(self.registry.topics), free, verbs)
            ca = str(self.broker.settings["ca"])
            self.attackers.append(Attacker(user, password, self.port, ca, words=words, rate=rate / len(users)))
        for attacker in self.attackers:
            attacker.start()

    def heat(self) -> None:
        """Make the next room too hot."""
        if len(self.hot) < len(SENSORS):
            self.tree.set(SENSORS[len(self.hot)], 95.0)
            self.hot.append(len(self.hot))

    def told(self) -> set[int]:
        """Rooms of which the phone was told."""
        return {int(found) for message in self.phone.taken for found in re.findall(r"room (\d) burns", str(message))}

    def look(self) -> list[str]:
        """Sentences on what is wrong by now."""
        for service in self.services:
            service.measure()
        return [
            f"{service.name} ended with {service.process.returncode}: {service.log.read_text()[-1500:]}"
            for service in self.services
            if service.process.poll() is not None
        ]

    def end_attack(self) -> Counter[str]:
        """Have the attackers end; returns what they did."""
        done: Counter[str] = Counter()
        for attacker in self.attackers:
            attacker.end()
        for attacker in self.attackers:
            attacker.join(20)
            done += attacker.done
        return done

    def judge(self, patience: float) -> list[str]:
        """Sentences on what is wrong at the end."""
        wrong = self.look()
        newest = max(list(self.device_taken), default=0)
        deadline = time.monotonic() + patience
        while time.monotonic() < deadline and (self._stored("SELECT max(value) FROM readings r JOIN topics t ON t.id = r.topic WHERE t.name LIKE 'chaos/%'") < newest
                                               or self.told() != set(self.hot)):  # fmt: skip
            time.sleep(0.2)
        taken = {number for number in list(self.device_taken) if number <= newest}
        query = "SELECT value FROM readings r JOIN topics t ON t.id = r.topic WHERE t.name LIKE 'chaos/sequence/%'"
        found = Counter(int(value) for (value,) in self._ask(query))
        if lost := sorted(taken - found.keys()):
            wrong.append(f"{len(lost)} of {len(taken)} readings are lost, the first is {lost[0]}")
        if double := [number for number, count in found.items() if count > 1]:
            wrong.append(f"{len(double)} readings are there twice")
        if invented := [
            number
            for number in found
            if number not in self.device.taken["sequence"] and number > self.device.given["sequence"]
        ]:
            wrong.append(f"{len(invented)} readings were invented: {invented[:5]}")
        if silent := sorted(set(self.hot) - self.told()):
            wrong.append(f"nobody was told of the rooms {silent}")
        for service in self.services:
            text = service.log.read_text(errors="replace")
            if "Traceback" in text:
                wrong.append(f"{service.name} has a traceback: {text[text.index('Traceback') :][:3000]}")
            if service.peak > service.most:
                wrong.append(f"{service.name} took {service.peak:.0f} MB, its unit allows {service.most:.0f}")
            if starts := text.count(": started") - 1:
                wrong.append(f"{service.name} started {starts} times more")
            if "\x1b" in text:
                wrong.append(f"{service.name} wrote control characters into its log")
        return wrong

    def report(self) -> list[str]:
        """Lines with the memory of each."""
        return [
            f"  {one.name:10} {one.peak:6.1f} MB of {one.most:.0f}, log {one.log.stat().st_size // 1000} kB"
            for one in self.services
        ]

    def logs(self) -> str:
        """Ends of all logs."""
        return "\n".join(f"{one.name}: {one.log.read_text(errors='replace')[-400:]}" for one in self.services)

    def stop(self) -> None:
        """End everything that runs."""
        for attacker in self.attackers:
            attacker.end()
        for service in self.services:
            if service.process.poll() is None:
                service.process.terminate()
        for service in self.services:
            try:
                service.process.wait(20)
            except subprocess.TimeoutExpired:
                service.process.kill()
                service.process.wait()
        self._broker.terminate()
        try:
            self._broker.wait(60)
        except subprocess.TimeoutExpired:
            self._broker.kill()
            self._broker.wait()
        self.device.shutdown()
        self.device.server_close()
        self.phone.__exit__(None, None, None)
        self.tree.__exit__(None, None, None)

    def _stored(self, query: str) -> int:
        rows = self._ask(query)
        return int(rows[0][0] or 0) if rows else 0

    def _ask(self, query: str) -> list[tuple[float]]:
        path = self.folder / "state/archive/archive.sqlite"
        with suppress(sqlite3.Error), closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True, timeout=5)) as database:
            return database.execute(query).fetchall()
        return []


def _verbs() -> list[str]:
    """All verbs that anything in the product understands."""
    files = [*(PROJECT / "services").rglob("*.py"), *(PROJECT / "bootstrap_lib").rglob("*.py")]
    return [verb for file in files for verb in re.findall(r"def request_(\w+)\(", file.read_text()) if verb != "owners"]
