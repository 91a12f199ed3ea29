"""A source whose device answers each read with the next number, and remembers on its own side which it gave."""

import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated

from msgspec import Meta, Struct

from bootstrap_lib import DeviceError, InstanceOptions, Sample, Source, Topic


class Options(InstanceOptions, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """The device."""

    device: Annotated[Path, Meta(description="Unix socket of the device.")]


class Sensor(Struct, frozen=True, forbid_unknown_fields=True):
    """Nothing of its own."""


class Numbers(Source):
    """Numbers, one after the other."""

    options: Options
    topics: tuple[Topic[Sensor], ...]

    def samples(self) -> Iterator[Sample]:
        """Ask for a number for each topic in each round."""
        with socket.socket(socket.AF_UNIX) as device:
            try:
                device.connect(str(self.options.device))
            except OSError as error:
                raise DeviceError(f"{self.options.device} does not answer: {error}") from None
            device.sendall(f"{self.name}\n".encode())
            answers = device.makefile("r")
            while self.tick():
                for topic in self.topics:
                    device.sendall(b"\n")
                    yield topic, int(answers.readline())
