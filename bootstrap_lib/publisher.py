"""The publishing half of a service: readings go through the spool to the broker until the archive has them.

Sources measure what they publish, `phase` concludes it; what both promise is the same and stands here: order and
numbers, the archive's mark, readings sent again, refused ones put aside, topics taken back that are ours no more.
"""

import contextlib
import logging
import time
from collections.abc import Iterable, Iterator
from typing import Annotated, Any, ClassVar

import msgspec
from msgspec import Meta

from bootstrap_lib import state
from bootstrap_lib.clock import boot_id
from bootstrap_lib.control import Request
from bootstrap_lib.document import reason as reason_of
from bootstrap_lib.entries import Topic
from bootstrap_lib.events import Message
from bootstrap_lib.reading import (
    LAST_NUMBER,
    ReadingError,
    Sequence,
    Value,
    decode,
    encode_head,
    encode_tail,
)
from bootstrap_lib.service import Service
from bootstrap_lib.spool import Row, Spool, SpoolError
from bootstrap_lib.state import Dead, DeadLetters, Letter

log = logging.getLogger(__name__)

CROWDED = 1000
"""Milliseconds within which an older time is a crowd of readings, not a clock that was set back."""

LOOK = 0.4
"""Seconds between two looks at what waits: with the spool's AGE the two seconds that a power cut may cost."""

RESEND_AFTER = 15.0
"""Seconds without a move of the mark after which the unconfirmed tail is sent again."""


class Mark(msgspec.Struct, forbid_unknown_fields=True):
    """Up to which number of a stream a store has everything: on the mark's topic, and in `request/resend`."""

    stream: Annotated[str, Meta(pattern=r"^[0-9a-z]{1,32}$")]
    after: Annotated[int, Meta(ge=0, le=LAST_NUMBER)]


Unkept = tuple[str, str | None, int, str | None]
"""A reading on its way into the spool: topic, head, time, boot."""


def _is_unkept(topic: Topic[Any]) -> bool:
    """Whether no store keeps a topic: its values and their end go beside the spool, straight to the broker."""
    return topic.store is False or topic.kind == "text"


