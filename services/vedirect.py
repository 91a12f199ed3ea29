"""Victron's chargers, battery monitors and inverters by the text that they send once a second (docs/services/vedirect.md)."""

import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Annotated, ClassVar, Final

from msgspec import Meta, Struct

from bootstrap_lib import (
    DeviceError,
    Duration,
    Failure,
    InstanceOptions,
    Needs,
    Problem,
    Registry,
    Sample,
    Source,
    Topic,
    nearest,
)
from services.links.port import SerialPort
from services.protocols import vedirect
from services.protocols.vedirect import BlockParser, Value

PORTS: Final = Path("/dev/serial/by-id")
GAP: Final = 0.4
"""Seconds of silence that end a block."""
SILENT: Final = 5.0
"""Seconds without a whole block after which the product is said to be silent."""
KEPT: Final = 15.0
"""Seconds for which a field is still true: a product says each once a second, in two blocks, one of which may be damaged."""
SCAN: Final = 3.0


class Options(InstanceOptions, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """One product."""

    device: Annotated[Path, Meta(description="Serial port, best by its id: /dev/serial/by-id/….")] = Path(
        "/dev/ttyUSB0"
    )
    every: Annotated[Duration, Meta(description="How often its values are taken; it sends them once a second.")] = (
        Duration(10)
    )


class VeField(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """One measurement of the product."""

    key: Annotated[str, Meta(description="The measurement, where it is not the topic's last level.")] = ""


class VeDirect(Source):
    """A Victron product on its VE.Direct port."""

    NEEDS: ClassVar = Needs(
        extra="vedirect",
        libraries=("serial",),
        devices=("serial",),
        decodes={"vedirect": "A recorded stream of a Victron product's VE.Direct port."},
        simulator="services.simulators.staging:vedirect",
    )

    options: Options
    topics: tuple[Topic[VeField], ...]

    def samples(self) -> Iterator[Sample]:
        """Listen, and take what was said last in each round; nothing is ever sent."""
        parser, known = BlockParser(), dict[str, tuple[float, Value | None]]()
        due = heard = begun = time.monotonic()
        with closing(SerialPort(self.options.device, vedirect.BAUD_RATE)) as port:
            while self.tick(port.fileno(), GAP):
                data, now = port.receive(0.0), time.monotonic()
                if not data:
                    parser.gap()
                for block in parser.feed(data):
                    heard = now
                    known |= {name: (now, value) for name, value in vedirect.measurements(block).items()}
                if now < due or (heard <= due and now < due + SILENT):  # at the start nothing was said yet
                    continue
                due = now + self.options.every
                silent = now - begun >= KEPT or now - heard >= SILENT
                for topic in self.topics:
                    if topic.key in known or silent:  # else it may stand in the next block
                        yield topic, self._value(topic.key, known, now, heard)

    def _value(
        self, key: str, known: dict[str, tuple[float, Value | None]], now: float, heard: float
    ) -> Value | Failure | None:
        if now - heard >= SILENT:
            return Failure(f"{self.options.device} is silent: is the product on, and are TX and RX right?")
        moment, value = known.get(key, (-KEPT, ""))
        if now - moment >= KEPT:
            return Failure(f"the product says nothing that is known as {key}")
        return value

    @classmethod
    def scan(cls, options: Options) -> Iterator[str]:
        """Show the serial ports, then what the product on the configured one says."""
        yield from (f"port {port} ({port.resolve()})" for port in sorted(PORTS.glob("*")))
        if not options.device.exists():
            return
        parser, said, until = BlockParser(), dict[str, Value | None](), time.monotonic() + SCAN
        with closing(SerialPort(options.device, vedirect.BAUD_RATE)) as port:
            while (left := until - time.monotonic()) > 0:
                for block in parser.feed(port.receive(left)):
                    said |= vedirect.measurements(block)
        if not said:
            raise DeviceError(f"{options.device} says no VE.Direct: is the product on, and are TX and RX right?")
        yield from (
            f"{name} {value} {vedirect.NAMES[name][0]}".rstrip() for name, value in said.items() if value is not None
        )

    @classmethod
    def check(cls, registry: Registry, name: str) -> list[Problem]:
        """Also find measurements that no product has, and units and states that are not theirs."""
        if problems := super().check(registry, name):
            return problems
        for topic in registry.topics_of(name, VeField):
            unit, words = vedirect.NAMES.get(topic.key, (None, ()))
            sentence = ""
            if unit is None:
                hint = nearest(topic.key, vedirect.NAMES) or ": docs/services/vedirect.md lists them"
                sentence = f"no product says '{topic.key}'{hint}"
            elif unit and unit != topic.given:
                sentence = f"{topic.key} is in {unit}, not in {topic.given or 'nothing'}: leave the unit out"
            elif topic.kind == "state" and not set(words) <= set(topic.states):
                sentence = f"its states are [{', '.join(words)}]"
            if sentence:
                problems.append(registry.document.problem(("topics", registry.key_of(topic.name)), sentence))
        return problems
