"""Meters that give pulses: S0, reed contacts and optical heads on GPIO pins, by the kernel (docs/services/pulse.md)."""

import logging
import os
import select
import time
from collections.abc import Iterator
from contextlib import suppress
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
    Request,
    RequestError,
    Sample,
    Source,
    Topic,
    Value,
    clock,
    nearest,
    state,
)
from services.links.gpio import TAKEN, taken
from services.links.gpiochip import Bias, Line, give_up, label_of, open_line, strays
from services.protocols.pulses import Count, Counter

log = logging.getLogger(__name__)

SAVE_AFTER: Final = 1.5
"""Seconds after a pulse within which its count is on disk: what a power cut costs."""
DEBOUNCE: Final = 0.01
"""Seconds of rest, where a meter says nothing else."""
KILO: Final = 1000.0


class PulseMeter(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """One meter on one pin."""

    pin: Annotated[int, Meta(ge=0, le=63)]
    per_unit: Annotated[float, Meta(gt=0)]
    bias: Bias = "up"
    debounce: Duration | None = None
    shortest: Duration | None = None

    @property
    def rest(self) -> float:
        """Seconds of rest before an edge counts."""
        return DEBOUNCE if self.debounce is None else self.debounce


class Options(InstanceOptions, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """The meters."""

    chip: Annotated[
        str,
        Meta(
            pattern=r"^(gpio(:/dev/gpiochip\d+)?|sim:.+)$",
            description="`gpio`: a Pi's own pins; or `gpio:/dev/gpiochipN`, or `sim:FOLDER`.",
        ),
    ] = "gpio"
    meters: Annotated[
        dict[str, PulseMeter],
        Meta(min_length=1, description="By name: `pin`, `per_unit` (per kWh, per m³), `bias`, `debounce`, `shortest`."),
    ]


class PulseField(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """The stand of a meter, or what flows through it, as the topic's quantity says."""

    of: Annotated[str, Meta(description="The meter's name, where there are several.")] = ""


class Stand(Struct, forbid_unknown_fields=True):
    """Payload of `request/stand`: {"meter":"grid","value":48211.3}, what the meter shows now."""

    value: float
    meter: str = ""


class Pulse(Source):
    """Meters that give pulses."""

    NEEDS: ClassVar = Needs(
        devices=("gpio",),
        unit=(
            "# The kernel counts on while the service restarts: systemd keeps its open requests.",
            "FileDescriptorStoreMax=32",
        ),
        simulator="services.simulators.staging:pulse",
    )

    options: Options
    topics: tuple[Topic[PulseField], ...]

    def __init__(self, registry: Registry, name: str) -> None:
        """Prepare the instance."""
        super().__init__(registry, name)
        self._lines: dict[str, Line] = {}
        """Open requests by the names under which systemd keeps them."""
        self._label: dict[str, str] = {}
        """The one of each meter."""
        self._counters: dict[str, Counter] = {}
        self._saved: dict[str, int] = {}
        self._save_at: float | None = None
        self._told: dict[str, tuple[int, int]] = {}

    def samples(self) -> Iterator[Sample]:
        """Count edges as they come; say stands and what flows in each round."""
        self._open()
        poll = select.epoll()
        try:
            for meter in self.options.meters:
                poll.register(self._lines[self._label[meter]].fileno(), select.EPOLLIN)
            due, only = 0.0, next(iter(self.options.meters))
            while self.tick(poll.fileno(), min(self.options.every, SAVE_AFTER) / 2):
                self._count()
                if (now := time.monotonic()) < due:
                    continue
                due = now + self.options.every
                for topic in self.topics:
                    yield topic, value_of(topic, self._counters[topic.options.of or only], now)
        finally:
            poll.close()
            self._save()

    def _open(self) -> None:
        """Open what the meters need and is not open yet; what another configuration had is read out and given up first."""
        chip, meters = self.options.chip, self.options.meters
        for name in self._remembered() - self._counters.keys() - meters.keys():
            self._counters[name] = Counter(self._recall(name), 1.0, 0.0)  # a line of its may have another owner now
        for name, meter in meters.items():
            known = self._counters.get(name)
            count = known.count if known else self._recall(name)
            self._counters[name] = Counter(count, meter.per_unit, meter.shortest or 0.0)
        wanted = {name: label_of(chip, one.pin, one.bias, one.rest, self.name) for name, one in meters.items()}
        owners = {counter.count.line: name for name, counter in self._counters.items()}
        by_pin = {one.pin: name for name, one in meters.items() if not self._counters[name].count.line}
        for label in self._lines.keys() - wanted.values():
            self._give_up(self._lines.pop(label), label, owners.get(label))
        for pin, label, line in strays(self.name, {*wanted.values(), *self._lines}):
            self._give_up(line, label, owners.get(label) or by_pin.get(pin))
        for name, meter in meters.items():
            try:
                if wanted[name] not in self._lines:
                    self._lines[wanted[name]] = open_line(chip, meter.pin, meter.bias, meter.rest, self.name)
            except FileNotFoundError as error:
                raise DeviceError(f"{error.filename} is not there") from None
        for label in owners.keys() & self._lines.keys():
            self._read(owners[label], self._lines[label])
        self._label = wanted
        self._hand_over()

    def _hand_over(self) -> None:
        """Let the numbers of a line go on with the meter that has it now; who has none any more is noted last."""
        counts = {name: counter.count for name, counter in self._counters.items()}
        numbers = {count.line: count.number for count in counts.values() if count.line}
        for name in (*self._label, *(counts.keys() - self._label.keys())):
            count, label = counts[name], self._label.get(name, "")
            if count.line != label:
                count.number = numbers.get(label, None if count.line else count.number)
                count.line = label
                self._note(name)

    def _give_up(self, line: Line, label: str, owner: str | None) -> None:
        if owner is not None:
            with suppress(OSError):  # a chip that is gone has nothing to say
                self._read(owner, line)
        give_up(line, label)

    def _remembered(self) -> set[str]:
        """Meters of which something is kept, those of earlier configurations too."""
        files = [file for folder in (self.state_folder, self.runtime_folder) for file in folder.glob("pulses_*.json")]
        return {file.stem.removeprefix("pulses_") for file in files}

    def _recall(self, name: str) -> Count:
        """Read what was kept: the file in memory is newer, but for a power cut."""
        places = [folder / f"pulses_{name}.json" for folder in (self.runtime_folder, self.state_folder)]
        found = [state.load(place, Count, Count()) for place in places if place.exists()]
        kept = max(found, key=lambda count: count.pulses, default=Count())
        if kept.boot != clock.boot_id():
            kept.boot, kept.number, kept.line = clock.boot_id(), 0, ""
        return kept

    def _note(self, name: str) -> None:
        if not self.measures_once:
            state.save(self.runtime_folder / f"pulses_{name}.json", self._counters[name].count)

    def _count(self) -> None:
        """Take all edges that have come; a killed process finds them in memory, whatever the disk has."""
        for name in self.options.meters:
            self._read(name, self._lines[self._label[name]])
        if self._save_at and time.monotonic() >= self._save_at:
            self._save()

    def _read(self, name: str, line: Line) -> None:
        counter = self._counters[name]
        before = counter.count.number
        for edge in line.edges():
            counter.edge(*edge)
        if counter.count.number == before:
            return
        self._note(name)
        self._save_at = self._save_at or time.monotonic() + SAVE_AFTER / 2
        self._tell(name, counter)

    def _tell(self, name: str, counter: Counter) -> None:
        """Say what was odd, once each time."""
        missed, refused = self._told.get(name, (0, 0))
        if counter.missed > missed:
            log.warning("meter %s: %d pulses came too fast to be read, and were counted", name, counter.missed - missed)
        if counter.refused > refused:
            self.error(f"meter {name}: {counter.refused} pulses came sooner than it can make them: a bouncing contact?")
        self._told[name] = (counter.missed, counter.refused)

    def _save(self) -> None:
        self._save_at = None
        if self.measures_once:
            return
        for name, counter in self._counters.items():
            if self._saved.get(name) != counter.count.pulses:
                self.keep(self.state_folder / f"pulses_{name}.json", counter.count)
                self._saved[name] = counter.count.pulses

    def request_stand(self, _request: Request, arguments: Stand) -> dict[str, float]:
        """Begin from what a meter shows: type its stand in, once."""
        name = arguments.meter or next(iter(self.options.meters))
        counter = self._counters.get(name)
        if counter is None or name not in self.options.meters:
            raise RequestError(f"no meter is named '{name}'{nearest(name, self.options.meters) or ''}")
        counter.type_in(arguments.value)
        self._saved.pop(name, None)
        self._note(name)
        self._save()
        return {"stand": counter.stand}

    @classmethod
    def scan(cls, options: Options) -> Iterator[str]:
        """Listen to the configured pins for ten seconds, and say how many pulses came."""
        counters = {name: Counter(Count(), meter.per_unit, 0.0) for name, meter in options.meters.items()}
        lines = {
            name: open_line(options.chip, meter.pin, meter.bias, meter.rest, f"scan_{os.getpid()}")
            for name, meter in options.meters.items()
        }
        until = time.monotonic() + 10
        while (left := until - time.monotonic()) > 0:
            select.select(list(lines.values()), [], [], min(left, 0.5))
            for name, line in lines.items():
                for edge in line.edges():
                    counters[name].edge(*edge)
        for name, meter in options.meters.items():
            yield f"{name}  GPIO {meter.pin}: {counters[name].count.pulses} pulses in ten seconds"

    @classmethod
    def unit_of(cls, topic: Topic[PulseField]) -> str | None:
        """Of what flows the quantity's own; a stand is in what its pulses are counted per."""
        return topic.row.unit if topic.kind == "gauge" else None

    @classmethod
    def check(cls, registry: Registry, name: str) -> list[Problem]:
        """Also find pins that are taken or named twice, and topics that a meter cannot give."""
        if problems := super().check(registry, name):
            return problems
        note, place = registry.document.problem, (registry.instances[name].section, name, "meters")
        meters = registry.options_of(name, Options).meters
        pins: dict[int, str] = {}
        for meter, options in meters.items():
            if options.pin in TAKEN:
                problems.append(note((*place, meter, "pin"), taken(options.pin)))
            if (other := pins.setdefault(options.pin, meter)) != meter:
                problems.append(note((*place, meter, "pin"), f"it is the pin of {other} already"))
        for topic in registry.topics_of(name, PulseField):
            here = ("topics", registry.key_of(topic.name))
            if topic.options.of and topic.options.of not in meters:
                hint = nearest(topic.options.of, meters) or f": there are {', '.join(meters)}"
                problems.append(note((*here, "of"), f"no meter is named '{topic.options.of}'{hint}"))
            elif not topic.options.of and len(meters) > 1:
                problems.append(note(here, f"which meter? write of: with one of {', '.join(meters)}"))
            elif topic.kind not in ("gauge", "counter"):
                problems.append(note(here, "a meter gives its stand, as energy or volume, and power or flow"))
        return problems


def value_of(topic: Topic[PulseField], counter: Counter, moment: float) -> Value | Failure | None:
    """Stand of a meter for a counter; what flows for a gauge, in watts where pulses count kilowatt-hours."""
    if topic.kind == "counter":
        return counter.stand
    rate = counter.rate(moment)
    return None if rate is None else rate * (KILO if topic.quantity == "power" else 1.0)
