"""Real brokers and real services as processes of the tests' own, on loopback, in folders of their own."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import paho.mqtt.client as mqtt
import pytest

PROJECT = Path(__file__).resolve().parent.parent
PATIENCE = 30.0
"""Seconds that a busy machine may take for what takes a moment."""


def free_port() -> int:
    """A port of loopback that nobody listens on now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def busy(seconds: float) -> float:
    """Return `seconds`, longer by as much as whoever runs on this machine just now waits for it: a limit of real time."""
    wall, worked = time.monotonic(), time.process_time()
    while time.process_time() - worked < 0.05:
        pass
    return seconds * max(1.0, (time.monotonic() - wall) / 0.05)


def wait_for(condition: Callable[[], Any], timeout: float = 30.0, what: str = "the condition") -> Any:
    """Return the condition's value as soon as it is true; fail after `timeout` seconds."""
    deadline = time.monotonic() + timeout
    while True:
        if value := condition():
            return value
        if time.monotonic() > deadline:
            pytest.fail(f"{what} did not come within {timeout:g} s")
        time.sleep(0.02)


class Broker:
    """A mosquitto of our own; what it keeps in memory is lost when it is killed, as in life."""

    def __init__(self, folder: Path, extra: str = "") -> None:
        self.port = free_port()
        self.folder = folder
        folder.mkdir(parents=True, exist_ok=True)
        self.config = folder / "mosquitto.conf"
        self.config.write_text(
            f"listener {self.port} 127.0.0.1\nallow_anonymous true\nmax_inflight_messages 2000\n"
            f"max_queued_messages 200000\nlog_dest file {folder}/mosquitto.log\nuser root\n{extra}"
        )
        self.process: subprocess.Popen[bytes] | None = None

    def start(self) -> "Broker":
        self.process = subprocess.Popen(["mosquitto", "-c", self.config], stderr=subprocess.DEVNULL)
        wait_for(self._answers, what="mosquitto")
        return self

    def _answers(self) -> bool:
        with socket.socket() as probe:
            return probe.connect_ex(("127.0.0.1", self.port)) == 0

    def stop(self) -> None:
        if self.process:
            self.process.terminate()
            self.process.wait(10)

    def kill(self) -> None:
        self.process.kill()
        self.process.wait(10)


class Ear:
    """A client that remembers all it hears: the tests' `mosquitto_sub`."""

    def __init__(self, port: int, pattern: str = "home/#") -> None:
        self.heard: list[tuple[str, bytes, bool]] = []
        self._asked = 0
        self._client = mqtt.Client(mqtt.CallbackAPIVersion.VERSION2, protocol=mqtt.MQTTv5)
        self._client.on_connect = lambda client, *_: client.subscribe(pattern, 1)
        self._client.on_message = lambda _c, _d, message: self.heard.append(
            (message.topic, message.payload, message.retain)
        )
        self._client.reconnect_delay_set(1, 1)
        self._client.connect("127.0.0.1", port)
        self._client.loop_start()

    def say(self, topic: str, payload: str | bytes = b"", *, retain: bool = False, qos: int = 1) -> None:
        self._client.publish(topic, payload, qos, retain).wait_for_publish(5)

    def all(self, topic: str) -> list[bytes]:
        return [payload for heard, payload, _ in list(self.heard) if heard == topic]

    def values(self, topic: str) -> list[bytes]:
        """What was said there; that it was cleared is no value."""
        return [payload for payload in self.all(topic) if payload]

    def last(self, topic: str) -> Any:
        payloads = self.all(topic)
        if not payloads:
            return None
        try:
            return json.loads(payloads[-1]) if payloads[-1] else b""
        except ValueError:
            return payloads[-1].decode()

    def wait(self, topic: str, accept: Callable[[Any], bool] = lambda _: True, timeout: float = 30.0) -> Any:
        def look() -> Any:
            value = self.last(topic)
            return (value,) if value is not None and accept(value) else None

        return wait_for(look, timeout, f"{topic} (last {self.last(topic)!r})")[0]

    def ask(self, instance: str, verb: str, payload: dict[str, Any] | None = None, timeout: float = 30.0) -> Any:
        self._asked += 1
        listed = isinstance(payload, list)  # has no place for an id: the next answer is taken
        asked = payload if listed else {"id": f"test-{self._asked}"} | (payload or {})
        topic = f"home/service/{instance}/response/{verb}"
        known = len(self.all(topic))
        self.say(f"home/service/{instance}/request/{verb}", json.dumps(asked), qos=0)

        def answer() -> Any:
            for body in map(json.loads, self.all(topic)[known:]):
                if (listed or body.get("id") == asked["id"]) and body["status"] in ("ok", "error"):
                    return body
            return None

        body = wait_for(answer, timeout, f"an answer of {instance} to {verb}")
        if "id" not in (payload or {}):
            body.pop("id", None)
        return body

    def close(self) -> None:
        self._client.disconnect()
        self._client.loop_stop()


