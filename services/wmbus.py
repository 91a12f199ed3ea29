"""What electricity, water and heat meters say by radio: wireless M-Bus by dongle or rtl_wmbus (docs/services/wmbus.md)."""

import logging
import time
from collections.abc import Callable, Iterator
from typing import Annotated, Any, ClassVar, Final, Literal

import msgspec
from msgspec import Meta, Struct

from bootstrap_lib import (
    DocumentError,
    Duration,
    Failure,
    InstanceOptions,
    Message,
    Needs,
    Problem,
    Registry,
    Request,
    RequestError,
    Sample,
    Source,
    Topic,
    format_time,
    reason,
)
from services.meters import meter_list, open_receiver, scan
from services.meters import wanted as lines
from services.meters.dispatch import KnownMeters, Place
from services.meters.first_gateway import STOP, FirstGateway
from services.meters.listed import ListMode, MeterList
from services.meters.memory import MeterMemory
from services.meters.meter_list import ListedMeter, RejectedMeter
from services.meters.topics import PLACE, values_of
from services.meters.wanted import MeterField, Wanted
from services.protocols.wmbus import Formats, Telegram

log = logging.getLogger(__name__)

KEY_CONFLICT: Final = "its owner put another key among the secrets, and that one is used"


class Compatibility(Struct, frozen=True, forbid_unknown_fields=True):
    """The first gateway's own topics and messages."""

    gateway: Annotated[str, Meta(pattern="^[A-Za-z0-9_-]+$", description="Its id, as in v2/<id>/sensors/set.")]
    stop: Annotated[Literal["ignore", "obey"], Meta(description="What the master's STOP does.")] = "ignore"


class ListedMeterOptions(Struct, frozen=True, forbid_unknown_fields=True):
    """A meter whose topics make themselves."""

    name: Annotated[
        str, Meta(pattern="^[A-Za-z0-9_-]*$", description="What stands before its number in its topics.")
    ] = ""


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
        dict[Annotated[str, Meta(pattern="^[0-9A-F]{8}$")], ListedMeterOptions],
        Meta(description="By number; `request/meters` writes them."),
    ] = msgspec.field(default_factory=dict)
    compatibility: Annotated[Compatibility | None, Meta(description="Speak as the first gateway, too.")] = None


class Change(Struct, frozen=True, forbid_unknown_fields=True):
    """Payload of `request/meters`; a bare list replaces."""

    meters: list[Any]
    mode: ListMode = "replace"


