"""What of other people's messages is news: from a device that is there, of its own time, and not heard already."""

import logging
from collections.abc import Iterable, Iterator
from datetime import tzinfo
from typing import Any, Final

from bootstrap_lib import Duration, Failure, Message, Sample, Topic, Value
from services.links.foreign_line import Availability, ForeignLine, availability_of, value_of
from services.protocols import foreign, path
from services.protocols.foreign import NoValue

log = logging.getLogger(__name__)

AHEAD: Final = 60.0
"""Seconds by which a retained message may be ahead of our clock and still be believed."""
CROWDED: Final = 1000
"""Milliseconds within which messages of one time follow each other: many devices tell seconds."""


class ForeignNews:
    """Remembers, as long as somebody listens, who is there and what was said."""

    def __init__(self) -> None:
        """Nothing was heard yet."""
        self._up: dict[str, bool] = {}
        """What each topic of availability said last."""
        self._strange: set[str] = set()
        """Topics whose device said something of itself that is not understood."""
        self._timeless: set[str] = set()
        """Topics whose line names a time that a message did not have."""
        self._last: dict[str, Value] = {}
        self._waiting: dict[str, Message] = {}
        """Retained messages by topic's name, for a device that has not said whether it is there."""
        self._said: dict[tuple[str, str], int] = {}
        """What was taken last of each message's topic: a broker says what is retained again at each connection."""
        self._told_at: dict[tuple[str, str], int] = {}
        """Time (ms) that each message's topic told last: of many devices on one line, each has its own clock."""
        self._at: dict[str, int] = {}
        """Time (ms) of each topic's last reading."""

    def take(
        self, topics: Iterable[Topic[ForeignLine]], message: Message, zone: tzinfo, now: float | None
    ) -> Iterator[Sample]:
        """Give what a message means; `now` in seconds since 1970, None while nobody knows it."""
        for topic in topics:
            place = availability_of(topic.options)
            if place and foreign.matches(place.topic, message.topic):
                yield from self._availability(topic, place, message, zone, now)
            if foreign.matches(topic.options.topic, message.topic):
                yield from self._value(topic, message, zone, now)

    def _availability(
        self, topic: Topic[ForeignLine], place: Availability, message: Message, zone: tzinfo, now: float | None
    ) -> Iterator[Sample]:
        try:
            up = foreign.is_up(message.payload, place.path)
        except NoValue as nothing:
            if nothing.said and topic.name not in self._strange:
                self._strange.add(topic.name)
                log.warning("%s: %s: %s", topic.name, message.topic, nothing.said)
            return
        news, self._up[topic.name] = self._up.get(topic.name) is not up, up
        if not up and news:
            log.info("%s: %s says that it is away", topic.name, message.topic)
            self._last.pop(topic.name, None)
            yield topic, None
        elif up and (waiting := self._waiting.pop(topic.name, None)):
            yield from self._value(topic, waiting, zone, now)

    def _value(self, topic: Topic[ForeignLine], message: Message, zone: tzinfo, now: float | None) -> Iterator[Sample]:
        line = topic.options
        if not message.payload:
            self._last.pop(topic.name, None)
            yield topic, None
            return
        if self._up.get(topic.name) is False:
            return
        try:
            content = foreign.document(message.payload, bool(line.path or line.when or line.time))
            if any(text not in _texts(content, where) for where, text in line.when.items()):
                return
            told = _time_of(line, content, zone, now) if now is not None else None
            if line.time and told is None and now is not None and topic.name not in self._timeless:
                self._timeless.add(topic.name)
                log.warning("%s: %s: its `time: %s` gives none", topic.name, message.topic, line.time)
            if not self._is_news(topic, message, told, now):
                return
            value = value_of(topic, foreign.find(content, path.parse(line.path)))
        except NoValue as nothing:
            if nothing.said:
                yield topic, Failure(f"{message.topic}: {nothing.said}")
            return
        self._said[topic.name, message.topic] = hash(message.payload)
        if told is not None and now is not None:
            told = min(told, round(1000 * now))  # a clock that was fast and is put right is believed at once
            self._told_at[topic.name, message.topic] = told
            told = self._at[topic.name] = max(told, self._at.get(topic.name, 0) + 1)
        if line.changes and self._last.get(topic.name) == value:
            return
        self._last[topic.name] = value
        yield (topic, value) if told is None else (topic, value, told)

    def _is_news(self, topic: Topic[ForeignLine], message: Message, told: int | None, now: float | None) -> bool:
        """Whether a message is news: no older than it may be, and one that was retained no repetition."""
        said_already = self._said.get((topic.name, message.topic)) == hash(message.payload)
        if told is not None and now is not None:
            age, before = now - told / 1000, self._told_at.get((topic.name, message.topic), 0)
            if message.retained:
                return -AHEAD <= age < topic.stale and told > before and not said_already
            if age >= topic.stale:
                raise NoValue(f"it is of {Duration(round(age))} ago by its own time: is the device's clock right?")
            return told > before - CROWDED
        if topic.options.time or not message.retained:
            return not message.retained
        if availability_of(topic.options) is None:
            return False
        if self._up.get(topic.name) is None:
            self._waiting[topic.name] = message
        return self._up.get(topic.name, False) and not said_already


def _texts(content: Any, where: str) -> tuple[str, ...]:
    return path.texts_of(foreign.find(content, path.parse(where)))


def _time_of(line: ForeignLine, content: Any, zone: tzinfo, now: float) -> int | None:
    """Time (ms) that a message says itself, or None."""
    if not line.time:
        return None
    try:
        return round(1000 * foreign.moment(foreign.find(content, path.parse(line.time)), zone, now))
    except NoValue:
        return None
