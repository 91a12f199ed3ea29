"""What happens to a house in containers: begun, looked at, killed part by part, counted, stopped; then the demo."""

import itertools
import os
import resource
import signal
import subprocess
import tempfile
import time
from pathlib import Path
from typing import Final

from harness import wait_for

from tests.containers_run.house import PATIENCE, TOPIC, ContainerHouse, ContainersEar

READY, STOP = 15.0, 10.0
"""What is promised: seconds to a ready house, seconds of a stop."""
SERVICES: Final = ("host", "archive", "rrd", "alerts", "web")
OTHERS: Final = ("broker",)


class ContainersRun:
    """The steps; each says what it measured, or fails by an assertion."""

    def __init__(self, folder: Path) -> None:
        """Nothing runs yet."""
        self.house = ContainerHouse(folder)
        self.steps: list[str] = []

    def say(self, sentence: str) -> None:
        """Note a step."""
        self.steps.append(sentence)
        print(sentence, flush=True)

    def begin(self) -> None:
        """Set the house up, start it, wait until each service is well."""
        began = time.monotonic()
        self.house.compose("--profile", "tools", "run", "--rm", "setup")
        self.say(f"set up in {time.monotonic() - began:.1f} s")
        began = time.monotonic()
        self.ear = ContainersEar(self.house)
        used = resource.getrusage(resource.RUSAGE_CHILDREN)
        self.house.compose("up", "-d")
        up, spent = time.monotonic() - began, resource.getrusage(resource.RUSAGE_CHILDREN)
        processor = spent.ru_utime + spent.ru_stime - used.ru_utime - used.ru_stime
        wait_for(lambda: all(self.is_well(name) for name in SERVICES), PATIENCE, "the whole house")
        wait_for(self.page, PATIENCE, "the page")
        ready = time.monotonic() - began
        self.say(
            f"ready {ready:.1f} s after `up`, of which it took {up:.1f} s to start {len(SERVICES + OTHERS)} containers ({processor:.1f} s of processor)"
        )
        if ready > READY:
            self.say(f"  more than the {READY:g} s that are promised; load {os.getloadavg()[0]:.1f}")

    def is_well(self, name: str) -> bool:
        """Whether an instance says that it is there and runs."""
        health = self.ear.last(f"home/service/{name}/health")
        return self.ear.last(f"home/service/{name}/status") == "online" and (health or {}).get("state") == "running"

    def page(self) -> bool:
        """Whether the page answers where compose.yaml publishes it."""
        done = subprocess.run(
            ["curl", "-s", "-o", "/dev/null", "-w", "%{http_code}", "http://127.0.0.1:8080/"], capture_output=True
        )
        return done.stdout == b"200"

    def look(self) -> None:
        """What a container may, and that it knows that it is well."""
        name = self.house.name("host")
        assert "Read-only file system" in self.house.podman("exec", name, "touch", "/opt/x", check=False)
        assert self.house.podman("exec", name, "id", "-u") == "10001"
        assert self.house.podman("exec", name, "ls", "/run/secrets") == "mqtt.host"
        status = self.house.podman("exec", name, "cat", "/proc/1/status")
        assert "CapEff:\t0000000000000000" in status
        assert "NoNewPrivs:\t1" in status
        assert self.house.podman("exec", name, "cat", "/proc/1/comm") == "tini"
        for service in SERVICES:
            self.house.podman("healthcheck", "run", self.house.name(service))
        said = self.house.compose("--profile", "tools", "run", "--rm", "operator", "constellation", "status")
        assert all(service in said for service in SERVICES), said
        self.say(
            "each container is read-only, user 10001, without capabilities, with its own secret alone, and healthy"
        )

    def kill(self, name: str) -> None:
        """Kill a container's processes; it comes back by itself."""
        before = self.house.process(name)
        start = self.start_counter(name)
        killed = time.monotonic()
        os.kill(before, signal.SIGKILL)
        wait_for(lambda: self.house.process(name) not in (0, before), PATIENCE, f"{name} again")
        if name in SERVICES:
            wait_for(lambda: self.start_counter(name) > start and self.is_well(name), PATIENCE, f"{name} well again")
        count = len(self.ear.heard)
        wait_for(lambda: self.heard_after(count), PATIENCE, f"readings after {name}")
        self.say(f"killed {name}: the house measures and is heard again after {time.monotonic() - killed:.1f} s")

    def heard_after(self, count: int) -> bool:
        """Whether a reading came behind so many messages."""
        return any(topic == TOPIC for _, topic, _ in self.ear.heard[count:])

    def kill_what_waits(self) -> list[int]:
        """Kill the source while readings lie in memory alone, without a broker to take them."""
        self.house.podman("stop", "-t", "15", self.house.name("broker"))
        stopped = time.time() * 1000  # what was measured before may be stored, and only its confirmation be missing
        wait_for(lambda: max(self.house.waiting(), default=0) > stopped, PATIENCE, "readings in memory")
        before = self.house.process("host")
        os.kill(before, signal.SIGKILL)
        waiting = [moment for moment in self.house.waiting() if moment > stopped]
        assert waiting
        wait_for(lambda: self.house.process("host") not in (0, before), PATIENCE, "host again")
        self.house.podman("start", self.house.name("broker"))
        wait_for(lambda: self.is_well("host"), PATIENCE, "host")
        return waiting

    def count(self, waiting: list[int]) -> None:
        """Compare the archive with what was heard and what waited."""
        heard = self.ear.readings() | set(waiting)
        wait_for(lambda: heard <= set(self.house.stored()), PATIENCE, "all that was heard, in the archive")
        stored = self.house.stored()
        assert len(set(stored)) == len(stored)
        for name in SERVICES:
            counters = (self.ear.last(f"home/service/{name}/health") or {}).get("counters") or {}
            assert not counters.get("lost"), (name, counters)
        gaps = sorted((b - a for a, b in itertools.pairwise(stored)), reverse=True)[:4]
        self.say(
            f"lost none, doubled none: {len(heard)} readings were heard or waited, {len(stored)} are stored; "
            f"longest times without one: {', '.join(f'{gap / 1000:.1f} s' for gap in gaps)}"
        )

    def kill_all(self) -> None:
        """Kill all in the same moment, as a machine without current does: all come back by themselves."""
        before = {name: self.house.process(name) for name in (*SERVICES, *OTHERS)}
        starts = {name: self.start_counter(name) for name in SERVICES}
        killed = time.monotonic()
        for process_id in before.values():
            os.kill(process_id, signal.SIGKILL)
        wait_for(lambda: all(self.start_counter(name) > starts[name] for name in SERVICES), PATIENCE, "all again")
        wait_for(lambda: all(self.is_well(name) for name in SERVICES), PATIENCE, "all well again")
        self.say(f"killed all at once: all are well again after {time.monotonic() - killed:.1f} s")

    def start_counter(self, name: str) -> int:
        """How often an instance was started, as far as it was heard."""
        return int((self.ear.last(f"home/service/{name}/health") or {}).get("start", 0))

    def stop(self) -> None:
        """Stop each service by itself, then all."""
        slowest = 0.0
        for name in SERVICES:
            began = time.monotonic()
            self.house.podman("stop", "-t", "15", self.house.name(name))
            took = time.monotonic() - began
            slowest = max(slowest, took)
            assert took < STOP, (name, took)
            assert self.house.podman("inspect", "-f", "{{.State.ExitCode}}", self.house.name(name)) == "0", name
            wait_for(
                lambda name=name: self.ear.last(f"home/service/{name}/status") == "offline", PATIENCE, f"{name} offline"
            )
        began = time.monotonic()
        self.ear.close()
        self.house.compose("down")
        self.say(
            f"stopped cleanly: {slowest:.1f} s for the slowest service, {time.monotonic() - began:.1f} s for what was left"
        )

    def demo(self) -> None:
        """Run the demo until the stand-in for a phone got its first message."""
        began = time.monotonic()
        self.house.compose("-f", "demo.yaml", "up", "-d")
        wait_for(self.page, PATIENCE, "the demo's page")
        page = time.monotonic() - began
        wait_for(lambda: "phone:" in self.house.podman("logs", "constellation-demo_demo_1"), PATIENCE, "an alert")
        told = time.monotonic() - began
        began = time.monotonic()
        self.house.compose("-f", "demo.yaml", "down", "-t", "30")
        self.say(
            f"the demo: its page after {page:.1f} s, an alert on the phone after {told:.1f} s, stopped in {time.monotonic() - began:.1f} s"
        )


def tidy() -> None:
    """Remove all containers and volumes, also those of a run that was killed."""
    for words in (["rm", "-f", "-a", "-t", "0"], ["volume", "rm", "-f", "-a"]):
        subprocess.run(["podman", *words], capture_output=True)


def run() -> list[str]:
    """Start, look, kill, count, stop; returns what was seen."""
    with tempfile.TemporaryDirectory(prefix="containers-run-") as scratch:
        Path(scratch).chmod(0o755)
        steps = ContainersRun(Path(scratch) / "constellation")
        try:
            tidy()
            steps.begin()
            steps.look()
            for name in (*SERVICES, *OTHERS):
                steps.kill(name)
            steps.count(steps.kill_what_waits())
            steps.kill_all()
            steps.stop()
            steps.demo()
        finally:
            tidy()
    return steps.steps
