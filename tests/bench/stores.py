"""What a reading costs each store in CPU, beside clients that throw messages away; and how fast a night's backlog is drained.

    python -m tests.bench.stores [--rounds 3] [--readings 40000] [--backlog 500000] [--only archive,rrd]

All subscribe with MQTT 5 and QoS 1 (collectd: 3.1.1) and get the same readings from one broker, one after the other, in
interleaved rounds: the medians and what each costs on top of bare paho are the figures to build on. CPU is user and system
time of all threads of the process, from /proc, from before the first reading until it has come to rest.
"""

import argparse
import os
import shutil
import socket
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import paho.mqtt.client as mqtt

PROJECT = Path(__file__).resolve().parent.parent.parent
TICK = os.sysconf("SC_CLK_TCK")
TOPICS = 100
EVERY = 10_000
"""Milliseconds between two readings of a topic."""

BARE = """
import sys, threading
import paho.mqtt.client as mqtt
from paho.mqtt.subscribeoptions import SubscribeOptions
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties
client = mqtt.Client(mqtt.CallbackAPIVersion.VERSION2, client_id="bare", protocol=mqtt.MQTTv5)
client.on_message = lambda *_: None
client.on_connect = lambda client, *_: client.subscribe(sys.argv[2], options=SubscribeOptions(qos=1))
wanted = Properties(PacketTypes.CONNECT)
wanted.ReceiveMaximum = 2000
client.connect("127.0.0.1", int(sys.argv[1]), properties=wanted)
client.loop_start()
threading.Event().wait()
"""


def free_port() -> int:
    """A port of loopback."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def cpu(pid: int) -> float:
    """Seconds of CPU so far, of all threads and of children that ended."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / TICK


def memory(pid: int) -> tuple[float, float]:
    """Resident memory now and at its highest, in MB."""
    lines = dict(line.split(":", 1) for line in Path(f"/proc/{pid}/status").read_text().splitlines())
    return tuple(int(lines[name].split()[0]) / 1000 for name in ("VmRSS", "VmHWM"))


def rest(pid: int, quiet: float = 3.0, timeout: float = 300.0) -> tuple[float, float]:
    """CPU of a process once it uses less than 4 % of a processor, and since when (monotonic) it does."""
    deadline, marks = time.monotonic() + timeout, [(time.monotonic(), cpu(pid))]
    while time.monotonic() < deadline:
        time.sleep(0.1)
        marks.append((time.monotonic(), cpu(pid)))
        past = [mark for mark in marks if mark[0] <= marks[-1][0] - quiet]
        if past and marks[-1][1] - past[-1][1] < 0.04 * quiet:
            return marks[-1][1], past[-1][0]
    raise TimeoutError(f"process {pid} does not come to rest")


