"""One input of an ADS1115 as topics.yaml describes it, and what its voltage means: a clamp's current, or a value by points."""

from typing import Annotated, Final, Literal

from msgspec import Meta, Struct

from bootstrap_lib import Failure
from services.links.ads1115 import FULL_SCALE, Input
from services.protocols.rms import Calibration, Waveform, Zero, amperes

ADDRESSES: Final = range(0x48, 0x4C)
BIAS_ERROR: Final = 0.1
"""Volts of mean between a clamp and its bias that no working wiring shows: the clamp's coil joins the two."""


class AdcChannel(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
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

    @property
    def problem(self) -> str | None:
        """Why its points say nothing, or None."""
        if self.points and self.amperes_per_volt:
            return "a clamp has amperes_per_volt, a voltage has points: keep one"
        if self.points and len({float(volts) for volts in self.points}) < len(self.points):
            return "two points have the same voltage: keep one"
        return None

    def value(self, wave: Waveform, zero: Zero) -> tuple[float | Failure, Zero]:
        """What a window says, in the topic's unit, and the clamp's zero after it."""
        if wave.saturated:
            sentence = f"beyond the ±{FULL_SCALE[self.gain]} V of gain {self.gain}: take the next lower gain"
            return Failure(sentence), zero
        if self.points:
            points = {float(volts): value for volts, value in self.points.items()}
            return Calibration.through(points).value(wave.mean), zero
        if self.amperes_per_volt is None:
            return wave.mean, zero
        if len(self.pins) > 1 and abs(wave.mean) > BIAS_ERROR:
            sentence = f"{wave.mean:.2f} V lie between clamp and bias: one of the two is not connected"
            return Failure(sentence), zero
        volts_per_ampere = 1 / self.amperes_per_volt
        zero = zero.learn(wave.rms, self.smallest / 2 * volts_per_ampere)
        return amperes(wave.rms, volts_per_ampere, zero), zero
