"""A button that stops and starts measuring, by gpiozero, and says whether measuring goes on (docs/services/button.md)."""

import logging
import time
import warnings
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Annotated

import msgspec
from msgspec import Meta

from bootstrap_lib import DeviceError, Duration, Failure, InstanceOptions, Problem, Registry, Sample, Source, Topic
from bootstrap_lib.bus import Message
from bootstrap_lib.control import Nothing
from bootstrap_lib.document import nearest

log = logging.getLogger(__name__)

TAKEN = {0: "the EEPROM of HATs", 1: "the EEPROM of HATs", 2: "I²C (SDA)", 3: "I²C (SCL)"}
"""Pins with resistors to 3.3 V on the board and another purpose."""
GREETING = 3.0
"""Seconds after the connection within which every living instance was heard."""


class Options(InstanceOptions, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """The button."""

    pin: Annotated[int, Meta(ge=0, le=27, description="GPIO number (not the number on the connector).")] = 17
    pins: Annotated[str, Meta(pattern="^(gpio|sim:.+)$", description="`gpio`, or `sim:FILE`, a simulated one.")] = (
        "gpio"
    )
    debounce: Annotated[Duration, Meta(description="Rest of the contact before a press counts.")] = Duration(0.05)
    stops: Annotated[list[str], Meta(min_length=1, description="Instances that it stops and starts.")]


class State(msgspec.Struct):
    """What matters here of an instance's health."""

    state: str


class Button(Source):
    """A button."""

    options: Options
    topics: tuple[Topic[Nothing], ...]

    def __init__(self, registry: Registry, name: str) -> None:
        """Prepare the instance."""
        super().__init__(registry, name)
        self._heard: dict[str, str] = {}
        self._greeted_at: float | None = None
        self._edge_at = 0.0
        self._presses = 0

    def samples(self) -> Iterator[Sample]:
        """Act on presses; say whether anything measures when that changes, and before it goes stale."""
        with ExitStack() as opened:
            self._open(opened)
            while self.tick():
                if presses := self._presses:
                    self._presses -= presses
                    self._act()
                value: bool | Failure = any(state != "paused" for state in self._heard.values())
                if not self._heard:
                    if self._greeted_at is None or time.monotonic() < self._greeted_at + GREETING:
                        continue
                    value = Failure(f"none of {', '.join(self.options.stops)} is running")
                yield from ((topic, value) for topic in self.topics)

    def _open(self, opened: ExitStack) -> None:
        from gpiozero import Button as Contact  # noqa: PLC0415 (hardware)
        from gpiozero import GPIOZeroError, PinFactoryFallback  # noqa: PLC0415

        if self.options.pin in TAKEN:
            raise DeviceError(taken(self.options.pin))
        factory, kind, where = None, *self.options.pins.partition(":")[::2]
        if kind == "sim":
            from gpiozero.pins.mock import MockFactory  # noqa: PLC0415

            factory = MockFactory()
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", PinFactoryFallback)
                contact = opened.enter_context(Contact(self.options.pin, pin_factory=factory))
        except (GPIOZeroError, OSError) as error:
            raise DeviceError(
                f"GPIO {self.options.pin} cannot be used ({error}): install python3-lgpio, and see that the service's "
                "user has the group gpio and no other program the pin"
            ) from None
        contact.when_pressed = lambda: self._edge(pressed=True)
        contact.when_released = lambda: self._edge(pressed=False)
        if kind == "sim":
            from services.simulators.button import Finger  # noqa: PLC0415

            opened.enter_context(Finger(Path(where), contact.pin))

    def _edge(self, *, pressed: bool) -> None:
        """Count a press after a rest of the contact; in gpiozero's thread."""
        now = time.monotonic()
        rested, self._edge_at = now - self._edge_at > self.options.debounce, now
        if pressed and rested:
            self._presses += 1
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
                self._heard[name] = msgspec.json.decode(message.payload, type=State).state
            except msgspec.DecodeError:
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


def taken(pin: int) -> str:
    """Say why a pin cannot have a button."""
    return f"GPIO {pin} belongs to {TAKEN[pin]}: take another one, such as 17"
