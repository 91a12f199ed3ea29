"""Recorded readings in, published lines out: what the service would have said, for tuning rules and for tests."""

import itertools
from collections.abc import Iterable, Iterator, Mapping
from datetime import UTC, datetime
from typing import Final

import msgspec

from services.alerting.engine import Engine
from services.alerting.rule import House, Rule, Topic, Value, compile_rules

UNSEEN: Final = 300_000
"""A topic that skips more than this (ms), and more than its `stale`, was not looked at by anybody meanwhile."""


class _Line(msgspec.Struct):
    topic: str
    value: bool | float | str
    time: datetime


def replay(
    lines: Iterable[str | bytes],
    rules: Mapping[str, Rule],
    house: House,
    root: str = "home",
    gather: float = 10.0,
    *,
    messages: bool = False,
) -> Iterator[str]:
    """Run readings as JSON lines (`topic`, `value`, `unit`, `time`) through the rules.

    What comes out are lines as `mosquitto_sub -v` prints them: `home/alert/<rule>`, and with `messages` also
    `home/notify/<id>`. Rules on services see nothing here. RuleError, ValueError name what cannot be used.
    """
    watches, problems = compile_rules(rules, house)
    if problems:
        raise problems[0][1]
    engine = Engine(gather=gather, absent=False)
    engine.load(watch for watch in watches if not watch.key.startswith("service "))
    numbers = itertools.count(1)

    def said(at: int) -> Iterator[str]:
        for announcement in engine.tick(at, at):
            if messages:
                yield f"{root}/notify/{next(numbers)} {msgspec.json.encode(announcement.notice).decode()}"
        yield from shown(at)

    def shown(at: int) -> Iterator[str]:
        for name in sorted(engine.changed):
            yield f"{root}/alert/{name} {msgspec.json.encode(engine.document(name, at)).decode()}"
        engine.changed.clear()

    at = ticked = 0
    paces: dict[str, tuple[int, int, int]] = {}
    for topic, value, time in readings(lines, house, f"{root}/data/"):
        at = at or time
        before, own, seen = paces.get(topic, (time, at, at))
        step, longest = time - before, max(UNSEEN, house.topics[topic].stale * 1000)
        if step > longest:
            if (unseen := step - (at - seen)) > longest:  # the other topics stood still too
                engine.suspend(at)
                at += unseen
                engine.resume(at)
            own = at
        else:
            own += max(0, step)
        at = max(at, own)
        paces[topic] = time, own, at
        if at > ticked:
            yield from said(at - 1)
            ticked = at
        engine.feed(topic, value, time, at)
        if engine.changed:
            yield from shown(at)
    yield from said(at)


def readings(lines: Iterable[str | bytes], house: House, prefix: str) -> Iterator[tuple[str, Value, int]]:
    """Topic, value and time (ms) of each line that is a reading of the house; ValueError names a line that is none.

    Topics may be written with or without `prefix`.
    """
    decode = msgspec.json.Decoder(_Line).decode
    for number, text in enumerate(lines, 1):
        if not text.strip():
            continue
        try:
            line = decode(text)
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            raise ValueError(
                f"line {number}: {error}: give one JSON object a line with topic, value, unit and time"
            ) from None
        name = line.topic.removeprefix(prefix)
        topic = house.topics.get(name)
        if topic is not None and believable(topic, line.value):
            moment = line.time if line.time.tzinfo else line.time.replace(tzinfo=UTC)
            yield name, line.value, round(moment.timestamp() * 1000)


def believable(topic: Topic, value: Value) -> bool:
    """Whether a source would have published the value: old recordings hold -1 and worse in place of a reading."""
    if topic.kind in ("gauge", "counter"):
        if isinstance(value, (bool, str)):
            return False
        return (topic.low is None or value >= topic.low) and (topic.high is None or value <= topic.high)
    return isinstance(value, bool) if topic.kind == "switch" else topic.kind == "text" or value in topic.states
