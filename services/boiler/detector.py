"""The phases of a boiler as a state machine on reading time, so that a recording, a backlog and live readings agree."""

from typing import Final, Self

import msgspec

from bootstrap_lib import format_time
from services.boiler.books import BoilerBooks
from services.boiler.faults import FaultJudge
from services.boiler.phases import PhaseJudge
from services.boiler.records import day_of
from services.boiler.rules import FAULTS, FIRE, REST, Phase, Role, Rules
from services.boiler.signals import Signals
from services.boiler.state import DetectorState, Event
from services.boiler.stock import FuelStock

STEP_MS: Final = 60_000
"""Across a gap the detector looks at least this often, ms."""
QUARTER_MS: Final = 900_000
"""Running sums are told so often, where they have changed."""
MOMENTS: Final = (
    *("low_since", "lost_since", "over_since", "ignition_start", "entered", "last_fire", "last_burst"),
    *("charge_start", "failed_start", "failed_end", "idle_since", "moved_since"),
)
"""Times in the state that must not lie ahead of a clock that was set back."""


class PhaseDetector:
    """Phases, faults and sums of one boiler from the readings of the inputs that it has.

    Time is reading time. Readings of one instant are judged together, when the next reading or `advance` shows that
    the instant is over. A reading that is not newer than the last of its role is ignored, which makes repeats and
    backlogs harmless and lets a clock that stepped back catch up; one that is late relative to the others counts for
    the auger's sum, and as evidence only while it is fresh.
    """

    def __init__(self, rules: Rules, roles: frozenset[Role] | set[Role], state: DetectorState | None = None) -> None:
        """`roles` are the inputs that this boiler has; ValueError when neither flue nor water is among them."""
        if not roles & {"flue", "water"}:
            raise ValueError("phase: neither a flue nor a water temperature is among the inputs: give at least one")
        self.rules = rules
        self.roles: frozenset[Role] = frozenset(roles) - {"outdoor"}
        self.state = state if state is not None else DetectorState()
        self._dwell: dict[str, int] = {
            name: int(value * 1000) for name, value in msgspec.structs.asdict(rules.dwell).items()
        }
        self._signals = Signals(rules, self.roles, self.state.temperatures, self.state.motors)
        self._stock = FuelStock(rules, self.state, self._signals.auger)
        self._books = BoilerBooks(rules, self.state, self._stock)
        self._phases = PhaseJudge(rules, self.state)
        self._faults = FaultJudge(rules, self.state, self._signals)

    def snapshot(self) -> bytes:
        """Write the whole state down as JSON, for a file that a restart reads."""
        return msgspec.json.encode(self.state)

    @classmethod
    def restore(cls, rules: Rules, roles: frozenset[Role] | set[Role], snapshot: bytes) -> Self:
        """Take up where a snapshot ended; msgspec.DecodeError or ValidationError when it is damaged."""
        return cls(rules, roles, msgspec.json.decode(snapshot, type=DetectorState))

    def feed(self, role: Role, value: float, time: int) -> list[Event]:
        """Take one reading (°C, or the clamp's unit) of a time (ms since 1970); what became certain before it."""
        events: list[Event] = []
        if time > self.state.time:
            self._run(time, events)
        if role == "outdoor":
            self._books.note_outdoor(value, time)
        else:
            self._signals.feed(role, value, time, resting=self.state.phase not in FIRE)
        return events

    def clear(self, role: Role, time: int) -> None:
        """Take note that an input could not be measured any more after a time (ms since 1970): it is missing at once."""
        if role != "outdoor":
            self._signals.clear(role, time)

    def advance(self, time: int) -> list[Event]:
        """Let time pass (ms since 1970) without a reading: inputs grow stale, dwell times and timeouts end."""
        events: list[Event] = []
        if time > self.state.time:
            self._run(time, events)
            self._judge(events)
        return events

    def rebase(self, time: int) -> list[Event]:
        """Accept an earlier time base (ms since 1970), for a clock that had been far ahead and is right now.

        The caller knows its clock, the detector does not: from the readings alone a corrected clock and a repeated
        backlog look the same. Inputs must be seen again, sums and zeros stay, the phase is unknown until then.
        """
        state = self.state
        events: list[Event] = []
        if not state.time or time >= state.time:
            return events
        self._signals.forget_times()
        for name in MOMENTS:
            setattr(state, name, min(getattr(state, name), time))
        if state.cycle_start:
            self._books.close_cycle("interrupted", events)
        state.time = time
        state.day = day_of(time, self.rules.timezone)
        if state.phase != "unknown":
            self._enter("unknown", events)
        return events

    @property
    def unheard(self) -> set[str]:
        """Faults that what is heard now does not tell: what was told of them last may be so no more."""
        return {f"{fault}_fault" for fault in FAULTS if not self._faults.is_heard(fault)}

    @property
    def unreckoned(self) -> tuple[str, ...]:
        """Outputs that are not reckoned, as the auger was not seen enough."""
        return self._stock.unknown(self.state.time)

    def refill(self, mass_kg: float, time: int) -> list[Event]:
        """Enter what the silo holds after a refill (kg) at a time (ms since 1970); ValueError below zero."""
        return self._stock.refill(mass_kg, time)

    def fill_bags(self, bags: float, time: int) -> list[Event]:
        """Enter bags that were filled in at a time (ms since 1970)."""
        return self._stock.fill_bags(bags, time)

    def reset(self, chore: str, time: int) -> list[Event]:
        """Note that ash was emptied, or the boiler cleaned or serviced, at a time (ms since 1970)."""
        return self._stock.reset(chore, time)

    def _run(self, until: int, events: list[Event]) -> None:
        """Move time to `until`, judging each instant that lies before it."""
        state = self.state
        if not state.time:
            state.time = state.since = until
            self._books.begin_day(until)
            events += (Event("phase", "unknown", until), Event("since_text", format_time(until), until))
            return
        while state.time < until:
            heard = self._judge(events)
            now = state.time
            following = until
            if until - now > STEP_MS and (state.phase != "unknown" or state.entered):
                following = now + STEP_MS
            following = self._signals.next_due(now, following)
            quarter = now - now % QUARTER_MS + QUARTER_MS
            following = min(following, state.day.end, quarter)
            self._books.pass_time(following - now, heard=heard)
            state.time = following
            if following == quarter:
                events += self._stock.sums(following)
            if following == state.day.end:
                self._books.midnight(events)

    def _judge(self, events: list[Event]) -> bool:
        """Find the phase and the faults of this instant; False while an input is silent: nothing is concluded then."""
        state = self.state
        now = state.time
        seen = self._signals.at(now)
        if not seen.enough:
            state.entered = state.low_since = state.lost_since = 0
            if state.phase != "unknown":
                self._enter("unknown", events)
            self._faults.overheat(seen, events)
            return False
        if not state.entered:
            state.entered = now
        if seen.flue is not None:
            seen.flue.fit()
        elif seen.water is not None:
            seen.water.fit()
        if not seen.heard:
            self._faults.overheat(seen, events)
            return False
        if seen.flue is not None:
            self._phases.heat(seen.flue, seen.water or seen.return_)
        self._books.observe(seen)
        self._phases.rest_burst(seen)
        begun = state.entered if state.phase == "unknown" else state.since
        if now - begun >= self._dwell[state.phase]:
            target = self._phases.target(seen)
            if target != state.phase:
                self._enter(target, events)
        if state.phase != "unknown":
            self._faults.greet(events)
        self._faults.judge(seen, events)
        return True

    def _enter(self, phase: Phase, events: list[Event]) -> None:
        state = self.state
        now, previous = state.time, state.phase
        state.phase, state.since = phase, now
        if phase == "unknown":
            if previous in ("combustion", "burnout"):
                state.last_fire = now
            if state.cycle_start:
                state.cycle_known = now
            events += (Event("phase", phase, now), Event("since_text", format_time(now), now))
            return
        if state.cycle_start and previous == "unknown":
            gone = now - state.cycle_known >= self.rules.cycle_gap_s * 1000
            if gone or phase not in FIRE:
                self._books.close_cycle("interrupted", events)
        if phase in FIRE:
            if not state.cycle_start and phase != "burnout":
                self._books.open_cycle(whole=previous != "unknown")
                if phase != "prepurge":
                    self._books.number_cycle(events)
            elif previous == "prepurge":
                self._books.number_cycle(events)
        events += (Event("phase", phase, now), Event("since_text", format_time(now), now))
        if phase == "ignition":
            state.ignition_start = now
        elif phase == "combustion":
            self._burn(events)
        elif phase in REST:
            if previous != "prepurge":
                state.idle_since = now
            if previous in ("combustion", "burnout"):
                state.last_fire = now
            self._books.rest(previous, events)

    def _burn(self, events: list[Event]) -> None:
        """There is a flame: what needs one is over."""
        state = self.state
        state.last_fire = state.time
        state.attempts = 0
        state.armed = True
        state.failed_start = state.failed_end = state.last_burst = 0
        self._books.light()
        self._faults.burning(events)
