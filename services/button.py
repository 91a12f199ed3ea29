"""A button that stops and starts measuring, by gpiozero, and says whether measuring goes on (docs/services/button.md)."""

import logging
import time
from collections.abc import Iterator
from typing import Annotated, ClassVar

import msgspec
from msgspec import Meta

from bootstrap_lib import (
    Duration,
    Failure,
    InstanceOptions,
    Message,
    Needs,
    Nothing,
    Problem,
    Registry,
    Sample,
    Source,
    Topic,
    nearest,
)
from services.links.gpio import TAKEN, Contact, taken

log = logging.getLogger(__name__)

GREETING = 3.0
"""Seconds after the connection within which every living instance was heard."""


class Options(InstanceOptions, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """The button."""

    pin: Annotated[int, Meta(ge=0, le=27, description="GPIO number (not the number on the connector).")] = 17
    pins: Annotated[str, Meta(pattern="^(gpio|sim:.+)$", description="`gpio`, or `sim:FILE`, a simulated one.")] = (
        "gpio"
    )
    debounce: Annotated[Duration, Meta(description="How long it must stay closed for a press.")] = Duration(0.05)
    stops: Annotated[list[str], Meta(min_length=1, description="Instances that it stops and starts.")]


class HealthState(msgspec.Struct):
    """What matters here of an instance's health."""

    state: str


class Button(Source):
    """A button."""

    NEEDS: ClassVar = Needs(
        extra="button",
        libraries=("gpiozero",),
        path="/dev/gpiochip0",
        mend="check that the kernel has GPIO: ls /dev/gpiochip*",
        devices=("gpio",),
        rights=("write {root}/service/+/request/pause", "write {root}/service/+/request/resume"),
        simulator="services.simulators.staging:button",
    )

    options: Options
    topics: tuple[Topic[Nothing], ...]

    def __init__(self, registry: Registry, name: str) -> None:
        """Prepare the instance."""
        super().__init__(registry, name)
        self._heard: dict[str, str] = {}
        self._greeted_at: float | None = None
        self._pressed = False

    def samples(self) -> Iterator[Sample]:
        """Act on presses; say whether anything measures when that changes, and before it goes stale."""
        options = self.options
        with Contact(options.pin, options.pins, options.debounce, self._press):
            while self.tick():
                if self._pressed:
                    self._pressed = False
                    self._act()
                value: bool | Failure = any(state != "paused" for state in self._heard.values())
                if not self._heard:
                    if self._greeted_at is None or time.monotonic() < self._greeted_at + GREETING:
                        continue
                    value = Failure(f"none of {', '.join(self.options.stops)} is running")
                yield from ((topic, value) for topic in self.topics)

    def _press(self) -> None:
        """Take note of a press, in the contact's thread."""
        self._pressed = True
        self.hasten()

    def _act(self) -> None:
        """Stop all that measures, or start all again."""
        if not (self.bus.online and self._heard):
            sentence = "it was pressed, but " + (
                "nobody runs that it stops" if self.bus.online else "there is no broker"
            )
            self.error(sentence)
            log.warning("%s", sentence)
            return
        verb = "resume" if all(state == "paused" for state in self._heard.values()) else "pause"
        log.info("pressed: %s %s", verb, ", ".join(self.options.stops))
        for name in self.options.stops:
            self.bus.publish(f"{self.registry.root}/service/{name}/request/{verb}", b"{}")

    def on_connected(self, session: bool) -> None:
        """Listen to the instances that it stops."""
        super().on_connected(session)
        self._greeted_at = time.monotonic()
        for name in self.options.stops:
            self.bus.subscribe(f"{self.registry.root}/service/{name}/health")
            self.bus.subscribe(f"{self.registry.root}/service/{name}/status")

    def on_reloaded(self, changed: bool) -> None:
        """Listen to others where topics.yaml names others."""
        super().on_reloaded(changed)
        if changed:
            self._heard = {name: state for name, state in self._heard.items() if name in self.options.stops}
            if self.bus.online:
                self.on_connected(session=True)

    def on_message(self, message: Message) -> bool:
        """Learn whether an instance measures."""
        name, _, word = message.topic.removeprefix(f"{self.registry.root}/service/").partition("/")
        if name not in self.options.stops or word not in ("health", "status"):
            return super().on_message(message)
        before = dict(self._heard)
        if message.payload == b"offline":
            self._heard.pop(name, None)
        elif word == "health" and message.payload:
            try:
                self._heard[name] = msgspec.json.decode(message.payload, type=HealthState).state
            except (msgspec.DecodeError, UnicodeDecodeError):
                self._heard.pop(name, None)
        if self._heard != before:
            self.hasten()
        return False

    @classmethod
    def scan(cls, options: Options) -> Iterator[str]:
        """Show the pins that a button may have; whether one is pressed is only known while the service has it."""
        yield from (f"GPIO {pin}{'  (as set)' * (pin == options.pin)}" for pin in range(28) if pin not in TAKEN)

    @classmethod
    def check(cls, registry: Registry, name: str) -> list[Problem]:
        """Also find a pin that is taken, instances that measure nothing, and topics that are no switch."""
        if problems := super().check(registry, name):
            return problems
        options, place = registry.options_of(name, Options), (registry.instances[name].section, name)
        if options.pin in TAKEN:
            problems.append(registry.document.problem((*place, "pin"), taken(options.pin)))
        sources = [
            other.name for other in registry.instances.values() if other.section == "sources" and other.name != name
        ]
        for index, stopped in enumerate(options.stops):
            if stopped not in sources:
                hint = nearest(stopped, sources) or f": there are {', '.join(sources) or 'none'}"
                problems.append(
                    registry.document.problem((*place, "stops", index), f"no other source is named '{stopped}'{hint}")
                )
        for topic in registry.topics_of(name, Nothing):
            if topic.kind != "switch":
                sentence = "it says true or false: end the name in _active"
                problems.append(registry.document.problem(("topics", registry.key_of(topic.name)), sentence))
        return problems
