"""A source of what stands in a file, for a house whose values a test turns. It runs on every version since 0.1.0."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated

from msgspec import Meta, Struct

from bootstrap_lib import InstanceOptions, Sample, Source, Topic


class DialOptions(InstanceOptions, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """The file."""

    file: Annotated[Path, Meta(description="JSON: values by topic.")]


class Nothing(Struct, frozen=True, forbid_unknown_fields=True):
    """No keys of its own."""


class Dial(Source):
    """Values of a file."""

    options: DialOptions
    topics: tuple[Topic[Nothing], ...]

    def samples(self) -> Iterator[Sample]:
        """Read the file in each round."""
        while self.tick():
            values = json.loads(self.options.file.read_text())
            for topic in self.topics:
                yield topic, values[topic.name]
