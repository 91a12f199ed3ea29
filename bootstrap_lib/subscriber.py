"""The loop of a consumer: what every subscriber promises, so that it only says what to do with a reading.

Messages are acknowledged after the subscriber's own durable step (`flush`), on the connection that brought them;
a store that is away withholds acknowledgements and never blocks the MQTT thread. One poisonous reading goes to
the dead letters and never stops the rest.
"""

import contextlib
import logging
import time
from typing import Any, ClassVar

from bootstrap_lib import state
from bootstrap_lib.clock import AHEAD, BORN
from bootstrap_lib.control import Request, RequestError
from bootstrap_lib.document import reason as reason_of
from bootstrap_lib.entries import Topic
from bootstrap_lib.events import Message
from bootstrap_lib.reading import Reading, ReadingError, Sequence, decode, excerpt
from bootstrap_lib.registry import Registry
from bootstrap_lib.service import Service
from bootstrap_lib.state import Dead, DeadLetters, Letter
from bootstrap_lib.streams import Streams

log = logging.getLogger(__name__)


class Poison(ValueError):
    """Raised in `on_reading` by a reading that can never be dealt with; the message says why."""


class Away(RuntimeError):
    """Raised in `flush` when the store cannot take anything now; it is tried again later, nothing is acknowledged."""


