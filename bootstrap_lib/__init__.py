"""The base that every process of the constellation stands on: these names are all that a service imports from it.

Modules are named where a word alone would say too little: `state.save`, `secrets.resolve`, `clock.since_boot`.
"""

import bootstrap_lib.light_imports  # noqa: F401 (before anything that imports the same)
from bootstrap_lib import broker, catalog, clock, quantities, secrets, state
from bootstrap_lib.bus import Bus
from bootstrap_lib.client import Client
from bootstrap_lib.control import Nothing, Request, RequestError
from bootstrap_lib.document import DocumentError, Problem, StartError, nearest, reason
from bootstrap_lib.duration import Duration
from bootstrap_lib.entries import Instance, InstanceOptions, Topic
from bootstrap_lib.events import Connected, Message
from bootstrap_lib.needs import Needs
from bootstrap_lib.notify import notify
from bootstrap_lib.publisher import Publisher
from bootstrap_lib.reading import Reading, ReadingError, Sequence, Value, as_json, format_time, parse_time
from bootstrap_lib.registry import Registry
from bootstrap_lib.source import DeviceError, Failure, Sample, Source
from bootstrap_lib.subscriber import Away, Poison, Subscriber

__all__ = [
    "Away",
    "Bus",
    "Client",
    "Connected",
    "DeviceError",
    "DocumentError",
    "Duration",
    "Failure",
    "Instance",
    "InstanceOptions",
    "Message",
    "Needs",
    "Nothing",
    "Poison",
    "Problem",
    "Publisher",
    "Reading",
    "ReadingError",
    "Registry",
    "Request",
    "RequestError",
    "Sample",
    "Sequence",
    "Source",
    "StartError",
    "Subscriber",
    "Topic",
    "Value",
    "as_json",
    "broker",
    "catalog",
    "clock",
    "format_time",
    "nearest",
    "notify",
    "parse_time",
    "quantities",
    "reason",
    "secrets",
    "state",
]
