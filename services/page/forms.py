"""What doors take and give, as types: they check what comes in and describe what goes out. Times are ms since 1970."""

from typing import Annotated, Any, Final, Literal

from msgspec import Meta, Struct, field

from bootstrap_lib import Duration, Value
from services.page.diary import Fired
from services.page.live import ServiceFacts, Stand, TopicFacts
from services.page.past import Series

MOST_TOPICS: Final = 12
LONGEST_WHAT_IF: Final = 31 * 86_400_000
VERBS: Final = ("pause", "resume", "read", "reload")

Text = Annotated[str, Meta(max_length=60)]
TimeText = Annotated[
    str,
    Meta(
        max_length=60,
        description="a time: local to the house, with an offset (RFC 3339), or seconds or ms since 1970",
        examples=["2026-01-20T06:40", "2026-01-20T05:40:00Z", "1768887600000"],
    ),
]
Names = Annotated[
    str,
    Meta(
        max_length=2000,
        description=f"1 to {MOST_TOPICS} topics, with commas between them",
        examples=["boiler/water/temperature,boiler/flue/temperature"],
    ),
]
Name = Annotated[str, Meta(max_length=200, description="a topic", examples=["boiler/burner/phase"])]


class Moment(Struct, forbid_unknown_fields=True):
    """A moment; now, where none is named."""

    at: TimeText | None = None


class Span(Struct, forbid_unknown_fields=True):
    """From one time to before another; to now, where none is named."""

    since: TimeText = field(name="from")
    until: TimeText | None = field(name="to", default=None)


class History(Span, forbid_unknown_fields=True, kw_only=True):
    """What is drawn: topics with commas between them."""

    topics: Names
    buckets: Annotated[int, Meta(ge=2, le=3000, description="parts into which the span falls, at most")] = 500
    format: Literal["json", "csv"] = "json"


class Curves(Struct, forbid_unknown_fields=True):
    """Small curves up to a time."""

    until: TimeText | None = field(name="to", default=None)


class Words(Span, forbid_unknown_fields=True, kw_only=True):
    """A state."""

    topic: Name


class Meters(Struct, forbid_unknown_fields=True):
    """Today beside yesterday, or the last days, months or years."""

    by: Literal["today", "day", "month", "year"] = "today"
    at: TimeText | None = None


class WhatIf(Span, forbid_unknown_fields=True, kw_only=True):
    """A rule as in topics.yaml's `when:`, or its name there."""

    rule: Annotated[
        str,
        Meta(
            max_length=500,
            min_length=1,
            description="a rule as in `when:`, with `for` behind it, or the name of one",
            examples=["boiler/water/temperature > 69 for 10m"],
        ),
    ]


class Credentials(Struct, forbid_unknown_fields=True):
    """Who logs in."""

    name: Annotated[str, Meta(max_length=100)]
    password: Annotated[str, Meta(max_length=500)]


class Snooze(Struct, forbid_unknown_fields=True):
    """For how long, such as 1h."""

    span: Annotated[Duration, Meta()] = field(name="for")


class GivenMeter(Struct, forbid_unknown_fields=True):
    """A meter that is to be listened to: its number, its maker's letters, and its key where it encrypts."""

    number: Annotated[str, Meta(max_length=20)]
    maker: Annotated[str, Meta(max_length=32)] = ""
    key: Annotated[str, Meta(max_length=100)] = ""


class MeterChange(Struct, forbid_unknown_fields=True):
    """One meter to add to the list of those heard by radio, or the number of one to remove."""

    add: GivenMeter | None = None
    remove: Annotated[str, Meta(max_length=20)] | None = None


class LinkToken(Struct, forbid_unknown_fields=True):
    """What stands behind the # of a link in a message."""

    token: Annotated[str, Meta(max_length=1000)]


