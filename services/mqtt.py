"""What is on a broker already: Tasmota, Shelly, zigbee2mqtt, ESPHome and any other JSON (docs/services/mqtt.md)."""

import os
import time
from collections import deque
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from queue import Empty, SimpleQueue
from typing import Annotated, Any, ClassVar, Final

import msgspec
from msgspec import Meta, Struct, field

from bootstrap_lib import (
    Bus,
    Connected,
    DeviceError,
    InstanceOptions,
    Message,
    Needs,
    Problem,
    Registry,
    Sample,
    Source,
    Topic,
)
from services.links.foreign_line import ForeignLine, availability_of
from services.links.foreign_news import ForeignNews
from services.protocols import foreign, path

LONGEST: Final = 65536
"""Bytes of a message that is looked at."""
WAITING: Final = 5000
"""Messages that may wait; the oldest give way."""
SCAN: Final = 10.0
"""Seconds for which a scan listens."""


class OtherBroker(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A broker that is not the house's own; it must speak MQTT 5."""

    host: str
    port: Annotated[int, Meta(ge=1, le=65535)] | None = None
    ca: Path | None = None
    user: str = "{instance}"
    password: Annotated[str, Meta(pattern="^secret:")] | None = None


class Options(InstanceOptions, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Where to listen."""

    broker: (
        Annotated[OtherBroker, Meta(description="Another broker: `host`, `port`, `ca`, `user`, `password`.")] | None
    ) = None
    alive: Annotated[
        dict[str, str], Meta(description="Published regularly, as {N/…/keepalive: text}: some are silent else.")
    ] = field(default_factory=dict)


class Mqtt(Source):
    """What others publish on a broker."""

    NEEDS: ClassVar = Needs(
        network="house",
        rights=(
            "read tele/#",
            "read stat/#",
            "read shellies/#",
            "read zigbee2mqtt/#",
            "read +/sensor/+/state",
            "read +/binary_sensor/+/state",
            "read +/status",
            "read +/status/+",
            "read +/online",
            "read +/events/rpc",
            "read homeassistant/#",
            "read rtl_433/#",
            "read evcc/#",
            "read +/+/BTtoMQTT/#",
            "read +/+/LWT",
            "read N/#",
            "write R/#",
        ),
    )

    options: Options
    topics: tuple[Topic[ForeignLine], ...]

    def __init__(self, registry: Registry, name: str) -> None:
        """Prepare the instance."""
        super().__init__(registry, name)
        self._heard: deque[Message] = deque(maxlen=WAITING)
        self._wake = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
        self._listening = False
        """Whether what is heard is taken: what comes in a pause is nobody's reading afterwards."""
        self._connected = False

    def samples(self) -> Iterator[Sample]:
        """Take messages as they come; who is said to be away has no value."""
        news, alive_at = ForeignNews(), 0.0
        self._listening = True
        other = self._open_other()
        if other is None and self._connected:
            self._subscribe(self.bus)
        try:
            while self.tick(self._wake, max(1.0, self.options.every)):
                self._drain()
                if self.options.alive and time.monotonic() >= alive_at:
                    alive_at = time.monotonic() + self.options.every
                    for topic, text in self.options.alive.items():
                        (other or self.bus).publish(topic, text.encode())
                while self._heard:
                    yield from news.take(self.topics, self._heard.popleft(), self.registry.timezone, self._now())
        finally:
            self._listening = False
            if other:
                other.stop(0.5)
            self._heard.clear()

    def _now(self) -> float | None:
        """Seconds since 1970, where they are known."""
        if self.measures_once:
            return time.time()
        return self.process.clock.now() / 1000 if self.process.clock.trusted else None

    def _open_other(self) -> Bus | None:
        if self.options.broker is None:
            return None
        kind = type(self.registry.broker)
        settings = msgspec.structs.asdict(self.options.broker)
        made: list[Bus] = []

        def post(event: Any) -> None:
            if isinstance(event, Message):
                self._hear(event)
            elif isinstance(event, Connected):
                self._subscribe(made[0])

        bus = Bus(kind(**settings), self.name, post, session_expiry=0)
        made.append(bus)
        try:
            bus.start()
        except OSError as error:
            raise DeviceError(str(error)) from None
        return bus

    def _patterns(self) -> set[str]:
        lines = [topic.options for topic in self.topics]
        return {line.topic for line in lines} | {
            place.topic for line in lines if (place := availability_of(line)) is not None
        }

    def _subscribe(self, bus: Bus) -> None:
        for pattern in sorted(self._patterns()):
            bus.subscribe(pattern)

    def _hear(self, message: Message) -> None:
        if self._listening and len(message.payload) <= LONGEST:
            self._heard.append(message)
            os.eventfd_write(self._wake, 1)

    def _drain(self) -> None:
        try:
            os.eventfd_read(self._wake)
        except BlockingIOError:
            return

    def on_connected(self, session: bool) -> None:
        """Listen to what the lines name, on the house's own broker; in a pause, when that is over."""
        super().on_connected(session)
        self._connected = True
        if self._listening and self.options.broker is None:
            self._subscribe(self.bus)

    def on_message(self, message: Message) -> bool:
        """Take what others say."""
        if self.options.broker is None and not message.topic.startswith(f"{self.registry.root}/service/"):
            self._hear(message)
        return super().on_message(message)

    # -- looking and checking -----------------------------------------------------------------------------------------

    @classmethod
    def scan(cls, options: Options) -> Iterator[str]:
        """Listen for ten seconds, and propose a line for each value that others publish."""
        registry = Registry(Registry.locate())
        settings = msgspec.structs.asdict(options.broker) if options.broker else {}
        broker = type(registry.broker)(**settings) if settings else registry.broker
        events: SimpleQueue[Any] = SimpleQueue()
        bus = Bus(broker, "mqtt", events.put, session_expiry=0, client_id=f"mqtt_scan_{os.getpid()}")
        seen: set[str] = set()
        until = time.monotonic() + SCAN
        try:
            bus.start()
            while (left := until - time.monotonic()) > 0:
                with suppress(Empty):
                    event = events.get(timeout=left)
                    if isinstance(event, Connected):
                        bus.subscribe("#")
                    elif isinstance(event, Message) and (
                        options.broker or not foreign.touches(event.topic, registry.root)
                    ):
                        yield from _news(event, seen)
        except OSError as error:
            raise DeviceError(str(error)) from None
        finally:
            bus.stop(0.5)

    @classmethod
    def check(cls, registry: Registry, name: str) -> list[Problem]:
        """Also find patterns that are none, paths that cannot be understood, and our own tree read as somebody else's."""
        if problems := super().check(registry, name):
            return problems
        other = registry.options_of(name, Options).broker
        own = other is None or registry.broker.is_also(type(registry.broker)(**msgspec.structs.asdict(other)))
        if own and other is not None:
            at = (registry.instances[name].section, name, "broker")
            problems.append(registry.document.problem(at, "it is the house's own broker: leave `broker` out"))
        for topic in registry.topics_of(name, ForeignLine):
            line, here = topic.options, ("topics", registry.key_of(topic.name))
            place = availability_of(line)
            for key, pattern in (("topic", line.topic), ("available", place.topic if place else "x")):
                if problem := foreign.pattern_problem(pattern):
                    problems.append(registry.document.problem((*here, key), problem))
                elif (own and foreign.touches(pattern, registry.root)) or (
                    pattern.startswith(f"{registry.root}/")
                    and foreign.matches(pattern, f"{registry.root}/data/{topic.name}")
                ):
                    sentence = f"'{pattern}' reads our own tree {registry.root}/…: that would be a loop"
                    problems.append(registry.document.problem((*here, key), sentence))
            for key, where in (("path", line.path), ("time", line.time), *(("when", one) for one in line.when)):
                try:
                    path.parse(where)
                except ValueError as error:
                    problems.append(registry.document.problem((*here, key), str(error)))
        return problems


def _news(message: Message, seen: set[str]) -> Iterator[str]:
    """Lines for what a message says for the first time."""
    for where, value in foreign.leaves_of(message.payload):
        if (place := f"{message.topic} {where}") not in seen and len(seen) < WAITING:
            seen.add(place)
            yield f"{message.topic} {where or '-'}  {value}  {foreign.proposal(message.topic, where, value)}".rstrip()
