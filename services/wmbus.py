"""What electricity, water and heat meters say by radio: wireless M-Bus by dongle or rtl_wmbus (docs/services/wmbus.md)."""

import logging
import time
from collections.abc import Callable, Iterator
from typing import Annotated, Any, ClassVar, Literal

import msgspec
from msgspec import Meta, Struct

from bootstrap_lib import (
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
    reason,
)
from services.meters import gateway, open_receiver, scan
from services.meters import wanted as lines
from services.meters.listed import MeterList
from services.meters.master import Master
from services.meters.memory import Memory
from services.meters.meters import Meters
from services.meters.topics import PLACE, values_of
from services.meters.wanted import Field, Wanted
from services.protocols.wmbus import Formats

log = logging.getLogger(__name__)


class Compatibility(Struct, frozen=True, forbid_unknown_fields=True):
    """The first gateway's own topics and messages."""

    gateway: Annotated[str, Meta(pattern="^[A-Za-z0-9_-]+$", description="Its id, as in v2/<id>/sensors/set.")]


class ListedMeter(Struct, frozen=True, forbid_unknown_fields=True):
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
        dict[Annotated[str, Meta(pattern="^[0-9A-F]{8}$")], ListedMeter],
        Meta(description="By number; `request/meters` writes them."),
    ] = msgspec.field(default_factory=dict)
    compatibility: Annotated[Compatibility | None, Meta(description="Speak as the first gateway, too.")] = None


class Change(Struct, frozen=True, forbid_unknown_fields=True):
    """Payload of `request/meters`; a bare list replaces."""

    meters: list[Any]
    mode: Literal["replace", "add"] = "replace"


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
        rights=("readwrite v2/#",),
        decodes={"wmbus": "Telegrams of meters by wireless M-Bus; a second word on a line is that telegram's key."},
        simulator="services.simulators.staging:dongle",
    )

    options: Options
    topics: tuple[Topic[Field], ...]

    def __init__(self, registry: Registry, name: str) -> None:
        """Prepare the instance."""
        super().__init__(registry, name)
        self.meters = Meters(Formats())
        self._wanted: Wanted = {}
        self._master = Master(None)
        self._list = MeterList(self)
        self._telegram_at: float | None = None
        self._memory = Memory(self.state_folder, self.runtime_folder)
        self._open_with: tuple[str, str, float] | None = None

    def samples(self) -> Iterator[Sample]:
        """Take telegrams as they come."""
        if self.measures_once:
            self._want()
        self._open_with = self._receiver
        with open_receiver(*self._receiver) as receiver:
            while self.tick(receiver.fileno(), receiver.silence):
                for telegram, signal in receiver.receive():
                    yield from self.hear(telegram, signal)
                self.meters.counts.update(receiver.counters)
                receiver.counters.clear()

    @property
    def _receiver(self) -> tuple[str, str, float]:
        return self.options.device, self.options.mode, self.options.silence

    def hear(self, frame: bytes, signal: float | None) -> Iterator[Sample]:
        """Yield the samples of one telegram (without block CRCs; `signal` in dBm)."""
        self._telegram_at = time.monotonic()
        heard = self.meters.hear(frame, self._telegram_at)
        if heard is None:
            return
        meter, telegram = heard.meter, heard.telegram
        if telegram is None:
            failure = Failure(heard.reason)
            yield from ((topic, failure) for topics in self._wanted[meter.place].values() for topic in topics)
            return
        if not self.measures_once and (listed := self.options.meters.get(meter.id)):
            self._list.learn(meter.id, listed.name, telegram)
            if self.clock.trusted:
                values = {record.name: record.value for record in telegram.records}
                self._master.tell(self.bus, f"{listed.name}-{meter.id}", values, self.clock.now())
        yield from values_of(self._wanted.get(meter.place, {}), telegram, signal)

    # -- meters -------------------------------------------------------------------------------------------------

    def _want(self) -> None:
        """Ask for the meters of all topics, and for the listed ones."""
        self._wanted = lines.wanted(self.topics, self.options.meters)
        self.meters.want(lines.keys(self._wanted, self._list.secrets))

    def request_meters(self, _request: Request, arguments: list[Any] | Change) -> list[dict[str, str]]:
        """Replace the listed meters, or add to them; the answer says for each where its topics are, or what is wrong."""
        change = arguments if isinstance(arguments, Change) else Change(arguments)
        entries = list(gateway.read(change.meters))
        self._list.take_over(entries, add=change.mode == "add")
        return [
            {"meter": entry.id, "error": entry.reason}
            if isinstance(entry, gateway.Rejected)
            else {"meter": entry.id, "topics": self.topic_of(f"{PLACE}/{entry.thing}/+")}
            for entry in entries
        ]

    def on_connected(self, session: bool) -> None:
        """Also hear the first gateway's master."""
        super().on_connected(session)
        self._master.listen(self.bus)

    def on_message(self, message: Message) -> bool:
        """Take the master's list, and answer it as the first gateway did."""
        if message.topic != self._master.command:
            return super().on_message(message)
        try:
            entries = self._master.read(message)
            self._list.take_over(entries, add=False)
        except (RequestError, OSError) as error:
            self.error(f"{message.topic}: {reason(error)}")
            log.warning("%s: the list is refused: %s", message.topic, reason(error))
        else:
            self._master.answer(self.bus, entries)
        return True

    # -- the process --------------------------------------------------------------------------------------------

    def begin(self) -> None:
        """Recall formats, and how far the meters have counted."""
        super().begin()
        remembered = self._memory.recall()
        self.meters = Meters(Formats(remembered.formats))
        self._want()
        self.meters.recall(remembered.counted, time.monotonic())
        self._meet_master()

    def end(self) -> None:
        """Remember formats, and how far the meters have counted; nothing where they were not recalled."""
        self._remember(self._memory.save)
        super().end()

    def _remember(self, write: Callable[[Meters], None]) -> None:
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
            self._master.listen(self.bus)

    def _meet_master(self) -> bool:
        """Take over which master is spoken with; True if it is another one, of whom nothing was heard yet."""
        compatibility, before = self.options.compatibility, self._master.command
        self._master = Master(compatibility.gateway if compatibility else None)
        return self._master.command != before

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
        with open_receiver(options.device, options.mode, options.silence) as receiver:
            yield from scan.heard(receiver)