class Publisher:
    """What a service publishes on data topics. The service hands on what its loop hears, and calls `housekeep`."""

    WINDOW: ClassVar = 100
    """Readings on their way to the broker at any time."""

    def __init__(self, service: Service, dead: DeadLetters) -> None:
        """Open the spool and take up what earlier starts left: unconfirmed readings, and topics that were published."""
        self._service = service
        self.spool = Spool(service.runtime_folder, service.state_folder)
        self.dead = dead
        self.last: dict[str, tuple[Value, str, int]] = {}
        """Value, head and time of what stands on each topic by our doing."""
        self._unsent: dict[str, bool] = {}
        """Topics that no store keeps and whose value, or end, waits for a connection, and whether its time is a guess."""
        self._cursor = 0
        self._in_flight: dict[int, int] = {}
        self._acknowledged = 0
        self._mark = 0
        self._mark_moved = self._connected_at = time.monotonic()
        self._resend_pause = RESEND_AFTER
        self._archive_online = False
        self._settle_at = 0.0
        self._troubled = self._losing = False
        self._gathered: list[Unkept] | None = None
        self._published = set(state.load(service.state_folder / "published.json", list[str], []))
        self._known = service.remembered.known
        self._correct_times()

    def close(self) -> None:
        """Close the spool; unconfirmed readings are sent at the next start."""
        if self._service.stopping:
            self.spool.settle(age=-1.0)
        self.spool.close()

    # -- what goes out ------------------------------------------------------------------------------------------

    def publish(self, topic: Topic[Any], value: Value, moment: int | None = None) -> None:
        """Publish a value, as `Topic.proper` returns it, of a time (ms; now if not given)."""
        service = self._service
        head = encode_head(value, topic.unit)
        at, boot = (moment, None) if moment is not None else self._stamp(topic.name)
        self.last[topic.name] = (value, head, at)
        if topic.name not in self._published:
            self._published.add(topic.name)
            self._save_published()
        if _is_unkept(topic):
            if not service.bus.online:  # the client would keep them all, and send the oldest first
                self._unsent[topic.name] = boot is not None
                return
            payload = encode_tail(head, service.clock.now() if boot else at)
            service.bus.publish(self.topic_of(topic.name), payload, qos=1, retain=True)
            service.health.counters["published"] += 1
        else:
            self._append(topic.name, head, at, boot)

    def _stamp(self, name: str) -> tuple[int, str | None]:
        """Time of a reading; never that of the one before, for topic and time identify it."""
        at, boot = self._service.clock.stamp()
        before = self.last[name][2] if name in self.last else 0
        return (before + 1 if at <= before < at + CROWDED else at), boot

    def correct(self, topic: Topic[Any], value: Value, moment: int) -> int:
        """Send the stores a value of the past (ms) once more, beside the queue and not retained; returns the message's id."""
        payload = encode_tail(encode_head(value, topic.unit), moment)
        return self._service.bus.publish(self.topic_of(topic.name), payload, qos=1)

    def clear(self, name: str) -> None:
        """Take a topic's value back, in the order of its readings: nobody can measure it any more."""
        self.last.pop(name, None)
        topic = self._service.registry.topics.get(name)
        if topic is None or not _is_unkept(topic):
            self._append(name, None, *self._service.clock.stamp())
        elif self._service.bus.online:
            self._service.bus.publish(self.topic_of(name), b"", qos=1, retain=True)
        else:
            self._unsent[name] = False

    def disown(self, owned: Iterable[str]) -> list[str]:
        """Clear topics that were published and are not among ours any more; returns their names.

        What still waits under a name that a topic had before goes on under its new one.
        """
        for old, topic in self._service.registry.formerly.items():
            if topic.source == self._service.name:
                self.spool.rename(old, topic.name)
        service, gone = self._service, sorted(self._published.difference(owned))
        for name in gone:
            self.last.pop(name, None)
            self._unsent.pop(name, None)
            if (other := service.registry.topics.get(name)) is None or other.source == service.name:
                log.info("%s is no longer in topics.yaml, it is cleared", name)
                self.clear(name)
            self._published.discard(name)
        if gone:
            self._save_published()
        return gone

    def topic_of(self, name: str) -> str:
        """Topic as the broker knows it."""
        return f"{self._service.registry.root}/data/{name}"

    def _save_published(self) -> None:
        try:
            state.save(self._service.state_folder / "published.json", sorted(self._published))
        except OSError as error:
            self._service.error(f"published.json cannot be written: {reason_of(error)}")

    # -- the spool ----------------------------------------------------------------------------------------------

    @property
    def _archive(self) -> str | None:
        return self._service.registry.record

    @contextlib.contextmanager
    def together(self) -> Iterator[None]:
        """Make what is published within one step of the spool and one write to the broker."""
        gathered: list[Unkept] = []
        with self._service.bus.together():
            self._gathered = gathered
            try:
                yield
            finally:
                self._gathered = None
                self._keep(gathered)

    def _append(self, name: str, head: str | None, at: int, boot: str | None) -> None:
        if self._gathered is None:
            self._keep([(name, head, at, boot)])
        else:
            self._gathered.append((name, head, at, boot))

    def _keep(self, readings: list[Unkept]) -> None:
        if not readings:
            return
        if not self.spool.last:
            self._mark_moved = time.monotonic()  # nothing waited, so the mark had no reason to move
        try:
            kept = self.spool.append_all(readings)
        except SpoolError as error:
            for name, *_ in readings:
                self._service.health.counters["lost"] += 1
                self._service.error(str(error), name)
            if not self._losing:
                log.error("%s", error, extra={"topic": self.topic_of(readings[0][0])})  # noqa: TRY400
            self._losing = True
            return
        self._losing = False
        self._settle_at = min(self._settle_at, time.monotonic() + LOOK)
        for row, sequence in kept:
            in_turn = row.boot is None and self._cursor >= sequence.previous
            if self._service.bus.online and in_turn and len(self._in_flight) < self.WINDOW:
                self._send(row, sequence)

    def _send(self, row: Row, sequence: Sequence) -> None:
        payload = b"" if row.head is None else encode_tail(row.head, row.time)
        user = ("seq", str(sequence))
        mid = self._service.bus.publish(self.topic_of(row.topic), payload, qos=1, retain=True, user=user)
        self._in_flight[mid] = row.number
        self._cursor = row.number
        self._service.health.counters["published"] += 1

    def _pump(self) -> None:
        """Send what waits, in order, as far as the window allows."""
        room = self.WINDOW - len(self._in_flight)
        if not self._service.bus.online or room <= 0 or self._cursor >= self.spool.last:
            return
        for row, sequence in self.spool.after(self._cursor, room):
            if row.boot is not None:
                return
            self._send(row, sequence)

    def _rewind(self, after: int = 0) -> None:
        self._cursor = min(self._cursor, after)
        self._in_flight.clear()
        self._pump()

    def housekeep(self, now: float) -> float:
        """Keep and send what waits, again and again while anything does; returns when (monotonic) to call it again."""
        if now >= self._settle_at:
            self._settle_at = now + (LOOK if self.spool.last or self.spool.trouble else 3600.0)
            self._settle(now)
        return self._settle_at

    def _settle(self, now: float) -> None:
        service = self._service
        self.spool.settle()
        self._correct_times()
        if self.spool.trouble and not self._troubled:
            log.error("%s; readings wait in memory, trying on", self.spool.trouble)
            service.error(self.spool.trouble)
        elif self._troubled and not self.spool.trouble:
            log.info("the spool can be written again")
        self._troubled = self.spool.trouble is not None
        self._pump()
        stuck = now - max(self._mark_moved, self._connected_at) > self._resend_pause
        if self.spool.last and stuck and self._archive_online and service.bus.online and not self._in_flight:
            self._mark_moved = now
            self._resend_pause = min(300.0, self._resend_pause * 2)
            service.health.counters["resent"] += 1
            self._rewind()

    def _correct_times(self) -> None:
        clock = self._service.clock
        trusted = clock.check()
        for boot, first, _last in list(self.spool.uncertain()):
            if boot != boot_id():
                # That boot ended before its clock was set: right in order, late at most by its length.
                self.spool.correct(boot, self._known - first)
            elif trusted:
                self.spool.correct(boot, clock.offset())

    # -- what comes back ----------------------------------------------------------------------------------------

    def on_connected(self, session: bool) -> None:
        """Hear of marks; send the unconfirmed tail again when the broker lost our session."""
        self._connected_at = time.monotonic()
        service = self._service
        if self._archive:
            service.bus.subscribe(f"{service.registry.root}/service/{self._archive}/stored/{service.name}")
            service.bus.subscribe(f"{service.registry.root}/service/{self._archive}/status")
        unsent, self._unsent = self._unsent, {}
        for name in unsent.keys() - self.last.keys():
            service.bus.publish(self.topic_of(name), b"", qos=1, retain=True)
        for name, (_value, head, at) in self.last.items():
            if name in unsent:
                moment = service.clock.now() if unsent[name] else at
                service.bus.publish(self.topic_of(name), encode_tail(head, moment), qos=1, retain=True)
                service.health.counters["published"] += 1
            elif not session and at > 0 and service.clock.trusted:
                service.bus.publish(self.topic_of(name), encode_tail(head, at), qos=1, retain=True)
        if not session:
            self._rewind()
        self._pump()

    def on_message(self, message: Message) -> bool:
        """Take the archive's mark, and whether the archive is there; True if the message was one of these."""
        archive = f"{self._service.registry.root}/service/{self._archive}"
        if message.topic == f"{archive}/status":
            self._archive_online = message.payload == b"online"
            return True
        if message.topic != f"{archive}/stored/{self._service.name}":
            return False
        try:
            mark = msgspec.json.decode(message.payload, type=Mark)
        except (msgspec.DecodeError, UnicodeDecodeError):
            return True
        if mark.stream == self.spool.stream and mark.after != self._mark:
            self._mark, self._mark_moved, self._resend_pause = mark.after, time.monotonic(), RESEND_AFTER
            self.spool.confirm(mark.stream, mark.after)
            if self.spool.stream != mark.stream:  # it was not ours: what waits is sent again under another name
                self._rewind()
        return True

    def on_published(self, mid: int, refusal: str | None) -> None:
        """A refused reading goes to the dead letters and never blocks those behind it."""
        number = self._in_flight.pop(mid, None)
        if number is not None and refusal:
            self._bury(number, refusal)
        elif number is not None and self._archive is None:  # the weaker promise: in the broker's memory
            self._acknowledged += 1  # a step of the spool for each would cost more than the reading
            if not self._in_flight or self._acknowledged >= self.WINDOW // 4:
                self._acknowledged = 0
                self.spool.confirm(self.spool.stream, min(self._in_flight.values(), default=number + 1) - 1)
        if len(self._in_flight) < self.WINDOW // 2:
            self._pump()

    def _bury(self, number: int, refusal: str) -> None:
        rows = self.spool.after(number - 1, 1)
        if rows and rows[0][0].number == number:
            service, row = self._service, rows[0][0]
            sentence = f"the broker refuses it: {refusal}; check the access list of '{service.name}'"
            payload = b"" if row.head is None else encode_tail(row.head, row.time)
            if not self.dead.add(row.topic, payload, sentence):
                service.error(str(self.dead.trouble), row.topic)
                return  # it stays in the spool, and is tried again
            service.error(sentence, row.topic)
            if service.health.counters["refused"] == 0:
                log.error("%s: %s", row.topic, sentence, extra={"topic": self.topic_of(row.topic)})
            service.health.counters["refused"] += 1
            self.spool.drop(number)

    def request_resend(self, _request: Request, mark: Mark) -> dict[str, int]:
        """Send again what the archive misses."""
        if mark.stream == self.spool.stream:
            self._rewind(mark.after)
        return {"waiting": self.spool.count()}

    def request_dead(self, _request: Request, arguments: Dead) -> dict[str, int]:
        """Send again what the broker refused and might take now, or forget it all."""
        if arguments.do == "drop":
            taken, left = self.dead.sort_out(lambda _: True, lambda: None)
            return {"dropped": taken, "left": left}
        taken, left = self.dead.sort_out(self._is_sent_again, lambda: self.spool.settle(age=-1.0))
        return {"taken": taken, "left": left}

    def _is_sent_again(self, letter: Letter) -> bool:
        topic = self._service.registry.topics.get(letter.topic) or self._service.registry.formerly.get(letter.topic)
        if topic is None or topic.source != self._service.name:
            return False
        try:
            reading = decode(topic.name, letter.payload.encode())
        except ReadingError:
            return False
        waiting = self.spool.count()
        self._append(topic.name, encode_head(reading.value, reading.unit), reading.time, None)
        return self.spool.count() > waiting

    def on_beat(self) -> None:
        """Tell health what waits."""
        self._service.health.extra["spool"] = {
            "waiting": self.spool.count(),
            "dropped": self.spool.dropped,
            "dead": self.dead.count,
        } | ({"trouble": self.spool.trouble} if self.spool.trouble else {})
