"""The loop of a publisher: what every source promises, so that a source itself is a generator and nothing else.

    class Co2(Source):
        options: Options
        topics: tuple[Topic[Sensor], ...]

        def samples(self) -> Iterator[Sample]:
            with open_port(self.options.device) as port:
                while self.tick():
                    for topic in self.topics:
                        yield topic, decode(port.transact(QUERY))

The library owns schedule, back-off, range check, deadband, staleness, health and reload; publishing is `publisher`'s.
"""

import heapq
import logging
import math
import random
import select
import time
from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple

import msgspec

from bootstrap_lib.bus import Message
from bootstrap_lib.control import LATER, Nothing, Request, RequestError
from bootstrap_lib.document import DocumentError, Problem, StartError
from bootstrap_lib.document import reason as reason_of
from bootstrap_lib.duration import Duration, describe
from bootstrap_lib.publisher import Publisher
from bootstrap_lib.reading import ReadingError, Value
from bootstrap_lib.registry import Registry, Topic
from bootstrap_lib.service import Service, topic_option_type
from bootstrap_lib.spool import SpoolError
from bootstrap_lib.state import DeadLetters

log = logging.getLogger(__name__)

AnyTopic = Topic[Any]


class Failure(NamedTuple):
    """Yielded instead of a value: this topic could not be measured, and why. Nothing is published for it."""

    reason: str


Sample = tuple[AnyTopic, Value | Failure | None]
"""What a source yields: a topic with its value, with the reason why there is none, or with None where there can be none
now, which is no fault: the time that a battery lasts, while it charges."""


class DeviceError(StartError):
    """The device as a whole cannot be used; raised in `samples`, it is opened again after a pause."""


class Pause(msgspec.Struct, forbid_unknown_fields=True):
    """Payload of `request/pause`: {"for":"5m"}, or {} for until resumed."""

    span: Duration | None = msgspec.field(name="for", default=None)


