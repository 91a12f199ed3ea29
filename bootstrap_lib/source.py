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

import contextlib
import logging
import math
import select
import time
from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple

from bootstrap_lib.control import Nothing, Request, RequestError
from bootstrap_lib.document import DocumentError, Problem, StartError
from bootstrap_lib.document import reason as reason_of
from bootstrap_lib.duration import describe
from bootstrap_lib.entries import Topic
from bootstrap_lib.events import Message
from bootstrap_lib.pausing import Pausing
from bootstrap_lib.publisher import Publisher
from bootstrap_lib.reading import ReadingError, Value
from bootstrap_lib.registry import Registry
from bootstrap_lib.rounds import Rounds, Silence, Trouble
from bootstrap_lib.service import Service, topic_option_type
from bootstrap_lib.spool import SpoolError
from bootstrap_lib.state import DeadLetters

log = logging.getLogger(__name__)

AnyTopic = Topic[Any]


class Failure(NamedTuple):
    """Yielded instead of a value: this topic could not be measured, and why. Nothing is published for it."""

    reason: str


Found = tuple[AnyTopic, Value | Failure | None]
Sample = Found | tuple[AnyTopic, Value, int]
"""What a source yields: a topic with its value, with the reason why there is none, or with None where there can be none
now, which is no fault: the time that a battery lasts, while it charges. A value of which the device itself says when it was
measured has that time as a third, in milliseconds since 1970."""


class DeviceError(StartError):
    """The device as a whole cannot be used; raised in `samples`, it is opened again after a pause."""


