"""What brings messages to people: a queue on disk, one delivery at a time in a thread, and an answer for each message.

A message is on disk before the broker hears that it arrived, and is marked there before it is tried, so that a
process killed in the middle tries again, and the repeat says that it is one.
"""

import base64
import logging
import threading
import time
from collections.abc import Callable
from typing import Annotated, Any, Final, Generic, TypeVar

import msgspec
from msgspec import Meta, Struct

from bootstrap_lib import Away, Duration, InstanceOptions, Subscriber, state
from bootstrap_lib.bus import Message
from bootstrap_lib.document import reason
from bootstrap_lib.duration import describe
from bootstrap_lib.reading import as_json, parse_time
from services.protocols.notices import Answer, Notice

log = logging.getLogger(__name__)
T = TypeVar("T")

PAUSE: Final = 5.0
"""Seconds until something is tried again: Pushover allows no sooner. It doubles each time."""
LONGEST_PAUSE: Final = 300.0
DEADLINE: Final = 45.0
"""Seconds after which a delivery is given up, whatever its library does."""
CONNECTIONS: Final = 2
"""Deliveries at most at any time, those given up included: Pushover allows two connections."""
ANSWERS: Final = 500
"""Messages of which it is remembered what became of them, so that a repeat is recognised."""
PICTURE_PATIENCE: Final = 15.0
"""Seconds that the rrd service has for a graph; the message goes without it then."""


class Options(InstanceOptions, frozen=True, kw_only=True):
    """What every notifier may be told."""

    every: Annotated[Duration, Meta(description="How often it looks at the time.")] = Duration(1)
    keep: Annotated[Duration, Meta(description="How long a message is tried before it is given up.")] = Duration(86400)
    picture: Annotated[Duration, Meta(description="How much time a graph shows.")] = Duration(6 * 3600)


class Queued(Struct):
    """A message that is not delivered yet. `since` (wall, ms) is when it was taken."""

    id: str
    notice: Notice
    since: int
    trying: bool = False
    """It was handed over; if this is found after a start, nobody knows whether it arrived."""
    again: bool = False
    """An answer was lost, so people may have it already."""

    @property
    def time(self) -> int:
        """When what it tells happened (ms)."""
        return parse_time(self.notice.time) if self.notice.time else self.since

    @property
    def text(self) -> str:
        """The text, which says of itself when it may be a repeat."""
        return (
            f"{self.notice.text}\n(Sent again: it is not known whether this has arrived.)"
            if self.again
            else self.notice.text
        )


class Kept(Struct):
    """What must survive a restart."""

    queue: list[Queued] = msgspec.field(default_factory=list)
    answers: dict[str, Answer] = msgspec.field(default_factory=dict)


class Delivered(Struct, frozen=True):
    """It arrived; `receipt` names an emergency that waits to be acknowledged."""

    receipt: str = ""


class Refused(Struct, frozen=True):
    """It will never be taken as it is: it is not repeated."""

    reason: str


class Unanswered(Struct, frozen=True):
    """It was not taken, or nobody knows: it is tried again. `lost` is whether it may have been taken."""

    reason: str
    lost: bool


Outcome = Delivered | Refused | Unanswered


class Courier(Generic[T]):
    """Runs one call at a time in a thread and gives up on it after a deadline."""

    def __init__(self, renew: Callable[[], None]) -> None:
        """`renew` is called where a call was given up: it may still hold what it used."""
        self._renew = renew
        self._threads: list[threading.Thread] = []
        self._result: list[T] = []
        self._done: Callable[[T | None], None] | None = None
        self._since = 0.0

    @property
    def free(self) -> bool:
        """Whether it can take a call."""
        self._threads = [thread for thread in self._threads if thread.is_alive()]
        return self._done is None and len(self._threads) < CONNECTIONS

    def run(self, call: Callable[[], T], done: Callable[[T | None], None]) -> None:
        """Begin a call; `done` gets its result from `poll`, or None where it was given up. The call never raises."""
        result: list[T] = []
        thread = threading.Thread(target=lambda: result.append(call()), name="courier", daemon=True)
        self._result, self._done, self._since = result, done, time.monotonic()
        self._threads.append(thread)
        thread.start()

    def poll(self) -> None:
        """Hand on the result of a call that has ended or is overdue."""
        done, result = self._done, self._result
        if done is not None and (result or time.monotonic() - self._since > DEADLINE):
            self._done = None
            if not result:
                self._renew()
            done(result[0] if result else None)


