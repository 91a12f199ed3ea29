"""Build the image of scripts/containers, run the house of its compose.yaml by Podman, kill each container, stop all.

    python -m tests.containers_run [--built]

Needs root, podman, buildah, crun, iptables and mmdebstrap, Debian's mirror and the registry of Python packages; no daemon and no registry of images:
what stands in for Debian's slim image is made by mmdebstrap. `--built` takes the image that is there. Containers, their
network and their mounts live in namespaces of this run and end with it; the image stays below ~/.cache/constellation.
"""

import argparse
import itertools
import json
import os
import shutil
import signal
import sqlite3
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import Any, Final

sys.path.insert(0, str(Path(__file__).resolve().parent))

from harness import PROJECT, wait_for

SHIPPED: Final = PROJECT / "scripts" / "containers"
PROGRAMS: Final = ("podman", "buildah", "crun", "iptables", "mmdebstrap", "mosquitto_sub", "unshare", "nsenter")
BASE, IMAGE = "localhost/debian:trixie-slim", "localhost/constellation"
COMPOSE: Final = "podman-compose==1.6.0"
SIZE, READY, STOP = 300e6, 15.0, 10.0
"""What is promised: bytes unpacked, seconds to a ready house, seconds of a stop."""
PATIENCE: Final = 180.0
SERVICES: Final = ("host", "archive", "rrd", "alerts", "web")
OTHERS: Final = ("house", "broker")
EVERY: Final = 0.5
INSIDE: Final = "CONTAINERS_RUN_INSIDE"
"""Set where this runs in namespaces of its own already."""
EXCLUDED: Final = ("/usr/share/doc/*", "/usr/share/man/*", "/usr/share/info/*", "/usr/share/locale/*")
"""What Debian's slim image leaves out."""


def cache() -> Path:
    """Where images and their storage lie: beside the roots of scripts/debian."""
    below = Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "constellation"
    return Path(os.environ.get("CONSTELLATION_ROOTS", below)) / "containers"


def missing() -> list[str]:
    """Programs that this run needs and does not find."""
    return [name for name in PROGRAMS if shutil.which(name, path=f"{os.environ['PATH']}:/usr/sbin") is None]


def prepare() -> None:
    """Have Podman keep everything in the cache, without cgroups and without a daemon; install podman-compose there."""
    folder = cache()
    folder.mkdir(parents=True, exist_ok=True)
    storage = f'[storage]\ndriver="overlay"\ngraphroot="{folder}/store"\nrunroot="{folder}/run"\n'
    (folder / "storage.conf").write_text(storage)
    engine = '[engine]\ncgroup_manager="cgroupfs"\nevents_logger="file"\nruntime="crun"\n'
    (folder / "containers.conf").write_text(f'[containers]\ncgroups="disabled"\n{engine}')
    os.environ["CONTAINERS_STORAGE_CONF"] = str(folder / "storage.conf")
    os.environ["CONTAINERS_CONF"] = str(folder / "containers.conf")
    os.environ["PATH"] = f"{folder}/tools/bin:{os.environ['PATH']}:/usr/sbin"
    if not (folder / "tools/bin/podman-compose").exists():
        subprocess.run([sys.executable, "-m", "venv", folder / "tools"], check=True)
        subprocess.run([folder / "tools/bin/pip", "install", "-q", COMPOSE], check=True)


def build(target: str = "constellation", tag: str = IMAGE) -> None:
    """Make the base, once, and the image of it."""
    base = cache() / "base.tar"
    if not base.exists():
        options = [f"--dpkgopt=path-exclude={pattern}" for pattern in EXCLUDED]
        # What this machine believes, holds in the build too.
        options.append(
            '--customize-hook=cat /etc/ssl/certs/ca-certificates.crt >"$1/etc/ssl/certs/ca-certificates.crt"'
        )
        mirrors = [f"deb http://deb.debian.org/{'debian-security' if 'security' in suite else 'debian'} {suite} main"
                   for suite in ("trixie", "trixie-updates", "trixie-security")]  # fmt: skip
        command = ["mmdebstrap", "--quiet", "--variant=minbase", "--include=ca-certificates", *options, "trixie"]
        subprocess.run([*command, f"{base}.new.tar", *mirrors], check=True)
        Path(f"{base}.new.tar").rename(base)
    if subprocess.run(["podman", "image", "exists", BASE]).returncode:
        subprocess.run(["podman", "import", "-q", base, BASE], check=True, stdout=subprocess.DEVNULL)
    command = ["buildah", "bud", "-q", "--isolation", "chroot", "--network", "host", "--format", "docker", "--layers"]
    command += ["--build-arg", f"BASE={BASE}", "-f", str(SHIPPED / "Containerfile"), "-t", tag]
    subprocess.run([*command, "--target", target, str(PROJECT)], check=True)


def size(tag: str = IMAGE) -> int:
    """Bytes of the image's files, unpacked."""
    mounted = subprocess.run(
        ["podman", "image", "mount", tag], check=True, capture_output=True, text=True
    ).stdout.strip()
    try:
        said = subprocess.run(["du", "-sx", "--block-size=1", mounted], check=True, capture_output=True, text=True)
        return int(said.stdout.split()[0])
    finally:
        subprocess.run(["podman", "image", "umount", tag], check=True, stdout=subprocess.DEVNULL)


