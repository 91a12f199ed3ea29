"""The loop of a publisher: what every source promises, so that a source itself is a generator and nothing else.

    class Co2(Source):
        options: Options
        topics: tuple[Topic[Sensor], ...]

        def samples(self) -> Iterator[Sample]:
            with open_port(self.options.device) as port:
                while self.tick():
                    for topic in self.topics:
                        yield topic, decode(port.transact(QUERY))

The library owns schedule, back-off, range check, deadband, staleness, publishing, the spool, health and reload.
"""

import heapq
import logging
import random
import select
import time
from collections.abc import Iterator
from typing import Any, NamedTuple

import msgspec

from bootstrap_lib import state
from bootstrap_lib.bus import Message, Published
from bootstrap_lib.clock import boot_id
from bootstrap_lib.control import LATER, Nothing, Request, RequestError
from bootstrap_lib.document import DocumentError, Problem
from bootstrap_lib.document import reason as reason_of
from bootstrap_lib.duration import Duration, describe
from bootstrap_lib.reading import ReadingError, Sequence, Value, encode_head, encode_tail
from bootstrap_lib.registry import Registry, Topic
from bootstrap_lib.service import Service, topic_option_type
from bootstrap_lib.spool import Row, Spool, SpoolError
from bootstrap_lib.state import DeadLetters

log = logging.getLogger(__name__)

WINDOW = 100
"""Readings on their way to the broker at any time."""

RESEND_AFTER = 15.0
"""Seconds without a move of the mark after which the unconfirmed tail is sent again."""

AnyTopic = Topic[Any]


class Failure(NamedTuple):
    """Yielded instead of a value: this topic could not be measured, and why. Nothing is published for it."""

    reason: str


Sample = tuple[AnyTopic, Value | Failure]
"""What a source yields: a topic with its value, or with the reason why there is none."""


class DeviceError(RuntimeError):
    """The device as a whole cannot be used; raised in `samples`, it is opened again after a pause."""


class Pause(msgspec.Struct, forbid_unknown_fields=True):
    """Payload of `request/pause`: {"for":"5m"}, or {} for until resumed."""

    span: Duration | None = msgspec.field(name="for", default=None)


class Mark(msgspec.Struct, forbid_unknown_fields=True):
    """Up to which number of a stream a store has everything: on the mark's topic, and in `request/resend`."""

    stream: str
    after: int


