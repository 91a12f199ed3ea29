"""Judge and teller of a running service: what they know on disk, what they say on the broker.

What is decided is on disk before it is said. What only begins (`for`) lies in the runtime folder as well, at each
flush, so that a process that was killed goes on where it was.
"""

import logging
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Final, Protocol, TypeVar

import msgspec
from msgspec import Struct

from bootstrap_lib import Message, Sequence, as_json, reason, state
from services.alerting import heartbeat
from services.alerting.condition import Watch
from services.alerting.documents import document_of, names_shown
from services.alerting.earlier import EarlierMemory, EarlierMessage, bring_up
from services.alerting.judging import Judge
from services.alerting.rule import Count
from services.alerting.settings import TellerSettings
from services.alerting.telling import Teller
from services.alerting.told import TellerMemory
from services.alerting.verdict import JudgeMemory
from services.notices.notice import Notice, Report

T = TypeVar("T")
log = logging.getLogger(__name__)

SAVE_EVERY: Final = 900_000
"""Milliseconds after which everything is written down in any case, that a power cut does not begin windows anew."""
REFRESH: Final = 10_000
"""Milliseconds between two values of one alert that fires, on its topic."""
STREAMS: Final = 256
OF_A_HOUSE: Final = 64
"""Runs of numbers that are remembered, of our own sources and of those of each house of a fleet."""


class Heads(Struct):
    """What a reading leaves behind, in the runtime folder: what is so, and up to which number each source was heard."""

    judge: JudgeMemory = msgspec.field(default_factory=JudgeMemory)
    numbers: dict[str, Count] = msgspec.field(default_factory=dict)


class AlertsKept(Struct, omit_defaults=True):
    """What must survive a restart; it is on disk before a message goes out. `memory` and `waiting` are those of 0.1.0."""

    heads: Heads = msgspec.field(default_factory=Heads)
    teller: TellerMemory = msgspec.field(default_factory=TellerMemory)
    published: set[str] = msgspec.field(default_factory=set)
    memory: EarlierMemory | None = None
    waiting: list[EarlierMessage] = []


class Disk(Protocol):
    """Where it is written down: `bootstrap_lib.state`, but for a rehearsal."""

    def load(self, path: Path, kind: type[T], default: T) -> T:
        """Read what was saved."""

    def save(self, path: Path, value: object) -> None:
        """Make it last; OSError where that fails."""


