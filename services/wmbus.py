"""What electricity, water and heat meters say by radio: wireless M-Bus by dongle or rtl_wmbus (docs/services/wmbus.md)."""

import logging
import math
import time
from collections.abc import Iterator, Sequence
from contextlib import suppress
from datetime import UTC, datetime
from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta, Struct

from bootstrap_lib import Duration, Failure, InstanceOptions, Problem, Registry, Sample, Source, Topic, Value, state
from bootstrap_lib.bus import Message
from bootstrap_lib.control import Request, RequestError
from bootstrap_lib.document import DocumentError, reason
from bootstrap_lib.reading import as_json
from bootstrap_lib.secrets import MissingSecretError, SecretError, secret
from services.links import meterlist
from services.links.meters import Meter, Meters, Place, describe
from services.links.wmbus import open_receiver
from services.protocols import gateway
from services.protocols.wmbus import Formats, Record, Telegram, link_address
from services.protocols.wmbus.security import BLOCK

log = logging.getLogger(__name__)

LEARN_EVERY = 5.0
"""Seconds between two additions to the machine's file: each makes all services read it."""
SCAN = 130.0
"""Seconds of a scan: a Kamstrup sends its full frame every two minutes."""


class Compatibility(Struct, frozen=True, forbid_unknown_fields=True):
    """The first gateway's own topics and messages."""

    gateway: Annotated[str, Meta(pattern="^[A-Za-z0-9_-]+$", description="Its id, as in v2/<id>/sensors/set.")]


class ListedMeter(Struct, frozen=True, forbid_unknown_fields=True):
    """A meter whose topics make themselves."""

    name: Annotated[str, Meta(description="What stands before its number in its topics.")] = ""


