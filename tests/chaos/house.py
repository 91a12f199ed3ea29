"""A house of real processes, and everything that happens to it."""

import json
import os
import random
import shutil
import signal
import socket
import sqlite3
import subprocess
import sys
import time
import urllib.request
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from tests.chaos.device import Device
from tests.chaos.network import FAULTS, HERE, Cable, Disk
from tests.chaos.picture import wrong_rows

PROJECT: Final = Path(__file__).resolve().parent.parent.parent
SOURCES: Final = ("sequence_a", "sequence_b")
STORES: Final = ("archive", "influx", "rrd")

TOGETHER: Final = 0.25
"""How often archive and broker go at once: then only the sources still have what was not committed."""

DISKS: Final = {"archive": 256, "sequence_b": 32}
"""Whose state folders are small disks that get full, in megabytes."""

JUMPS: Final = {"sequence_a": (-7200, 0), "archive": (3600, -30, 0)}
"""Whose clocks jump, in seconds. A source's never to a time that it has been at: topic and time identify a reading."""


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

    @property
    def alive(self) -> bool:
        """Whether it runs now."""
        return self.process is not None and self.process.poll() is None

    def look_after(self, now: float) -> None:
        """Start it when it is due; one that ended by itself waits as long as systemd would let it."""
        if self.process is not None and self.process.poll() is not None and not self.start_at:
            self.start_at = now + 1.0
        if not self.alive and now >= self.start_at:
            with self.log.open("ab") as log:
                self.process = subprocess.Popen(self.command, env=self.environment, stdout=log, stderr=log, cwd=PROJECT)
            self.start_at = 0.0

    def send(self, number: int) -> None:
        """Send a signal, if it runs."""
        if self.alive:
            self.process.send_signal(number)


