"""Two processes under one name: both say so, with the other's host, and so does `status`."""

import os
import subprocess
import sys
from pathlib import Path

from harness import PROJECT, Broker, Ear, House, wait_for

TOPICS = """
sources: {http: {url: "http://127.0.0.1:9/", every: 1h, heartbeat: 2s}}
topics: {outside/air/temperature: {from: http, path: air}}
"""


def test_two_hosts_under_one_name_are_told_so_on_both_and_in_status(tmp_path: Path, broker: Broker, ear: Ear) -> None:
    houses = [House(tmp_path / name, broker.port) for name in ("left", "right")]
    try:
        for house in houses:
            house.write(TOPICS)
        houses[0].start("http")
        ear.wait("home/service/http/health")
        assert status(houses[0]).returncode == 0, "one alone is nobody's rival"
        houses[1].start("http")
        pids = [house.processes["http"].pid for house in houses]
        for house, other in zip(houses, reversed(pids), strict=True):
            sentence = f"another 'http' at {os.uname().nodename} (process {other}) took over the session"
            wait_for(lambda house=house, sentence=sentence: sentence in house.log("http"), what=sentence)
        ear.wait("home/service/http/health", lambda health: health.get("rival", {}).get("pid") in pids)
        done = wait_for(lambda: (said := status(houses[0])).stdout.count("another of this name at") and said)
        assert done.returncode == 1
        assert f"and another of this name at {os.uname().nodename}" in done.stdout
        assert all(house.log("http").count("took over the session") == 1 for house in houses), "it is said once"
    finally:
        for house in houses:
            house.close()


def status(house: House) -> subprocess.CompletedProcess[str]:
    line = [sys.executable, "-m", "bootstrap_lib.cli", "--config", str(house.config), "status", "http"]
    return subprocess.run(line, cwd=PROJECT, env=house.environment, capture_output=True, text=True, timeout=60)