class Subscriber(Service):
    """A service that consumes readings. Subclasses say what to do in `on_reading`, `on_tick` and `flush`."""

    BATCH: ClassVar[int] = 500
    """Readings after which `flush` is called, at the latest every `every` seconds."""
    SESSION: ClassVar[int] = 7 * 86400
    """Seconds for which the broker keeps what a subscriber that is away has not got."""

    WANTS_DATA: ClassVar[bool] = True

    def __init__(self, registry: Registry, name: str) -> None:
        """Prepare the instance; nothing is opened yet."""
        super().__init__(registry, name)
        self.dead = DeadLetters(self.state_folder / "dead_letters.jsonl")
        self._data = f"{registry.root}/data/"
        self._unacknowledged: list[Message] = []
        self._flush_at: float | None = None
        self._away = self._unheld = 0  # flushes in vain, and messages of QoS 0 that came meanwhile
        self._said: set[str] = set()
        self._streams = Streams()
        self._plausible = 0

    # -- what subclasses offer ----------------------------------------------------------------------------------

    def on_reading(self, reading: Reading, topic: Topic[Any]) -> None:
        """Deal with a reading; whatever must last is done in `flush`. Poison for one that never will."""

    def on_cleared(self, name: str, sequence: Sequence | None) -> None:
        """Deal with a topic that was cleared: nobody can measure it any more."""

    def on_other(self, message: Message) -> None:
        """Deal with a message of another kind that the subscriber subscribed to in `subscribe`."""

    def on_gap(self, since: int) -> None:
        """Have filled what came after a time (ms): the broker dropped readings for us, from a full queue or by losing its memory."""

    def on_tick(self) -> None:
        """Do what is due with the time, once every `every` seconds."""

    def flush(self) -> None:
        """Make everything last that came since the last call; Away where the store cannot take it now."""

    def subscribe(self, session: bool) -> None:
        """Subscribe to more than readings; `session` is False when the broker knew nothing of us."""

    def begin(self) -> None:
        """Take up how far each source was heard."""
        self._streams = Streams(state.load(self.state_folder / "heard.json", dict[str, tuple[int, int]], {}))

    def work(self) -> None:
        """Deal with readings in groups: a group ends when it is full or old enough."""
        tick_at = time.monotonic()
        while not self.stopping:
            now = time.monotonic()
            if self._flush_at is not None and (now >= self._flush_at or self._batch_is_full):
                self._flush()
            if (since := self._streams.due_gap(now)) is not None:
                self.on_gap(since)
            if now >= tick_at:
                self.on_tick()
                tick_at = max(tick_at + self.options.every, now)
            due = min(tick_at, self._flush_at) if self._flush_at is not None else tick_at
            self.turn(max(0.0, due - time.monotonic()))
        self._flush_at = 0.0
        self._flush()
        with contextlib.suppress(OSError):  # the one of before shows a gap, and what it would miss is filled
            state.save(self.state_folder / "heard.json", self._streams.heard)

    def _flush(self) -> None:
        try:
            self.flush()
        except Away as error:
            self._store_away(str(error))
            return
        if self._away:
            log.info("the store takes readings again")
            self._away = self._unheld = 0
            self.health.enter("running", self.clock.now())
        done, self._unacknowledged, self._flush_at = self._unacknowledged, [], None
        self._plausible = 0  # the clock may have been set back
        self.bus.acknowledge(done)
        self.health.counters["stored"] += len(done)
        self.on_flushed()

    def on_flushed(self) -> None:
        """Follow a flush that lasted."""

    def _store_away(self, sentence: str) -> None:
        self.error(sentence)
        if not self._away:
            log.error("%s; nothing is lost, trying on", sentence)
            self.health.enter("degraded", self.clock.now())
        self._away += 1
        self._flush_at = time.monotonic() + min(30.0, 0.5 * 2.0 ** min(self._away, 6))

    def hold(self, message: Message) -> None:
        """Acknowledge a message with the next flush."""
        if message.mid:
            self._unacknowledged.append(message.receipt)
        if self._flush_at is None:
            self._flush_at = time.monotonic() + self.flush_every

    @property
    def flush_every(self) -> float:
        """Seconds after which a group of readings is made to last."""
        return 1.0

    def on_message(self, message: Message) -> bool:
        """Decode a reading and hand it on; what is wrong with it is said once and kept."""
        self.hold(message)
        if self._away and not message.mid:  # the broker does not keep it for us, and memory has an end
            self._unheld += 1
            if self._unheld > self.BATCH:
                self.health.counters["unheld"] += 1
                return False
        try:
            if message.topic.startswith(self._data) or message.topic == self._data[:-1]:  # `#` stands for none too
                self._reading(message.topic[len(self._data) :], message)
            else:
                self.on_other(message)
        except (Poison, ReadingError) as error:
            self.bury(message, str(error))
        except Exception as error:  # noqa: BLE001 (one message never stops the rest)
            self.bury(message, f"{type(error).__name__}: {reason_of(error)}")
        return self._batch_is_full

    @property
    def _batch_is_full(self) -> bool:
        return not self._away and len(self._unacknowledged) >= self.BATCH

    def _reading(self, name: str, message: Message) -> None:
        try:
            sequence = Sequence.parse(message.sequence) if message.sequence else None
        except ValueError:
            sequence = None
        topic = self.registry.topics.get(name) or self.registry.formerly.get(name)
        if not message.payload:
            self._streams.follow(topic, sequence)
            if name in self.registry.topics or topic is None:  # under its old name it only moves away
                self.on_cleared(name, sequence)
            else:
                self.on_refused(topic, sequence)
            return
        try:
            reading = self._judge(name if topic is None else topic.name, topic, message.payload, sequence)
            self.on_reading(reading, topic)  # type: ignore[arg-type]
        except (Poison, ReadingError) as error:
            self._refuse(topic, sequence, message, str(error))
        except Exception as error:  # noqa: BLE001 (one reading never stops the rest, nor the mark of its source)
            self._refuse(topic, sequence, message, f"{type(error).__name__}: {reason_of(error)}")

    def _judge(self, name: str, topic: Topic[Any] | None, payload: bytes, sequence: Sequence | None) -> Reading:
        """Reading of a payload; Poison or ReadingError says why it can be none of its topic."""
        if topic is None:
            raise Poison(
                "topics.yaml does not know this topic: add a line for it, or clear it with `constellation prune`"
            )
        reading = decode(name, payload, sequence)
        if reading.time < BORN:
            raise Poison("its time lies before 2026, when this project began: set the clock of its source")
        self._streams.follow(topic, sequence, reading.time)
        if reading.time > self._plausible and self._is_ahead(reading.time):
            raise Poison("its time is more than a minute ahead: set the clock of its source")
        if topic.kind in ("gauge", "counter") and reading.unit != topic.unit:
            raise Poison(f"its unit is {reading.unit!r}, topics.yaml says {topic.unit!r}")
        if problem := topic.improper(reading.value):
            raise Poison(problem)
        return reading

    def _refuse(self, topic: Topic[Any] | None, sequence: Sequence | None, message: Message, sentence: str) -> None:
        """Put a reading aside. What is not kept is not dealt with: nobody hears of it, and its source keeps it."""
        self._streams.follow(topic, sequence)
        if self.bury(message, sentence, waits=sequence is not None):
            self.on_refused(topic, sequence)

    def _is_ahead(self, moment: int) -> bool:
        self._plausible = self.clock.now() + AHEAD if self.clock.trusted else 0
        return self.clock.ahead(moment)

    def heard_at(self, topic: Topic[Any] | None, sequence: Sequence) -> int:
        """Time (ms) of the newest reading heard of a run of numbers, 0 for one never heard."""
        return self._streams.heard_at(topic, sequence)

    @property
    def away(self) -> bool:
        """Whether the store took nothing when it was asked last."""
        return self._away > 0

    @property
    def uncommitted(self) -> bool:
        """Whether something was heard that does not last yet."""
        return self._flush_at is not None

    @property
    def lacking(self) -> bool:
        """Whether a gap was noticed which `on_gap` has not heard of yet."""
        return self._streams.lacking

    def on_refused(self, topic: Topic[Any] | None, sequence: Sequence | None) -> None:
        """Learn the place in its sequence of a reading that was refused; no topic if topics.yaml knows none of that name."""

    def bury(self, message: Message, sentence: str, *, waits: bool = False) -> bool:
        """Put a message into the dead letters; said once per topic and reason. False where it is not kept, which is said too.

        `waits`: its source keeps it until it is dealt with.
        """
        if not self.dead.add(message.topic, message.payload, sentence, waits=waits):
            self.error(str(self.dead.trouble), message.topic)
            self.health.counters["unkept"] += 1
            return False
        self.health.counters["dead"] += 1
        self.error(text := f"{message.topic}: {sentence}", message.topic)
        if text not in self._said and len(self._said) < 1000:  # noqa: PLR2004
            self._said.add(text)
            shown = "" if sentence.startswith("not a reading") else f" ({excerpt(message.payload)})"
            log.warning("%s is put aside: %s%s", message.topic, sentence, shown, extra={"topic": message.topic})
        return True

    def request_dead(self, _request: Request, arguments: Dead) -> dict[str, int]:
        """Take what was mended out of the dead letters and deal with it again, or forget them all."""
        if arguments.do == "drop":
            return dict(zip(("dropped", "left"), self.dead.sort_out(lambda _: True, lambda: None), strict=True))
        try:
            taken, left = self.dead.sort_out(self._is_mended, self.flush)
        except Away as error:
            raise RequestError(f"{error}; nothing was taken out of the dead letters") from None
        return {"taken": taken, "left": left}

    def _is_mended(self, letter: Letter) -> bool:
        """Deal with a dead letter again; whether that went well."""
        name = letter.topic.removeprefix(self._data)
        topic = self.registry.topics.get(name) or self.registry.formerly.get(name)
        try:
            if name == letter.topic or topic is None:
                return False
            self.on_reading(self._judge(topic.name, topic, letter.payload.encode(), None), topic)
        except Exception as error:  # noqa: BLE001 (whatever is wrong with it, it stays where it is)
            log.debug("%s stays in the dead letters: %s", letter.topic, reason_of(error))
            return False
        return True

    def on_connected(self, session: bool) -> None:
        """Subscribe; a session that the broker still knows brings only what is new."""
        if self.WANTS_DATA:
            self.bus.subscribe(f"{self.registry.root}/data/#", qos=1, only_new=True)
        self.subscribe(session)

    def status(self) -> str:
        """One line: what was stored, what waits."""
        waiting = f", {len(self._unacknowledged)} waiting" if self._unacknowledged else ""
        return f"{self.health.state}: {self.health.counters['stored']} stored{waiting}"
