"""The base that every process of the constellation stands on, and all that a service needs to import from it."""

from bootstrap_lib import light_imports as _lean  # noqa: F401 (before anything that imports the same)
from bootstrap_lib.document import Problem
from bootstrap_lib.duration import Duration
from bootstrap_lib.reading import Reading, Sequence, Value
from bootstrap_lib.registry import InstanceOptions, Registry, Topic
from bootstrap_lib.service import Service
from bootstrap_lib.source import DeviceError, Failure, Sample, Source
from bootstrap_lib.subscriber import Away, Poison, Subscriber

__all__ = [
    "Away",
    "DeviceError",
    "Duration",
    "Failure",
    "InstanceOptions",
    "Poison",
    "Problem",
    "Reading",
    "Registry",
    "Sample",
    "Sequence",
    "Service",
    "Source",
    "Subscriber",
    "Topic",
    "Value",
]