class Source(Service):
    """A service that measures. Subclasses write `samples`, and annotate `options` and `topics` with their types."""

    topics: tuple[AnyTopic, ...]

    def __init__(self, registry: Registry, name: str) -> None:
        """Prepare the instance; the device is opened by `samples`."""
        super().__init__(registry, name)
        self.topics = ()
        self.rhythm = 0.0
        """Seconds that a round takes, where the device sets the pace: what it reads is stale after three of them."""
        self._publisher: Publisher | None = None
        self._pausing: Pausing | None = None
        self._rounds, self._trouble, self._silence = Rounds(), Trouble(), Silence()
        self._once: _Once | None = None
        self._step = _Step()
        self._changed = False
        self._sent_at: dict[str, float] = {}

    @property
    def publisher(self) -> Publisher:
        """What brings its readings to the broker; RuntimeError before `begin`."""
        if self._publisher is None:
            raise RuntimeError(f"{self.name} does not run")
        return self._publisher

    @property
    def pausing(self) -> Pausing:
        """Whether it measures; RuntimeError before `begin`."""
        if self._pausing is None:
            raise RuntimeError(f"{self.name} does not run")
        return self._pausing

    def samples(self) -> Iterator[Sample | list[Sample]]:
        """Open the device, then yield samples for as long as `tick()` says so; `with` closes it at the end.

        Samples that follow each other without a pause are one step in the spool and one write to the broker; those that
        are there together, as a telegram's, may be yielded as a list, and are one in any case.
        """
        raise NotImplementedError

    @classmethod
    def scan(cls, options: Any) -> Iterator[str]:  # noqa: ARG003 (for subclasses)
        """Look for what is there, named or not: a line for each, with its id and a live value. For `constellation scan`."""
        yield from ()

    def measure_once(self, timeout: float) -> Iterator[Found]:
        """Measure one round, or listen for `timeout` seconds, without publishing anything; for `constellation once`."""
        self._once = _Once(time.monotonic() + timeout)
        awaited = {topic.name for topic in self.topics}
        for given in self.samples():
            for topic, value, *_ in given if isinstance(given, list) else [given]:
                yield topic, value
                awaited.discard(topic.name)
            if not awaited:
                return
        for topic in self.topics:
            if topic.name in awaited:
                yield topic, Failure(f"nothing came within {describe(timeout)}")

    @property
    def measures_once(self) -> bool:
        """Whether it measures for `constellation once`: nothing is published or kept."""
        return self._once is not None

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
            topics: tuple[AnyTopic, ...] = registry.topics_of(name, topic_option_type(cls))
        except DocumentError as error:
            return [*problems, *error.problems]
        for topic in topics:
            if (own := cls.unit_of(topic)) and topic.given != own:
                sentence = f"it gives {own}, not {topic.given or 'nothing'}: leave the unit out"
                problems.append(registry.document.problem(("topics", registry.key_of(topic.name), "unit"), sentence))
        return problems

    @classmethod
    def unit_of(cls, topic: AnyTopic) -> str | None:  # noqa: ARG003 (for subclasses)
        """Unit in which it gives a topic, where it is the source that knows; None where the line says what a device gives."""
        return None

    # -- the schedule -------------------------------------------------------------------------------------------

    def tick(self, file: int | None = None, silence: float = math.inf) -> bool:
        """Wait for the next round; False when the device is to be closed (stop, changed topics.yaml, pause).

        With a file descriptor, a round begins as soon as it can be read, for devices that speak by themselves, or
        after so many seconds of silence. Between rounds the loop turns: heartbeat, requests, staleness, sending.
        """
        if self._once is not None:
            return self._once.tick(file, silence)
        self._step.end()
        self._end_round()
        self.turn(0.0)  # also where a round takes longer than `every`
        quiet_at = time.monotonic() + silence
        while not (self.stopping or self._changed or self.pausing):
            now = time.monotonic()
            due = self._housekeep(now)
            if file is not None:
                self._rounds.answer({name: last[0] for name, last in self.publisher.last.items()})
            elif self._rounds.begin(now, self.options.every):
                return True
            due = min(due, quiet_at if file is not None else self._rounds.due_at)
            if self.turn(max(0.0, due - now), file):
                return True
            if time.monotonic() >= quiet_at and not self.stopping:
                return True
        return False

    def breathe(self, seconds: float, file: int | None = None) -> bool:
        """Let the loop turn within a round, while a device is slow; False when the device is to be closed.

        Returns after `seconds`, or as soon as the file descriptor can be read, or there was news.
        """
        if self._once is not None:
            select.select([] if file is None else [file], [], [], seconds)
            return True
        self.turn(max(0.0, min(seconds, self._housekeep(now := time.monotonic()) - now)), file)
        return not (self.stopping or self._changed or self.pausing)

    def turn(self, seconds: float, file: int | None = None) -> bool:
        """Let the loop turn for at most `seconds`; nothing that was measured waits for it."""
        self._step.end()
        return super().turn(seconds, file)

    def hasten(self) -> None:
        """Begin the next round at once; for callbacks of a device, from any thread."""
        self._rounds.hasten()
        self.post("round")

    def _housekeep(self, now: float) -> float:
        """Do what is due besides measuring; returns when it wants to be called again."""
        due = self.publisher.housekeep(now)
        stale = {topic.name: self._stale(topic) for topic in self.topics} if self._silence.due <= now else {}
        for name in self._silence.fallen(now, stale.get):
            self._fall_silent(name, stale[name])
        return min(due, self._silence.due)

    def work(self) -> None:
        """Run the generator; where it fails, say so once, and begin anew after a pause that grows."""
        while not self.stopping:
            self._changed = False
            if self.pausing:
                self._rest(3600.0)
                continue
            try:
                self._take_samples()
                self._end_round()
            except SpoolError:
                raise
            except Exception as error:  # noqa: BLE001 (whatever a device's library raises, the loop goes on)
                self._device_failed(error)

    def _take_samples(self) -> None:
        try:
            for given in self.samples():
                with self._step.of(self.publisher, at_once=isinstance(given, list)):
                    for sample in given if isinstance(given, list) else [given]:
                        self.take(*sample)
        finally:
            self._step.end()

    def _rest(self, seconds: float) -> None:
        """Wait without measuring, as long as nothing changes."""
        until = time.monotonic() + seconds
        paused = bool(self.pausing)
        while not (self.stopping or self._changed or self._rounds.asked) and bool(self.pausing) == paused:
            now = time.monotonic()
            if now >= until:
                return
            self.turn(max(0.0, min(until, self._housekeep(now), now + self.pausing.left(seconds)) - now))

    def _device_failed(self, error: Exception) -> None:
        sentence = _sentence(error)
        self.error(sentence)
        if self._trouble.device_fails(sentence):
            log.error("%s; trying on", sentence.rstrip("."), exc_info=log.isEnabledFor(logging.DEBUG))
        self.health.enter("degraded", self.clock.now())
        self._rounds.refuse(sentence)
        self._rest(self._trouble.pause(self.options.every))

    # -- one sample ---------------------------------------------------------------------------------------------

    def take(self, topic: AnyTopic, value: Value | Failure | None, moment: int | None = None) -> None:
        """Take a sample: check it, keep it in the spool, send it. A bad one is counted and said once.

        `moment` is when it was measured (ms), where that is not now: its silence has begun then. Nothing is of the future.
        """
        if isinstance(value, Failure):
            self._fail(topic, value.reason)
            return
        if value is None:
            self._take_nothing(topic)
            return
        try:
            value = topic.measured(value)
        except ReadingError as error:
            self._fail(topic, str(error))
            return
        self._rounds.answered = True
        now = time.monotonic()
        if self._trouble.topics.pop(topic.name, None) or topic.name in self.health.stale:
            self.health.stale.discard(topic.name)
            log.info("%s is back: %s %s", topic.name, value, topic.unit, extra={"topic": self.topic_of(topic.name)})
        moment = min(moment, self.clock.now()) if moment is not None and self.clock.trusted else None
        self._silence.watch(
            topic.name, topic.stale, now if moment is None else now - (self.clock.now() - moment) / 1000
        )
        if self._rounds.asked:
            self._rounds.note(topic.name, {"value": value, "unit": topic.unit})
        if topic.deadband is not None and self._within_deadband(topic, value, now):
            return
        self._sent_at[topic.name] = now
        self.publisher.publish(topic, value, moment)

    def _take_nothing(self, topic: AnyTopic) -> None:
        """Take back the value of before, also of an earlier start; the topic is alive without one."""
        now = time.monotonic()
        self._trouble.topics.pop(topic.name, None)
        self.health.stale.discard(topic.name)
        self._silence.watch(topic.name, topic.stale, now)
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
        self._rounds.note(topic.name, {"error": sentence})
        if self._trouble.topic_fails(topic.name, sentence):
            log.warning("%s: %s", topic.name, sentence, extra={"topic": self.topic_of(topic.name)})

    def _end_round(self) -> None:
        if self._rounds.answered and self._trouble.device_answers():
            log.info("the device answers again")
        self._rounds.end()
        if not self._rounds.answered:
            return
        self._rounds.answered = False
        bad = self._trouble.topics or self.health.stale
        if self.health.state in ("running", "degraded", "paused"):
            self.health.enter("degraded" if bad else "running", self.clock.now())

    def _stale(self, topic: AnyTopic) -> float:
        """Seconds of silence after which a topic is cleared: as it says, but no sooner than its device can be asked."""
        return max(topic.stale, 3 * self.rhythm if self.rhythm > self.options.every else 0.0)

    def _fall_silent(self, name: str, stale: float) -> None:
        self.publisher.clear(name)
        if self.remembered.paused:
            return
        self.health.stale.add(name)
        why = self._trouble.topics.get(name) or self._trouble.device or "it does not answer"
        where = {"topic": self.topic_of(name)}
        log.warning("%s is silent for %s, it is cleared: %s", name, describe(stale), why, extra=where)
        self.health.enter("degraded", self.clock.now())
        self.process.publish_health()

    def topic_of(self, name: str) -> str:
        """Topic as the broker knows it."""
        return self.publisher.topic_of(name)

    # -- what publishes -----------------------------------------------------------------------------------------

    def begin(self) -> None:
        """Open the spool; watch all topics for silence from now on."""
        self._publisher = Publisher(self, DeadLetters(self.state_folder / "dead_letters.jsonl"))
        self._pausing = Pausing(self.process, self._rounds.hasten)
        self._watch_all()

    def end(self) -> None:
        """Close the spool; unconfirmed readings are sent at the next start."""
        self.publisher.close()

    def request_owners(self) -> Iterable[object]:
        """Return the source, what publishes for it, and its pause."""
        return self, self.publisher, self.pausing

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

    def _watch_all(self) -> None:
        """Watch all topics from now on; clear those that are no longer ours."""
        now, ours = time.monotonic(), {topic.name for topic in self.topics}
        for topic in self.topics:
            self._silence.watch(topic.name, topic.stale, now)
        for name in {*self.publisher.disown(ours), *self._trouble.topics, *self.health.stale} - ours:
            self._silence.forget(name)
            self._trouble.topics.pop(name, None)
            self.health.stale.discard(name)

    def on_reloaded(self, changed: bool) -> None:
        """Open the device anew only if topics.yaml changed something for this instance."""
        if changed:
            self._changed = True
            self._rounds.hasten()
            self._watch_all()

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

    def request_read(self, request: Request, _arguments: Nothing) -> object:
        """Measure now; the answer holds what was read."""
        if self.remembered.paused:
            raise RequestError("it is paused: resume it first")
        self._rounds.ask(request)
        return Request.LATER


