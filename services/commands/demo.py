"""Run the whole house on simulated hardware: real services, a real broker, real databases.

Nothing above the wires is simulated. The broker uses the shipped configuration, with TLS, passwords and access lists.
Everything lies in one folder (default: ./demo), which is emptied at the start and left there at the end.
"""

import argparse
import fcntl
import os
import shlex
import shutil
import signal
import socket
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import yaml

from bootstrap_lib import DocumentError, Registry, StartError, broker, catalog, find_registry, machine_file, reason
from services.simulators.supervisor import Supervisor

MARK: Final = ".constellation-demo"
"""A file that says that a folder is a demo's, and may be emptied; locked while the demo runs."""

RUN_PREFIX: Final = "constellation-demo-"
"""How the folder in memory is called."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Say what `demo` takes."""
    parser.add_argument(
        "--for", dest="seconds", type=float, default=float("inf"), metavar="SECONDS", help="end after so long"
    )
    parser.add_argument("--folder", type=Path, default=Path("demo"), help="where everything lies (default: ./demo)")


class Demo:
    """One run of the house."""

    def __init__(self, source: Path, folder: Path) -> None:
        """`source` is topics.yaml, `folder` where the house lies."""
        self.folder = folder.resolve()
        self.hardware, self.logs = self.folder / "hardware", self.folder / "log"
        self.registry = Registry(source)
        _find_programs("influx" in self._services(), "bms" in self._services())
        try:
            self._empty()
        except OSError as error:
            raise StartError(
                f"{self.folder} cannot be used ({reason(error)}): remove it, or name another with --folder"
            ) from None
        self.config = self.folder / "etc" / "topics.yaml"
        shutil.copy(source, self.config)
        self.supervisor = Supervisor()
        self.ports = {name: _free_port() for name in ("broker", "web", "pushover", "victoria")}
        self.broker: broker.PreparedBroker

    def _services(self) -> set[str]:
        return {instance.service for instance in self.registry.instances.values()}

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

    def start(self) -> None:
        """Start hardware, broker and services; each says what it is."""
        memory = Path("/dev/shm")  # noqa: S108 (what /run is to the real services)
        (self.folder / "run").symlink_to(tempfile.mkdtemp(prefix=RUN_PREFIX, dir=memory if memory.is_dir() else None))
        say("broker: mosquitto with TLS, passwords and access lists")
        self.broker = broker.prepare_broker(self.folder / "broker", self.registry, self.ports["broker"])
        self.supervisor.start("broker", ["mosquitto", "-c", self.broker.config], self.logs / "broker.log")
        _wait_for(lambda: _answers(self.ports["broker"]), "the broker")
        self._write_machine_file()
        self._write_secrets()
        self._start_hardware()
        self.registry = Registry(self.config)
        for instance in self.registry.instances.values():
            if instance.here:
                self._start_service(instance.name)
        print()

    def _write_machine_file(self) -> None:
        """Point the services at the simulated hardware, in the form in which the machine writes settings."""
        overrides = {
            "onewire": {"every": "2s", "stale": "6s", "bus": str(self.hardware / "w1")},
            "adc": {"bus": f"sim:{self.hardware}/adc.json"},
            "host": {"sys": str(self.hardware / "sys")},
            "wmbus": {"device": str(self.hardware / "im871a")},
            "modbus": {"device": str(self.hardware / "renogy")},
            "http": {"url": f"http://127.0.0.1:{self.ports['web']}/stands.json"},
            "pushover": {"api_url": f"http://127.0.0.1:{self.ports['pushover']}/1/"},
            "influx": {"url": f"http://127.0.0.1:{self.ports['victoria']}"},
        }
        content: dict[str, Any] = {"broker": self.broker.settings, "sources": {}, "subscribers": {}}
        for instance in self.registry.instances.values():
            content[instance.section][instance.name] = overrides.get(instance.service, {}) | {"heartbeat": "10s"}
        content["phases"] = {name: {"rules": QUICK_RULES} for name in self.registry.document.section("phases")}
        self.config.with_name(machine_file.NAME).write_text(yaml.safe_dump(content, sort_keys=False))

    def _write_secrets(self) -> None:
        """Give the house the secrets that a person would have put there, with values of the demo's own."""
        os.environ["CONSTELLATION_CREDENTIALS"] = str(self.broker.credentials)
        meters = {str(topic.options["meter"]) for topic in self.registry.topics.values() if "meter" in topic.options}
        for name, text in (DEMO_SECRETS | {f"wmbus.{meter}": DEMO_KEY for meter in meters}).items():
            path = self.broker.credentials / name
            path.touch(mode=0o600)
            path.write_text(text)

    def _simulator(self, name: str, *arguments: str | Path) -> None:
        command = [sys.executable, "-m", f"services.simulators.{name}", *arguments]
        self.supervisor.start(f"simulated {name}", command, self.logs / f"simulated_{name}.log", tier=1)

    def _start_hardware(self) -> None:
        services = self._services()
        say("hardware: a house with boiler, battery and meters, simulated behind the real drivers")
        self._simulator("house", "--config", self.config, self.hardware)
        _wait_for((self.hardware / "renogy.json").exists, "the simulated house")
        if "modbus" in services:
            self._simulator("renogy", "--link", self.hardware / "renogy", "--state", self.hardware / "renogy.json")
        if "wmbus" in services:
            self._simulator(
                "im871a", "--config", self.config, "--link", self.hardware / "im871a", self.hardware / "meters.json"
            )
        if "http" in services:
            self._simulator("web", "--port", str(self.ports["web"]))
        if "pushover" in services:
            self._simulator("pushover", "--port", str(self.ports["pushover"]), "--log", self.folder / "pushover.jsonl")
        if "button" in services:
            os.environ["GPIOZERO_PIN_FACTORY"] = "mock"
        if "bms" in services:
            self._start_batteries()
        if "influx" in services:
            place, address = self.folder / "state" / "victoria", f"127.0.0.1:{self.ports['victoria']}"
            command: list[str | Path] = ["victoria-metrics", f"-storageDataPath={place}", f"-httpListenAddr={address}"]
            command += ["-dedup.minScrapeInterval=1ms", "-retentionPeriod=10y"]
            self.supervisor.start("victoria-metrics", command, self.logs / "victoria.log", tier=1)

    def _start_batteries(self) -> None:
        bus = self.folder.joinpath("run").resolve() / "system_bus"
        os.environ["DBUS_SYSTEM_BUS_ADDRESS"] = address = f"unix:path={bus}"
        command = ["dbus-daemon", "--session", f"--address={address}", "--nofork", "--nopidfile"]
        self.supervisor.start("bus", command, self.logs / "bus.log")
        _wait_for(bus.exists, "the simulated system bus")
        batteries = (
            battery for instance in self.registry.find("bms") for battery in instance.raw["batteries"].values()
        )
        options: list[str | Path] = ["--values", self.hardware / "battery.json"]
        for battery in batteries:
            described = (battery["address"], battery.get("protocol", "jbd"), battery.get("adapter", "hci0"))
            options += ["--battery", ",".join(described)]
        self._simulator("bluez", *options)
        _wait_for(lambda: "ready" in (self.logs / "simulated_bluez.log").read_text(), "the simulated BlueZ")

    def _start_service(self, name: str) -> None:
        service = catalog.find(self.registry.instances[name].service)
        folders = {
            "STATE_DIRECTORY": str(self.folder / "state" / name),
            "RUNTIME_DIRECTORY": str(self.folder / "run" / name),
        }
        environment = folders | {"CONSTELLATION_CLOCK_PATIENCE": "0"}
        command: list[str | Path] = [sys.executable, "-m", "bootstrap_lib.cli", "--config", self.config, "run", name]
        self.supervisor.start(name, command, self.logs / f"{name}.log", environment, tier=2)
        say(f"{name}: {(service.__doc__ or '').strip().splitlines()[0]}")

    def stop(self) -> None:
        """End everything, and leave nothing in memory."""
        self.supervisor.stop()
        self._leave_memory()

    def _leave_memory(self) -> None:
        run = self.folder / "run"
        if run.is_symlink() and run.resolve().name.startswith(RUN_PREFIX):
            shutil.rmtree(run.resolve(), ignore_errors=True)
            run.unlink()

    def hints(self) -> str:
        """Where to look."""
        settings = {"CONSTELLATION_CREDENTIALS": self.broker.credentials, "CONSTELLATION_CONFIG": self.config}
        exports = " ".join(f"{name}={shlex.quote(str(path))}" for name, path in settings.items())
        command = shlex.quote(str(Path(sys.executable).with_name("constellation")))
        return f"""Look, in another terminal:
  {self.broker.subscribe_line()}
  export {exports}
  {command} watch
  {command} status
Files:
  {self.folder}/state/archive/archive.sqlite   every reading (sqlite3)
  {self.folder}/state/rrd/                      round-robin files and graphs
  {self.folder}/pushover.jsonl                 what the phone would have got
  {self.folder}/log/                           what each process says
Within a minute the fuel box is too hot: an alert fires, reaches the stand-in for Pushover, and resolves.
Try: kill -9 any process; it comes back, and nothing is lost. Ctrl-C ends everything.
"""

    def _is_gone(self, name: str) -> bool:
        """Whether topics.yaml no longer has what it had at the start; a broken one has it still."""
        try:
            return name in self.registry.instances and name not in Registry(self.config).instances
        except DocumentError:
            return False

    def run(self, seconds: float) -> None:
        """Look after the processes until the time is over."""
        until = time.monotonic() + seconds
        messages = Path(self.folder / "pushover.jsonl")
        seen = 0
        while time.monotonic() < until:
            for sentence in self.supervisor.look_after(self._is_gone):
                say(sentence)
            lines = messages.read_text().splitlines() if messages.exists() else []
            for line in lines[seen:]:
                say(f"phone: {_shown(line)}")
            seen = len(lines)
            time.sleep(min(0.5, max(0.0, until - time.monotonic())))