class LinkAct(LinkToken, forbid_unknown_fields=True, kw_only=True):
    """What is to be done about the alerts that the message told of; `for` says how long to be spared of them."""

    act: Literal["acknowledge", "snooze"]
    span: Annotated[Duration, Meta()] | None = field(name="for", default=None)


class LinkedAlert(Struct, frozen=True, kw_only=True):
    """An alert of a message. `state`: firing, over, or again (over, and begun anew); `since` in ms."""

    name: str
    state: str
    text: str
    since: int
    acknowledged: bool
    snoozed_until: str | None


class LinkAnswer(Struct, frozen=True, kw_only=True):
    """What a link permits: `told` is the notifier that brought the message; it ends at `until` (ms)."""

    told: str
    until: int
    zone: str
    alerts: list[LinkedAlert]
    more: int


class Me(Struct, frozen=True):
    """Who asks; `people` says whether anybody can log in at all, `passkeys` whether the house can verify any."""

    name: str | None
    may_look: bool
    people: bool
    passkeys: bool = False


class TopicAnswer(TopicFacts, frozen=True, kw_only=True):
    """A topic and what stands on it."""

    value: Value | None = None
    time: int | None = None
    cleared: int | None = None


class HouseAnswer(Struct, kw_only=True, omit_defaults=True):
    """The whole house. `gone` says since when the broker has been silent."""

    now: int
    zone: str
    root: str
    registry: str
    version: str
    gone: int | None = None
    at: int | None = None
    topics: dict[str, TopicFacts]
    values: dict[str, Stand]
    services: dict[str, ServiceFacts]
    alerts: dict[str, Any]
    boilers: list[dict[str, Any]]
    batteries: list[dict[str, Any]]
    meters: list[str]
    rules: int
    kiosk: list[str]
    departures: list[str] = []


class HistoryAnswer(Struct, kw_only=True):
    """Series over a span."""

    since: int = field(name="from")
    until: int = field(name="to")
    series: list[Series]


class Meter(Struct, kw_only=True):
    """What one meter counted. `periods` [begin, end, counted, cost, the same a year before]; None where nothing was stored."""

    topic: str
    unit: str
    decimals: int
    today: float | None = None
    yesterday_by_now: float | None = None
    yesterday: float | None = None
    cost: float | None = None
    periods: list[tuple[int, int, float | None, float | None, float | None]] = []


class MetersAnswer(Struct, kw_only=True):
    """All meters; money in `currency`."""

    currency: str
    meters: list[Meter]


class AlertsAnswer(Struct):
    """Alerts that fired; what was before `begun` (ms) nobody wrote down."""

    begun: int
    fired: list[Fired]


class WhatIfAnswer(Struct, kw_only=True):
    """When it would have fired: [from, to], to None where it still would. `whole`: it was looked at up to the end of the span."""

    topic: str | None
    limit: float | None
    fired: list[tuple[int, int | None]]
    readings: int
    unseen: int
    """Milliseconds of the span of which nothing is stored."""
    until: int
    """How far it was looked at (ms): one question looks at so many readings and no more."""
    whole: bool


class Claim(Struct, kw_only=True):
    """A sentence that one wishes true. `state`: yes, it is shown; open, not shown (yet); no, it is shown to be not so."""

    key: str
    state: Literal["yes", "open", "no"]
    facts: dict[str, Any]


class SourceProof(Struct, kw_only=True):
    """A source's readings on their way: numbers of its stream, ms, and counts since its start.

    Gaps, since when something is lost and the last unclean end are what this page's service heard itself: None is not kept.
    """

    source: str
    state: str
    taken: int
    newest: int | None
    stored: int | None
    waiting: int
    lag: int | None
    refused: int
    lost: int
    lost_since: int | None
    gaps: int
    filled: int
    unclean: int | None
    last: int | None


class ProofAnswer(Struct, kw_only=True):
    """What can be shown, and what each source's readings came to; `heard` (ms) is since when this page's service listens."""

    at: int
    heard: int
    shown: bool
    claims: list[Claim]
    sources: list[SourceProof]
