"""What a reading costs the store of a fleet, beside a bare loop from paho to MariaDB; in interleaved rounds, on one server.

    python -m tests.bench.central [--rounds 2] [--readings 20000] [--houses 200]

Both subscribe with MQTT 5 and QoS 1 to what a thousand bridges would bring, acknowledge after a commit of up to 2,000 rows, and get the
same readings from one broker. The bare loop knows no numbers, marks, gaps, registries, shards, clearings or sums: it is what one
would write in an afternoon. CPU is user and system time of all threads of the process; memory is what is resident at the end.
"""

import argparse
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import sqlalchemy as sql

from services.fleet.cluster import LocalCluster
from services.fleet.dialect import Access
from services.fleet.engine import Engine
from tests.bench.stores import Feeder, _packet, cpu, free_port, memory

PASSWORD = "bench"
BARE = """
import json, queue, sys, threading
from datetime import datetime
import paho.mqtt.client as mqtt, pymysql
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties
inbox = queue.SimpleQueue()
client = mqtt.Client(mqtt.CallbackAPIVersion.VERSION2, client_id="bare", protocol=mqtt.MQTTv5, manual_ack=True)
client.on_message = lambda _c, _d, message: inbox.put(message)
client.on_connect = lambda client, *_: client.subscribe("+/home/data/#", 1)
wanted = Properties(PacketTypes.CONNECT)
wanted.ReceiveMaximum = 2000
database = pymysql.connect(host="127.0.0.1", port=int(sys.argv[2]), user="store", password="bench", database="fleet")
cursor = database.cursor()
cursor.execute("CREATE TABLE IF NOT EXISTS bare (time BIGINT, topic VARCHAR(190), value DOUBLE, PRIMARY KEY (time, topic))")
client.connect("127.0.0.1", int(sys.argv[1]), properties=wanted)
client.loop_start()
while True:
    group = [inbox.get()]
    try:
        while len(group) < 2000:
            group.append(inbox.get(timeout=0.5))
    except queue.Empty:
        pass
    rows = []
    for message in group:
        reading = json.loads(message.payload)
        rows.append((round(datetime.fromisoformat(reading["time"]).timestamp() * 1000), message.topic, reading["value"]))
    cursor.executemany("INSERT INTO bare VALUES (%s, %s, %s) ON DUPLICATE KEY UPDATE value = VALUES(value)", rows)
    database.commit()
    for message in group:
        client.ack(message.mid, 1)
"""


class FleetFeeder(Feeder):
    """Publishes as the bridges of many houses do."""

    def send(self, count: int, houses: int, stream: str) -> None:
        begin, parts = time.time_ns() // 1_000_000 - count, []
        for n in range(count):
            at, house = begin + n, n % houses
            number = n // houses + 1
            stamp = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(at // 1000))
            payload = f'{{"value":{60 + n % 100 / 10},"unit":"°C","time":"{stamp}.{at % 1000:03d}Z"}}'
            topic = f"h{house:04d}/home/data/boiler/t{number % 10}/temperature"
            parts.append(_packet(topic, payload, n % 60000 + 1, f"{stream}{house}:{number - 1}:{number}"))
            if len(parts) == 500:
                self._socket.sendall(b"".join(parts))
                parts.clear()
        self._socket.sendall(b"".join(parts))


def measure(
    command: list[str], engine: Engine, table: str, feed: "tuple[int, int, int]", environment: dict[str, str]
) -> tuple[float, float, float]:
    """Microseconds of CPU a reading, readings a second, and MB at the end; `feed` is the broker's port, readings and houses."""
    port, readings, houses = feed
    process = subprocess.Popen(
        command, env=os.environ | environment, stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL
    )

    def stored() -> int:
        try:
            with engine._engines[0].connect() as connection:
                return int(connection.execute(sql.text(f"SELECT count(*) FROM {table}")).scalar() or 0)
        except sql.exc.SQLAlchemyError:
            return 0

    try:
        feeder = FleetFeeder(port)
        known, deadline = stored(), time.monotonic() + 60
        while stored() == known and time.monotonic() < deadline:  # until it has subscribed
            feeder.send(1, 1, "probe")
            time.sleep(0.5)
        time.sleep(3)
        before, first, begun = cpu(process.pid), stored(), time.monotonic()
        feeder.send(readings, houses, f"{time.time_ns() // 1000 % 10**9:x}")
        deadline = time.monotonic() + 120
        while (got := stored() - first) < readings and time.monotonic() < deadline:
            time.sleep(0.1)
        took = time.monotonic() - begun
        if got < readings:
            print(f"{table}: {got} of {readings} came in two minutes", file=sys.stderr)
        time.sleep(1)
        return (cpu(process.pid) - before) / readings * 1e6, readings / took, memory(process.pid)[0]
    finally:
        process.terminate()
        process.wait(20)


def main() -> None:
    """Measure both in turns."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--readings", type=int, default=20_000)
    parser.add_argument("--houses", type=int, default=200)
    asked = parser.parse_args()
    folder, port = Path(tempfile.mkdtemp(prefix="fleet-bench-")), free_port()
    cluster = LocalCluster(folder / "engine", free_port() // 64 * 64 % 20_000 + 10_000, 1)
    config = folder / "mosquitto.conf"
    config.write_text(
        f"listener {port} 127.0.0.1\nallow_anonymous true\nmax_inflight_messages 2000\nmax_queued_messages 500000\nuser root\n"
    )
    broker = subprocess.Popen(["mosquitto", "-c", config], stderr=subprocess.DEVNULL)
    try:
        cluster.init()
        cluster.begin()
        cluster.prepare("fleet", "store", PASSWORD)
        (folder / "fleet.engine").touch(0o600)
        (folder / "fleet.engine").write_text(PASSWORD)
        topics = folder / "topics.yaml"
        topics.write_text(f"broker: {{port: {port}}}\nsubscribers:\n  central: {{nodes: {cluster.nodes}}}\n")
        engine = Engine("mariadb", cluster.nodes, Access("fleet", "store", PASSWORD))
        environment = {
            "CONSTELLATION_CREDENTIALS": str(folder),
            "STATE_DIRECTORY": str(folder / "state"),
            "RUNTIME_DIRECTORY": str(folder / "run"),
            "CONSTELLATION_CLOCK_PATIENCE": "0",
        }
        ours = [sys.executable, "-m", "bootstrap_lib.cli", "--config", str(topics), "run", "central"]
        bare = [sys.executable, "-c", BARE, str(port), cluster.nodes[0].rpartition(":")[2]]
        feed = port, asked.readings, asked.houses
        found: dict[str, list[tuple[float, float, float]]] = {"bare": [], "central": []}
        for _ in range(asked.rounds):
            found["bare"].append(measure(bare, engine, "bare", feed, {}))
            found["central"].append(measure(ours, engine, "readings", feed, environment))
        print(f"{asked.readings} readings of {asked.houses} houses, medians of {asked.rounds} rounds")
        for name, rounds in found.items():
            micro, rate, megabytes = (statistics.median(column) for column in zip(*rounds, strict=True))
            print(f"{name:8} {micro:6.0f} µs of CPU a reading, {rate:6.0f} readings a second, {megabytes:4.0f} MB")
        engine.close()
    finally:
        broker.terminate()
        broker.wait(10)
        cluster.stop()
        shutil.rmtree(folder, ignore_errors=True)


if __name__ == "__main__":
    main()
