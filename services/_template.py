"""A source to copy: `cp services/_template.py services/co2.py`, then change what the comments speak of.

Nothing else is needed but lines in topics.yaml (docs/add-a-source.md). The tests run this file as it is.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Annotated

from msgspec import Meta, Struct

from bootstrap_lib import DeviceError, Failure, InstanceOptions, Sample, Source, Topic


class Options(InstanceOptions, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """What the instance may be told below `sources:`; each key has a type, a sentence, and a default if it can have one."""

    device: Annotated[Path, Meta(description="File in which the sensor writes its last value.")] = Path("/run/sensor")


class Sensor(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """What each of its lines below `topics:` may say besides the keys that all have."""

    factor: Annotated[float, Meta(description="What the raw value is multiplied with.")] = 1.0


class Template(Source):
    """Numbers from a file."""  # one line: the demo and `constellation check` show it

    options: Options
    topics: tuple[Topic[Sensor], ...]

    def samples(self) -> Iterator[Sample]:
        """Yield a value, or a reason why there is none, for each topic in each round."""
        # Import what talks to hardware here, not above, so that checks and docs work without it.
        if not self.options.device.exists():
            # The device as a whole is not there: said once, tried again after a pause that grows.
            raise DeviceError(f"{self.options.device} is not there: plug the sensor in")
        with self.options.device.open(
            errors="replace"
        ) as sensor:  # closed when the source stops, or topics.yaml changes
            while self.tick():  # waits for the next round; heartbeat, requests and sending happen in it
                sensor.seek(0)
                said = sensor.read(1000)
                for topic in self.topics:
                    yield topic, decode(said, topic.options.factor)

    @classmethod
    def scan(cls, options: Options) -> Iterator[str]:
        """Show what is there, for `constellation scan`."""
        if options.device.exists():
            yield f"{options.device} {options.device.read_text().strip()}"


def decode(text: str, factor: float) -> float | Failure:
    """Decode without any I/O, so that a test needs no hardware. Real decoders live in services/protocols/."""
    try:
        return float(text) * factor
    except ValueError:
        return Failure(f"the sensor says {text[:20]!r}, which is no number")