class ContainersEar:
    """All that the house's broker carries, heard in the containers' network as its operator; begins again when the broker does."""

    def __init__(self, house: "ContainerHouse") -> None:
        """Listen until `close`."""
        self._house, self.heard = house, []  # type: ignore[var-annotated]
        self._closed, self._process = False, None  # type: ignore[var-annotated]
        self._thread = threading.Thread(target=self._listen, daemon=True)
        self._thread.start()

    def _listen(self) -> None:
        house = self._house
        while not self._closed:
            process_id = house.process("house")
            if not process_id or not house.password.exists():
                time.sleep(0.05)
                continue
            command = [
                "nsenter",
                "-t",
                str(process_id),
                "-n",
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


TOPIC: Final = "home/data/house/pi/memory_usage"
HOUSE: Final = """\
timezone: Europe/Paris
broker: {ca: /etc/constellation/ca.crt, password: "secret:mqtt.{instance}"}
sources: {host: {every: 500ms, stale: 1m, heartbeat: 2s}}
subscribers:
  archive: {commit: 200ms, heartbeat: 2s}
  rrd: {heartbeat: 2s}
  alerts: {heartbeat: 2s}
  web: {listen: 0.0.0.0, look: anyone, heartbeat: 2s}
topics: {house/pi/memory_usage: {from: host}}
"""


def _milliseconds(text: str) -> int:
    from datetime import datetime

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
        self.house.compose("up", "-d")
        up = time.monotonic() - began
        wait_for(lambda: all(self.is_well(name) for name in SERVICES), PATIENCE, "the whole house")
        wait_for(self.page, PATIENCE, "the page")
        ready = time.monotonic() - began
        self.say(
            f"ready {ready:.1f} s after `up`, of which it took {up:.1f} s to start {len(SERVICES + OTHERS)} containers"
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
        start = (self.ear.last(f"home/service/{name}/health") or {}).get("start", 0)
        killed = time.monotonic()
        os.kill(before, signal.SIGKILL)
        wait_for(lambda: self.house.process(name) not in (0, before), PATIENCE, f"{name} again")
        if name in SERVICES:
            again = lambda: (self.ear.last(f"home/service/{name}/health") or {}).get("start", 0) > start  # noqa: E731
            wait_for(lambda: again() and self.is_well(name), PATIENCE, f"{name} well again")
        count = len(self.ear.heard)
        wait_for(lambda: self.heard_after(count), PATIENCE, f"readings after {name}")
        self.say(f"killed {name}: the house measures and is heard again after {time.monotonic() - killed:.1f} s")

    def heard_after(self, count: int) -> bool:
        """Whether a reading came behind so many messages."""
        return any(topic == TOPIC for _, topic, _ in self.ear.heard[count:])

    def kill_what_waits(self) -> list[int]:
        """Kill the source while readings lie in memory alone, without a broker to take them."""
        self.house.podman("stop", "-t", "15", self.house.name("broker"))
        waiting = wait_for(self.house.waiting, PATIENCE, "readings in memory")
        before = self.house.process("host")
        os.kill(before, signal.SIGKILL)
        waiting = sorted({*waiting, *self.house.waiting()})
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


def run() -> list[str]:
    """Start, look, kill, count, stop; returns what was seen."""
    with tempfile.TemporaryDirectory(prefix="containers-run-") as scratch:
        Path(scratch).chmod(0o755)
        steps = ContainersRun(Path(scratch) / "constellation")
        try:
            steps.begin()
            steps.look()
            for name in (*SERVICES, *OTHERS):
                steps.kill(name)
            steps.count(steps.kill_what_waits())
            steps.stop()
        finally:
            subprocess.run(["podman", "rm", "-f", "-a", "-t", "0"], capture_output=True)
            subprocess.run(["podman", "volume", "rm", "-f", "-a"], capture_output=True)
    return steps.steps


def in_namespaces() -> int:
    """This command once more, where mounts, processes and network are its own and end with it."""
    # To Podman each run is the first after a boot, and nothing of its networks stays on this machine.
    memory = "".join(
        f"mkdir -p {folder}; mount -t tmpfs tmpfs {folder}; "
        for folder in ("/run", "/var/lib/cni", "/etc/cni/net.d", cache() / "run")
    )
    cgroups = "umount -R /sys/fs/cgroup; mount -t cgroup2 none /sys/fs/cgroup; "
    script = f'{memory}{cgroups}ip link set lo up; exec "$@"'
    fences = [
        "unshare",
        "--mount",
        "--propagation",
        "private",
        "--net",
        "--pid",
        "--fork",
        "--kill-child",
        "--mount-proc",
    ]
    command = [*fences, "--", "sh", "-c", script, "sh", sys.executable, "-m", "tests.containers_run"]
    return subprocess.run(command, cwd=PROJECT, env=os.environ | {INSIDE: "1"}).returncode


def main(words: list[str] | None = None) -> int:
    """Build, measure, run; the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--built", action="store_true", help="take the image that is there")
    arguments = parser.parse_args(words)
    if os.environ.get(INSIDE):
        run()
        return 0
    if os.geteuid() or missing():
        print(f"needs root, and by apt: {' '.join(missing())}", file=sys.stderr)
        return 77
    prepare()
    if not arguments.built:
        build()
    bytes_ = size()
    print(f"the image: {bytes_ / 1e6:.0f} MB unpacked", flush=True)
    assert bytes_ <= SIZE, f"more than {SIZE / 1e6:.0f} MB"
    return in_namespaces()


if __name__ == "__main__":
    sys.exit(main())
