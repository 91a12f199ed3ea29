"""`--daemon`, for hosts without systemd: python-daemon's part, with the shipped broker (TLS, passwords, rights)."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from harness import free_port, wait_for

from bootstrap_lib.broker import prepare_broker
from bootstrap_lib.registry import Registry
from services.simulators.onewire import Tree

WATER, FLUE = "28-0316a4f1c9ff", "28-0316a4f1d2aa"
LINE = f"  boiler/flue/temperature: {{from: onewire, id: {FLUE}}}\n"


class Daemon:
    """The instance `onewire` as a daemon, beside a broker; nothing of systemd's is in its environment."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.config = folder / "topics.yaml"
        self.pidfile = folder / "run" / "pid"
        self.tree = Tree(folder / "w1")
        self.tree.set(WATER, 61.5)
        self.tree.set(FLUE, 120.0)
        self.config.write_text("sources: {onewire: {}}\n")
        self.files = prepare_broker(folder / "broker", Registry(self.config), free_port())
        self.write()
        self.mosquitto = subprocess.Popen(["mosquitto", "-c", self.files.config], stderr=subprocess.DEVNULL)
        self.environment = {
            name: value for name, value in os.environ.items() if name not in ("NOTIFY_SOCKET", "INVOCATION_ID")
        }
        self.environment |= {
            "CONSTELLATION_CLOCK_PATIENCE": "0",
            "CONSTELLATION_CREDENTIALS": str(self.files.credentials),
            "STATE_DIRECTORY": str(folder / "state"),
            "RUNTIME_DIRECTORY": str(folder / "run"),
        }
        self.started: set[int] = set()

    def write(self, more: str = "") -> None:
        beside = self.config.with_suffix(".new")
        beside.write_text(
            f"broker: {json.dumps(self.files.settings)}\n"
            f"sources:\n  onewire: {{every: 200ms, heartbeat: 1s, bus: {self.folder / 'w1'}}}\n"
            f"topics:\n  boiler/water/temperature: {{from: onewire, id: {WATER}}}\n{more}"
        )
        beside.replace(self.config)

    def start(self, **environment: str) -> subprocess.CompletedProcess[str]:
        program = Path(sys.executable).with_name("constellation")
        command = [program, "--config", self.config, "run", "onewire", "--daemon", "--pidfile", self.pidfile]
        done = subprocess.run(command, capture_output=True, text=True, env=self.environment | environment, timeout=20)
        if done.returncode == 0:
            wait_for(lambda: self.pidfile.exists() and self.pidfile.read_text().strip(), what="the pidfile")
            self.started.add(self.pid)
        return done

    @property
    def pid(self) -> int:
        return int(self.pidfile.read_text())

    def retained(self, topic: str, timeout: int = 5) -> str:
        command = ["mosquitto_sub", "-C", "1", "-W", str(timeout), "-t", topic]
        environment = os.environ | {"XDG_CONFIG_HOME": str(self.files.operator)}
        return subprocess.run(command, capture_output=True, text=True, env=environment).stdout.strip()

    def close(self) -> None:
        for pid in filter(lives, self.started):
            os.kill(pid, signal.SIGKILL)
        self.mosquitto.terminate()
        self.mosquitto.wait(10)


def lives(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


@pytest.fixture
def daemon(tmp_path: Path) -> Iterator[Daemon]:
    daemon = Daemon(tmp_path)
    yield daemon
    daemon.close()


def test_it_detaches_measures_reloads_on_sighup_and_says_offline_on_sigterm(daemon: Daemon) -> None:
    done = daemon.start()
    assert (done.returncode, done.stdout) == (0, "")
    pid = daemon.pid
    wait_for(lambda: daemon.retained("home/service/onewire/status", 1) == "online", what="online")
    assert json.loads(daemon.retained("home/data/boiler/water/temperature"))["value"] == 61.5
    assert json.loads(daemon.retained("home/service/onewire/health"))["pid"] == pid
    assert os.getsid(pid) != os.getsid(0)
    assert Path(f"/proc/{pid}/fd/0").readlink() == Path("/dev/null")
    umask = next(line for line in Path(f"/proc/{pid}/status").read_text().splitlines() if line.startswith("Umask"))
    assert umask.split()[1] == "0027"
    daemon.write(LINE)
    os.kill(pid, signal.SIGHUP)
    assert json.loads(daemon.retained("home/data/boiler/flue/temperature"))["value"] == 120.0
    assert daemon.pid == pid
    os.kill(pid, signal.SIGTERM)
    wait_for(lambda: not lives(pid), what="its end")
    assert daemon.retained("home/service/onewire/status") == "offline"
    assert not daemon.pidfile.exists()


def test_its_files_may_be_named_relative_to_where_it_is_started(daemon: Daemon) -> None:
    program = Path(sys.executable).with_name("constellation")
    command = [program, "--config", "topics.yaml", "run", "onewire", "--daemon", "--pidfile", "run/pid"]
    assert subprocess.run(command, env=daemon.environment, cwd=daemon.folder, timeout=20).returncode == 0
    wait_for(lambda: daemon.pidfile.exists() and daemon.pidfile.read_text().strip(), what="the pidfile")
    daemon.started.add(daemon.pid)
    wait_for(lambda: daemon.retained("home/service/onewire/status", 1) == "online", what="online")


def test_a_second_start_is_refused_and_the_first_goes_on(daemon: Daemon) -> None:
    daemon.start()
    pid = daemon.pid
    again = daemon.start()
    assert again.returncode != 0
    assert again.stderr == f"constellation run: it runs already as process {pid} ({daemon.pidfile})\n"
    assert lives(pid)
    assert daemon.pid == pid


def test_a_pidfile_left_by_a_killed_daemon_heals(daemon: Daemon) -> None:
    daemon.start()
    pid = daemon.pid
    os.kill(pid, signal.SIGKILL)
    wait_for(lambda: not lives(pid), what="its end")
    assert daemon.pidfile.exists()
    assert daemon.start().returncode == 0
    assert daemon.pid != pid
    wait_for(lambda: daemon.retained("home/service/onewire/status", 1) == "online", what="online")


def test_a_pidfile_whose_number_belongs_to_a_stranger_by_now_heals(daemon: Daemon) -> None:
    stranger = subprocess.Popen(["sleep", "60"])
    daemon.pidfile.parent.mkdir(parents=True)
    daemon.pidfile.write_text(f"{stranger.pid}\n")
    assert daemon.start().returncode == 0
    assert daemon.pid != stranger.pid
    assert stranger.poll() is None
    stranger.kill()
    stranger.wait()


@pytest.mark.parametrize("left", ["", "no number\n"])
def test_a_damaged_pidfile_heals(daemon: Daemon, left: str) -> None:
    daemon.pidfile.parent.mkdir(parents=True)
    daemon.pidfile.write_text(left)
    assert daemon.start().returncode == 0
    wait_for(lambda: daemon.retained("home/service/onewire/status", 1) == "online", what="online")


def test_under_systemd_it_is_refused_in_a_sentence(daemon: Daemon) -> None:
    done = daemon.start(NOTIFY_SOCKET="/run/systemd/notify")
    assert done.returncode != 0
    assert done.stderr.startswith("constellation run: --daemon is for hosts without systemd")
    assert "Traceback" not in done.stderr
    assert not daemon.pidfile.exists()