class House:
    """One run."""

    COMMIT = "200ms"

    def __init__(
        self, folder: Path, seed: int, mutant: str = "none", *, namespaces: bool = False, device: Path | None = None
    ) -> None:
        """Lay out a house in a folder; `namespaces`: in a network and mounts of our own, to cut and to fill."""
        self.folder, self.random, self.mutant = folder, random.Random(seed), mutant
        self.done: Counter[str] = Counter()
        self._socket = device or folder / "device"
        self.device = Device(self._socket)
        self.cable = Cable() if namespaces else None
        self.disks = {name: Disk(folder / "state" / name, size) for name, size in DISKS.items()} if namespaces else {}
        self._offsets = dict.fromkeys(JUMPS, 0)
        self._undo: list[tuple[float, Callable[[], None]]] = []
        self._host = HERE if namespaces else "127.0.0.1"
        if namespaces:
            subprocess.run(["ip", "link", "set", "lo", "up"], check=True)
        self.broker_port, self.store_port = free_port(), free_port()
        own = folder / "services"
        own.mkdir()
        shutil.copy(PROJECT / "tests/chaos/sequence.py", own)
        self.config = folder / "topics.yaml"
        self.config.write_text(self._topics())
        (folder / "mosquitto.conf").write_text(
            f"listener {self.broker_port} {self._host}\nallow_anonymous true\nmax_inflight_messages 2000\nmax_queued_messages 500000\n"
            f"persistence true\npersistence_location {folder}/\nautosave_interval 20\nuser root\n"
        )
        self.victims = {victim.name: victim for victim in self._victims()}

    def _topics(self) -> str:
        lines = [f"broker: {{host: {self._host}, port: {self.broker_port}}}", "sources:"]
        lines += [
            f"  {name}: {{service: sequence, every: 50ms, stale: 1h, heartbeat: 2s, device: {self._socket}}}"
            for name in SOURCES
        ]
        lines += [
            "subscribers:",
            f"  archive: {{commit: {self.COMMIT}, heartbeat: 2s}}",
            f"  influx: {{url: 'http://127.0.0.1:{self.store_port}', flush: 3s, heartbeat: 2s}}",
            "  rrd: {flush: 5s, finest: 1s, heartbeat: 2s}",
            "topics:",
        ]
        lines += [f"  chaos/{name}/number_{n}_count: {{from: {name}}}" for name in SOURCES for n in range(1, 5)]
        return "\n".join(lines) + "\n"

    def _victims(self) -> Iterator[Victim]:
        environment = os.environ | {
            "CONSTELLATION_SERVICES": str(self.folder / "services"),
            "CONSTELLATION_CLOCK_PATIENCE": "0",
        }
        yield Victim(
            "broker", ["mosquitto", "-c", f"{self.folder}/mosquitto.conf"], environment, self.folder / "broker.log"
        )
        store = (
            f"-storageDataPath={self.folder}/victoria -httpListenAddr=127.0.0.1:{self.store_port} -retentionPeriod=10y"
            " -dedup.minScrapeInterval=1ms -search.latencyOffset=0s"
        )
        yield Victim("victoria", ["victoria-metrics", *store.split()], environment, self.folder / "victoria.log")
        for name in (*STORES, *SOURCES):
            own = {"STATE_DIRECTORY": f"{self.folder}/state/{name}", "RUNTIME_DIRECTORY": f"{self.folder}/run/{name}"}
            if name in JUMPS:
                self._set_clock(name)
                own["CHAOS_CLOCK"] = str(self.folder / f"{name}.clock")
            across = self.cable.command if self.cable and name in SOURCES else []
            command = [
                sys.executable,
                "-m",
                "tests.chaos.mutants",
                self.mutant,
                "--config",
                str(self.config),
                "run",
                name,
            ]
            yield Victim(name, [*across, *command], environment | own, self.folder / f"{name}.log")

    # -- what happens -------------------------------------------------------------------------------------------

    def run(self, kills: int) -> None:
        """Let it run for a moment, break it that many times."""
        self.live(4.0)
        while self.done["kill -9"] < kills:
            deeds = [(self._kill, 70), (self._kill_together, 25)]
            deeds += [(self._spoil_cable, 8)] if self.cable else []
            deeds += [(self._fill_disk, 4)] if self.disks else []
            deeds += [(self._jump, 4)]
            self.random.choices([deed for deed, _ in deeds], [weight for _, weight in deeds])[0]()
            self.live(self.random.uniform(0.05, 0.9))
            if sys.stderr.isatty():
                print(f"\r{self.done['kill -9']} of {kills} kills", end="", file=sys.stderr)

    def _did(self, deed: str, what: str) -> None:
        self.done[deed] += 1
        self.done[f"{deed} {what}"] += 1

    def _later(self, seconds: float, undo: Callable[[], None]) -> None:
        self._undo.append((time.monotonic() + seconds, undo))

    def _kill_together(self) -> None:
        self._kill("archive", "broker")

    def _kill(self, *names: str) -> None:
        chosen = self.random.choices((1, 2, 3), (6, 3, 1))[0]
        for name in names or self.random.sample(sorted(self.victims), chosen):
            victim = self.victims[name]
            deed = self.random.choices(("kill -9", "restart", "stop"), (8, 1, 1))[0]
            short, long = self.random.uniform(0.1, 1.0), self.random.uniform(3, 12)
            away = self.random.choices((0.001, short, long), (50, 42, 8))[0]
            if not victim.alive:
                continue
            self._did(deed, name)
            if deed == "stop":
                victim.send(signal.SIGSTOP)
                self._later(2 * short, lambda victim=victim: victim.send(signal.SIGCONT))
                continue
            if away == long:
                self._did("away", name)
            victim.start_at = time.monotonic() + away
            victim.send(signal.SIGKILL if deed == "kill -9" else signal.SIGTERM)

    def _spoil_cable(self) -> None:
        fault = self.random.choice(sorted(FAULTS))
        self._did("cable", fault)
        self.cable.spoil(fault)
        self._later(self.random.uniform(0.5, 6.0), self.cable.heal)

    def _fill_disk(self) -> None:
        name = self.random.choice(sorted(self.disks))
        self._did("disk full", name)
        self.disks[name].fill()
        self._later(self.random.uniform(0.5, 6.0), self.disks[name].empty)

    def _jump(self) -> None:
        name = self.random.choice(sorted(JUMPS))
        self._did("clock", name)
        self._offsets[name] = self.random.choice([jump for jump in JUMPS[name] if jump != self._offsets[name]])
        self._set_clock(name)

    def _set_clock(self, name: str) -> None:
        file = self.folder / f"{name}.clock"
        beside = file.with_suffix(".new")
        beside.write_text(f"{self._offsets[name]:+d}\n")
        beside.replace(file)

    def live(self, seconds: float) -> None:
        """Let time pass: what ended is started, what was spoiled for a while is healed."""
        until = time.monotonic() + seconds
        while (now := time.monotonic()) < until:
            self._mend(now)
            for victim in self.victims.values():
                victim.look_after(now)
            time.sleep(0.02)

    def _mend(self, now: float) -> None:
        due = [entry for entry in self._undo if now >= entry[0]]
        self._undo = [entry for entry in self._undo if now < entry[0]]
        for _, undo in due:
            undo()

    def rest(self, patience: float) -> None:
        """Mend everything, end the sequence, and let all stores fill up until they have it or patience (seconds) is over."""
        self._mend(float("inf"))
        for victim in self.victims.values():
            victim.start_at = min(victim.start_at, time.monotonic() + 0.1)
        self.live(5.0)
        for name in SOURCES:
            victim = self.victims[name]
            victim.start_at = float("inf")
            victim.send(signal.SIGTERM)
            victim.process.wait(20)
        self.device.shutdown()
        self.device.server_close()
        for name in SOURCES:  # they run on only to send what waits: the device gives no more
            self.victims[name].start_at = 0.001
        deadline = time.monotonic() + patience
        while time.monotonic() < deadline and self._lacking():
            self.live(1.0)
        self.live(3.0)

    def _lacking(self) -> bool:
        missing = self.missing(self.archived()) or self.missing(self.stored())
        return bool(missing) or not self.archive.exists() or sum(self.pictured()) > 0

    def stop(self) -> None:
        """End everything."""
        for victim in self.victims.values():
            victim.start_at = float("inf")
            victim.send(signal.SIGCONT)
            victim.send(signal.SIGTERM)
        for victim in self.victims.values():
            if victim.process:
                try:
                    victim.process.wait(15)
                except subprocess.TimeoutExpired:
                    victim.process.kill()
                    victim.process.wait()
        if self.cable:
            self.cable.close()
        for disk in self.disks.values():
            disk.empty()

    # -- what came through --------------------------------------------------------------------------------------

    @property
    def archive(self) -> Path:
        """The archive's database."""
        return self.folder / "state/archive/archive.sqlite"

    def archived(self) -> dict[str, Counter[int]]:
        """Numbers in the archive, by source, with how often each is there."""
        found: dict[str, Counter[int]] = {name: Counter() for name in SOURCES}
        if not self.archive.exists():  # cut off before it was made, and not made again yet
            return found
        with closing(sqlite3.connect(self.archive, timeout=10)) as database:
            for name, value in database.execute(
                "SELECT name, value FROM readings JOIN topics ON topics.id = readings.topic"
            ):
                found[name.split("/")[1]][int(value)] += 1
        return found

    def stored(self) -> dict[str, Counter[int]]:
        """Numbers in the time-series database."""
        found: dict[str, Counter[int]] = {name: Counter() for name in SOURCES}
        for name in SOURCES:
            query = f"http://127.0.0.1:{self.store_port}/api/v1/export?match[]=%7Bthing%3D%22{name}%22%7D"
            try:
                with urllib.request.urlopen(query, timeout=30) as answer:
                    for line in answer:
                        found[name].update(int(value) for value in json.loads(line)["values"])
            except OSError:
                return found
        return found

    def pictured(self) -> Counter[bool]:
        """Seconds of the round-robin files of the source whose clock never jumps: how many are wrong, and how many right."""
        return wrong_rows(self.folder / "state/rrd/rrd", self.archive, "chaos/sequence_b/%")

    def missing(self, found: dict[str, Counter[int]]) -> int:
        """How many numbers were taken and not found."""
        return sum(len(self.device.taken[name].keys() - found[name]) for name in SOURCES)

    def judge(self) -> bool:
        """Print what was done and found; True if nothing was lost and nothing doubled."""
        good = True
        for deed, count in sorted(self.done.items()):
            print(f"  {deed:24} {count:6}")
        taken = sum(len(numbers) for numbers in self.device.taken.values())
        print(f"  {'taken':24} {taken:6}   (given {sum(self.device.given.values())})")
        for store, found in (("archive", self.archived()), ("time series", self.stored())):
            missing = self.missing(found)
            double = sum(count - 1 for numbers in found.values() for count in numbers.values())
            invented = sum(len(set(found[name]) - set(range(1, self.device.given[name] + 1))) for name in SOURCES)
            print(
                f"  {store:24} {sum(map(len, found.values())):6}   missing {missing}, double {double}, invented {invented}"
            )
            if missing:
                lost = [f"{name} {n}" for name in SOURCES for n in sorted(self.device.taken[name].keys() - found[name])]
                print(f"  {'':24} {', '.join(lost[:20])}{' …' if len(lost) > 20 else ''}")
            good = good and missing == double == invented == 0
        rows = self.pictured()
        print(f"  {'round-robin seconds':24} {rows.total():6}   wrong {rows[True]}")
        return good and taken > 0 and rows[False] > 0 and rows[True] == 0
