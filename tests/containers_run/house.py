"""The house of compose.yaml as containers, and an ear on its broker."""

import json
import os
import shutil
import sqlite3
import subprocess
import threading
import time
from datetime import datetime
from pathlib import Path
from typing import Any, Final

from tests.containers_run.image import SHIPPED

PATIENCE: Final = 180.0
TOPIC: Final = "home/data/house/pi/memory_usage"
HOUSE: Final = """\
timezone: Europe/Paris
broker: {ca: /etc/constellation/ca.crt, password: "secret:mqtt.{instance}"}
sources: {host: {every: 500ms, stale: 1m, heartbeat: 2s}}
subscribers:
  archive: {commit: 200ms, heartbeat: 2s}
  rrd: {heartbeat: 2s}
  alerts: {heartbeat: 2s}
  web: {heartbeat: 2s}
topics: {house/pi/memory_usage: {from: host}}
"""


class ContainersEar:
    """All that the house's broker carries, heard as its operator; begins again when the broker does."""

    def __init__(self, house: "ContainerHouse") -> None:
        """Listen until `close`."""
        self._house, self.heard = house, []  # type: ignore[var-annotated]
        self._closed, self._process = False, None  # type: ignore[var-annotated]
        self._thread = threading.Thread(target=self._listen, daemon=True)
        self._thread.start()

    def _listen(self) -> None:
        house = self._house
        while not self._closed:
            if not house.password.exists():
                time.sleep(0.05)
                continue
            command = [
                "mosquitto_sub",
                "-h",
                "localhost",
                "-p",
                "8883",
                "-V",
                "5",
                "-q",
                "1",
            ]
            command += ["--cafile", str(house.folder / "house/etc/constellation/ca.crt"), "-u", "operator"]
            command += ["-P", house.password.read_text().strip(), "-v", "-t", "home/#"]
            self._process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
            for line in self._process.stdout:
                topic, _, payload = line.rstrip("\n").partition(" ")
                self.heard.append((time.monotonic(), topic, payload))
            self._process.wait()
            time.sleep(0.05)

    def close(self) -> None:
        """End it."""
        self._closed = True
        if self._process:
            self._process.kill()
        self._thread.join(PATIENCE)

    def last(self, topic: str) -> Any:
        """The newest that was heard on a topic, None where nothing was."""
        found = [payload for _, heard, payload in list(self.heard) if heard == topic]
        return (json.loads(found[-1]) if found[-1][:1] == "{" else found[-1]) if found else None

    def readings(self) -> set[int]:
        """Times (ms) of the readings that were heard."""
        payloads = [json.loads(text) for _, topic, text in list(self.heard) if topic == TOPIC and text]
        return {_milliseconds(one["time"]) for one in payloads}


def _milliseconds(text: str) -> int:
    return round(datetime.fromisoformat(text).timestamp() * 1000)


class ContainerHouse:
    """The house of compose.yaml."""

    def __init__(self, folder: Path) -> None:
        """Lay down what a person copies and writes."""
        self.folder = folder
        shutil.copytree(SHIPPED, folder, dirs_exist_ok=True)
        (folder / "config/topics.yaml").write_text(HOUSE)
        (folder / "house").mkdir(mode=0o700)
        os.chown(folder / "house", 10001, 10001)
        self.password = folder / "house/etc/constellation/credentials/mqtt.operator"

    def compose(self, *words: str) -> str:
        """podman-compose in the house's folder."""
        done = subprocess.run(["podman-compose", *words], cwd=self.folder, capture_output=True, text=True, timeout=600)
        assert done.returncode == 0, f"{words}: {done.returncode}\n{done.stdout}\n{done.stderr}"
        return done.stdout

    def podman(self, *words: str, check: bool = True) -> str:
        """Podman itself."""
        done = subprocess.run(["podman", *words], capture_output=True, text=True, timeout=600)
        assert done.returncode == 0 or not check, f"{words}: {done.returncode}\n{done.stdout}\n{done.stderr}"
        return done.stdout.strip() if check else f"{done.returncode} {done.stdout} {done.stderr}"

    @staticmethod
    def name(service: str) -> str:
        """What compose calls a service's container."""
        return f"constellation_{service}_1"

    def process(self, service: str) -> int:
        """Process id of a container's first process, 0 where it does not run."""
        command = ["podman", "inspect", "-f", "{{.State.Pid}}", self.name(service)]
        said = subprocess.run(command, capture_output=True, text=True).stdout.strip()
        return int(said) if said.isdigit() else 0

    def volume(self, name: str) -> Path:
        """Where a volume lies."""
        return Path(self.podman("volume", "inspect", "-f", "{{.Mountpoint}}", f"constellation_{name}"))

    def stored(self) -> list[int]:
        """Times (ms) of all readings that the archive has."""
        path = self.volume("state") / "archive" / "archive.sqlite"
        with sqlite3.connect(f"file:{path}?mode=ro", uri=True) as database:
            query = "SELECT r.time FROM readings r JOIN topics t ON t.id = r.topic WHERE t.name = 'house/pi/memory_usage' ORDER BY 1"
            return [moment for (moment,) in database.execute(query)]

    def waiting(self) -> list[int]:
        """Times (ms) of readings that lie in the source's folder in memory."""
        path = self.volume("run") / "host" / "spool.sqlite"
        with sqlite3.connect(f"file:{path}?mode=ro", uri=True) as database:
            return [moment for (moment,) in database.execute("SELECT time FROM tail")]
