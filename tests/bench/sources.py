"""What a reading costs its source, from the device's answer to the broker, beside a bare paho publisher at QoS 1 in the same run.

    python -m tests.bench.sources [--readings 20000] [--rounds 3]

Both publish rounds of ten readings, retained, as JSON with a time, to one broker. Ours keeps and numbers each besides; an archive, which is
a process of its own, marks what it has stored. Processor time of all threads of the publishing process; medians of interleaved rounds.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import time
from collections import deque
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from bootstrap_lib import Registry
from services.host import Host
from tests.harness import free_port

ROUND = 10
NAMES = [f"bench/thing{number}/load_number" for number in range(ROUND)]


class Bench(Host):
    """A source whose device answers at once, as often as it is asked."""

    readings = 0
    took = 0.0

    def samples(self) -> Iterator[Any]:
        """Give rounds until there are enough, no more on their way than the window takes."""
        if self.took:
            self.stopping = "measured"
            return
        topics = {topic.name: topic for topic in self.topics}
        while not self.bus.online:
            self.turn(0.05)
        began = time.process_time()
        for number in range(self.readings // ROUND):
            for name in NAMES:
                yield topics[name], 20.0 + number % 100 / 8
            self.turn(0.0)
            while self.publisher.spool.last - self.publisher._cursor > 50 or len(self.publisher._in_flight) > 50:
                self.turn(0.01)
        self.took = time.process_time() - began


def ours(_port: int, folder: Path, readings: int) -> float:
    """Seconds of processor time for a reading of a real source."""
    os.environ |= {"STATE_DIRECTORY": f"{folder}/state", "RUNTIME_DIRECTORY": f"{folder}/run"}
    service = Bench(Registry(folder / "topics.yaml"), "host")
    service.readings = readings
    service.load(service.registry)
    service.run()
    return service.took / readings


def bare(port: int, _folder: Path, readings: int) -> float:
    """Seconds of processor time for a reading of paho alone."""
    import paho.mqtt.client as mqtt

    client = mqtt.Client(mqtt.CallbackAPIVersion.VERSION2, client_id="bare", protocol=mqtt.MQTTv5)
    client.max_inflight_messages_set(100)
    client.connect("127.0.0.1", port)
    client.loop_start()
    while not client.is_connected():
        time.sleep(0.05)
    began = time.process_time()
    waiting: deque[Any] = deque()
    for number in range(readings):
        moment = datetime.now(UTC).isoformat(timespec="milliseconds")
        reading = {"value": 20.0 + number % 100 / 8, "unit": "°C", "time": moment}
        waiting.append(client.publish(f"home/bare/{number % ROUND}", json.dumps(reading), 1, True))
        if len(waiting) >= 50:
            waiting.popleft().wait_for_publish()
    for info in waiting:
        info.wait_for_publish()
    took = time.process_time() - began
    client.disconnect()
    client.loop_stop()
    return took / readings


TOPICS = """
broker: {{host: 127.0.0.1, port: {port}}}
sources:
  host: {{every: 1s, stale: 1m}}
subscribers:
  archive: {{commit: 1s}}
topics:
{lines}
"""


def main() -> int:
    """Measure and print."""
    parser = argparse.ArgumentParser(prog="python -m tests.bench.sources", description=__doc__)
    parser.add_argument("--readings", type=int, default=20_000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--one", choices=("ours", "bare"), help=argparse.SUPPRESS)
    parser.add_argument("--port", type=int, help=argparse.SUPPRESS)
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.one:
        print({"ours": ours, "bare": bare}[given.one](given.port, given.folder, given.readings))
        return 0
    figures: dict[str, list[float]] = {"ours": [], "bare": []}
    for _ in range(given.rounds):
        for one, taken in figures.items():
            with TemporaryDirectory() as name:
                taken.append(_measure(one, Path(name), given.readings))
    middle = {one: 1e6 * statistics.median(taken) for one, taken in figures.items()}
    print(f"a bare paho publisher at QoS 1 {middle['bare']:8.1f} µs a reading")
    print(
        f"a source                       {middle['ours']:8.1f} µs a reading, {middle['ours'] / middle['bare']:.2f} times"
    )
    return 0


def _measure(one: str, folder: Path, readings: int) -> float:
    port = free_port()
    (folder / "mosquitto.conf").write_text(f"listener {port} 127.0.0.1\nallow_anonymous true\nmax_queued_messages 0\n")
    lines = "\n".join(f"  {name}: {{from: host}}" for name in NAMES)
    (folder / "topics.yaml").write_text(TOPICS.format(port=port, lines=lines))
    environment = os.environ | {"STATE_DIRECTORY": f"{folder}/archive", "RUNTIME_DIRECTORY": f"{folder}/run-archive"}
    command = [sys.executable, "-m", "bootstrap_lib.cli", "--config", str(folder / "topics.yaml"), "run", "archive"]
    broker = subprocess.Popen(["mosquitto", "-c", folder / "mosquitto.conf"], stderr=subprocess.DEVNULL)
    time.sleep(0.5)
    archive = subprocess.Popen(command, env=environment, stderr=subprocess.DEVNULL)
    try:
        own = [sys.executable, "-m", "tests.bench.sources", "--one", one, "--port", str(port), "--folder", str(folder)]
        done = subprocess.run([*own, "--readings", str(readings)], check=True, capture_output=True, text=True)
        return float(done.stdout.split()[-1])
    finally:
        for process in (archive, broker):
            process.terminate()
            process.wait()


if __name__ == "__main__":
    sys.exit(main())
