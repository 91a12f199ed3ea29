"""Kill, stop and restart everything at random while a known sequence is measured; then count.

    python -m tests.chaos [--kills 200] [--seed 1] [--mutant NAME]

Real processes, a real broker that forgets all when it is killed, real databases. At the end every number that was taken must
be in the archive and in the time-series database exactly once. The seed repeats the plan of a failure (not its timing).
"""

import argparse
import json
import os
import random
import shutil
import signal
import socket
import sqlite3
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from tests.chaos.device import Device

PROJECT = Path(__file__).resolve().parent.parent.parent
SOURCES = ("sequence_a", "sequence_b")
PATIENCE = 120.0

TOGETHER = 0.3
"""How often archive and broker go at once: then only the sources still have what was not committed."""


def free_port() -> int:
    """A port of loopback."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


@dataclass
class Victim:
    """A process that is started again whenever it has ended."""

    name: str
    command: list[str]
    environment: dict[str, str]
    log: Path
    process: subprocess.Popen[bytes] | None = None
    start_at: float = 0.0
    stopped_until: float = 0.0

    def look_after(self, now: float) -> None:
        """Start it when it is due; let it go on when it was stopped for long enough."""
        if self.process is None or self.process.poll() is not None:
            if now >= self.start_at:
                with self.log.open("ab") as log:
                    self.process = subprocess.Popen(self.command, env=self.environment, stdout=log, stderr=log, cwd=PROJECT)
        elif self.stopped_until and now >= self.stopped_until:
            self.stopped_until = 0.0
            self.process.send_signal(signal.SIGCONT)


class Chaos:
    """One run."""

    def __init__(self, folder: Path, seed: int, mutant: str) -> None:
        """Lay out a house in a folder."""
        self.folder, self.random, self.mutant = folder, random.Random(seed), mutant
        self.done: Counter[str] = Counter()
        self.device = Device(folder / "device")
        self.broker_port, self.store_port = free_port(), free_port()
        own = folder / "services"
        own.mkdir()
        shutil.copy(PROJECT / "tests/chaos/sequence.py", own)
        self.config = folder / "topics.yaml"
        self.config.write_text(self._house())
        (folder / "mosquitto.conf").write_text(
            f"listener {self.broker_port} 127.0.0.1\nallow_anonymous true\nmax_inflight_messages 2000\nmax_queued_messages 500000\n"
            f"persistence true\npersistence_location {folder}/\nuser root\n"
        )
        self.victims = {victim.name: victim for victim in self._victims()}

    def _house(self) -> str:
        lines = [f"broker: {{port: {self.broker_port}}}", "sources:"]
        lines += [f"  {name}: {{service: sequence, every: 50ms, stale: 1h, heartbeat: 2s, device: {self.folder}/device}}" for name in SOURCES]
        lines += [
            "subscribers:",
            "  archive: {commit: 200ms, heartbeat: 2s}",
            f"  influx: {{url: 'http://127.0.0.1:{self.store_port}', heartbeat: 2s}}",
            "topics:",
        ]
        lines += [f"  chaos/{name}/number_{n}_count: {{from: {name}}}" for name in SOURCES for n in range(1, 5)]
        return "\n".join(lines) + "\n"

    def _victims(self) -> Iterator[Victim]:
        environment = os.environ | {"CONSTELLATION_SERVICES": str(self.folder / "services"), "CONSTELLATION_CLOCK_PATIENCE": "0"}
        yield Victim("broker", ["mosquitto", "-c", f"{self.folder}/mosquitto.conf"], environment, self.folder / "broker.log")
        store = f"-storageDataPath={self.folder}/victoria -httpListenAddr=127.0.0.1:{self.store_port} -dedup.minScrapeInterval=1ms -retentionPeriod=10y"
        yield Victim("victoria", ["victoria-metrics", *store.split()], environment, self.folder / "victoria.log")
        for name in ("archive", "influx", *SOURCES):
            folders = {"STATE_DIRECTORY": f"{self.folder}/state/{name}", "RUNTIME_DIRECTORY": f"{self.folder}/run/{name}"}
            command = [sys.executable, "-m", "tests.chaos.mutants", self.mutant, "--config", str(self.config), "run", name]
            yield Victim(name, command, environment | folders, self.folder / f"{name}.log")

    def run(self, kills: int) -> None:
        """Let it run for a moment, break it that many times, let it come to rest."""
        self._live(3.0)
        while self.done["kill -9"] < kills:
            self._break()
            self._live(self.random.uniform(0.05, 0.9))
            if sys.stderr.isatty():
                print(f"\r{self.done['kill -9']} of {kills} kills, {sum(self.device.given.values())} readings", end="", file=sys.stderr)

    def _break(self) -> None:
        names = self.random.sample(sorted(self.victims), self.random.choices((1, 2, 3), (6, 3, 1))[0])
        if self.random.random() < TOGETHER:
            names = ["archive", "broker"]
        for name in names:
            victim = self.victims[name]
            if victim.process is None or victim.process.poll() is not None:
                continue
            deed = self.random.choices(("kill -9", "restart", "stop"), (8, 1, 1))[0]
            away = self.random.choices((0.0, self.random.uniform(0.1, 1.0), self.random.uniform(3, 8)), (5, 4, 1))[0]
            self.done[deed] += 1
            self.done[f"{deed} {name}"] += 1
            if deed == "stop":
                victim.process.send_signal(signal.SIGSTOP)
                victim.stopped_until = time.monotonic() + self.random.uniform(0.2, 2.0)
            else:
                victim.start_at = time.monotonic() + away
                victim.process.send_signal(signal.SIGKILL if deed == "kill -9" else signal.SIGTERM)

    def _live(self, seconds: float) -> None:
        until = time.monotonic() + seconds
        while (now := time.monotonic()) < until:
            for victim in self.victims.values():
                victim.look_after(now)
            time.sleep(0.02)

    def rest(self) -> None:
        """Let everything run until all stores have filled up, or patience is over."""
        self._live(5.0)
        for name in SOURCES:
            victim = self.victims[name]
            victim.start_at = float("inf")
            if victim.process and victim.process.poll() is None:
                victim.process.send_signal(signal.SIGCONT)
                victim.process.terminate()
                victim.process.wait(20)
        for name in SOURCES:  # they run on only to send what waits: the device gives no more
            self.victims[name].start_at = 0.0
        self.device.shutdown()
        self.device.server_close()
        deadline = time.monotonic() + PATIENCE
        while time.monotonic() < deadline and not (self._missing(self.archived()) == 0 == self._missing(self.stored())):
            self._live(1.0)

    def stop(self) -> None:
        """End everything."""
        for victim in reversed(self.victims.values()):
            victim.start_at = float("inf")
            if victim.process and victim.process.poll() is None:
                victim.process.send_signal(signal.SIGCONT)
                victim.process.terminate()
        for victim in self.victims.values():
            if victim.process:
                try:
                    victim.process.wait(15)
                except subprocess.TimeoutExpired:
                    victim.process.kill()
                    victim.process.wait()

    def archived(self) -> dict[str, Counter[int]]:
        """Numbers in the archive, by source, with how often each is there."""
        found: dict[str, Counter[int]] = {name: Counter() for name in SOURCES}
        with sqlite3.connect(self.folder / "state/archive/archive.sqlite") as database:
            query = "SELECT name, value FROM readings JOIN topics ON topics.id = readings.topic"
            for name, value in database.execute(query):
                found[name.split("/")[1]][int(value)] += 1
        return found

    def stored(self) -> dict[str, Counter[int]]:
        """Numbers in the time-series database."""
        found: dict[str, Counter[int]] = {name: Counter() for name in SOURCES}
        for name in SOURCES:
            query = "match[]=%7Bthing%3D%22" + name + "%22%7D"
            try:
                with urllib.request.urlopen(f"http://127.0.0.1:{self.store_port}/api/v1/export?{query}", timeout=30) as answer:
                    for line in answer:
                        found[name].update(int(value) for value in json.loads(line)["values"])
            except OSError:
                return found
        return found

    def _missing(self, found: dict[str, Counter[int]]) -> int:
        return sum(len(self.device.taken[name] - set(found[name])) for name in SOURCES)

    def judge(self) -> bool:
        """Print what was done and found; True if nothing was lost and nothing doubled."""
        good = True
        for deed, count in sorted(self.done.items()):
            print(f"  {deed:24} {count:6}")
        taken = sum(len(numbers) for numbers in self.device.taken.values())
        print(f"  {'taken':24} {taken:6}   (given {sum(self.device.given.values())})")
        for store, found in (("archive", self.archived()), ("time series", self.stored())):
            missing = self._missing(found)
            double = sum(count - 1 for numbers in found.values() for count in numbers.values())
            invented = sum(len(set(found[name]) - set(range(1, self.device.given[name] + 1))) for name in SOURCES)
            print(f"  {store:24} {sum(map(len, found.values())):6}   missing {missing}, double {double}, invented {invented}")
            good = good and missing == double == invented == 0
        return good and taken > 0


def main() -> int:
    """Run, judge, say how to repeat it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=200)
    parser.add_argument("--seed", type=int, default=random.randrange(10**6))
    parser.add_argument("--mutant", default="none", help="run our own code with one promise broken (tests/chaos/mutants.py)")
    parser.add_argument("--keep", action="store_true", help="leave the folder there")
    arguments = parser.parse_args()
    os.environ["PATH"] += ":/usr/sbin"
    folder = Path(tempfile.mkdtemp(prefix="chaos-"))
    print(f"chaos: {arguments.kills} kills, seed {arguments.seed}, mutant {arguments.mutant}, in {folder}", flush=True)
    began = time.monotonic()
    chaos = Chaos(folder, arguments.seed, arguments.mutant)
    try:
        chaos.run(arguments.kills)
        chaos.rest()
        good = chaos.judge()
    finally:
        chaos.stop()
    print(f"{'nothing lost, nothing double' if good else 'LOST OR DOUBLE'} after {time.monotonic() - began:.0f} s")
    if good and not arguments.keep:
        shutil.rmtree(folder)
    else:
        print(f"logs and databases: {folder}; repeat with --seed {arguments.seed}")
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