class Source(Service):
    """A service that measures. Subclasses write `samples`, and annotate `options` and `topics` with their types."""

    topics: tuple[AnyTopic, ...]
    publisher: Publisher
    _listen_until: float | None = None
    _rounds = 0

    def __init__(self, registry: Registry, name: str) -> None:
        """Prepare the instance; the device is opened by `samples`."""
        super().__init__(registry, name)
        self.topics = ()
        self._due_at = 0.0
        self._read_now: list[Request] = []
        self._round: dict[str, Any] = {}
        self._failures = 0
        self._failing: dict[str, str] = {}
        self._trouble: str | None = None
        self._good: dict[str, float] = {}
        self._sent_at: dict[str, float] = {}
        self._deadlines: list[tuple[float, str]] = []
        self._changed = False
        self._answered = False
        self._asked = False

    def samples(self) -> Iterator[Sample]:
        """Open the device, then yield samples for as long as `tick()` says so; `with` closes it at the end."""
        raise NotImplementedError

    @classmethod
    def scan(cls, options: Any) -> Iterator[str]:  # noqa: ARG003 (for subclasses)
        """Look for what is there, named or not: a line for each, with its id and a live value. For `constellation scan`."""
        yield from ()

    def measure_once(self, timeout: float) -> Iterator[Sample]:
        """Measure one round, or listen for `timeout` seconds, without publishing anything; for `constellation once`."""
        self._listen_until = time.monotonic() + timeout
        awaited = {topic.name for topic in self.topics}
        for topic, value in self.samples():
            yield topic, value
            awaited.discard(topic.name)
            if not awaited:
                return
        for topic in self.topics:
            if topic.name in awaited:
                yield topic, Failure(f"nothing came within {describe(timeout)}")

    def load(self, registry: Registry) -> bool:
        """Take options and topics of a registry."""
        topics: tuple[AnyTopic, ...] = registry.topics_of(self.name, topic_option_type(type(self)))
        changed = super().load(registry) or topics != self.topics
        self.topics = topics
        return changed

    @classmethod
    def check(cls, registry: Registry, name: str) -> list[Problem]:
        """Return what is wrong with the options and the lines of topics of this source."""
        problems = super().check(registry, name)
        try:
            registry.topics_of(name, topic_option_type(cls))
        except DocumentError as error:
            problems += error.problems
        return problems

    # -- the schedule -------------------------------------------------------------------------------------------

    def tick(self, file: int | None = None, silence: float = math.inf) -> bool:
        """Wait for the next round; False when the device is to be closed (stop, changed topics.yaml, pause).

        With a file descriptor, a round begins as soon as it can be read, for devices that speak by themselves, or
        after so many seconds of silence. Between rounds the loop turns: heartbeat, requests, staleness, sending.
        """
        if self._listen_until is not None:
            return self._tick_once(self._listen_until, file, silence)
        self._end_round()
        self.turn(0.0)  # also where a round takes longer than `every`
        quiet_at = time.monotonic() + silence
        while not (self.stopping or self._changed or self._pausing()):
            now = time.monotonic()
            due = self._housekeep(now)
            if file is not None:
                self._answer_readers({name: last[0] for name, last in self.publisher.last.items()})
            elif self._read_now or now >= self._due_at:
                self._asked = bool(self._read_now)
                self._due_at = max(self._due_at + self.options.every, now) if self._due_at else now + self.options.every
                return True
            if self.turn(max(0.0, min(due, self._due_at if file is None else quiet_at) - now), file):
                return True
            if time.monotonic() >= quiet_at and not self.stopping:
                return True
        return False

    def hasten(self) -> None:
        """Begin the next round at once; for callbacks of a device, from any thread."""
        self._due_at = 0.0
        self.post("round")

    def _tick_once(self, until: float, file: int | None, silence: float) -> bool:
        if file is not None:
            left = until - time.monotonic()
            return left > 0 and (bool(select.select([file], [], [], min(left, silence))[0]) or silence < left)
        self._rounds += 1
        return self._rounds == 1

    def _housekeep(self, now: float) -> float:
        """Do what is due besides measuring; returns when it wants to be called again."""
        due = self.publisher.housekeep(now)
        while self._deadlines and self._deadlines[0][0] <= now:
            self._look_for_silence(heapq.heappop(self._deadlines)[1], now)
        return min(due, self._deadlines[0][0] if self._deadlines else due)

    def work(self) -> None:
        """Run the generator; where it fails, say so once, and begin anew after a pause that grows."""
        while not self.stopping:
            self._changed = False
            if self._pausing():
                self._rest(3600.0)
                continue
            try:
                for topic, value in self.samples():
                    self.take(topic, value)
                self._end_round()
            except SpoolError:
                raise
            except Exception as error:  # noqa: BLE001 (whatever a device's library raises, the loop goes on)
                self._device_failed(error)

    def _rest(self, seconds: float) -> None:
        """Wait without measuring, as long as nothing changes."""
        until = time.monotonic() + seconds
        paused = self._pausing()
        while not (self.stopping or self._changed or self._read_now) and self._pausing() == paused:
            now = time.monotonic()
            if now >= until:
                return
            left = (self.remembered.paused - self.clock.now()) / 1000 if self.remembered.paused > 0 else seconds
            self.turn(max(0.0, min(until, self._housekeep(now), now + left) - now))

    def _device_failed(self, error: Exception) -> None:
        sentence = (
            reason_of(error)
            if isinstance(error, (DeviceError, OSError))
            else f"{type(error).__name__}: {reason_of(error)}"
        )
        self.error(sentence)
        if sentence != self._trouble:
            self._trouble = sentence
            log.error("%s; trying on", sentence.rstrip("."), exc_info=log.isEnabledFor(logging.DEBUG))
        self.health.enter("degraded", self.clock.now())
        for request in self._read_now:
            request.refuse(sentence)
        self._read_now.clear()
        self._failures += 1
        pause = min(60.0, 2.0 ** min(self._failures, 6)) * random.uniform(0.8, 1.2)  # noqa: S311 (jitter)
        self._rest(min(pause, max(1.0, self.options.every)) if self._failures < 4 else pause)  # noqa: PLR2004

    # -- one sample ---------------------------------------------------------------------------------------------

    def take(self, topic: AnyTopic, value: Value | Failure | None, moment: int | None = None) -> None:
        """Take a sample: check it, keep it in the spool, send it. A bad one is counted and said once."""
        if isinstance(value, Failure):
            self._fail(topic, value.reason)
            return
        if value is None:
            self._take_nothing(topic)
            return
        try:
            value = topic.proper(value)
        except ReadingError as error:
            self._fail(topic, str(error))
            return
        self._answered = True
        now = time.monotonic()
        if self._failing.pop(topic.name, None) or topic.name in self.health.stale:
            self.health.stale.discard(topic.name)
            log.info("%s is back: %s %s", topic.name, value, topic.unit, extra={"topic": self.topic_of(topic.name)})
        self._watch(topic, now)
        if self._read_now:
            self._round[topic.name] = {"value": value, "unit": topic.unit}
        if topic.deadband is not None and self._within_deadband(topic, value, now):
            return
        self._sent_at[topic.name] = now
        self.publisher.publish(topic, value, moment)

    def _take_nothing(self, topic: AnyTopic) -> None:
        """Take back the value of before, also of an earlier start; the topic is alive without one."""
        now = time.monotonic()
        self._failing.pop(topic.name, None)
        self.health.stale.discard(topic.name)
        self._watch(topic, now)
        if topic.name in self.publisher.last or topic.name not in self._sent_at:
            self._sent_at[topic.name] = now
            self.publisher.clear(topic.name)

    def _within_deadband(self, topic: AnyTopic, value: Value, now: float) -> bool:
        last = self.publisher.last.get(topic.name)
        if last is None or isinstance(value, (str, bool)) or isinstance(last[0], (str, bool)):
            return last is not None and last[0] == value and now - self._sent_at[topic.name] < topic.stale / 3
        return abs(value - last[0]) < (topic.deadband or 0) and now - self._sent_at[topic.name] < topic.stale / 3

    def _fail(self, topic: AnyTopic, sentence: str) -> None:
        self.error(sentence, topic.name)
        if self._read_now:
            self._round[topic.name] = {"error": sentence}
        if topic.name not in self._failing:
            log.warning("%s: %s", topic.name, sentence, extra={"topic": self.topic_of(topic.name)})
        self._failing[topic.name] = sentence

    def _end_round(self) -> None:
        if self._answered and self._trouble:
            log.info("the device answers again")
            self._failures, self._trouble = 0, None
        if self._asked:
            self._answer_readers(self._round)
            self._round, self._asked = {}, False
        if not self._answered:
            return
        self._answered = False
        bad = self._failing or self.health.stale
        if self.health.state in ("running", "degraded", "paused"):
            self.health.enter("degraded" if bad else "running", self.clock.now())

    def _answer_readers(self, found: dict[str, Any]) -> None:
        for request in self._read_now:
            request.reply(found)
        self._read_now.clear()

    # -- staleness ----------------------------------------------------------------------------------------------

    def _watch(self, topic: AnyTopic, now: float) -> None:
        if topic.name not in self._good:
            heapq.heappush(self._deadlines, (now + topic.stale, topic.name))
        self._good[topic.name] = now

    def _look_for_silence(self, name: str, now: float) -> None:
        topic = next((topic for topic in self.topics if topic.name == name), None)
        heard = self._good.get(name)
        if topic is None or heard is None:
            return
        if now < heard + topic.stale:
            heapq.heappush(self._deadlines, (heard + topic.stale, name))
            return
        del self._good[name]
        self.publisher.clear(name)
        if self.remembered.paused:
            return
        self.health.stale.add(name)
        why = self._failing.get(name) or self._trouble or "it does not answer"
        log.warning(
            "%s is silent for %s, it is cleared: %s",
            name,
            describe(topic.stale),
            why,
            extra={"topic": self.topic_of(name)},
        )
        self.health.enter("degraded", self.clock.now())
        self.process.publish_health()

    def topic_of(self, name: str) -> str:
        """Topic as the broker knows it."""
        return self.publisher.topic_of(name)

    # -- what publishes -----------------------------------------------------------------------------------------

    def begin(self) -> None:
        """Open the spool; watch all topics for silence from now on."""
        self.publisher = Publisher(self, DeadLetters(self.state_folder / "dead_letters.jsonl"))
        now = time.monotonic()
        for topic in self.topics:
            self._watch(topic, now)
        self._clear_unowned()

    def end(self) -> None:
        """Close the spool; unconfirmed readings are sent at the next start."""
        self.publisher.close()

    def request_owners(self) -> Iterable[object]:
        """Return the source, and what publishes for it."""
        return self, self.publisher

    def on_connected(self, session: bool) -> None:
        """Hear of marks; send the unconfirmed tail again when the broker lost our session."""
        self.publisher.on_connected(session)

    def on_message(self, message: Message) -> bool:
        """Take the archive's mark, and whether the archive is there."""
        self.publisher.on_message(message)
        return False

    def on_published(self, mid: int, refusal: str | None) -> None:
        """Learn what became of a reading."""
        self.publisher.on_published(mid, refusal)

    # -- topics that are no longer ours, beats, requests --------------------------------------------------------

    def _clear_unowned(self) -> None:
        for name in self.publisher.disown({topic.name for topic in self.topics}):
            self._good.pop(name, None)
            self._failing.pop(name, None)
            self.health.stale.discard(name)

    def on_reloaded(self, changed: bool) -> None:
        """Open the device anew only if topics.yaml changed something for this instance."""
        if changed:
            self._changed = True
            self._due_at = 0.0
            now = time.monotonic()
            for topic in self.topics:
                self._watch(topic, now)
            self._clear_unowned()

    def on_removed(self) -> None:
        """Clear all topics that no other source has taken over."""
        self.publisher.disown(())

    def on_beat(self) -> None:
        """Tell health what waits."""
        self.publisher.on_beat()
        self.health.extra["topics"] = {"alive": len(self.publisher.last), "known": len(self.topics)}

    def status(self) -> str:
        """One line: how many topics are alive and what waits."""
        waiting = self.publisher.spool.count()
        return f"{self.health.state}: {len(self.publisher.last)} of {len(self.topics)} topics alive" + (
            f", {waiting} waiting" if waiting > 1 else ""
        )

    def _pausing(self) -> bool:
        until = self.remembered.paused
        if until > 0 and self.clock.now() >= until:
            self._resume("its time is over")
        if self.remembered.paused:
            if self.health.enter("paused", self.clock.now()):
                self.process.publish_health()
            return True
        return False

    def _resume(self, why: str) -> None:
        self.remembered.paused = 0
        self.process.remember()
        log.info("measuring again: %s", why)
        self.health.enter("running", self.clock.now())
        self._due_at = 0.0
        self.process.beat_soon()

    def request_read(self, request: Request, _arguments: Nothing) -> object:
        """Measure now; the answer holds what was read."""
        if self.remembered.paused:
            raise RequestError("it is paused: resume it first")
        self._read_now.append(request)
        return LATER

    def request_pause(self, _request: Request, arguments: Pause) -> dict[str, Any]:
        """Stop measuring, for a time or until resumed."""
        self.remembered.paused = round(self.clock.now() + arguments.span * 1000) if arguments.span else -1
        self.process.remember()
        log.info("paused %s", f"for {describe(arguments.span)}" if arguments.span else "until resumed")
        return {"paused": True}

    def request_resume(self, _request: Request, _arguments: Nothing) -> dict[str, Any]:
        """Measure again."""
        if self.remembered.paused:
            self._resume("request")
        return {"paused": False}