QUICK_RULES: Final[dict[str, Any]] = {
    "dwell": {"unknown": 2, "off": 4, "prepurge": 1, "ignition": 4, "combustion": 10, "burnout": 4, "keep_fire": 4},
    "water": {"rate": 3, "settle_s": 4, "window_s": 30},
    "flue": {"high": 500, "rate": 15, "settle_s": 4, "window_s": 12},
    "return": {"rate": 3, "settle_s": 4},
    "igniter": {"on": 1.0, "off": 0.5, "tau_s": 1, "duty_on": 0.5, "duty_off": 0.3},
    "fan": {"on": 0.06, "off": 0.03, "tau_s": 2, "duty_on": 0.6, "duty_off": 0.3},
    "auger": {"on": 0.2, "off": 0.1, "tau_s": 6, "duty_on": 0.1, "duty_off": 0.03, "duty_max": 0.97},
    "stale_s": 20,
    "ignition_slope": 30,
    "cooling_slope": 12,
    "water_slope": 4.5,
    "ignition_max_s": 60,
    "prepurge_max_s": 10,
    "burst_s": 6,
    "burnout_max_s": 80,
    "keep_fire_s": 360,
    "cycle_gap_s": 120,
    "fire_out_s": 10,
    "jam_s": 10,
    "auger_rate": 360,
}
"""Rules of the boiler's phases for a house that lives thirty times faster than life."""