class Options(InstanceOptions, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """The receiver, and meters that need no lines of their own."""

    device: Annotated[
        str,
        Meta(
            pattern="^(/|lines:/|command:).",
            description="Port of an iM871A; `lines:PATH` or `command:COMMAND` for rtl_wmbus.",
        ),
    ] = "/dev/ttyUSB0"
    mode: Annotated[Literal["c1", "t1", "s1", "c1+t1"], Meta(description="Radio mode of the dongle.")] = "c1"
    silence: Annotated[Duration, Meta(description="Without telegrams for so long, the receiver is reset.")] = Duration(
        600
    )
    meters: Annotated[
        dict[Annotated[str, Meta(pattern="^[0-9A-F]{8}$")], ListedMeter],
        Meta(description="By number; `request/meters` writes them."),
    ] = msgspec.field(default_factory=dict)
    compatibility: Annotated[Compatibility | None, Meta(description="Speak as the first gateway, too.")] = None


class Field(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """One value of a meter."""

    meter: (
        Annotated[str, Meta(pattern="^[0-9A-Fa-f]{8}$", description="The meter's number, eight digits.")]
        | Annotated[int, Meta(ge=0, le=99_999_999)]
    )
    key: Annotated[str, Meta(description="Name of the record, where it is not the topic's last level.")] = ""
    manufacturer: Annotated[str, Meta(pattern="^[A-Z]{3}$", description="Where two have the same number.")] = ""
    secret: (
        Annotated[str, Meta(pattern="^secret:", description="The meter's key, if not secret:wmbus.<number>.")] | None
    ) = None

    @property
    def place(self) -> Place:
        """The meter as it is found by its telegrams."""
        number = f"{self.meter:08d}" if isinstance(self.meter, int) else self.meter.upper()
        return number, self.manufacturer


class Change(Struct, frozen=True, forbid_unknown_fields=True):
    """Payload of `request/meters`; a bare list replaces."""

    meters: list[Any]
    mode: Literal["replace", "add"] = "replace"


class Remembered(Struct):
    """What a restart must not lose: formats of compact frames, and how far each meter has counted."""

    formats: dict[str, list[str]] = {}
    counters: dict[str, int] = {}


class WMBus(Source):
    """Values of meters by radio."""

    options: Options
    topics: tuple[Topic[Field], ...]

    def __init__(self, registry: Registry, name: str) -> None:
        """Prepare the instance."""
        super().__init__(registry, name)
        self.meters = Meters(Formats())
        self._wanted: dict[Place, dict[str, list[Topic[Field]]]] = {}
        self._saved = 0
        self._learned_at = -math.inf
        self._telegram_at: float | None = None
        self._open_with: tuple[Any, ...] = ()

    def samples(self) -> Iterator[Sample]:
        """Take telegrams as they come."""
        if self._listen_until is not None:
            self._want()
        options = self._open_with = self._receiver_options()
        with open_receiver(*options) as receiver:
            while self.tick(receiver.fileno(), receiver.silence):
                for telegram, signal in receiver.receive():
                    yield from self.hear(telegram, signal)
                self.meters.counts.update(receiver.counters)
                receiver.counters.clear()

    def hear(self, frame: bytes, signal: float | None) -> Iterator[Sample]:
        """Yield the samples of one telegram (without block CRCs; `signal` in dBm)."""
        self._telegram_at = time.monotonic()
        heard = self.meters.hear(frame, self._telegram_at)
        if heard is None:
            return
        place, telegram = heard.meter.place, heard.telegram
        if telegram is None:
            failure = Failure(heard.reason)
            yield from ((topic, failure) for topics in self._wanted[place].values() for topic in topics)
            return
        if self.options.meters and (listed := self.options.meters.get(heard.meter.id)):
            self._make_topics(heard.meter, listed.name, telegram)
            self._tell_master(f"{listed.name}-{heard.meter.id}", telegram)
        topics = self._wanted[place]
        for record in telegram.records:
            for topic in topics.get(record.name, ()):
                yield topic, _value(topic, record)
        for topic in topics.get("status", ()):
            yield topic, ", ".join(telegram.status) or "ok"
        if signal is not None:
            yield from ((topic, signal) for topic in topics.get("signal", ()))

    # -- meters -------------------------------------------------------------------------------------------------

    def _want(self) -> None:
        """Ask for the meters of all topics, and for the listed ones."""
        self._wanted = {(number, ""): {} for number in self.options.meters}
        references: dict[Place, str] = {}
        for topic in self.topics:
            field = topic.options
            names = self._wanted.setdefault(field.place, {})
            names.setdefault(field.key or topic.name.rpartition("/")[2], []).append(topic)
            if field.secret:
                references[field.place] = field.secret
        self.meters.want({place: self._key(place, references.get(place)) for place in self._wanted})

    def _key(self, place: Place, reference: str | None) -> bytes | str | None:
        try:
            key = bytes.fromhex(secret(reference or f"secret:wmbus.{place[0]}", self.state_folder / "secrets"))
        except MissingSecretError as error:
            return str(error) if reference else None
        except SecretError as error:
            return str(error)
        except ValueError:
            key = b""
        return key if len(key) == BLOCK else f"the secret of meter {place[0]} is not a key of 32 hexadecimal digits"

    def _make_topics(self, meter: Meter, name: str, telegram: Telegram) -> None:
        """Write topics for the records of a listed meter that have none, and take them over."""
        instance = self.registry.instances[self.name]
        made = meterlist.lines(telegram.records, instance, meter.id, name)
        made = {topic: line for topic, line in made.items() if topic not in self.registry.topics}
        now = time.monotonic()
        if not made or self._listen_until is not None or now - self._learned_at < LEARN_EVERY:
            return
        self._learned_at = now
        try:
            meterlist.add_topics(self.registry.path, made)
        except (OSError, DocumentError) as error:
            self.error(f"topics of meter {meter.id} cannot be written beside topics.yaml: {reason(error)}")
        else:
            log.info("meter %s has %d new topics below %s", meter.id, len(made), meterlist.PLACE)
            self.reload()

    def request_meters(self, _request: Request, arguments: list[Any] | Change) -> list[dict[str, str]]:
        """Replace the listed meters, or add to them; the answer says for each where its topics are, or what is wrong."""
        change = arguments if isinstance(arguments, Change) else Change(arguments)
        entries = list(gateway.read(change.meters))
        self._take_over(entries, add=change.mode == "add")
        return [
            {"meter": entry.id, "error": entry.reason}
            if isinstance(entry, gateway.Rejected)
            else {"meter": entry.id, "topics": f"{self.topic_of(meterlist.PLACE)}/{entry.thing}/+"}
            for entry in entries
        ]

    def _take_over(self, entries: Sequence[gateway.Listed | gateway.Rejected], *, add: bool) -> None:
        meters = [entry for entry in entries if isinstance(entry, gateway.Listed)]
        wrong = [f"{entry.id}: {entry.reason}" for entry in entries if isinstance(entry, gateway.Rejected)]
        if wrong and not meters:
            raise RequestError("; ".join(wrong))
        instance = self.registry.instances[self.name]
        try:
            meterlist.write(self.registry.path, instance, self.state_folder / "secrets", meters, add=add)
        except DocumentError as error:
            raise RequestError(str(error)) from None
        if problems := self.reload():
            raise RequestError("; ".join(map(str, problems)))

    # -- the first gateway --------------------------------------------------------------------------------------

    def _of_gateway(self, *words: str) -> str | None:
        compatibility = self.options.compatibility
        return "/".join(("v2", compatibility.gateway, *words)) if compatibility else None

    def on_connected(self, session: bool) -> None:
        """Also hear the first gateway's master."""
        super().on_connected(session)
        if topic := self._of_gateway("sensors", "set"):
            self.bus.subscribe(topic)

    def on_message(self, message: Message) -> bool:
        """Take the master's list, and announce the channels of each meter as the first gateway did."""
        if message.topic != self._of_gateway("sensors", "set"):
            return super().on_message(message)
        try:
            entries = list(gateway.read(msgspec.json.decode(message.payload, type=list[Any])))
            self._take_over(entries, add=False)
        except (msgspec.DecodeError, UnicodeDecodeError, RequestError, OSError) as error:
            self.error(f"{message.topic}: {reason(error)}")
            log.warning("%s: the list is refused: %s", message.topic, reason(error))
            return True
        for entry in entries:
            if isinstance(entry, gateway.Rejected):
                log.warning("%s: %s is left out: %s", message.topic, entry.id, entry.reason)
            elif topic := self._of_gateway(f"{entry.manufacturer}-{entry.id}", "config"):
                self.bus.publish(topic, as_json(gateway.configuration()))
        return True

    def _tell_master(self, meter: str, telegram: Telegram) -> None:
        topic = self._of_gateway(meter, "data")
        if topic is None or self._listen_until is not None:
            return
        timestamp = f"{datetime.fromtimestamp(self.clock.now() // 1000, UTC):%Y-%m-%dT%H:%M:%SZ}"
        for message in gateway.measurements({record.name: record.value for record in telegram.records}, timestamp):
            self.bus.publish(topic, as_json(message))

    # -- the process --------------------------------------------------------------------------------------------

    def begin(self) -> None:
        """Recall formats and counters."""
        super().begin()
        remembered = state.load(self.state_folder / "telegrams.json", Remembered, Remembered())
        self.meters = Meters(Formats(remembered.formats))
        self._want()
        self.meters.recall(remembered.counters, time.monotonic())

    def end(self) -> None:
        """Remember formats and counters."""
        self._save()
        super().end()

    def _save(self) -> None:
        self._saved = self.meters.formats.revision
        remembered = Remembered(self.meters.formats.to_dict(), self.meters.counters)
        try:
            state.save(self.state_folder / "telegrams.json", remembered)
        except OSError as error:
            self.error(f"telegrams.json cannot be written: {reason(error)}")

    def _receiver_options(self) -> tuple[str, str, float]:
        return self.options.device, self.options.mode, self.options.silence

    def on_reloaded(self, changed: bool) -> None:
        """Take over meters and topics; the receiver stays open unless it is to be another one."""
        super().on_reloaded(changed)
        self._want()
        self._changed = self._changed and self._receiver_options() != self._open_with
        if self.bus.online and (topic := self._of_gateway("sensors", "set")):
            self.bus.subscribe(topic)

    def on_beat(self) -> None:
        """Tell health what is heard; write down a format that was learned."""
        super().on_beat()
        self.health.counters |= self.meters.counts
        silent = None if self._telegram_at is None else round(time.monotonic() - self._telegram_at, 1)
        self.health.extra["radio"] = {
            "silent": silent,
            "meters": len(self.meters),
            "foreign": len(self.meters.foreign),
        }
        if self.meters.formats.revision != self._saved:
            self._save()

    @classmethod
    def check(cls, registry: Registry, name: str) -> list[Problem]:
        """Also find a meter with two keys."""
        if problems := super().check(registry, name):
            return problems
        known: dict[Place, str] = {}
        for topic in registry.topics_of(name, Field):
            number, _ = place = topic.options.place
            if (
                topic.options.secret
                and (other := known.setdefault(place, topic.options.secret)) != topic.options.secret
            ):
                path = ("topics", registry.key_of(topic.name), "secret")
                problems.append(registry.document.problem(path, f"meter {number} has the key {other} in another line"))
        return problems

    @classmethod
    def scan(cls, options: Options) -> Iterator[str]:
        """Listen for two minutes; a line for each meter that is heard, with its values where they can be read."""
        until, formats, shown = time.monotonic() + SCAN, Formats(), set[str]()
        with open_receiver(options.device, options.mode, options.silence) as receiver:
            while time.monotonic() < until:
                time.sleep(0.05)
                for frame, signal in receiver.receive():
                    sender, key = link_address(frame), None
                    if sender is None or sender.id in shown:
                        continue
                    with suppress(SecretError, ValueError):
                        key = bytes.fromhex(secret(f"secret:wmbus.{sender.id}"))
                    if line := describe(frame, key, formats):
                        shown.add(sender.id)
                        yield line if signal is None else f"{line}  ({signal:g} dBm)"


def _value(topic: Topic[Field], record: Record) -> Value | Failure:
    """Value of a record in the unit of its topic."""
    value = record.value
    if value is None:
        return Failure(f"the meter has no value for {record.name} now")
    if topic.kind == "text":
        return str(value)
    if topic.kind == "switch":
        return bool(value)
    if record.unit == topic.unit or isinstance(value, str):
        return value
    factor = meterlist.FACTORS.get((record.unit, topic.unit))
    if factor is None:
        return Failure(f"the meter says {record.name} in {record.unit or 'no unit'}: write unit: '{record.unit}'")
    return value * factor
