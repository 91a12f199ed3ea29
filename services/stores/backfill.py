"""How a store that may have missed readings gets them from the archive: in slices, topics of like age together.

It asks with `home/service/<archive>/request/replay`; pages come on `…/replay/<store>`, each slice ends with a
message that says where the archive goes on. Nothing is asked of a house that runs no archive.
"""

import itertools
import logging
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, Final, Protocol

import msgspec

from bootstrap_lib import Bus, Message, Registry, Value, as_json, clock, format_time, parse_time

log = logging.getLogger(__name__)

SLICE: Final = 6 * 3_600_000
"""Milliseconds of readings asked for at a time: what a slow store may have to leave in the broker's queue."""

RAW: Final = 7 * 86_400_000
"""Milliseconds for which the archive certainly has raw readings: it keeps them for a day more, whatever its clock."""

MEANS: Final = 1000
"""Means of a topic asked for at a time."""

ALIKE: Final = 3_600_000
"""Milliseconds by which topics may differ in what they have, and still be asked for together."""

SETTLE: Final = 2.0
"""Seconds until the archive has committed what was published before our subscription stood."""

PATIENCE: Final = 30.0
"""Seconds of silence after which the archive is asked again."""

TRIES: Final = 4


class ReplayEntry(msgspec.Struct, frozen=True, gc=False):
    """A reading of a page, or a mean of `span` seconds from its time on; `time` is RFC 3339."""

    topic: str
    value: Value
    time: str
    unit: str = ""
    span: int = 0
    low: float | None = None
    high: float | None = None


class End(msgspec.Struct, frozen=True):
    """The last message of a slice; `following` is the time at which the archive goes on, None where it does not."""

    end: bool
    count: int
    id: Any = None
    following: str | None = msgspec.field(name="next", default=None)


class ReplayAnswer(msgspec.Struct, frozen=True):
    """The archive's answer to the request itself; people ask it too, with an `id` of their own kind."""

    status: str
    error: str = ""
    id: Any = None


_page = msgspec.json.Decoder(list[msgspec.Raw] | End)
_entry = msgspec.json.Decoder(ReplayEntry)
_answer = msgspec.json.Decoder(ReplayAnswer)


def page_of(payload: bytes) -> list[msgspec.Raw] | End:
    """The entries of a page, or the end of a slice; ValueError for what is neither."""
    try:
        page: list[msgspec.Raw] | End = _page.decode(payload)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise ValueError(f"not a page of a replay: {error}") from None
    return page


def entry_of(raw: msgspec.Raw) -> tuple[ReplayEntry, int]:
    """One entry and its time (ms), judged by itself: one that is none costs no other. ValueError says why it is none."""
    try:
        entry = _entry.decode(raw)
    except (msgspec.DecodeError, RecursionError) as error:
        raise ValueError(str(error)) from None
    return entry, parse_time(entry.time)


class Asker(Protocol):
    """What a filling needs of the store that it fills: who asks, through what, and when."""

    name: str
    registry: Registry

    @property
    def bus(self) -> Bus:
        """The connection to the broker."""

    @property
    def clock(self) -> clock.Clock:
        """The time."""

    def error(self, sentence: str, topic: str | None = None) -> None:
        """Tell health what is wrong."""


