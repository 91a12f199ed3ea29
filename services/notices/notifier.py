"""What brings messages to people: a queue on disk, one delivery at a time in a thread, and an answer for each message.

A message is on disk before the broker hears that it arrived, and is marked there before it is tried, so that a
process killed in the middle tries again, and the repeat says that it is one.
"""

import logging
import time
from typing import Any, Final

import msgspec

from bootstrap_lib import (
    Away,
    Duration,
    Message,
    Problem,
    Registry,
    Subscriber,
    as_json,
    parse_time,
    reason,
    secrets,
    state,
)
from services.notices import permit
from services.notices.calls import DEADLINE, Courier
from services.notices.notice import Notice, Report
from services.notices.options import NotifierOptions
from services.notices.pictures import Pictures
from services.notices.queued import Delivered, MessagesKept, Outcome, Queued, Refused, Unanswered

log = logging.getLogger(__name__)

PAUSE: Final = 5.0
"""Seconds until something is tried again: Pushover allows no sooner. It doubles each time."""
LONGEST_PAUSE: Final = 300.0
ANSWERS: Final = 500
"""Messages of which it is remembered what became of them, so that a repeat is recognised."""
MOST_WAITING: Final = 1000
"""Messages that may wait; more than that is a flood, and is refused."""
BURST: Final = 1.0
"""Seconds after a connection in which nothing is tried: what waited at the broker may take back what came before it."""
LONGEST: Final = 32768
"""Bytes of the longest message that is read: a phone shows a thousand letters of it, of six bytes at most."""
MOST_BYTES: Final = 4_000_000
"""Bytes of all that may wait: they are written down with each change."""


