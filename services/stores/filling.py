"""How a store that may have missed readings gets them from the archive: in slices, topics of like age together.

It asks with `home/service/<archive>/request/replay`; pages come on `…/replay/<store>`, each slice ends with a
message that says where the archive goes on. Nothing is asked of a house that runs no archive.
"""

import itertools
import logging
import time
from collections.abc import Mapping
from typing import Final

import msgspec

from bootstrap_lib.bus import Message
from bootstrap_lib.reading import Value, as_json, format_time, parse_time
from bootstrap_lib.service import Service

log = logging.getLogger(__name__)

SLICE: Final = 6 * 3_600_000
"""Milliseconds of readings asked for at a time: what a slow store may have to leave in the broker's queue."""

ALIKE: Final = 3_600_000
"""Milliseconds by which topics may differ in what they have, and still be asked for together."""

SETTLE: Final = 2.0
"""Seconds until the archive has committed what was published before our subscription stood."""

PATIENCE: Final = 30.0
"""Seconds of silence after which the archive is asked again."""

TRIES: Final = 4


class Entry(msgspec.Struct, frozen=True, gc=False):
    """A reading of a page; `time` is RFC 3339."""

    topic: str
    value: Value
    time: str
    unit: str = ""


class End(msgspec.Struct, frozen=True):
    """The last message of a slice; `following` is the time at which the archive goes on, None where it does not."""

    end: bool
    count: int
    id: str | None = None
    following: str | None = msgspec.field(name="next", default=None)


class Answer(msgspec.Struct, frozen=True):
    """The archive's answer to the request itself."""

    status: str
    error: str = ""
    id: str | None = None


_page = msgspec.json.Decoder(list[Entry] | End)
_answer = msgspec.json.Decoder(Answer)


class Filling:
    """What one store still has to get; `topics` are those that have not got it all."""

    def __init__(self, service: Service) -> None:
        """`service` is the store."""
        self._service = service
        self._groups: list[tuple[int, set[str]]] = []
        self._since = self._until = 0
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
        archives = self._service.registry.find("archive")
        return f"{self._service.registry.root}/service/{archives[0].name}" if archives else None

    @property
    def topics(self) -> set[str]:
        """Topics whose newer readings have to wait."""
        return set().union(*(names for _, names in self._groups))

    def subscribe(self) -> None:
        """Listen for pages, and for a refusal."""
        if archive := self._archive:
            self._service.bus.subscribe(f"{archive}/replay/{self._service.name}", qos=1)
            self._service.bus.subscribe(f"{archive}/response/replay")

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
        ready = self._service.bus.online and self._service.clock.trusted
        if not self._groups or not ready or time.monotonic() < self._due:
            return
        if self._tries >= TRIES:
            self.give_up("the archive does not answer")
            return
        if self._id is None:
            self._since, self._until = self._groups[0][0], self._limit or self._service.clock.now()
        self._tries += 1
        self._request()

    def _request(self) -> None:
        self._id = f"{self._service.clock.now()}-{next(self._numbers)}"
        self._due = time.monotonic() + PATIENCE
        self._slice_count = 0
        request = {
            "from": format_time(self._since),
            "to": format_time(min(self._since + SLICE, self._until)),
            "for": self._service.name,
            "topics": sorted(self._groups[0][1]),
            "id": self._id,
        }
        self._service.bus.publish(f"{self._archive}/request/replay", as_json(request))

    def take(self, message: Message) -> list[tuple[str, int, Value]]:
        """Topic, time (ms) and value of the readings of a page; none of other messages. ValueError says what is wrong."""
        try:
            if message.topic.endswith("/response/replay"):
                answer = _answer.decode(message.payload)
                if answer.status == "error" and answer.id is not None and answer.id == self._id:
                    self.give_up(f"the archive refuses: {answer.error}")
                return []
            page = _page.decode(message.payload)
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            raise ValueError(f"not a page of a replay: {error}") from None
        if isinstance(page, End):
            if page.id == self._id is not None:
                self._end(page)
            return []
        self._due, self._tries = time.monotonic() + PATIENCE, 1
        self._count += len(page)
        self._slice_count += len(page)
        return [(entry.topic, parse_time(entry.time), entry.value) for entry in page]

    def _end(self, end: End) -> None:
        if end.count != self._slice_count:  # a broker drops from a full queue without a word
            self._request()
            return
        following = parse_time(end.following) if end.following else self._until
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
        self._service.error(text)
        self.trouble = sentence
        self._groups.clear()
        self._id = None
