"""What topics.yaml says, entry by entry, as typed structures: the only truth about the file.

Checks, the JSON schema for editors and the reference page (docs/topics.md) all come from them.
"""

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Final, Generic, TypeVar

import msgspec
from msgspec import Meta, Struct

from bootstrap_lib import machine
from bootstrap_lib.duration import Duration
from bootstrap_lib.quantities import QUANTITIES, Kind, Quantity
from bootstrap_lib.reading import ReadingError, Value

LARGEST: Final = 2**63
"""What an integer is below: 64 bits."""

OptionsT_co = TypeVar("OptionsT_co", covariant=True)


class Broker(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """How to reach the MQTT broker. `{instance}` stands for the name of the service that connects."""

    host: Annotated[
        str,
        Meta(
            description="Name or address of the broker.",
            pattern=r"^[A-Za-z0-9]([A-Za-z0-9.:-]{0,251}[A-Za-z0-9])?$|^::1$",
        ),
    ] = "localhost"
    port: Annotated[int, Meta(ge=1, le=65535)] | None = None
    ca: (
        Annotated[Path, Meta(description="Certificate of the authority that signed the broker's; switches TLS on.")]
        | None
    ) = None
    certificate: Annotated[Path, Meta(description="Client certificate, where the broker asks for one.")] | None = None
    key: Annotated[Path, Meta(description="Key of the client certificate.")] | None = None
    user: Annotated[str, Meta(description="User at the broker.")] = "{instance}"
    password: (
        Annotated[str, Meta(description="Reference to the password: `secret:NAME`.", pattern="^secret:")] | None
    ) = None
    keepalive: Annotated[Duration, Meta(description="How soon a dead connection is noticed.")] = Duration(20)

    @property
    def reached_at(self) -> int:
        """Port at which it is reached."""
        return self.port or (8883 if self.ca else 1883)

    def is_also(self, other: "Broker") -> bool:
        """Whether two settings mean one broker, as far as names and this machine's addresses tell."""
        hosts = self.host, other.host
        return self.reached_at == other.reached_at and (machine.is_same(*hosts) or all(map(machine.is_this, hosts)))


class InstanceOptions(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """What every running service may be told; each service adds its own keys."""

    service: Annotated[str, Meta(description="The service to run, where the instance has another name.")] | None = None
    host: (
        Annotated[
            str, Meta(description="The machine it runs on, where that is not the broker's; with or without `.local`.")
        ]
        | None
    ) = None
    every: Annotated[Duration, Meta(description="How often it measures, or works.")] = Duration(10)
    stale: (
        Annotated[Duration, Meta(description="Silence after which its topics are cleared; three rounds by default.")]
        | None
    ) = None
    heartbeat: Annotated[Duration, Meta(description="How often it says that it lives.")] = Duration(30)


class TopicLine(Struct, frozen=True, kw_only=True):
    """One line below `topics:`; the service that it comes from may add keys of its own."""

    source: Annotated[str, Meta(description="The instance that measures it.")] = msgspec.field(name="from")
    quantity: Annotated[str, Meta(description="Where the last word of the name is none.")] | None = None
    unit: (
        Annotated[str, Meta(description="What the source gives, where it is not the quantity's own; it is converted.")]
        | None
    ) = None
    scale: Annotated[float, Meta(description="What its number is multiplied with, before anything else.")] = 1.0
    offset: Annotated[float, Meta(description="What is added then, in the source's unit.")] = 0.0
    invert: Annotated[bool, Meta(description="Turns the sign of a number, or true and false.")] = False
    decimals: Annotated[int, Meta(ge=0, le=9, description="Digits that are worth keeping.")] | None = None
    range: Annotated[tuple[float, float], Meta(description="A value outside is an error of the sensor.")] | None = None
    states: Annotated[list[str], Meta(description="The words that a state may be.", min_length=1)] | None = None
    kind: Annotated[Kind, Meta(description="Where it is not the quantity's own.")] | None = None
    every: Annotated[Duration, Meta(description="Where it is not its source's.")] | None = None
    stale: Annotated[Duration, Meta(description="Silence after which it is cleared.")] | None = None
    deadband: (
        Annotated[float, Meta(gt=0, description="Publish only a change of at least this, and before it goes stale.")]
        | None
    ) = None
    store: Annotated[bool | list[str], Meta(description="false: shown, never stored; or the stores that keep it.")] = (
        True
    )
    label: Annotated[str, Meta(description="What people call it.")] | None = None
    was: (
        Annotated[str | list[str], Meta(description="Its names before: the stores give their history to the new one.")]
        | None
    ) = None


JUDGED: Final = tuple(
    field.encode_name for field in msgspec.structs.fields(InstanceOptions) if field.name != "heartbeat"
)
"""Options of every instance that the registry itself goes by; the others are its service's to judge."""

COMMON_KEYS: Final = frozenset(field.encode_name for field in msgspec.structs.fields(TopicLine))


class Topic(Struct, Generic[OptionsT_co], frozen=True, gc=False):
    """One measurement of the house, with everything that follows from its line.

    `name` is the part below `home/data/`; `every` and `stale` are in seconds; `options` are the keys that its
    service declared, typed.
    """

    name: str
    source: str
    kind: Kind
    quantity: str
    unit: str
    decimals: int
    low: float | None
    high: float | None
    states: tuple[str, ...]
    every: float
    stale: float
    deadband: float | None
    store: bool | tuple[str, ...]
    label: str
    was: tuple[str, ...]
    options: OptionsT_co
    given: str = ""
    """Unit of what the source gives, before it is converted."""
    line: tuple[float, float] = (1.0, 0.0)
    """Factor and summand from what the source gives to the topic's unit."""
    invert: bool = False

    @property
    def key(self) -> str:
        """What it asks its device for: the key of its line, or its own last level."""
        options: Any = self.options
        key = options.get("key") if isinstance(options, Mapping) else getattr(options, "key", "")
        return key or self.name.rpartition("/")[2]

    def stored_by(self, store: str) -> bool:
        """Whether the store of this name (archive, rrd, influx, …) keeps the topic."""
        if self.kind == "text":
            return False
        return self.store if isinstance(self.store, bool) else store in self.store

    def improper(self, value: Value) -> str | None:
        """Say why a value cannot be one of this topic, or None: the same rule for all who send or take readings."""
        if self.kind in ("gauge", "counter"):
            if isinstance(value, int) and not -LARGEST <= value < LARGEST:
                return "it is a number of more than 64 bits"
            if isinstance(value, (bool, str)) or not math.isfinite(value):
                return f"{value!r} is no number"
        elif self.kind == "switch":
            if not isinstance(value, bool):
                return f"{value!r} is neither true nor false"
        elif not isinstance(value, str):
            return f"{value!r} is no text"
        elif self.kind == "state" and value not in self.states:
            return f"{value!r} is none of its states {', '.join(self.states)}"
        return None

    def measured(self, value: Value) -> Value:
        """Make a value of what its source gives: scaled, converted, and proper; ReadingError says why it can be none."""
        if self.kind in ("gauge", "counter") and not isinstance(value, (bool, str)) and self.line != (1.0, 0.0):
            if problem := self.improper(value):  # before it is reckoned with: an integer may be of any length
                raise ReadingError(problem)
            value = round(value * self.line[0] + self.line[1], 9)
        elif self.kind == "switch" and isinstance(value, bool):
            value = value != self.invert
        return self.proper(value)

    def proper(self, value: Value) -> Value:
        """Round a value to what is worth keeping; ReadingError says why it can be none of this topic."""
        if problem := self.improper(value) or self._out_of_range(value):
            raise ReadingError(problem)
        if isinstance(value, float) and abs(value) < LARGEST:
            return (round(value, self.decimals) + 0.0) if self.decimals else round(value)  # there is no -0.0
        return value

    def _out_of_range(self, value: Value) -> str | None:
        if self.kind in ("gauge", "counter") and not isinstance(value, str):
            if self.low is not None and value < self.low:
                return f"{value} {self.unit} is below its range, which begins at {self.low:g}"
            if self.high is not None and value > self.high:
                return f"{value} {self.unit} is above its range, which ends at {self.high:g}"
        return None

    @property
    def row(self) -> Quantity:
        """The row of the table of quantities that it belongs to."""
        return QUANTITIES[self.quantity]


class Instance(Struct, frozen=True):
    """One running service: its name is its unit, MQTT client, MQTT user, state folder and service topics."""

    name: str
    service: str
    host: str | None
    section: str
    raw: Mapping[str, Any]

    @property
    def here(self) -> bool:
        """Whether topics.yaml gives it to this machine."""
        return self.host is None or machine.is_this(self.host)