class _Step:
    """What a source gives without a pause: one step in the spool and one write to the broker.

    Nothing waits for a device: all goes out when the loop turns, and each sample at once where one before took its time.
    """

    QUICK = 0.02
    """Seconds between two samples that are there at once."""
    AGAIN = 100
    """Quick ones after a slow one until they are taken together again."""

    def __init__(self) -> None:
        self._open: contextlib.ExitStack | None = None
        self._single = 1
        """Samples that are still to be taken one by one."""
        self._taken_at = 0.0

    @contextlib.contextmanager
    def of(self, publisher: Publisher, *, at_once: bool) -> Iterator[None]:
        """Take samples as a part of the step, or as one of their own that ends with them (a list, `at_once`)."""
        if self._taken_at and time.monotonic() - self._taken_at < self.QUICK:
            self._single = max(0, self._single - 1)
        elif self._taken_at:
            self._single = self.AGAIN
            self.end()
        if not self._single and self._open is None:
            self._open = contextlib.ExitStack()
            self._open.enter_context(publisher.together())
        with publisher.together() if at_once and self._open is None else contextlib.nullcontext():
            yield
        self._taken_at = time.monotonic()

    def end(self) -> None:
        """Keep and send what was taken."""
        self._taken_at = 0.0
        if self._open is not None:
            step, self._open = self._open, None
            step.close()


class _Once:
    """The rhythm of a source that measures once: one round, or what comes within a time."""

    def __init__(self, until: float) -> None:
        self._until = until
        self._begun = False

    def tick(self, file: int | None, silence: float) -> bool:
        if file is not None:
            left = self._until - time.monotonic()
            return left > 0 and (bool(select.select([file], [], [], min(left, silence))[0]) or silence < left)
        first, self._begun = not self._begun, True
        return first


def _sentence(error: Exception) -> str:
    """What a device's library raised, for people."""
    if isinstance(error, ImportError):
        from bootstrap_lib.catalog import missing

        return missing(error)
    said = reason_of(error)
    return said if isinstance(error, (DeviceError, OSError)) else f"{type(error).__name__}: {said}"