DEMO_KEY: Final = "000102030405060708090A0B0C0D0E0F"
"""Of all simulated meters."""

DEMO_SECRETS: Final = {
    "pushover.token": "azGDORePK8gMaC0QOYAMyEEuzJnyUi",
    "pushover.user": "uQiRzpo4DXghDmr9QzzfQu27cmVRsG",
}
"""Tokens of the right shape for the local stand-in; they open nothing."""


def say(sentence: str) -> None:
    """Tell what happens, with the time."""
    print(f"{time.strftime('%H:%M:%S')}  {sentence}", flush=True)


def _shown(line: str) -> str:
    import json  # noqa: PLC0415

    try:
        entry = json.loads(line)
    except ValueError:
        return line[:200]
    body = entry.get("form", entry.get("message", entry))
    return str(body.get("message", body) if isinstance(body, dict) else body)[:200]


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def _find_programs(influx: bool, bms: bool) -> None:
    """StartError if a program is missing that the demo starts."""
    os.environ["PATH"] += ":/usr/sbin"
    wanted = {"mosquitto": True, "openssl": True, "victoria-metrics": influx, "dbus-daemon": bms}
    if missing := ", ".join(name for name, needed in wanted.items() if needed and not shutil.which(name)):
        raise StartError(f"not installed: {missing}. Run scripts/demo, which installs what is missing")


def _answers(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def _wait_for(condition: Callable[[], Any], what: str, seconds: float = 20.0) -> Any:
    deadline = time.monotonic() + seconds
    while not (value := condition()):
        if time.monotonic() > deadline:
            raise StartError(f"{what} did not start within {seconds:g} s: see the demo's log folder")
        time.sleep(0.05)
    return value


def main(arguments: argparse.Namespace) -> int:
    """Start, look after, and end everything."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        if number != signal.SIGHUP or signal.getsignal(number) != signal.SIG_IGN:  # which is what nohup(1) asks for
            signal.signal(number, signal.default_int_handler)
    demo = Demo(find_registry(arguments.config), arguments.folder)
    try:
        demo.start()
        print(demo.hints(), flush=True)
        demo.run(arguments.seconds)
    except KeyboardInterrupt:
        print()
    finally:
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            signal.signal(number, signal.SIG_IGN)
        say("ending")
        demo.stop()
        say("everything has ended; the folder is left to be looked at")
    return 0
