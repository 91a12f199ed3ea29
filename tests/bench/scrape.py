"""What a scrape of the exporter costs: a thousand series, as text and as OpenMetrics, and its memory.

    PYTHONPATH=tests python -m tests.bench.scrape [SERIES]

The real service at a real broker, asked as Prometheus asks, each time over a connection of its own; processor time is the service's.
"""

import statistics
import sys
import tempfile
import time
import urllib.request
from pathlib import Path

from harness import Broker, Ear, House, free_port, wait_for
from voices import Voice, now

from tests.bench.processes import cpu, memory

TIMES = 50


def main(series: int) -> None:
    folder = Path(tempfile.mkdtemp(prefix="bench-scrape-"))
    broker, port = Broker(folder / "broker").start(), free_port()
    house, voice, ear = House(folder / "house", broker.port), Voice(broker.port), Ear(broker.port, "home/service/#")
    house.write(
        "sources: {onewire: {stale: 1h}}\n"
        f"subscribers: {{exporter: {{port: {port}, heartbeat: 1h}}}}\n"
        f"topics:\n  house/room_{{1..{series}}}/temperature: {{from: onewire}}\n"
    )
    house.start("exporter")
    pid = house.processes["exporter"].pid
    ear.wait("home/service/exporter/status", lambda status: status == "online")
    before = memory(pid)[0]
    for room in range(1, series + 1):
        voice.say(f"house/room_{room}/temperature", 20 + room / 1000, now())

    def scrape(accept: str) -> bytes:
        request = urllib.request.Request(f"http://127.0.0.1:{port}/metrics", headers={"Accept": accept})
        with urllib.request.urlopen(request, timeout=10) as answer:
            return bytes(answer.read())

    wait_for(lambda: scrape("").count(b"\nconstellation_temperature") == series, what="all of them")
    for accept in ("text/plain", "application/openmetrics-text; version=1.0.0"):
        spent, took = cpu(pid), []
        for _ in range(TIMES):
            began = time.perf_counter()
            content = scrape(accept)
            took.append((time.perf_counter() - began) * 1000)
        spent = (cpu(pid) - spent) / TIMES * 1000
        print(
            f"{accept.partition(';')[0]}: {series} series, {len(content) / 1000:.0f} KB; median {statistics.median(took):.1f} ms, "
            f"worst {max(took):.1f} ms, {spent:.1f} ms of processor"
        )
    print(f"private memory {before:.1f} MB with none, {memory(pid)[0]:.1f} MB with {series} series")
    voice.close()
    ear.close()
    house.close()
    broker.stop()


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 1000)
