"""Currents by clamps and plain voltages from ADS1115 converters on an I²C bus (docs/services/adc.md)."""

import time
from collections.abc import Iterator
from typing import Annotated, Literal

from msgspec import Meta, Struct

from bootstrap_lib import Failure, InstanceOptions, Problem, Registry, Sample, Source, Topic, state
from bootstrap_lib.control import Request, RequestError
from services.links.ads1115 import FULL_SCALE, Chip, ChipError, Input
from services.links.i2c import open_bus
from services.protocols.rms import Calibration, Waveform, Zero, amperes, waveform

ADDRESSES = range(0x48, 0x4C)
CYCLES = {50: 10, 60: 12}
"""Whole mains cycles in a window of 0.2 s."""
BIAS_ERROR = 0.1
"""Volts of mean between a clamp and its bias that no working wiring shows: the clamp's coil joins the two."""
LESSONS = 5
"""Windows behind a zero that is learned on request."""
SAVE_AFTER = 3600.0
"""Seconds between two writings of the learned zeros, for the SD card's sake."""


class Options(InstanceOptions, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """The bus and the mains."""

    bus: Annotated[str, Meta(pattern=r"^(i2c:\d+|sim:.+)$", description="`i2c:1`, or `sim:FILE`, a simulated one.")] = (
        "i2c:1"
    )
    mains: Annotated[Literal[50, 60], Meta(description="Frequency of the mains in Hz.")] = 50


class Channel(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """One input of one chip."""

    address: Annotated[int, Meta(ge=ADDRESSES.start, lt=ADDRESSES.stop, description="The chip.")] = 0x48
    input: Annotated[
        Literal["A0-A3", "A1-A3", "A2-A3", "A0-A1", "A0", "A1", "A2", "A3"], Meta(description="A difference, or a pin.")
    ]
    gain: Annotated[Literal[1, 2, 4, 8, 16], Meta(description="±4.096 V at 1, ±0.256 V at 16.")] = 1
    amperes_per_volt: Annotated[float, Meta(gt=0, description="A clamp's, as printed on it.")] | None = None
    smallest: Annotated[float, Meta(gt=0, description="Amperes that matter; below half of it a clamp is idle.")] = 0.05
    points: (
        Annotated[
            dict[Annotated[str, Meta(pattern=r"^-?\d+(\.\d+)?$")], float],
            Meta(min_length=2, description="Volts and their values, joined by straight lines."),
        ]
        | None
    ) = None

    @property
    def pins(self) -> Input:
        """The input as the chip's driver names it."""
        first, _, second = self.input.replace("A", "").partition("-")
        return (int(first), int(second)) if second else (int(first),)

    @property
    def clamp(self) -> str:
        """Name under which its zero is remembered: it belongs to the wiring, whatever the topic is called."""
        return f"{self.address:#04x} {self.input} {self.gain}"


class LearnZero(Struct, forbid_unknown_fields=True):
    """Payload of `request/learn_zero`: {"topic":"boiler/fan/current"}, or {} for all clamps; nothing may flow."""

    topic: str | None = None


class Adc(Source):
    """Currents and voltages."""

    options: Options
    topics: tuple[Topic[Channel], ...]

    def __init__(self, registry: Registry, name: str) -> None:
        """Prepare the instance."""
        super().__init__(registry, name)
        self.chips: dict[int, Chip] = {}
        self._zeros: dict[str, Zero] = {}
        self._saved_at = 0.0

    def begin(self) -> None:
        """Recall the learned zeros."""
        super().begin()
        self._zeros = state.load(self.state_folder / "zeros.json", dict[str, Zero], {})
        self._saved_at = time.monotonic()

    def samples(self) -> Iterator[Sample]:
        """Sample one input after the other; a chip that fails costs its own topics of that round."""
        bus = open_bus(self.options.bus)
        try:
            self.chips = {topic.options.address: Chip(bus, topic.options.address) for topic in self.topics}
            while self.tick():
                broken: dict[int, str] = {}
                for topic in self.topics:
                    if topic.options.address not in broken:
                        try:
                            yield topic, self._measure(topic)
                            continue
                        except ChipError as error:
                            broken[topic.options.address] = str(error)
                    yield topic, Failure(broken[topic.options.address])
                if broken and len(broken) == len(self.chips):
                    # An adapter that was pulled out stays in the kernel, and a new one is not found, until it is closed.
                    bus.deinit()
                    bus = open_bus(self.options.bus)
                    self.chips = {address: Chip(bus, address) for address in self.chips}
                if time.monotonic() - self._saved_at > SAVE_AFTER:
                    self._save()
        finally:
            self.chips = {}
            bus.deinit()

    def end(self) -> None:
        """Remember the learned zeros."""
        self._save()
        super().end()

    def _save(self) -> None:
        state.save(self.state_folder / "zeros.json", self._zeros)
        self._saved_at = time.monotonic()

    def _wave(self, channel: Channel) -> Waveform:
        seconds = (CYCLES[self.options.mains] + 0.5) / self.options.mains
        return waveform(self.chips[channel.address].sample(channel.pins, channel.gain, seconds), self.options.mains)

    def _measure(self, topic: Topic[Channel]) -> float | Failure:
        channel = topic.options
        try:
            wave = self._wave(channel)
        except ValueError as error:
            return Failure(str(error))
        if wave.saturated:
            return Failure(f"beyond the ±{FULL_SCALE[channel.gain]} V of gain {channel.gain}: take the next lower gain")
        if channel.points:
            return Calibration.through({float(volts): value for volts, value in channel.points.items()}).value(
                wave.mean
            )
        if channel.amperes_per_volt is None:
            return wave.mean
        if len(channel.pins) > 1 and abs(wave.mean) > BIAS_ERROR:
            return Failure(f"{wave.mean:.2f} V lie between clamp and bias: one of the two is not connected")
        volts_per_ampere = 1 / channel.amperes_per_volt
        zero = self._zeros.get(channel.clamp, Zero()).learn(wave.rms, channel.smallest / 2 * volts_per_ampere)
        self._zeros[channel.clamp] = zero
        return amperes(wave.rms, volts_per_ampere, zero)

    def request_learn_zero(self, _request: Request, arguments: LearnZero) -> dict[str, float]:
        """Take what clamps show now as their zero (A); refused where that is more than the smallest current that matters."""
        asked = [topic for topic in self.topics if topic.options.amperes_per_volt]
        asked = [topic for topic in asked if arguments.topic in (None, topic.name)]
        if not asked or not self.chips:
            raise RequestError("it has no such clamp" if self.chips else "the bus is not open: resume it first")
        learned: dict[str, Zero] = {}
        shown: dict[str, float] = {}
        for topic in asked:
            channel, zero = topic.options, Zero()
            per_volt = channel.amperes_per_volt or 0.0
            for _ in range(LESSONS):
                try:
                    rms = self._wave(channel).rms
                except ValueError as error:
                    raise RequestError(f"{topic.name}: {error}") from None
                if rms * per_volt > channel.smallest:
                    raise RequestError(
                        f"{topic.name} shows {rms * per_volt:.3f} A: switch it off, or its clamp is noisy"
                    )
                zero = zero.learn(rms, rms)
            learned[channel.clamp], shown[topic.name] = zero, round(zero.rms * per_volt, 4)
        self._zeros |= learned
        self._save()
        return shown

    @classmethod
    def scan(cls, options: Options) -> Iterator[str]:
        """Show each chip's inputs: volts RMS of the differences to A3, and the voltage of A3."""
        bus = open_bus(options.bus)
        try:
            for address in ADDRESSES:
                chip = Chip(bus, address)
                try:
                    for pin in range(3):
                        wave = waveform(chip.sample((pin, 3), 1, 0.11), options.mains)
                        yield f"{address:#04x} A{pin}-A3  {wave.rms:.4f} V RMS around {wave.mean:+.4f} V"
                    wave = waveform(chip.sample((3,), 1, 0.11), options.mains)
                    yield f"{address:#04x} A3  {wave.mean:.4f} V"
                except ChipError:
                    continue
        finally:
            bus.deinit()

    @classmethod
    def check(cls, registry: Registry, name: str) -> list[Problem]:
        """Also find an input that is said to be both a clamp and a voltage."""
        problems = super().check(registry, name)
        for topic in registry.topics.values():
            if topic.source == name and {"amperes_per_volt", "points"} <= set(topic.options):
                path = ("topics", registry.key_of(topic.name), "points")
                problems.append(
                    registry.document.problem(path, "a clamp has amperes_per_volt, a voltage has points: keep one")
                )
        return problems
