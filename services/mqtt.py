"""What is on a broker already: Tasmota, Shelly, zigbee2mqtt, ESPHome and any other JSON (docs/services/mqtt.md)."""

import logging
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
    Failure,
    InstanceOptions,
    Message,
    Needs,
    Problem,
    Registry,
    Sample,
    Source,
    Topic,
    Value,
)
from services.links.foreign_line import Availability, ForeignLine, availability_of, value_of
from services.protocols import foreign, path
from services.protocols.foreign import NoValue

log = logging.getLogger(__name__)

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
        self._up: dict[str, bool] = {}
        """What each topic of availability said last."""
        self._last: dict[str, Value] = {}
        self._waiting: dict[str, Message] = {}
        """Retained messages by topic's name, for a device that has not said whether it is there."""

    def samples(self) -> Iterator[Sample]:
        """Take messages as they come; who is said to be away has no value."""
        self._up.clear()
        other = self._open_other()
        if other is None and not self.measures_once and self.bus.online:
            self._subscribe(self.bus)
        alive_at = 0.0
        try:
            while self.tick(self._wake, max(1.0, self.options.every)):
                self._drain()
                if self.options.alive and time.monotonic() >= alive_at:
                    alive_at = time.monotonic() + self.options.every
                    for topic, text in self.options.alive.items():
                        (other or self.bus).publish(topic, text.encode())
                while self._heard:
                    yield from self._take(self._heard.popleft())
        finally:
            if other:
                other.stop(0.5)

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
        self._heard.append(message)
        os.eventfd_write(self._wake, 1)

    def _drain(self) -> None:
        try:
            os.eventfd_read(self._wake)
        except BlockingIOError:
            return

    def on_connected(self, session: bool) -> None:
        """Listen to what the lines name, on the house's own broker."""
        super().on_connected(session)
        if self.options.broker is None:
            self._subscribe(self.bus)

    def on_message(self, message: Message) -> bool:
        """Take what others say."""
        if self.options.broker is None and not message.topic.startswith(f"{self.registry.root}/service/"):
            self._hear(message)
        return super().on_message(message)

    # -- one message ------------------------------------------------------------------------------------------------

    def _take(self, message: Message) -> Iterator[Sample]:
        if len(message.payload) > LONGEST:
            return
        for topic in self.topics:
            place = availability_of(topic.options)
            if place and foreign.matches(place.topic, message.topic):
                yield from self._availability(topic, place, message)
            if foreign.matches(topic.options.topic, message.topic):
                yield from self._value(topic, message)

    def _availability(self, topic: Topic[ForeignLine], place: Availability, message: Message) -> Iterator[Sample]:
        try:
            up = foreign.is_up(message.payload, place.path)
        except NoValue:
            return
        news, self._up[topic.name] = self._up.get(topic.name) is not up, up
        if not up and news:
            log.info("%s: %s says that it is away", topic.name, message.topic)
            yield topic, None
        elif up and (waiting := self._waiting.pop(topic.name, None)):
            yield from self._value(topic, waiting)

    def _value(self, topic: Topic[ForeignLine], message: Message) -> Iterator[Sample]:
        line = topic.options
        if not message.payload:
            yield topic, None
            return
        if self._up.get(topic.name) is False:
            return
        try:
            content = foreign.document(message.payload, bool(line.path or line.when or line.time))
            if any(str(foreign.find(content, path.parse(where))) != text for where, text in line.when.items()):
                return
            if not self._fresh(topic, message, content):
                return
            value = value_of(topic, foreign.find(content, path.parse(line.path)))
        except NoValue as nothing:
            if nothing.said:
                yield topic, Failure(f"{message.topic}: {nothing.said}")
            return
        if line.changes and self._last.get(topic.name) == value:
            return
        self._last[topic.name] = value
        yield topic, value

    def _fresh(self, topic: Topic[ForeignLine], message: Message, content: Any) -> bool:
        """Whether a message is news: one that was retained is as old as it says, and one that does not say it waits."""
        line = topic.options
        if line.time:
            try:
                age = time.time() - foreign.moment(foreign.find(content, path.parse(line.time)), self.registry.timezone)
            except NoValue:
                return not message.retained
            return age < topic.stale if message.retained else True
        if not message.retained:
            return True
        if availability_of(line) is None:
            return False
        if self._up.get(topic.name) is None:
            self._waiting[topic.name] = message
        return self._up.get(topic.name, False)

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
        own = registry.options_of(name, Options).broker is None
        for topic in registry.topics_of(name, ForeignLine):
            line, here = topic.options, ("topics", registry.key_of(topic.name))
            place = availability_of(line)
            for key, pattern in (("topic", line.topic), ("available", place.topic if place else "x")):
                if problem := foreign.pattern_problem(pattern):
                    problems.append(registry.document.problem((*here, key), problem))
                elif own and foreign.touches(pattern, registry.root):
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
            yield f"{message.topic} {where or '-'}  {value}  {foreign.proposal(message.topic, where)}".rstrip()
