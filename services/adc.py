"""Currents by clamps and plain voltages from ADS1115 converters on an I²C bus (docs/services/adc.md)."""

import time
from collections.abc import Iterator
from typing import Annotated, ClassVar, Literal

from msgspec import Meta, Struct

from bootstrap_lib import (
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
    state,
)
from services.links.ads1115 import Chip, ChipError
from services.links.channel import ADDRESSES, AdcChannel
from services.links.i2c import open_bus
from services.protocols.rms import Waveform, Zero, waveform

CYCLES = {50: 10, 60: 12}
"""Whole mains cycles in a window of 0.2 s."""
LESSONS = 5
"""Windows behind a zero that is learned on request."""
SAVE_AFTER = 3600.0
"""Seconds between two writings of the learned zeros, for the SD card's sake."""


class Options(InstanceOptions, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """The bus and the mains."""

    bus: Annotated[
        str,
        Meta(pattern=r"^(i2c:\d+|sim:.+)$", examples=["i2c:1"], description="`i2c:1`, or `sim:FILE`, a simulated one."),
    ] = "i2c:1"
    mains: Annotated[Literal[50, 60], Meta(description="Frequency of the mains in Hz.")] = 50


class LearnZero(Struct, forbid_unknown_fields=True):
    """Payload of `request/learn_zero`: {"topic":"boiler/fan/current"}, or {} for all clamps; nothing may flow."""

    topic: str | None = None


class Adc(Source):
    """Currents and voltages."""

    NEEDS: ClassVar = Needs(
        extra="adc",
        libraries=("adafruit_ads1x15", "Adafruit_PureIO"),
        path="/dev/i2c-1",
        overlay="dtparam=i2c_arm=on",
        mend="sudo modprobe i2c-dev",
        devices=("i2c",),
        simulator="services.simulators.staging:adc",
    )

    options: Options
    topics: tuple[Topic[AdcChannel], ...]

    def __init__(self, registry: Registry, name: str) -> None:
        """Prepare the instance."""
        super().__init__(registry, name)
        self.chips: dict[int, Chip] = {}
        self._zeros: dict[str, Zero] = {}
        self._saved_at = 0.0

    def begin(self) -> None:
        """Recall the learned zeros."""
        self._zeros = state.load(self.state_folder / "zeros.json", dict[str, Zero], {})
        self._saved_at = time.monotonic()
        super().begin()

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
        self.keep(self.state_folder / "zeros.json", self._zeros)
        self._saved_at = time.monotonic()

    def _wave(self, channel: AdcChannel) -> Waveform:
        seconds = (CYCLES[self.options.mains] + 0.5) / self.options.mains
        return waveform(self.chips[channel.address].sample(channel.pins, channel.gain, seconds), self.options.mains)

    def _measure(self, topic: Topic[AdcChannel]) -> float | Failure:
        channel = topic.options
        try:
            wave = self._wave(channel)
        except ValueError as error:
            return Failure(str(error))
        value, zero = channel.value(wave, self._zeros.get(channel.clamp, Zero()))
        if channel.amperes_per_volt:
            self._zeros[channel.clamp] = zero
        return value

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
                except ValueError as error:
                    yield f"{address:#04x}  {error}"
        finally:
            bus.deinit()

    @classmethod
    def unit_of(cls, topic: Topic[AdcChannel]) -> str | None:
        """Amperes or volts; points give what their line says."""
        return None if topic.options.points else topic.row.unit

    @classmethod
    def check(cls, registry: Registry, name: str) -> list[Problem]:
        """Also find an input whose points say nothing."""
        problems = super().check(registry, name)
        for topic in () if problems else registry.topics_of(name, AdcChannel):
            if problem := topic.options.problem:
                path = ("topics", registry.key_of(topic.name), "points")
                problems.append(registry.document.problem(path, problem))
        return problems