class Notifier(Subscriber):
    """A service that brings messages to people. Subclasses write `deliver`."""

    options: NotifierOptions
    WANTS_DATA = False

    def __init__(self, registry: Registry, name: str) -> None:
        """Prepare the instance; nothing is opened yet."""
        super().__init__(registry, name)
        self._file = self.state_folder / "messages.json"
        self.kept = MessagesKept()
        self.courier: Courier[Any] = Courier(self.renew)
        self._dirty = False
        self._key = ""
        self._failures = 0
        self._not_before = 0.0
        self._taken: dict[str, float] = {}
        self._pictures = Pictures(self._ask_graph)

    @classmethod
    def check(cls, registry: Registry, name: str) -> list[Problem]:
        """Also find links that would lead nowhere."""
        problems = super().check(registry, name)
        instance = registry.instances[name]
        if not problems and instance.raw.get("links") and not permit.address_of(registry):
            place = instance.section, name, "links"
            problems.append(registry.document.problem(place, "links lead to the page: write its `address:` below web:"))
        return problems

    def deliver(self, entry: Queued, picture: bytes | None) -> Outcome:
        """Bring a message to people, in a thread of its own; `picture` is a PNG. Raises nothing."""
        raise NotImplementedError

    def renew(self) -> None:
        """End a delivery that was given up, where that is possible, and let go of its connections."""

    def idle(self) -> None:
        """Use the courier for something else; called while it is free and nothing waits to be delivered."""

    def on_delivered(self, entry: Queued, outcome: Delivered) -> None:
        """Follow a delivery."""

    # -- taking messages ----------------------------------------------------------------------------------------

    def begin(self) -> None:
        """Take up what waits."""
        super().begin()
        self._key = permit.checked(secrets.resolve(self.options.links)) if self.options.links else ""
        self.kept = state.load(self._file, MessagesKept, MessagesKept())
        for entry in self.kept.queue:
            entry.again, entry.trying = entry.again or entry.trying, False
        self._taken.clear()

    @property
    def _rrd(self) -> str | None:
        found = self.registry.find("rrd")
        return f"{self.registry.root}/service/{found[0].name}" if found else None

    def _ask_graph(self, request: dict[str, Any]) -> bool:
        """Ask for a graph; False where nobody draws any now."""
        if self._rrd is None or not self.bus.online:
            return False
        self.bus.publish(f"{self._rrd}/request/graph", as_json(request))
        return True

    def subscribe(self, session: bool) -> None:  # noqa: ARG002 (the same for both)
        """Hear of messages, and of graphs."""
        self.bus.subscribe(f"{self.registry.root}/notify/+", qos=1)
        if self._rrd:
            self.bus.subscribe(f"{self._rrd}/response/graph")
        self._not_before = max(self._not_before, time.monotonic() + BURST)

    def on_other(self, message: Message) -> None:
        """Take a message that is for this notifier, or a graph that was asked for."""
        levels = message.topic.removeprefix(f"{self.registry.root}/").split("/")
        try:
            if levels[0] == "notify":
                if len(message.payload) > LONGEST:
                    raise ValueError(f"{len(message.payload)} bytes are too long (at most {LONGEST})")
                self._accept(levels[1], msgspec.json.decode(message.payload, type=Notice))
            elif levels[-1] == "graph":
                self._pictures.hear(message.payload)
        except ValueError as error:
            self.bury(message, f"no message for people: {reason(error)}")

    def _accept(self, identity: str, notice: Notice) -> None:
        if notice.notify not in ("", self.name):
            return
        for moment in (notice.time, notice.until):
            if moment:
                parse_time(moment)
        waiting = next((entry for entry in self.kept.queue if entry.id == identity), None)
        if identity in self.kept.answers:
            self.health.counters["repeats"] += 1
            self._answer(identity, self.kept.answers[identity])
        elif notice.withdraw:
            self._withdraw(identity, waiting)
        elif waiting is not None:
            self.health.counters["repeats"] += 1
            if not waiting.trying and waiting.notice != notice:  # the newest values are told
                waiting.notice = notice
                self._dirty = True
        elif len(self.kept.queue) >= MOST_WAITING or self._weight > MOST_BYTES:
            self.health.counters["failed"] += 1
            self._answer(identity, Report(self.name, "failed", f"{len(self.kept.queue)} messages wait already"))
        else:
            self.enqueue(identity, notice)

    @property
    def _weight(self) -> int:
        """Letters of all that waits, more or less."""
        return sum(
            len(entry.notice.text) + len(entry.notice.title) + len(entry.notice.url or "") for entry in self.kept.queue
        )

    def _withdraw(self, identity: str, waiting: Queued | None) -> None:
        """Let go of a message that is no longer true; one that never came is not taken when it comes."""
        self.health.counters["withdrawn"] += 1
        if waiting is not None and waiting.trying:
            waiting.withdrawn = True
            return
        if waiting is not None:
            self.kept.queue.remove(waiting)
            self._pictures.take(identity)
            self._taken.pop(identity, None)
        self._report(identity, Report(self.name, "failed", "taken back"))

    def enqueue(self, identity: str, notice: Notice) -> None:
        """Put a message into the queue; it is tried once it is on disk."""
        self.kept.queue.append(Queued(identity, notice, self.clock.now()))
        self._taken[identity] = time.monotonic()
        self._dirty = True
        self._flush_at = self._flush_at or time.monotonic()

    def flush(self) -> None:
        """Write the queue down before the broker hears that a message arrived."""
        if self._dirty:
            try:
                state.save(self._file, self.kept)
            except OSError as error:
                raise Away(f"{self._file} cannot be written: {reason(error)}") from None
            self._dirty = False

    @property
    def flush_every(self) -> float:
        """Messages are few, and none should wait."""
        return 0.1

    # -- delivering ---------------------------------------------------------------------------------------------

    def on_flushed(self) -> None:
        """Try at once what has come."""
        self.on_tick()

    def on_tick(self) -> None:
        """Hand on the result of a delivery, and begin the next."""
        self.courier.poll()
        if not self.courier.free:
            return
        if self._dirty and not self._away:  # a disk that takes nothing must not keep people from being told
            self._flush_at = self._flush_at or time.monotonic()
            return
        entry = self._next()
        if entry is None:
            self.idle()
        elif self._pictures.ready(entry.id, entry.notice.picture, self.options.picture):
            entry.trying = True
            self.keep(self._file, self.kept)
            picture, linked = self._pictures.take(entry.id), self._linked(entry)
            self.courier.run(lambda: self.deliver(linked, picture), lambda outcome: self._settle_entry(entry, outcome))

    def _linked(self, entry: Queued) -> Queued:
        """A message with its link, where there is a page that can be reached, and a key."""
        link = permit.link_of(entry.notice, entry.id, self.name, permit.address_of(self.registry), self._key)
        return msgspec.structs.replace(entry, link=link)

    def _next(self) -> Queued | None:
        for entry in list(self.kept.queue):
            if self._age(entry) > self.options.keep:
                self._finish_entry(entry, "failed", f"given up after {Duration(self.options.keep)}")
            elif entry.until is not None and self.clock.trusted and self.clock.now() > entry.until:
                self._finish_entry(entry, "failed", "too late: another notifier is asked by now")
        if not self.kept.queue or time.monotonic() < self._not_before:
            return None
        return min(self.kept.queue, key=lambda entry: (-entry.notice.priority, entry.since))

    def _age(self, entry: Queued) -> float:
        """Seconds since it was taken; of one from an earlier start nobody knows while the clock may be wrong."""
        taken = self._taken.get(entry.id)
        if taken is not None:
            return time.monotonic() - taken
        return (self.clock.now() - entry.since) / 1000 if self.clock.trusted else 0.0

    def _settle_entry(self, entry: Queued, outcome: Outcome | None) -> None:
        entry.trying = False
        match outcome or Unanswered(f"no answer within {Duration(DEADLINE)}", lost=True):
            case Delivered() as delivered:
                if self._failures:
                    log.info("messages go out again")
                self._failures, self._not_before = 0, 0.0
                self.health.enter("running", self.clock.now())
                self.on_delivered(entry, delivered)
                self._finish_entry(entry, "delivered")
            case Refused(reason=why):
                self._not_before = time.monotonic() + PAUSE
                self._finish_entry(entry, "failed", why)
            case Unanswered(reason=why, lost=lost):
                entry.again = entry.again or lost
                self._wait(why)
                if entry.withdrawn:
                    self._finish_entry(entry, "failed", f"taken back; {why}")
                self.keep(self._file, self.kept)

    def _wait(self, why: str) -> None:
        self.error(why)
        self.health.counters["retries"] += 1
        if not self._failures:
            log.warning("%s; trying on, nothing is lost", why)
            self.health.enter("degraded", self.clock.now())
        self._not_before = time.monotonic() + min(LONGEST_PAUSE, PAUSE * 2.0 ** min(self._failures, 10))
        self._failures += 1

    def _finish_entry(self, entry: Queued, result: Any, why: str = "") -> None:
        self.kept.queue.remove(entry)
        self._pictures.take(entry.id)
        self._taken.pop(entry.id, None)
        self.health.counters[result] += 1
        if result == "failed":
            self.error(f"'{entry.notice.title}': {why}")
            log.error("'%s' is not delivered: %s", entry.notice.title, why)
        self._report(entry.id, Report(self.name, result, why))

    def _report(self, identity: str, report: Report) -> None:
        """Remember what became of a message, then say it."""
        answers = self.kept.answers
        answers[identity] = report
        while len(answers) > ANSWERS:
            del answers[next(iter(answers))]
        self.keep(self._file, self.kept)
        self._answer(identity, report)

    def _answer(self, identity: str, answer: Report) -> None:
        self.bus.publish(f"{self.registry.root}/notify/{identity}/answer", as_json(answer), qos=1)

    def on_beat(self) -> None:
        """Tell health what waits."""
        self.health.extra["queue"] = len(self.kept.queue)

    def status(self) -> str:
        """One line: what was delivered, what waits."""
        return f"{self.health.state}: {self.health.counters['delivered']} delivered, {len(self.kept.queue)} waiting"
