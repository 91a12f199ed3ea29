"""The demo's house: a broker, simulated hardware, and the real services, all in one folder and under one supervisor.

What stands in for hardware is each service's own to say: `NEEDS.simulator` names a function that has it started.
"""

import fcntl
import importlib
import os
import shutil
import socket
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Final, NamedTuple

import yaml

from bootstrap_lib import DocumentError, Instance, Registry, StartError, broker, catalog, reason
from services.simulators.supervisor import Supervisor

MARK: Final = ".constellation-demo"
"""A file that says that a folder is a demo's, and may be emptied; locked while the demo runs."""

RUN_PREFIX: Final = "constellation-demo-"
"""How the folder in memory is called."""


class Stage(NamedTuple):
    """A process that stands in for something of the world; `ready` tells when what stands on it may start."""

    name: str
    command: Sequence[str | Path]
    ready: Callable[[], Any]
    tier: int


class DemoHouse:
    """One run of the house."""

    def __init__(self, source: Path, folder: Path) -> None:
        """`source` is topics.yaml, `folder` where the house lies."""
        self.folder = folder.resolve()
        self.hardware, self.logs = self.folder / "hardware", self.folder / "log"
        self.registry = Registry(source)
        os.environ["PATH"] += ":/usr/sbin"
        find_program("mosquitto")
        find_program("openssl")
        try:
            self._empty()
        except OSError as error:
            raise StartError(
                f"{self.folder} cannot be used ({reason(error)}): remove it, or name another with --folder"
            ) from None
        self.config = self.folder / "etc" / "topics.yaml"
        self.settings = self.folder / "etc" / "demo.yaml"
        """What points the services at what is simulated; read after topics.yaml (CONSTELLATION_SETTINGS)."""
        shutil.copy(source, self.config)
        self.supervisor = Supervisor()
        self.machine: dict[str, Any] = {"sources": {}, "subscribers": {}}
        self.secrets: dict[str, str] = {}
        self._stages: list[Stage] = []
        self._port = free_port()
        self.broker = broker.prepare_broker(self.folder / "broker", self.registry, self._port)

    def _empty(self) -> None:
        mark = self.folder / MARK
        if self.folder.exists() and any(self.folder.iterdir()) and not mark.exists():
            raise StartError(f"{self.folder} is not empty and no demo's folder: name another with --folder")
        self.folder.mkdir(parents=True, exist_ok=True)
        self._lock = mark.open("a")
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise StartError(f"a demo runs in {self.folder} already: end it, or name another with --folder") from None
        self._leave_memory()  # of a demo that was killed
        for path in self.folder.iterdir():
            if path.is_dir() and not path.is_symlink():
                shutil.rmtree(path)
            elif path != mark:
                path.unlink()
        for name in ("etc", "hardware", "log", "state"):
            (self.folder / name).mkdir()

    # -- for the simulators' own `demo` -------------------------------------------------------------------------------

    @property
    def run_folder(self) -> Path:
        """The folder in memory: what /run is to the real services."""
        return (self.folder / "run").resolve()

    def stage(self, name: str, *command: str | Path, ready: Callable[[], Any] = lambda: True, tier: int = 0) -> None:
        """Have a program started before the services; once for a name."""
        if all(stage.name != name for stage in self._stages):
            self._stages.append(Stage(name, command, ready, tier))

    def simulate(self, module: str, *arguments: str | Path, ready: Callable[[], Any] = lambda: True) -> None:
        """Have a simulator of services.simulators started before the services; once for a module."""
        command = (sys.executable, "-m", f"services.simulators.{module}", *arguments)
        self.stage(f"simulated {module}", *command, ready=ready, tier=1)

    def log(self, name: str) -> Path:
        """File that a process writes its words to."""
        return self.logs / f"{name.replace(' ', '_')}.log"

    # -- the run ------------------------------------------------------------------------------------------------------

    def start(self) -> None:
        """Start broker, hardware and services; each says what it is."""
        memory = Path("/dev/shm")  # noqa: S108 (what /run is to the real services)
        (self.folder / "run").symlink_to(tempfile.mkdtemp(prefix=RUN_PREFIX, dir=memory if memory.is_dir() else None))
        say("broker: mosquitto with TLS, passwords and access lists")
        self.supervisor.start("broker", ["mosquitto", "-c", self.broker.config], self.log("broker"))
        wait_for(lambda: answers(self._port), "the broker")
        say("hardware: a house with boiler, battery and meters, simulated behind the real drivers")
        self._prepare()
        for stage in self._stages:
            self.supervisor.start(stage.name, stage.command, self.log(stage.name), tier=stage.tier)
            wait_for(stage.ready, stage.name)
        self.registry = Registry(self.config)
        for instance in self.registry.instances.values():
            if instance.here:
                self._start_service(instance.name)
        print()  # noqa: T201

    def _prepare(self) -> None:
        """Ask each service for what stands in for its hardware; write its settings, and secrets as a person would have."""
        self.machine["broker"] = self.broker.settings
        self.simulate("house", "--config", self.config, self.hardware, ready=(self.hardware / "renogy.json").exists)
        for instance in self.registry.instances.values():
            name = catalog.needs_of(instance.service).simulator
            options = _function(name)(self, instance) if name else {}
            self.machine[instance.section][instance.name] = options | {"heartbeat": "10s"}
        self.settings.write_text(yaml.safe_dump(self.machine, sort_keys=False))
        os.environ["CONSTELLATION_SETTINGS"] = str(self.settings)
        os.environ["CONSTELLATION_CREDENTIALS"] = str(self.broker.credentials)
        for name, text in self.secrets.items():
            path = self.broker.credentials / name
            path.touch(mode=0o600)
            path.write_text(text)

    def _start_service(self, name: str) -> None:
        service = catalog.find(self.registry.instances[name].service)
        folders = {
            "STATE_DIRECTORY": str(self.folder / "state" / name),
            "RUNTIME_DIRECTORY": str(self.folder / "run" / name),
        }
        environment = folders | {"CONSTELLATION_CLOCK_PATIENCE": "0"}
        command: list[str | Path] = [sys.executable, "-m", "bootstrap_lib.cli", "--config", self.config, "run", name]
        self.supervisor.start(name, command, self.log(name), environment, tier=2)
        say(f"{name}: {(service.__doc__ or '').strip().splitlines()[0]}")

    def look_after(self) -> list[str]:
        """Start again what has ended; returns what there is to say."""
        return list(self.supervisor.look_after(self._is_gone))

    def _is_gone(self, name: str) -> bool:
        """Whether topics.yaml no longer has what it had at the start; a broken one has it still."""
        try:
            return name in self.registry.instances and name not in Registry(self.config).instances
        except DocumentError:
            return False

    def stop(self) -> None:
        """End everything, and leave nothing in memory."""
        self.supervisor.stop()
        self._leave_memory()

    def _leave_memory(self) -> None:
        run = self.folder / "run"
        if run.is_symlink() and run.resolve().name.startswith(RUN_PREFIX):
            shutil.rmtree(run.resolve(), ignore_errors=True)
            run.unlink()


def _function(name: str) -> Callable[[DemoHouse, Instance], dict[str, Any]]:
    module, _, function = name.partition(":")
    found: Callable[[DemoHouse, Instance], dict[str, Any]] = getattr(importlib.import_module(module), function)
    return found


def say(sentence: str) -> None:
    """Tell what happens, with the time."""
    print(f"{time.strftime('%H:%M:%S')}  {sentence}", flush=True)  # noqa: T201


def free_port() -> int:
    """A port of loopback that nobody listens on now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def find_program(name: str) -> str:
    """Path of a program that the demo starts; StartError if it is missing."""
    if path := shutil.which(name):
        return path
    raise StartError(f"not installed: {name}. Run scripts/demo, which installs what is missing")


def answers(port: int) -> bool:
    """Whether somebody listens on a port of loopback."""
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def wait_for(condition: Callable[[], Any], what: str, seconds: float = 20.0) -> Any:
    """Return the condition's value as soon as it is true; StartError after so many seconds."""
    deadline = time.monotonic() + seconds
    while not (value := condition()):
        if time.monotonic() > deadline:
            raise StartError(f"{what} did not start within {seconds:g} s: see the demo's log folder")
        time.sleep(0.05)
    return value