class Feeder:
    """Publishes as a source does, QoS 1 with a sequence number, by a socket of its own: far faster than any client reads."""

    def __init__(self, port: int) -> None:
        """Connect."""
        self._socket = socket.create_connection(("127.0.0.1", port))
        self._socket.sendall(b"\x10\x12\x00\x04MQTT\x05\x02\x00\x00\x00\x00\x05feedr")
        self._socket.recv(64)
        threading.Thread(target=self._swallow, daemon=True).start()
        self.number = 0

    def _swallow(self) -> None:
        try:
            while self._socket.recv(65536):
                pass
        except OSError:
            pass

    def feed(self, count: int, stream: str, *, collectd: bool = False) -> None:
        """Send what came in the last hours, oldest first."""
        begin, parts = time.time_ns() // 1_000_000 - count * EVERY // TOPICS, []
        for n in range(count):
            at = begin + n * EVERY // TOPICS
            if collectd:
                topic, payload = (
                    f"collectd/house/boiler/temperature-t{n % TOPICS}",
                    f"{at / 1000:.3f}:{60 + n % 100 / 10}\0",
                )
            else:
                topic = f"home/data/boiler/t{n % TOPICS}/temperature"
                stamp = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(at // 1000))
                payload = f'{{"value":{60 + n % 100 / 10},"unit":"°C","time":"{stamp}.{at % 1000:03d}Z"}}'
            self.number += 1
            user = f"{stream}:{self.number - 1}:{self.number}"
            parts.append(_packet(topic, payload, n % 60000 + 1, user))
            if len(parts) == 500:
                self._socket.sendall(b"".join(parts))
                parts.clear()
        self._socket.sendall(b"".join(parts))


def _packet(topic: str, payload: str, number: int, user: str) -> bytes:
    """MQTT 5 PUBLISH with QoS 1 and the user property `seq`."""
    properties = b"\x26" + _text("seq") + _text(user)
    body = _text(topic) + number.to_bytes(2, "big") + bytes([len(properties)]) + properties + payload.encode()
    length = bytes([len(body)]) if len(body) < 128 else bytes([len(body) & 127 | 128, len(body) >> 7])
    return b"\x32" + length + body


def _text(text: str) -> bytes:
    return len(text.encode()).to_bytes(2, "big") + text.encode()


class Bench:
    """A broker, a database, and the contestants one by one."""

    def __init__(self, folder: Path) -> None:
        """Start the broker and VictoriaMetrics."""
        self.folder, self.port, self.store_port = folder, free_port(), free_port()
        (folder / "mosquitto.conf").write_text(
            f"listener {self.port} 127.0.0.1\nallow_anonymous true\nmax_inflight_messages 2000\n"
            "max_queued_messages 2000000\nlog_type error\nuser root\n"
        )
        lines = [f"broker: {{port: {self.port}}}", "sources:", "  onewire: {}", "subscribers:", "  archive: {}"]
        lines += ["  rrd: {}", f"  influx: {{url: 'http://127.0.0.1:{self.store_port}'}}", "topics:"]
        lines += [f"  boiler/t{n}/temperature: {{from: onewire, stale: 10m}}" for n in range(TOPICS)]
        (folder / "topics.yaml").write_text("\n".join(lines) + "\n")
        self.servers = [self._run("mosquitto", "-c", str(folder / "mosquitto.conf"))]
        if shutil.which("victoria-metrics"):
            place = (f"-storageDataPath={folder}/vm", f"-httpListenAddr=127.0.0.1:{self.store_port}")
            self.servers.append(
                self._run("victoria-metrics", *place, "-dedup.minScrapeInterval=1ms", "-retentionPeriod=10y")
            )
        time.sleep(1)
        self.round = 0

    def _run(self, *command: str, **environment: str) -> subprocess.Popen[bytes]:
        log = (self.folder / "log").open("ab")
        return subprocess.Popen(command, stdout=log, stderr=log, cwd=PROJECT, env=os.environ | environment)

    def close(self) -> None:
        """End what runs."""
        for process in self.servers:
            process.terminate()
            process.wait()

    def start(self, name: str) -> subprocess.Popen[bytes]:
        """Start a contestant."""
        if name == "bare paho":
            return self._run(sys.executable, "-c", BARE, str(self.port), "home/data/#")
        if name == "mosquitto_sub":
            quiet = ("-F", "%m", "-N")
            return self._run("mosquitto_sub", "-p", str(self.port), "-V", "5", "-q", "1", "-t", "home/data/#", *quiet)
        if name == "collectd":
            return self._run(os.environ["COLLECTD"], "-f", "-C", str(self._collectd()))
        state = self.folder / f"{name}-{self.round}"
        folders = {"STATE_DIRECTORY": str(state / "state"), "RUNTIME_DIRECTORY": str(state / "run")}
        command = ("-m", "bootstrap_lib.cli", "--config", str(self.folder / "topics.yaml"), "run", name)
        return self._run(sys.executable, *command, **folders, CONSTELLATION_CLOCK_PATIENCE="0")

    def _collectd(self) -> Path:
        file, base = self.folder / "collectd.conf", self.folder / f"collectd-{self.round}"
        plugins = os.environ.get("COLLECTD_PLUGINS", "/usr/lib/collectd")
        file.write_text(
            f'BaseDir "{base}"\nPIDFile "{base}.pid"\nPluginDir "{plugins}"\n'
            f'TypesDB "{os.environ.get("COLLECTD_TYPES", "/usr/share/collectd/types.db")}"\nInterval 10\n'
            "LoadPlugin mqtt\nLoadPlugin rrdtool\n"
            f'<Plugin mqtt>\n<Subscribe "s">\nHost "127.0.0.1"\nPort {self.port}\nQoS 1\nTopic "collectd/#"\n</Subscribe>\n</Plugin>\n'
            f'<Plugin rrdtool>\nDataDir "{base}/rrd"\nCacheTimeout 30\nCacheFlush 60\n</Plugin>\n'
        )
        return file

    def cost(self, name: str, readings: int) -> float:
        """Microseconds of CPU for a reading."""
        self.round += 1
        process = self.start(name)
        try:
            time.sleep(1.0)
            before, _ = rest(process.pid)
            Feeder(self.port).feed(readings, f"r{self.round:07x}", collectd=name == "collectd")
            after, _ = rest(process.pid)
            if process.poll() is not None:
                raise RuntimeError(f"{name} ended: see {self.folder}/log")
            return (after - before) / readings * 1e6
        finally:
            process.terminate()
            process.wait()
            self.forget(name)

    def forget(self, name: str) -> None:
        """End the session that the broker keeps, so that nothing queues up for it."""
        client = mqtt.Client(mqtt.CallbackAPIVersion.VERSION2, client_id=name, protocol=mqtt.MQTTv5)
        client.connect("127.0.0.1", self.port, clean_start=True)
        client.loop_start()
        time.sleep(0.2)
        client.disconnect()
        client.loop_stop()

    def drain(self, name: str, backlog: int) -> str:
        """Let a night's readings queue up for a store that is away, then start it."""
        self.round += 1
        process = self.start(name)
        time.sleep(2.0)
        rest(process.pid)
        process.terminate()
        process.wait()
        Feeder(self.port).feed(backlog, f"b{self.round:07x}")
        time.sleep(1.0)
        process = self.start(name)
        try:
            began = time.monotonic()
            time.sleep(3.0)
            usage, end = rest(process.pid)
            now, highest = memory(process.pid)
            rate = f"{usage / backlog * 1e6:5.1f} µs of CPU each"
            return f"{backlog} readings in {end - began:5.1f} s, {rate}; memory {now:.0f} MB, {highest:.0f} MB at its highest"
        finally:
            process.terminate()
            process.wait()
            self.forget(name)


def contestants(only: str | None) -> Iterator[str]:
    """Who can run here."""
    for name in ("bare paho", "mosquitto_sub", "collectd", "archive", "rrd", "influx"):
        if only and name not in only.split(",") and name != "bare paho":
            continue
        if name == "collectd":
            os.environ.setdefault("COLLECTD", shutil.which("collectd") or "")
            if not os.environ["COLLECTD"]:
                print("collectd is not measured: apt install collectd-core")
                continue
        if name == "influx" and not shutil.which("victoria-metrics"):
            print("influx is not measured: apt install victoria-metrics")
            continue
        yield name


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--readings", type=int, default=40_000)
    parser.add_argument("--backlog", type=int, default=500_000)
    parser.add_argument("--only", help="names with commas; bare paho always runs")
    arguments = parser.parse_args()
    os.environ["PATH"] += ":/usr/sbin"
    names = list(contestants(arguments.only))
    figures: dict[str, list[float]] = {name: [] for name in names}
    with tempfile.TemporaryDirectory(prefix="bench-") as folder:
        bench = Bench(Path(folder))
        try:
            for _ in range(arguments.rounds):
                for name in names:
                    figures[name].append(bench.cost(name, arguments.readings))
            for name in names:
                over = statistics.median(a - b for a, b in zip(figures[name], figures["bare paho"], strict=True))
                rounds = " ".join(f"{figure:.1f}" for figure in figures[name])
                print(
                    f"{name:14} {statistics.median(figures[name]):6.1f} µs, {over:+6.1f} over bare paho   rounds {rounds}",
                    flush=True,
                )
            if arguments.backlog:
                for name in names:
                    if name in ("archive", "rrd", "influx"):
                        print(f"{name:14} {bench.drain(name, arguments.backlog)}", flush=True)
        finally:
            bench.close()


if __name__ == "__main__":
    main()