class Source(Service):
    """A service that measures. Subclasses write `samples`, and annotate `options` and `topics` with their types."""

    topics: tuple[AnyTopic, ...]
    spool: Spool
    _settle_at: float = 0.0
    _listen_until: float | None = None
    _rounds = 0

    def __init__(self, registry: Registry, name: str) -> None:
        """Prepare the instance; the device is opened by `samples`."""
        super().__init__(registry, name)
        self._due_at = 0.0
        self._read_now: list[Request] = []
        self._round: dict[str, Any] = {}
        self._failures = 0
        self._failing: dict[str, str] = {}
        self._trouble: str | None = None
        self._good: dict[str, float] = {}
        self._last: dict[str, tuple[Value, str, int]] = {}
        self._sent_at: dict[str, float] = {}
        self._deadlines: list[tuple[float, str]] = []
        self._changed = False
        self._answered = False

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

    def load(self, registry: Registry) -> bool:
        """Take options and topics of a registry."""
        changed = super().load(registry)
        topics: tuple[AnyTopic, ...] = registry.topics_of(self.name, topic_option_type(type(self)))
        changed = changed or getattr(self, "topics", None) != topics
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

    def tick(self, file: int | None = None) -> bool:
        """Wait for the next round; False when the device is to be closed (stop, changed topics.yaml, pause).

        With a file descriptor, a round begins as soon as it can be read: for devices that speak by themselves.
        Between rounds the loop turns: heartbeat, requests, staleness, sending.
        """
        if self._listen_until is not None:
            return self._tick_once(self._listen_until, file)
        self._end_round()
        while not (self.stopping or self._changed or self._pausing()):
            now = time.monotonic()
            if file is not None:
                self._answer_readers({name: last[0] for name, last in self._last.items()})
            elif self._read_now or now >= self._due_at:
                self._due_at = max(self._due_at + self.options.every, now) if self._due_at else now + self.options.every
                return True
            due = self._housekeep(now)
            if self.turn(max(0.0, (due if file is not None else min(due, self._due_at)) - now), file):
                return True
        return False

    def _tick_once(self, until: float, file: int | None) -> bool:
        if file is not None:
            return bool(select.select([file], [], [], max(0.0, until - time.monotonic()))[0])
        self._rounds += 1
        return self._rounds == 1

    def _housekeep(self, now: float) -> float:
        """Do what is due besides measuring; returns when it wants to be called again."""
        if now >= self._settle_at:
            self._settle_at = now + (1.0 if self.spool.last else 3600.0)
            self._settle(now)
        while self._deadlines and self._deadlines[0][0] <= now:
            self._look_for_silence(heapq.heappop(self._deadlines)[1], now)
        return min(self._settle_at, self._deadlines[0][0] if self._deadlines else self._settle_at)

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
            log.error("%s; trying on", sentence, exc_info=log.isEnabledFor(logging.DEBUG))
        self.health.enter("degraded", self.clock.now())
        for request in self._read_now:
            request.refuse(sentence)
        self._read_now.clear()
        self._failures += 1
        pause = min(60.0, 2.0 ** min(self._failures, 6)) * random.uniform(0.8, 1.2)  # noqa: S311 (jitter)
        self._rest(min(pause, max(1.0, self.options.every)) if self._failures < 4 else pause)  # noqa: PLR2004

    # -- one sample ---------------------------------------------------------------------------------------------

    def take(self, topic: AnyTopic, value: Value | Failure, moment: int | None = None) -> None:
        """Take a sample: check it, keep it in the spool, send it. A bad one is counted and said once."""
        if isinstance(value, Failure):
            self._fail(topic, value.reason)
            return
        if problem := topic.improper(value) or self._out_of_range(topic, value):
            self._fail(topic, problem)
            return
        if isinstance(value, float):
            value = round(value, topic.decimals) if topic.decimals else round(value)
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
        try:
            head = encode_head(value, topic.unit)
        except ReadingError as error:
            self._fail(topic, str(error))
            return
        at, boot = (moment, None) if moment is not None else self.clock.stamp()
        self._last[topic.name] = (value, head, at)
        self._sent_at[topic.name] = now
        if topic.name not in self._published:
            self._published.add(topic.name)
            self._save_published()
        if topic.store is False or topic.kind == "text":
            self.bus.publish(
                self.topic_of(topic.name), encode_tail(head, self.clock.now() if boot else at), qos=1, retain=True
            )
            self.health.counters["published"] += 1
        else:
            self._append(topic.name, head, at, boot)

    @staticmethod
    def _out_of_range(topic: AnyTopic, value: Value) -> str | None:
        if topic.kind in ("gauge", "counter") and not isinstance(value, str):
            if topic.low is not None and value < topic.low:
                return f"{value} {topic.unit} is below its range, which begins at {topic.low:g}"
            if topic.high is not None and value > topic.high:
                return f"{value} {topic.unit} is above its range, which ends at {topic.high:g}"
        return None

    def _within_deadband(self, topic: AnyTopic, value: Value, now: float) -> bool:
        last = self._last.get(topic.name)
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
        if self._round:
            self._answer_readers(self._round)
            self._round = {}
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
        self.clear(name)
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
        self.publish_health()

    def clear(self, name: str) -> None:
        """Take a topic's value back, in the order of its readings: nobody can measure it any more."""
        self._last.pop(name, None)
        self._append(name, None, *self.clock.stamp())

    def topic_of(self, name: str) -> str:
        """Topic as the broker knows it."""
        return f"{self.registry.root}/data/{name}"

    # -- the spool ----------------------------------------------------------------------------------------------

    def begin(self) -> None:
        """Open the spool and take up what earlier starts left: unconfirmed readings, and topics that were published."""
        self.spool = Spool(self.runtime_folder, self.state_folder)
        self.dead = DeadLetters(self.state_folder / "dead_letters.jsonl")
        self._cursor = 0
        self._in_flight: dict[int, int] = {}
        self._mark = 0
        self._mark_moved = self._connected_at = time.monotonic()
        self._resend_pause = RESEND_AFTER
        self._archive_online = False
        self._published = set(state.load(self.state_folder / "published.json", list[str], []))
        now = time.monotonic()
        for topic in self.topics:
            self._watch(topic, now)
        self._clear_unowned()
        self._correct_old_boots()

    def end(self) -> None:
        """Close the spool; unconfirmed readings are sent at the next start."""
        if hasattr(self, "spool"):
            self.spool.settle(age=-1.0) if self.stopping else None
            self.spool.close()

    @property
    def _archive(self) -> str | None:
        found = self.registry.find("archive")
        return found[0].name if found else None

    def _append(self, name: str, head: str | None, at: int, boot: str | None) -> None:
        try:
            row, sequence = self.spool.append(name, head, at, boot)
        except SpoolError as error:
            self.health.counters["lost"] += 1
            self.error(str(error), name)
            return
        self._settle_at = min(self._settle_at, time.monotonic() + 1.0)
        if self.bus.online and boot is None and self._cursor >= sequence.previous and len(self._in_flight) < WINDOW:
            self._send(row, sequence)

    def _send(self, row: Row, sequence: Sequence) -> None:
        payload = b"" if row.head is None else encode_tail(row.head, row.time)
        mid = self.bus.publish(self.topic_of(row.topic), payload, qos=1, retain=True, user=("seq", str(sequence)))
        self._in_flight[mid] = row.number
        self._cursor = row.number
        self.health.counters["published"] += 1

    def _pump(self) -> None:
        """Send what waits, in order, as far as the window allows."""
        room = WINDOW - len(self._in_flight)
        if not self.bus.online or room <= 0 or self._cursor >= self.spool.last:
            return
        for row, sequence in self.spool.after(self._cursor, room):
            if row.boot is not None:
                return
            self._send(row, sequence)

    def _rewind(self, after: int = 0) -> None:
        self._cursor = min(self._cursor, after)
        self._in_flight.clear()
        self._pump()

    def _settle(self, now: float) -> None:
        self.spool.settle()
        if self.clock.check():
            for boot, _first, _last in list(self.spool.uncertain()):
                if boot == boot_id():
                    self.spool.correct(boot, self.clock.offset())
        self._pump()
        stuck = now - max(self._mark_moved, self._connected_at) > self._resend_pause
        if self.spool.last and stuck and self._archive_online and self.bus.online and not self._in_flight:
            self._mark_moved = now
            self._resend_pause = min(300.0, self._resend_pause * 2)
            self.health.counters["resent"] += 1
            self._rewind()

    def _correct_old_boots(self) -> None:
        for boot, first, _last in list(self.spool.uncertain()):
            if (
                boot != boot_id()
            ):  # that boot ended before its clock was set: right in order, late at most by its length
                self.spool.correct(boot, self.remembered.known - first)

    def on_connected(self, session: bool) -> None:
        """Hear of marks; send the unconfirmed tail again when the broker lost our session."""
        self._connected_at = time.monotonic()
        if self._archive:
            self.bus.subscribe(f"{self.registry.root}/service/{self._archive}/stored/{self.name}")
            self.bus.subscribe(f"{self.registry.root}/service/{self._archive}/status")
        if not session:
            for name, (_value, head, at) in self._last.items():
                if at > 0 and self.clock.trusted:
                    self.bus.publish(self.topic_of(name), encode_tail(head, at), qos=1, retain=True)
            self._rewind()
        self._pump()

    def on_message(self, message: Message) -> bool:
        """Take the archive's mark, and whether the archive is there."""
        if message.topic.endswith("/status"):
            self._archive_online = message.payload == b"online"
            return False
        try:
            mark = msgspec.json.decode(message.payload, type=Mark)
        except msgspec.DecodeError:
            return False
        if mark.stream == self.spool.stream and mark.after != self._mark:
            self._mark, self._mark_moved, self._resend_pause = mark.after, time.monotonic(), RESEND_AFTER
            self.spool.confirm(mark.stream, mark.after)
        return False

    def on_published(self, published: Published) -> None:
        """A refused reading goes to the dead letters and never blocks those behind it."""
        number = self._in_flight.pop(published.mid, None)
        if number is not None and published.refusal:
            self._bury(number, published.refusal)
        elif number is not None and self._archive is None:  # the weaker promise: in the broker's memory
            self.spool.confirm(self.spool.stream, min(self._in_flight.values(), default=number + 1) - 1)
        if len(self._in_flight) < WINDOW // 2:
            self._pump()

    def _bury(self, number: int, refusal: str) -> None:
        rows = self.spool.after(number - 1, 1)
        if rows and rows[0][0].number == number:
            row = rows[0][0]
            sentence = f"the broker refuses it: {refusal}; check the access list of '{self.name}'"
            self.dead.add(row.topic, b"" if row.head is None else encode_tail(row.head, row.time), sentence)
            self.error(sentence, row.topic)
            if self.health.counters["refused"] == 0:
                log.error("%s: %s", row.topic, sentence, extra={"topic": self.topic_of(row.topic)})
            self.health.counters["refused"] += 1
            self.spool.drop(number)

    # -- topics that are no longer ours, beats, requests --------------------------------------------------------

    def _clear_unowned(self) -> None:
        owned = {topic.name for topic in self.topics}
        for name in sorted(self._published - owned):
            if (other := self.registry.topics.get(name)) is None or other.source == self.name:
                log.info("%s is no longer in topics.yaml, it is cleared", name)
                self.clear(name)
            self._published.discard(name)
            self._good.pop(name, None)
            self._failing.pop(name, None)
            self.health.stale.discard(name)
            self._save_published()

    def _save_published(self) -> None:
        try:
            state.save(self.state_folder / "published.json", sorted(self._published))
        except OSError as error:
            self.error(f"published.json cannot be written: {reason_of(error)}")

    def on_reloaded(self, changed: bool) -> None:
        """Open the device anew only if topics.yaml changed something for this instance."""
        if changed:
            self._changed = True
            self._due_at = 0.0
            now = time.monotonic()
            for topic in self.topics:
                self._watch(topic, now)
            self._clear_unowned()

    def on_beat(self) -> None:
        """Tell health what waits."""
        self.health.extra["spool"] = {
            "waiting": self.spool.count(),
            "dropped": self.spool.dropped,
            "dead": self.dead.count,
        } | ({"trouble": self.spool.trouble} if self.spool.trouble else {})
        self.health.extra["topics"] = {"alive": len(self._last), "known": len(self.topics)}

    def status(self) -> str:
        """One line: how many topics are alive and what waits."""
        waiting = self.spool.count()
        return f"{self.health.state}: {len(self._last)} of {len(self.topics)} topics alive" + (
            f", {waiting} waiting" if waiting > 1 else ""
        )

    def _pausing(self) -> bool:
        until = self.remembered.paused
        if until > 0 and self.clock.now() >= until:
            self._resume("its time is over")
        if self.remembered.paused:
            if self.health.enter("paused", self.clock.now()):
                self.publish_health()
            return True
        return False

    def _resume(self, why: str) -> None:
        self.remembered.paused = 0
        self.remember()
        log.info("measuring again: %s", why)
        self.health.enter("running", self.clock.now())
        self._due_at = 0.0
        self._next_beat = 0.0

    def request_read(self, request: Request, _arguments: Nothing) -> object:
        """Measure now; the answer holds what was read."""
        if self.remembered.paused:
            raise RequestError("it is paused: resume it first")
        self._read_now.append(request)
        return LATER

    def request_pause(self, _request: Request, arguments: Pause) -> dict[str, Any]:
        """Stop measuring, for a time or until resumed."""
        self.remembered.paused = round(self.clock.now() + arguments.span * 1000) if arguments.span else -1
        self.remember()
        log.info("paused %s", f"for {describe(arguments.span)}" if arguments.span else "until resumed")
        return {"paused": True}

    def request_resume(self, _request: Request, _arguments: Nothing) -> dict[str, Any]:
        """Measure again."""
        if self.remembered.paused:
            self._resume("request")
        return {"paused": False}

    def request_resend(self, _request: Request, arguments: Mark) -> dict[str, Any]:
        """Send again what the archive misses."""
        if arguments.stream == self.spool.stream:
            self._rewind(arguments.after)
        return {"waiting": self.spool.count()}