class Notifier(Subscriber):
    """A service that brings messages to people. Subclasses write `deliver`."""

    options: Options
    WANTS_DATA = False

    def deliver(self, entry: Queued, picture: bytes | None) -> Outcome:
        """Bring a message to people, in a thread of its own; `picture` is a PNG. Raises nothing."""
        raise NotImplementedError

    def renew(self) -> None:
        """Let go of connections that a delivery, which was given up, may still use."""

    def idle(self) -> None:
        """Use the courier for something else; called while it is free and nothing waits to be delivered."""

    def on_delivered(self, entry: Queued, outcome: Delivered) -> None:
        """Follow a delivery."""

    # -- taking messages ----------------------------------------------------------------------------------------

    def begin(self) -> None:
        """Take up what waits."""
        super().begin()
        self._file = self.state_folder / "messages.json"
        self.kept = state.load(self._file, Kept, Kept())
        for entry in self.kept.queue:
            entry.again, entry.trying = entry.again or entry.trying, False
        self.courier: Courier[Any] = Courier(self.renew)
        self._dirty = False
        self._failures = 0
        self._not_before = 0.0
        self._pictures: dict[str, bytes | None] = {}
        self._asked: dict[str, float] = {}

    def subscribe(self, session: bool) -> None:  # noqa: ARG002 (the same for both)
        """Hear of messages, and of graphs."""
        root = self.registry.root
        self.bus.subscribe(f"{root}/notify/+", qos=1)
        if self._rrd:
            self.bus.subscribe(f"{root}/service/{self._rrd}/response/graph", qos=0)

    @property
    def _rrd(self) -> str | None:
        found = self.registry.find("rrd")
        return found[0].name if found else None

    def on_other(self, message: Message) -> None:
        """Take a message that is for this notifier, or a graph that was asked for."""
        levels = message.topic.removeprefix(f"{self.registry.root}/").split("/")
        try:
            if levels[0] == "notify":
                self._accept(levels[1], msgspec.json.decode(message.payload, type=Notice))
            elif levels[-1] == "graph":
                self._take_picture(msgspec.json.decode(message.payload))
        except (msgspec.DecodeError, UnicodeDecodeError, ValueError) as error:
            self.bury(message, f"no message for people: {reason(error)}")

    def _accept(self, identity: str, notice: Notice) -> None:
        if notice.notify not in ("", self.name):
            return
        if notice.time:
            parse_time(notice.time)
        if identity in self.kept.answers:
            self.health.counters["repeats"] += 1
            self._answer(identity, self.kept.answers[identity])
        elif any(entry.id == identity for entry in self.kept.queue):
            self.health.counters["repeats"] += 1
        else:
            self.enqueue(identity, notice)

    def enqueue(self, identity: str, notice: Notice) -> None:
        """Put a message into the queue; it is tried once it is on disk."""
        self.kept.queue.append(Queued(identity, notice, self.clock.now()))
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
        elif self._has_picture(entry):
            entry.trying = True
            self._save()
            picture = self._pictures.pop(entry.id, None)
            self.courier.run(lambda: self.deliver(entry, picture), lambda outcome: self._settle_entry(entry, outcome))

    def _save(self) -> None:
        """Write the queue down, at once; an error is counted."""
        try:
            state.save(self._file, self.kept)
        except OSError as error:
            self.error(f"{self._file} cannot be written: {reason(error)}")

    def _next(self) -> Queued | None:
        limit = self.clock.now() - self.options.keep * 1000
        for entry in [entry for entry in self.kept.queue if entry.since < limit]:
            self._finish_entry(entry, "failed", f"given up after {describe(self.options.keep)}")
        if not self.kept.queue or time.monotonic() < self._not_before:
            return None
        return min(self.kept.queue, key=lambda entry: (-entry.notice.priority, entry.since))

    def _settle_entry(self, entry: Queued, outcome: Outcome | None) -> None:
        entry.trying = False
        match outcome or Unanswered(f"no answer within {describe(DEADLINE)}", lost=True):
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
                self._save()

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
        self._pictures.pop(entry.id, None)
        self._asked.pop(entry.id, None)
        self.health.counters[result] += 1
        if result == "failed":
            self.error(f"'{entry.notice.title}': {why}")
            log.error("'%s' is not delivered: %s", entry.notice.title, why)
        answers = self.kept.answers
        answers[entry.id] = answer = Answer(self.name, result, why)
        while len(answers) > ANSWERS:
            del answers[next(iter(answers))]
        self._save()
        self._answer(entry.id, answer)

    def _answer(self, identity: str, answer: Answer) -> None:
        self.bus.publish(f"{self.registry.root}/notify/{identity}/answer", as_json(answer), qos=1)

    # -- pictures -----------------------------------------------------------------------------------------------

    def _has_picture(self, entry: Queued) -> bool:
        """Whether the message need not wait for its graph any more: it came, never will, or took too long."""
        wanted, rrd, now = entry.notice.picture, self._rrd, time.monotonic()
        if not wanted or rrd is None or not self.bus.online or entry.id in self._pictures:
            return True
        if entry.id not in self._asked:
            self._asked[entry.id] = now
            request = {"id": entry.id, "topics": [wanted], "from": str(self.options.picture), "inline": True}
            self.bus.publish(f"{self.registry.root}/service/{rrd}/request/graph", as_json(request))
            return False
        if now - self._asked[entry.id] < PICTURE_PATIENCE:
            return False
        log.warning("%s has drawn no graph of %s within %s", rrd, wanted, describe(PICTURE_PATIENCE))
        self._pictures[entry.id] = None
        return True

    def _take_picture(self, answer: Any) -> None:
        identity = answer.get("id") if isinstance(answer, dict) else None
        if self._asked.pop(str(identity), None) is not None:
            data = answer.get("data")
            encoded = data.get("base64") if isinstance(data, dict) else None
            self._pictures[str(identity)] = base64.b64decode(encoded) if encoded else None
            if not encoded:
                log.warning("no graph: %s", answer.get("error", "the answer holds none"))

    def on_beat(self) -> None:
        """Tell health what waits."""
        self.health.extra["queue"] = len(self.kept.queue)

    def status(self) -> str:
        """One line: what was delivered, what waits."""
        return f"{self.health.state}: {self.health.counters['delivered']} delivered, {len(self.kept.queue)} waiting"
