"""How an alert stands: what must be known of it after a restart, and what it looks at."""

import msgspec

from services.alerting.condition import Watch
from services.alerting.hearing import Pulse, Signal
from services.alerting.rule import Count, Moment, Value
from services.alerting.window import Window


class Verdict(msgspec.Struct, omit_defaults=True):
    """How one alert stands. Times in reading time (ms)."""

    key: str = ""
    derived: str = ""
    """What it is about: a rule that moved to something else begins anew."""
    armed: bool = False
    """The value has been where `armed_at` wants it."""
    met: bool = False
    since: Moment = 0
    """Since when it is so, or was."""
    firing: bool = False
    began: Moment = 0
    """Since when it was so the last time that it fired, and when that ended."""
    until: Moment = 0
    value: Value | None = None
    """The newest value, and when it was measured."""
    time: Moment = 0
    worst: Value | None = None
    """The worst value of the last time that it fired."""
    worst_time: Moment = 0
    peak: Value | None = None
    """The worst value since it is so."""
    peak_time: Moment = 0
    fired: Count = 0
    """How often it has fired, and for how long in all (ms), the present time left out."""
    fired_for: Count = 0
    window: Window | None = None


class JudgeMemory(msgspec.Struct):
    """What must be known after a restart; `alive` is when it was written (wall, ms)."""

    verdicts: dict[str, Verdict] = msgspec.field(default_factory=dict)
    pulses: dict[str, Pulse] = msgspec.field(default_factory=dict)
    alive: Moment = 0


class Alert:
    """What a rule says of one thing, and how it stands."""

    def __init__(self, watch: Watch, signal: Signal, verdict: Verdict) -> None:
        """`signal` is that of what it looks at."""
        self.watch, self.signal, self.verdict = watch, signal, verdict
        self.inhibitors: list[Alert] = []
        self.settles = 0
        """Until when (monotonic) its silence proves nothing, as its source has only just come back."""