class Desk:
    """What the service has between its begin and its end. Times: `at` monotonic, `wall` since 1970, both in ms."""

    def __init__(
        self,
        files: tuple[Path, Path],
        publish: Callable[..., object],
        keep: Callable[[Path, object], None],
        wall: int,
        disk: Disk = state,
    ) -> None:
        """`publish` and `keep` are the service's; what was kept in the two `files`, the second in memory, is taken up."""
        (self._file, self._runtime), self._publish, self._keep, self._disk = files, publish, keep, disk
        self.kept = disk.load(self._file, AlertsKept, AlertsKept())
        newest = disk.load(self._runtime, Heads, Heads())
        if newest.judge.alive > self.kept.heads.judge.alive:
            self.kept.heads = newest
        self._begun = wall
        self.judge = Judge(self.kept.heads.judge)
        self.teller = Teller(self.judge, self.kept.teller)
        self._root = ""
        self._parts: dict[str, list[str]] = {}
        self._shown: dict[str, int] = {}
        self._save_at = 0

    def take(self, watches: Iterable[Watch], settle: float, settings: TellerSettings, root: str, at: int) -> None:
        """Take rules and settings."""
        first, self._root = not self._root, root
        watched = list(watches)
        if self.kept.memory is not None:
            self._bring_up(self.kept.memory, watched, settings)
        self.judge.settle = round(settle * 1000)
        self.teller.take(settings)
        for name in self.judge.load(watched):
            log.info("the alert %s is no more", name)
        if first:
            alive = self.judge.memory.alive
            self.judge.start(at, max(0, self._begun - alive) if alive else 0)
            self._save_at = at + SAVE_EVERY
        self._parts = {}
        for watch in watched:
            if watch.of_service:
                _, service, *part = watch.key.split()
                self._parts.setdefault(service, []).extend(part)

    def _bring_up(self, memory: EarlierMemory, watches: list[Watch], settings: TellerSettings) -> None:
        """Take over what version 0.1.0 kept; it is written in today's form with the next save."""
        judge, teller = bring_up(memory, self.kept.waiting, watches, settings)
        self.kept.heads, self.kept.teller = Heads(judge), teller
        self.kept.memory, self.kept.waiting = None, []
        self.judge.memory, self.teller = judge, Teller(self.judge, teller)
        told = sum(any(track.told for track in one.tracks.values()) for one in teller.told.values())
        log.info(
            "alerts of version 0.1.0 are taken over: people were told of %d, %d messages wait",
            told,
            len(teller.waiting),
        )

    # -- what is heard ------------------------------------------------------------------------------------------

    def is_fresh(self, sequence: Sequence | None) -> bool | None:
        """Whether a reading was never heard before, by its number; None where nobody can tell."""
        if sequence is None:
            return None
        numbers = self.kept.heads.numbers
        known = numbers.pop(sequence.stream, None)
        numbers[sequence.stream] = max(known or 0, sequence.number)
        if known is not None:
            return sequence.number > known
        house, colon, _ = sequence.stream.rpartition(":")
        same = [one for one in numbers if one.rpartition(":")[0] == house]
        if len(same) > (OF_A_HOUSE if colon else STREAMS):
            del numbers[same[0]]  # the one unheard for longest; what one house makes up costs no other
        return None

    def hear_health(self, service: str, payload: bytes, beats: int, at: int, wall: int) -> None:
        """Take a heartbeat; ValueError where it is none. It is silent after so many `beats`."""
        health = heartbeat.read(payload, self._parts.get(service, ()))
        self.judge.beat(f"service {service}", beats * health.beat)
        self.judge.pause(service, health.state == "paused", at)
        self.judge.feed(f"service {service}", health.state, wall, at, fresh=True)
        for part, value in health.parts.items():
            self.judge.feed(f"service {service} {part}", value, wall, at, fresh=True)

    def hear_report(self, identity: str, message: Message, wall: int) -> None:
        """Take a notifier's report; ValueError where it is none."""
        report = msgspec.json.decode(message.payload, type=Report)
        if report.state == "failed":
            log.info("message %s: %s: %s", identity, report.notifier, report.text)
        if self.teller.hear(identity, report, wall):
            self.save(wall)

    # -- what is said -------------------------------------------------------------------------------------------

    def turn(self, at: int, wall: int) -> int:
        """Let time pass: decide, write down, say. Returns how many messages were published."""
        decided = self.teller.tick(at, wall)
        for sentence in self.teller.news:
            log.info("%s", sentence)
        self.teller.news.clear()
        changed, self.judge.changed = self.judge.changed, set()
        moved, self.judge.moved = self.judge.moved, set()
        later = {name for name in moved - changed if at - self._shown.get(name, at - REFRESH) < REFRESH}
        self.judge.moved |= later & self.judge.alerts.keys()
        if decided or changed or self.judge.unsaved or at >= self._save_at:
            self.save(wall)
            self._save_at = at + SAVE_EVERY
        self.show((changed | moved) - later, at, wall)
        said = self.teller.publish(at, wall)
        for identity, notice in said:
            self._say(identity, notice)
        return len(said)

    def _say(self, identity: str, notice: Notice) -> None:
        self._publish(f"{self._root}/notify/{identity}", as_json(notice), qos=1)

    def show(self, names: Iterable[str], at: int, wall: int) -> None:
        """Publish how alerts stand; clear the topics of those that are no more."""
        known = set(names_shown(self.teller))
        names = [name for name in names if name in known]
        for name in names:
            self._shown[name] = at
            document = as_json(document_of(self.teller, name, wall))
            self._publish(f"{self._root}/alert/{name}", document, qos=1, retain=True)
        published = self.kept.published
        gone = published - known
        for name in gone:
            self._publish(f"{self._root}/alert/{name}", b"", qos=1, retain=True)
            self._shown.pop(name, None)
        if gone or not published.issuperset(names):
            self.kept.published = known
            self.save(wall)

    def show_all(self, at: int, wall: int) -> None:
        """Publish how every alert stands, as after a broker lost its memory."""
        self.show(names_shown(self.teller), at, wall)

    # -- what lasts ---------------------------------------------------------------------------------------------

    def flush(self, wall: int) -> None:
        """Make last what readings brought, before they are acknowledged."""
        if self.judge.unsaved:
            self.save(wall)
        self.judge.memory.alive = wall
        try:
            self._disk.save(self._runtime, self.kept.heads)
        except OSError as error:
            log.debug("%s cannot be written: %s", self._runtime, reason(error))

    def save(self, wall: int) -> None:
        """Write everything down; a disk that takes nothing is said, and people are told all the same."""
        self.judge.unsaved, self.judge.memory.alive = False, wall
        self._keep(self._file, self.kept)

    def save_or_fail(self, wall: int) -> None:
        """Write everything down; OSError where the disk takes nothing."""
        self.judge.unsaved, self.judge.memory.alive = False, wall
        self._disk.save(self._file, self.kept)
