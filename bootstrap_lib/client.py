"""A person's connection to the broker, for the commands: listens for a moment, asks a service and waits for its answer.

It is the user `operator` at the broker; its password lies beside the others as `mqtt.operator`.
"""

import json
import logging
import os
import queue
import socket
import time
from collections.abc import Callable, Iterator
from types import TracebackType
from typing import Any, ClassVar, Self

import msgspec

from bootstrap_lib import broker, secrets
from bootstrap_lib.bus import Bus
from bootstrap_lib.control import Request
from bootstrap_lib.document import StartError, escaped, plain
from bootstrap_lib.events import Connected, Event, Message, Published
from bootstrap_lib.reading import as_json
from bootstrap_lib.registry import Registry

PATIENCE = 5.0
"""Seconds to wait for the broker."""

log = logging.getLogger(Bus.__module__)


def operator(registry: Registry) -> str:
    """User that a person is at the broker: `operator`, or on a machine that only joined the house one with fewer rights."""
    user = broker.visitor(socket.gethostname())
    joined = registry.broker.password and not secrets.is_there("mqtt.operator") and secrets.is_there(f"mqtt.{user}")
    return user if joined else "operator"


class Client:
    """Context in which there is a connection; StartError says why there is none."""

    ADVICE: ClassVar = "; `constellation doctor` looks for the cause"
    """What to do where there is no broker."""

    def __init__(self, registry: Registry, user: str | None = None, patience: float = PATIENCE) -> None:
        """Prepare it for a user of the broker (the operator, or who is that on this machine) that waits `patience` seconds for it.

        The connection is made on entering.
        """
        user = user or operator(registry)
        self.registry, self._patience = registry, patience
        self._events: queue.SimpleQueue[Event] = queue.SimpleQueue()
        self._patterns: dict[str, None] = {}
        self._bus = Bus(registry.broker, user, self._events.put, session_expiry=0, client_id=f"{user}_{os.getpid()}")

    def __enter__(self) -> Self:
        """Connect."""
        log.disabled = True  # until there is a connection, what it has to say is in the error
        try:
            self._bus.start()
            deadline = time.monotonic() + self._patience
            while not isinstance(self._next(deadline), Connected):
                if time.monotonic() >= deadline:
                    self._bus.stop(0.1)
                    silent = f"the broker at {self.registry.broker.host}:{self._bus.port} does not answer"
                    raise StartError((self._bus.trouble or silent).removesuffix("; trying on") + self.ADVICE)
        except OSError as error:
            raise StartError(str(error)) from None
        finally:
            log.disabled = False
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Disconnect."""
        self._bus.stop(1.0)

    def _next(self, deadline: float) -> Event | None:
        try:
            event = self._events.get(timeout=max(0.0, deadline - time.monotonic()))
        except queue.Empty:
            return None
        if isinstance(event, Connected):  # again, perhaps: the broker has forgotten us
            for pattern in self._patterns:
                self._bus.subscribe(pattern, qos=1)
        return event

    def subscribe(self, pattern: str) -> None:
        """Listen to topics below the root, also after a lost connection; StartError where MQTT has no such pattern."""
        pattern = f"{self.registry.root}/{pattern}"
        try:
            self._bus.subscribe(pattern, qos=1)
        except ValueError:
            raise StartError(
                f"'{pattern}' is no pattern of MQTT: + stands for a level, # for the rest of them"
            ) from None
        self._patterns[pattern] = None

    def messages(self, seconds: float) -> Iterator[Message]:
        """Messages as they come, for that long."""
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            event = self._next(deadline)
            if isinstance(event, Message):
                self._bus.acknowledge([event])
                yield event

    def retained(self, pattern: str, quiet: float = 0.5) -> dict[str, bytes]:
        """What stands on topics now: collected until nothing came for `quiet` seconds."""
        self.subscribe(pattern)
        found: dict[str, bytes] = {}
        deadline = time.monotonic() + quiet
        while pattern not in found and (event := self._next(deadline)) is not None:
            if isinstance(event, Message) and event.retained:
                self._bus.acknowledge([event])
                found[event.topic.removeprefix(f"{self.registry.root}/")] = event.payload
                deadline = time.monotonic() + quiet
        self._bus.unsubscribe(f"{self.registry.root}/{pattern}")
        self._patterns.pop(f"{self.registry.root}/{pattern}")
        return found

    def deliver(self, topic: str, payload: bytes, patience: float) -> bool:
        """Publish below the root, and wait for the broker's word; whether it has taken the message."""
        mid = self._bus.publish(f"{self.registry.root}/{topic}", payload, qos=1)
        deadline = time.monotonic() + patience
        while (event := self._next(deadline)) is not None:
            if isinstance(event, Published) and event.mid == mid:
                return event.refusal is None
        return False

    def publish(self, topic: str, payload: bytes, *, retain: bool = False) -> None:
        """Publish below the root."""
        self._bus.publish(f"{self.registry.root}/{topic}", payload, qos=1, retain=retain)

    def ask(
        self,
        instance: str,
        verb: str,
        arguments: dict[str, Any] | None = None,
        timeout: float = 30.0,
        progress: Callable[[Any], None] | None = None,
    ) -> Any:
        """Answer's data of a request to a service; StartError with its sentence, or when no answer comes.

        `progress` is called with what a service tells of a long work before it answers.
        """
        status = f"service/{instance}/status"
        if self.retained(status).get(status) != b"online":
            raise StartError(f"{instance} does not run, or has no connection to the broker: see `constellation status`")
        identity = f"operator-{os.getpid()}-{time.monotonic_ns()}"
        self.subscribe(f"service/{instance}/response/{verb}")
        request = as_json((arguments or {}) | {"id": identity})
        self._bus.publish(f"{self.registry.root}/service/{instance}/request/{verb}", request, qos=1)
        for message in self.messages(timeout):
            answer = self.json(message.payload)
            if not isinstance(answer, dict) or answer.get("id") != identity:
                continue
            if answer.get("status") == "ok":
                return answer.get("data")
            if answer.get("status") != "progress":
                raise StartError(f"{instance}: {plain(answer.get('error'), Request.LONGEST_SENTENCE)}")
            if progress:
                progress(answer.get("data"))
        raise StartError(f"{instance} does not answer within {timeout:g} s: see `constellation status`")

    @staticmethod
    def json(payload: bytes) -> Any:
        """JSON of a payload, or None where it is none."""
        try:
            return msgspec.json.decode(payload)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            return None

    @staticmethod
    def shown(data: Any) -> str:
        """What a service answered as JSON on lines of its own that a terminal can show."""
        return escaped(json.dumps(data, ensure_ascii=False, indent=1))
