"""The first system's phase rules, exactly and with their faults: the oracle that the new machine is measured against.

The first system (cheperboy/chaudiere, 2018) averaged each minute and knew the igniter, the fan and the water. Its known
faults are part of its phases and are kept: a value that could not be read counts in the divisor of its minute, so
a dead clamp reads as a motor that stands and a dead thermometer as cold; a minute without any row is undefined; a
jam is suspected of every slow rise. Only its alert that went out twice is not repeated.
"""

from math import inf
from typing import Final, Literal

import msgspec

LegacyPhase = Literal["undefined", "combustion", "allumage", "maintien", "arret", "risque_bourage", "surveillance"]
NUMBERS: Final[dict[LegacyPhase, int]] = {
    "undefined": 0,
    "combustion": 6,
    "allumage": 7,
    "maintien": 8,
    "arret": 9,
    "risque_bourage": 10,
    "surveillance": 11,
}
"""The numbers under which the first system stored its phases."""

MINUTE_MS: Final = 60_000
IGNITED_MINUTES: Final = 19
RISE_MINUTES: Final = 10
RISE: Final = 0.2
FALL_MINUTES: Final = 30
FALL: Final = 1.0
HOLD_OFF_MINUTES: Final = 9


class LegacyRules(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What could be set in the first system, and where its clamps began to count."""

    setpoint: float = 56.0
    """Water below this is low, °C (45 to 75)."""
    igniter_on: float = 20.0
    """A reading of the igniter's clamp below this is 0, in its own unit."""
    fan_on: float = 8.0
    """The same for the fan."""
    limit: float = 1000.0
    """From here a clamp's reading is 0 as well."""
    sampled_together: bool = True
    """All inputs were read in rows, as in the first system: what a row lacks counts in the divisor of its minute.
    False for inputs of different intervals, each averaged over its own readings."""
    late_minutes: int | None = 0
    """A minute is judged this long after its end; None only at `close`, as the first system's rework did."""


class Minute(msgspec.Struct, frozen=True):
    """One minute as the first system judged it."""

    time: int
    """Its beginning, ms since 1970."""
    phase: LegacyPhase
    change: bool
    """Whether the minute before had another phase."""
    alert: bool
    """Whether the first system would have sent its only alert, for low water."""


class Sums(msgspec.Struct):
    """One minute's readings, added up."""

    totals: dict[str, float] = msgspec.field(default_factory=lambda: dict.fromkeys(("water", "fan", "igniter"), 0.0))
    counts: dict[str, int] = {}

    def mean(self, role: str, *, together: bool) -> float:
        """Return what the archive of minutes held: nothing read is 0."""
        count = max(self.counts.values()) if together else self.counts.get(role, 1)
        return self.totals[role] / count


class LegacyState(msgspec.Struct):
    """What the rules look back on, as plain data that survives a restart; by minutes since 1970."""

    sums: dict[int, Sums] = {}
    following: int | None = None
    """The minute to be judged next."""
    newest: int = 0
    water: dict[int, float | None] = {}
    phases: dict[int, LegacyPhase] = {}


class Legacy:
    """The first system from single readings; inputs that it did not know only show that there was a row."""

    def __init__(self, rules: LegacyRules, state: LegacyState | None = None) -> None:
        self.rules = rules
        self.state = state if state is not None else LegacyState()
        self._on = {"water": -inf, "fan": rules.fan_on, "igniter": rules.igniter_on}

    def snapshot(self) -> bytes:
        """Write the state down as JSON, for a file that a restart reads."""
        return msgspec.json.encode(self.state)

    @classmethod
    def restore(cls, rules: LegacyRules, snapshot: bytes) -> "Legacy":
        """Take up where a snapshot ended; msgspec.DecodeError or ValidationError when it is damaged."""
        return cls(rules, msgspec.json.decode(snapshot, type=LegacyState))

    def feed(self, role: str, value: float, time: int) -> list[Minute]:
        """Take a reading of a time (ms since 1970), -1 where the first system had none; the minutes that are over."""
        minute = time // MINUTE_MS
        if self.state.following is not None and minute < self.state.following:
            return []
        sums = self.state.sums.get(minute)
        if sums is None:
            sums = self.state.sums[minute] = Sums()
        sums.counts[role] = sums.counts.get(role, 0) + 1
        on = self._on.get(role)
        if on is not None and on <= value < (self.rules.limit if role != "water" else inf):
            sums.totals[role] += value
        return self.advance(time)

    def advance(self, time: int) -> list[Minute]:
        """Let time pass (ms since 1970): the minutes that are over."""
        late = self.rules.late_minutes
        minute = time // MINUTE_MS
        if late is None or minute <= self.state.newest:
            return []
        self.state.newest = minute
        return self._judge_until(minute - late)

    def close(self) -> list[Minute]:
        """Judge what is still open."""
        return self._judge_until(max(self.state.sums) + 1) if self.state.sums else []

    def _judge_until(self, end: int) -> list[Minute]:
        if self.state.following is None:
            if not self.state.sums or min(self.state.sums) >= end:
                return []
            self.state.following = min(self.state.sums)
        minutes: list[Minute] = []
        while self.state.following < end:
            minutes.append(self._judge(self.state.following))
            self.state.following += 1
        return minutes

    def _judge(self, minute: int) -> Minute:
        sums = self.state.sums.pop(minute, None)
        water: float | None = None
        phase: LegacyPhase = "undefined"
        self.state.water[minute] = None
        if sums is not None:
            water, fan, igniter = (
                sums.mean(role, together=self.rules.sampled_together) for role in ("water", "fan", "igniter")
            )
            self.state.water[minute] = water
            phase = self._phase(minute, water, fan, igniter)
        before = self.state.phases.get(minute - 1)
        change = before is not None and before != phase
        held_off = any(self.state.phases.get(minute - n) == "arret" for n in range(1, HOLD_OFF_MINUTES + 1))
        self.state.phases[minute] = phase
        self.state.phases.pop(minute - IGNITED_MINUTES - 1, None)
        self.state.water.pop(minute - FALL_MINUTES - 1, None)
        return Minute(minute * MINUTE_MS, phase, change, change and phase == "arret" and not held_off)

    def _phase(self, minute: int, water: float, fan: float, igniter: float) -> LegacyPhase:
        if igniter > 0.0:
            return "allumage"
        if water >= self.rules.setpoint:
            return "combustion" if fan > 0.0 else "maintien"
        if fan <= 0.0:
            return "arret"
        phase: LegacyPhase = "combustion"
        if any(self.state.phases.get(minute - n) == "allumage" for n in range(1, IGNITED_MINUTES + 1)):
            phase = "surveillance"
        rise = self._rise(minute, RISE_MINUTES)
        if rise is not None and rise > RISE:
            phase = "surveillance"
        rise = self._rise(minute, FALL_MINUTES)
        if rise is not None and rise < FALL:
            phase = "risque_bourage"
        return phase

    def _rise(self, minute: int, span: int) -> float | None:
        """Return how much warmer the water is than `span` minutes before, or than in the oldest minute since."""
        oldest = next(n for n in range(minute - span, minute + 1) if n in self.state.water)
        before, now = self.state.water[oldest], self.state.water[minute]
        return None if before is None or now is None else now - before