class WMBus(Source):
    """Values of meters by radio."""

    NEEDS: ClassVar = Needs(
        extra="wmbus",
        libraries=("serial", "cryptography"),
        devices=("serial",),
        unit=(
            "# Meters that were configured over MQTT are written to topics.machine.yaml, beside topics.yaml.",
            "ReadWritePaths=/etc/constellation",
        ),
        rights=("readwrite v2/#", "read STOP"),
        partner="gateway",
        partner_when="compatibility",
        partner_rights=("read v2/#", "write v2/+/sensors/set", "write STOP"),
        machine=("meters",),
        decodes={"wmbus": "Telegrams of meters by wireless M-Bus; a second word on a line is that telegram's key."},
        simulator="services.simulators.staging:dongle",
    )

    options: Options
    topics: tuple[Topic[MeterField], ...]

    def __init__(self, registry: Registry, name: str) -> None:
        """Prepare the instance."""
        super().__init__(registry, name)
        self.meters = KnownMeters(Formats())
        self._wanted: Wanted = {}
        self._master = FirstGateway(None)
        self._list = MeterList(self.state_folder / "secrets", self.reload)
        self._telegram_at: float | None = None
        self._first: dict[Place, tuple[Telegram, float | None]] = {}
        """Telegrams of listed meters whose topics are still to be written."""
        self._memory = MeterMemory(self.state_folder, self.runtime_folder)
        self._open_with: tuple[str, str, float] | None = None

    def samples(self) -> Iterator[list[Sample]]:
        """Take telegrams as they come."""
        if self.measures_once:
            self._want()
        self._open_with = self._receiver
        with open_receiver(*self._receiver, whole=self.measures_once) as receiver:
            while self.tick(receiver.fileno(), min(receiver.silence, self._list.silence)):
                for telegram, signal in receiver.receive():
                    if samples := list(self.hear(telegram, signal)):
                        yield samples
                if samples := list(self._first_samples()):
                    yield samples
                self.meters.counts.update(receiver.counters)
                receiver.counters.clear()

    @property
    def _receiver(self) -> tuple[str, str, float]:
        return self.options.device, self.options.mode, self.options.silence

    def hear(self, frame: bytes, signal: float | None) -> Iterator[Sample]:
        """Yield the samples of one telegram (without block CRCs; `signal` in dBm)."""
        self._telegram_at = time.monotonic()
        heard = self.meters.hear(frame, self._telegram_at, self._today())
        if heard is None:
            return
        meter, telegram = heard.meter, heard.telegram
        if telegram is None:
            failure = Failure(heard.reason)
            yield from ((topic, failure) for topics in self._wanted[meter.place].values() for topic in topics)
            return
        if not self.measures_once and (listed := self.options.meters.get(meter.id)):
            if self._list.learn(self.registry, self.registry.instances[self.name], meter.id, listed.name, telegram):
                self._first[meter.place] = telegram, signal
            if self.clock.trusted:
                name = f"{listed.name}-{meter.id}"
                self._master.tell(self.bus.publish, name, telegram.records, self.clock.now())
        yield from values_of(self._wanted.get(meter.place, {}), telegram, signal)

    def _today(self) -> str | None:
        """Today's date, or None where the clock is not to be trusted."""
        if self.measures_once or not self.clock.trusted:
            return None
        return format_time(self.clock.now())[:10]

    # -- meters -------------------------------------------------------------------------------------------------

    def _want(self) -> None:
        """Ask for the meters of all topics, and for the listed ones."""
        self._wanted = lines.wanted(self.topics, self.options.meters)
        self.meters.want(lines.keys(self._wanted, self._list.secrets))

    def _first_samples(self) -> Iterator[Sample]:
        """Write topics for what listed meters said and had none for, and yield what they said."""
        try:
            new = self._list.write_new(self.registry)
        except (OSError, DocumentError) as error:
            self.error(f"topics of listed meters cannot be written beside topics.yaml: {reason(error)}")
            return
        if new:
            first, self._first = self._first, {}
            for place, (telegram, signal) in first.items():
                values = values_of(self._wanted.get(place, {}), telegram, signal)
                yield from ((topic, value) for topic, value in values if topic.name in new)

    def request_meters(self, _request: Request, arguments: list[Any] | Change) -> list[dict[str, str]]:
        """Replace the listed meters, add to them or remove some; the answer says for each where its topics are, or what is wrong."""
        change = arguments if isinstance(arguments, Change) else Change(arguments)
        entries = list(meter_list.read(change.meters))
        conflicts = self._take_over(entries, change.mode)
        return [
            {"meter": entry.id, "error": entry.reason}
            if isinstance(entry, RejectedMeter)
            else {"meter": entry.id, "removed": "its topics and its key"}
            if change.mode == "remove"
            else {"meter": entry.id, "topics": self.topic_of(f"{PLACE}/{entry.thing}/+")}
            | ({"conflict": KEY_CONFLICT} if entry.id in conflicts else {})
            for entry in entries
        ]

    def _take_over(self, entries: list[ListedMeter | RejectedMeter], mode: ListMode) -> set[str]:
        """Use a list; returns the meters to which it gives another key than their owner did."""
        conflicts = lines.conflicts(self.topics, entries)
        self._list.take_over(self.registry, self.registry.instances[self.name], entries, mode)
        return conflicts

    def on_connected(self, session: bool) -> None:
        """Also hear the first gateway's master."""
        super().on_connected(session)
        self._listen_to_master()

    def on_message(self, message: Message) -> bool:
        """Take the master's list, and answer it as the first gateway did."""
        if message.topic not in self._master.topics:
            return super().on_message(message)
        if message.topic == STOP:
            if not message.retained and self._master.stop(self.bus.publish):
                log.info("stopping: the first gateway's master says STOP")
                self.stopping = "STOP"
            return True
        try:
            entries = self._master.read(message.payload)
            conflicts = self._take_over(entries, "replace")
        except (RequestError, OSError) as error:
            self.error(f"{message.topic}: {reason(error)}")
            log.warning("%s: the list is refused: %s", message.topic, reason(error))
        else:
            for number in sorted(conflicts):
                log.warning("%s: meter %s: %s", message.topic, number, KEY_CONFLICT)
            self._master.answer(self.bus.publish, entries)
        return True

    # -- the process --------------------------------------------------------------------------------------------

    def begin(self) -> None:
        """Recall formats, and how far the meters have counted."""
        super().begin()
        remembered = self._memory.recall()
        self.meters = KnownMeters(Formats(remembered.formats))
        self._want()
        self.meters.recall(remembered.counted, time.monotonic())
        self._meet_master()

    def end(self) -> None:
        """Remember formats, and how far the meters have counted; nothing where they were not recalled."""
        self._remember(self._memory.save)
        super().end()

    def _remember(self, write: Callable[[KnownMeters], None]) -> None:
        try:
            write(self.meters)
        except OSError as error:
            self.error(f"what the meters said cannot be written down: {reason(error)}")

    def on_reloaded(self, changed: bool) -> None:
        """Take over meters and topics; the receiver stays open unless it is to be another one."""
        super().on_reloaded(changed)
        self._want()
        self._changed = self._changed and self._receiver != self._open_with
        if self._meet_master():
            self._listen_to_master()

    def _listen_to_master(self) -> None:
        for topic in self._master.topics:
            self.bus.subscribe(topic)

    def _meet_master(self) -> bool:
        """Take over which master is spoken with; True if it is another one, of whom nothing was heard yet."""
        compatibility = self.options.compatibility
        speaks_as = (compatibility.gateway, compatibility.stop == "obey") if compatibility else (None, False)
        if speaks_as == self._master.speaks_as:
            return False
        before = self._master.topics
        self._master = FirstGateway(speaks_as[0], obeys=speaks_as[1])
        return self._master.topics != before

    def on_beat(self) -> None:
        """Tell health what is heard; write down what a restart must not lose."""
        super().on_beat()
        self.health.counters |= self.meters.counts
        silent = None if self._telegram_at is None else round(time.monotonic() - self._telegram_at, 1)
        self.health.extra["radio"] = {
            "silent": silent,
            "meters": len(self.meters),
            "foreign": len(self.meters.foreign),
        }
        self._remember(self._memory.on_beat)

    @classmethod
    def check(cls, registry: Registry, name: str) -> list[Problem]:
        """Also find a meter with two keys."""
        return super().check(registry, name) or list(lines.problems(registry, name))

    @classmethod
    def scan(cls, options: Options) -> Iterator[str]:
        """Listen for two minutes; a line for each meter that is heard, with its values where they can be read."""
        with open_receiver(options.device, options.mode, options.silence, whole=True) as receiver:
            yield from scan.heard(receiver)