def stand_in(service: Any, **parts: Any) -> Any:
    """Give a service that is not started what it would have of its process: a clock, a bus, health."""
    service.load(service.registry)
    service._process = SimpleNamespace(keep=lambda file, value: None, error=lambda *_: None, **parts)
    return service


class House:
    """A topics.yaml and the services that it names, run as processes by the real command."""

    def __init__(self, folder: Path, port: int) -> None:
        self.folder, self.port = folder, port
        self.config = folder / "config" / "topics.yaml"
        self.config.parent.mkdir(parents=True)
        self.processes: dict[str, subprocess.Popen[bytes]] = {}
        self.environment = os.environ | {"CONSTELLATION_CLOCK_PATIENCE": "0", "PYTHONUNBUFFERED": "1"}
        self.code = PROJECT
        """Whose services are started: a checkout of this version, or another."""

    def write(self, text: str) -> None:
        """Write topics.yaml; the broker's line is put in front."""
        beside = self.config.with_suffix(".new")
        beside.write_text(f"broker: {{port: {self.port}}}\n{text}")
        beside.replace(self.config)

    def state(self, name: str) -> Path:
        return self.folder / "state" / name

    def log(self, name: str) -> str:
        path = self.folder / f"{name}.log"
        return path.read_text() if path.exists() else ""

    def start(
        self, name: str, *, wait: bool = True, prefix: tuple[str, ...] = (), **environment: str
    ) -> subprocess.Popen[bytes]:
        folders = {"STATE_DIRECTORY": str(self.state(name)), "RUNTIME_DIRECTORY": str(self.folder / "run" / name)}
        before = self.log(name).count(": started")
        with (self.folder / f"{name}.log").open("ab") as log:
            command = [*prefix, sys.executable, "-m", "bootstrap_lib.cli", "--config", self.config, "run", name]
            process = subprocess.Popen(
                command, stderr=log, stdout=log, env=self.environment | folders | environment, cwd=self.code
            )
        self.processes[name] = process
        if wait:
            wait_for(
                lambda: self.log(name).count(": started") > before or process.poll() is not None, 40, f"start of {name}"
            )
            assert process.poll() is None, self.log(name)
        return process

    def stop(self, name: str, number: int = signal.SIGTERM, timeout: float = 30.0) -> int:
        process = self.processes.pop(name)
        process.send_signal(number)
        return process.wait(timeout)

    def kill(self, name: str) -> None:
        self.stop(name, signal.SIGKILL)

    def close(self) -> None:
        for process in self.processes.values():
            process.send_signal(signal.SIGCONT)
            process.terminate()
        for process in self.processes.values():
            try:
                process.wait(10)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        for path in self.folder.glob("*.log"):
            assert "Traceback" not in path.read_text(), f"{path.name} has a traceback:\n{path.read_text()}"