class Filling:
    """What one store still has to get; `topics` are those that have not got it all."""

    def __init__(
        self,
        asker: Asker,
        spans: Sequence[tuple[int, int]] = (),
        draw: Callable[[str, list[ReplayEntry]], None] | None = None,
    ) -> None:
        """`asker` is the store.

        One that wants means where the raw readings are gone says of how many seconds, for which age (s), finest first;
        `draw` takes those of a topic.
        """
        self._asker, self._spans, self._draw = asker, spans, draw
        self._groups: list[tuple[int, set[str]]] = []
        self._since = self._until = self._to = self._now = 0
        self._limit: int | None = None
        self.trouble: str | None = None
        """Why the last filling was given up, or None."""
        self._id: str | None = None
        self._numbers = itertools.count(1)
        self._count = self._tries = self._slice_count = 0
        self._due = 0.0

    @property
    def _archive(self) -> str | None:
        """Topic of the archive, None in a house that runs none."""
        archives = self._asker.registry.find("archive")
        return f"{self._asker.registry.root}/service/{archives[0].name}" if archives else None

    @property
    def topics(self) -> set[str]:
        """Topics whose newer readings have to wait."""
        return set().union(*(names for _, names in self._groups))

    def subscribe(self) -> None:
        """Listen for pages, and for a refusal."""
        if archive := self._archive:
            self._asker.bus.subscribe(f"{archive}/replay/{self._asker.name}", qos=1)
            self._asker.bus.subscribe(f"{archive}/response/replay")

    def ask(self, newest: Mapping[str, int], until: int | None = None) -> None:
        """Ask for what topics have after the time (ms) of their newest reading, 0 for all, to before `until` (now)."""
        if self._archive is None or not newest:
            return
        for name, since in sorted(newest.items(), key=lambda item: item[1]):
            for _, names in self._groups:
                names.discard(name)
            if self._groups and 0 <= since - self._groups[-1][0] < ALIKE:
                self._groups[-1][1].add(name)
            else:
                self._groups.append((since, {name}))
        self._groups = [group for group in self._groups if group[1]]
        self._limit, self.trouble = until, None
        self._id, self._tries, self._due = None, 0, time.monotonic() + SETTLE

    def on_tick(self) -> None:
        """Ask, or ask again, when it is time; an archive that stays silent is not waited for for ever."""
        ready = self._asker.bus.online and self._asker.clock.trusted
        if not self._groups or not ready or time.monotonic() < self._due:
            return
        if self._tries >= TRIES:
            self.give_up("the archive does not answer")
            return
        if self._id is None:
            ours = self._asker.clock
            self._since, self._now = self._groups[0][0], ours.now()
            self._until = self._limit or self._now + (0 if ours.certain else clock.OFF)
        self._tries += 1
        self._request()

    def _request(self) -> None:
        self._id = f"{self._asker.clock.now()}-{next(self._numbers)}"
        self._due = time.monotonic() + PATIENCE
        self._slice_count = 0
        since, span = self._since, self._span()
        if span is None:
            self._to = min(since + SLICE, self._until)
        request = {
            "from": format_time(since),
            "to": format_time(self._to),
            "for": self._asker.name,
            "topics": sorted(self._groups[0][1]),
            "id": self._id,
        } | ({} if span is None else {"span": span})
        self._asker.bus.publish(f"{self._archive}/request/replay", as_json(request))

    @property
    def _recent(self) -> int:
        """Time (ms) from which on raw readings are asked for."""
        return self._now - RAW if self._spans else 0

    def _span(self) -> int | None:
        """Seconds of the means to ask for next, up to `_to`; None for raw readings."""
        if self._since >= self._recent:
            return None
        ends = [self._recent, *(self._now - age * 1000 for _, age in self._spans)]
        index = next((n for n, end in enumerate(ends[1:]) if self._since >= end), len(self._spans) - 1)
        span = self._spans[index][0]
        length = span * 1000
        self._to = min(self._since // length + MEANS, -(-min(ends[: index + 1]) // length)) * length
        return span

    def take(self, message: Message) -> list[tuple[str, int, Value]]:
        """Topic, time (ms) and value of the readings of a page; none of other messages. ValueError says what is wrong."""
        try:
            if message.topic.endswith("/response/replay"):
                answer = _answer.decode(message.payload)
                if answer.status == "error" and answer.id is not None and answer.id == self._id:
                    self.give_up(f"the archive refuses: {answer.error}")
                return []
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            raise ValueError(f"no answer to a replay: {error}") from None
        page = page_of(message.payload)
        if isinstance(page, End):
            if page.id == self._id is not None:
                self._end(page)
            return []
        if self._id is None:  # of a request that is to be made anew: what comes first must be written first
            return []
        self._due, self._tries = time.monotonic() + PATIENCE, 1
        self._count += len(page)
        self._slice_count += len(page)
        entries = list(_entries(page))
        if self._draw is not None:
            for name, means in itertools.groupby((one for one, _ in entries if one.span), key=lambda one: one.topic):
                self._draw(name, list(means))
        return [(one.topic, moment, one.value) for one, moment in entries if not one.span and self._is_as_now(one)]

    def _is_as_now(self, entry: ReplayEntry) -> bool:
        """Whether a reading has the unit that its topic has by now: what had another never mixes with it."""
        topic = self._asker.registry.topics.get(entry.topic)
        return topic is None or entry.unit == topic.unit

    def _end(self, end: End) -> None:
        if end.count != self._slice_count:  # a broker drops from a full queue without a word
            self._request()
            return
        following = parse_time(end.following) if end.following else self._until
        if self._since < self._recent:
            following = max(self._to, min(following, self._recent))
        if following < self._until:
            self._since = following
            self._request()
            return
        self._groups.pop(0)
        self._id, self._tries, self._due = None, 0, 0.0
        if self._groups:
            self.on_tick()
        else:
            log.info("filled from the archive, which replayed %d readings", self._count)
            self._count = 0

    def give_up(self, sentence: str) -> None:
        """Go on without what is missing; said once."""
        text = f"{len(self.topics)} topics keep a gap before what comes now: {sentence}"
        log.warning("%s", text)
        self._asker.error(text)
        self.trouble = sentence
        self._groups.clear()
        self._id = None


def _entries(page: Iterable[msgspec.Raw]) -> Iterator[tuple[ReplayEntry, int]]:
    for raw in page:
        try:
            yield entry_of(raw)
        except ValueError as error:
            log.warning("what the archive replayed is left out, where it is no reading: %s", error)
