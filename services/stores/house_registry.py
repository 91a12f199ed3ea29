"""What a house says of its topics on `home/service/registry`, retained: unit, label and kind, for all who have no topics.yaml of it.

The centre of a fleet needs no copy of it that somebody keeps by hand, and what else reads the broker alone knows what a topic is.
"""

from collections.abc import Iterable
from typing import Any, Final

import msgspec

from bootstrap_lib import Bus, Registry, Topic, as_json

LARGEST: Final = 900_000
"""Bytes of the document at most: brokers of this house and of a centre take a message of 1 MiB."""

FACTS: Final = 512
"""Bytes of one topic's own text that are passed on: a label is a few words."""


class PublishedTopic(msgspec.Struct, frozen=True, omit_defaults=True, kw_only=True):
    """One topic; `every` and `stale` are in seconds, `was` are its names before, `stored` tells whether the record keeps it."""

    unit: str = ""
    kind: str = "gauge"
    label: str = ""
    source: str = msgspec.field(name="from", default="")
    quantity: str = ""
    decimals: int = 0
    every: float = 10.0
    stale: float = 30.0
    states: tuple[str, ...] = ()
    was: tuple[str, ...] = ()
    stored: bool = True


class PublishedRegistry(msgspec.Struct, frozen=True, omit_defaults=True, kw_only=True):
    """The document; `left_out` counts topics that had no room in it."""

    digest: str
    timezone: str = "UTC"
    topics: dict[str, PublishedTopic] = {}
    left_out: int = 0


def publish(bus: Bus, registry: Registry, record: str) -> None:
    """Say what the topics are, to all who have no topics.yaml of this house."""
    bus.publish(f"{registry.root}/service/registry", as_json(of(registry, record)), qos=1, retain=True)


def of(registry: Registry, record: str) -> PublishedRegistry:
    """What a registry says of its topics; `record` is the instance that keeps them. What has no room is left out, the last first."""
    topics: dict[str, PublishedTopic] = {}
    size = 1000
    for topic in registry.topics.values():
        published = _published(topic, record)
        size += len(as_json({topic.name: published}))
        if size > LARGEST:
            break
        topics[topic.name] = published
    left_out = len(registry.topics) - len(topics)
    return PublishedRegistry(digest=registry.digest, timezone=registry.zone, topics=topics, left_out=left_out)


def _published(topic: Topic[Any], record: str) -> PublishedTopic:
    return PublishedTopic(
        unit=topic.unit,
        kind=topic.kind,
        label=topic.label[: FACTS // 4],
        source=topic.source,
        quantity=topic.quantity,
        decimals=topic.decimals,
        every=float(topic.every),
        stale=float(topic.stale),
        states=tuple(_fitting(topic.states)),
        was=tuple(_fitting(topic.was)),
        stored=topic.stored_by(record),
    )


def _fitting(words: Iterable[str]) -> Iterable[str]:
    """As many words as there is room for."""
    left = FACTS
    for word in words:
        left -= len(word)
        if left < 0:
            return
        yield word
