"""The books of a boiler: what each cycle and each local day cost, with the share of it that was seen, as events."""

from typing import Final

from services.boiler.records import Cycle, Outcome, day_of
from services.boiler.rules import Rules
from services.boiler.signals import Evidence
from services.boiler.state import DetectorState, Event
from services.boiler.stock import FuelStock

WHOLE: Final = 0.9
"""A mass is told of what was seen for at least this share,"""
HALF: Final = 0.5
"""... and the counts of a day from this."""
STARVED_MS: Final = 1_800_000
"""A fire that burns for so long while the clamp sees no feeding is fed by an auger that is not seen."""
HOURS: Final = 18
"""Hours of a day in which the outdoor temperature was measured, for degree days."""
COLD: Final = 1.0
"""Degree days from which fuel is reckoned per degree day: below, it is hot water that burns it, K·d."""


class BoilerBooks:
    """Cycles and days of one boiler; what it writes stands in the state."""

    def __init__(self, rules: Rules, state: DetectorState, stock: FuelStock) -> None:
        """`stock` reckons the fuel."""
        self._rules, self._state, self._stock = rules, state, stock

    def observe(self, seen: Evidence) -> None:
        """Note what the motors did in the open cycle: a clamp that moved in a burn can be trusted to tell its end."""
        state = self._state
        if state.cycle_start:
            state.cycle_blown |= state.phase == "combustion" and seen.blowing
            state.cycle_fed |= state.phase == "combustion" and seen.feeding
            state.cycle_moved |= seen.blowing or seen.feeding
            state.cycle_lighted |= state.phase == "ignition" and seen.lighting

    def pass_time(self, passed: int, *, heard: bool) -> None:
        """Let time (ms) pass in the present phase; it is known only while the inputs are heard."""
        state, auger = self._state, self._stock.auger
        if state.phase == "unknown" or not heard:
            return
        state.day.known_ms += passed
        state.cycle_known_ms += passed
        if state.phase in ("ignition", "combustion"):
            state.day.burning_ms += passed
            state.burning_ms += passed
        starved = state.phase == "combustion" and auger is not None
        if starved and auger is not None and state.time - max(state.since, auger.on_at) >= STARVED_MS:
            state.unfed_ms += passed

    def note_outdoor(self, value: float, time: int) -> None:
        """Take an outdoor temperature (°C) of a time of the open day."""
        state = self._state
        hour = (time - state.day.start) // 3_600_000
        if 0 <= hour < len(state.outdoor):
            total, count = state.outdoor[hour]
            state.outdoor[hour] = (total + value, count + 1)

    def begin_day(self, time: int) -> None:
        """Open the local day of a time (ms)."""
        state = self._state
        state.day = day_of(time, self._rules.timezone)
        state.day_auger_ms, state.day_seen_ms = self._stock.auger_ms, self._stock.seen_ms
        state.outdoor = [(0.0, 0)] * 25

    def open_cycle(self, *, whole: bool) -> None:
        """Open a cycle; `whole` when its beginning was seen."""
        state = self._state
        state.cycle_start, state.cycle_lit, state.cycle_whole = state.time, 0, whole
        state.cycle_blown = state.cycle_fed = state.cycle_lighted = state.cycle_moved = False
        state.cycle_auger_ms, state.cycle_seen_ms, state.cycle_known_ms = self._stock.auger_ms, self._stock.seen_ms, 0

    def number_cycle(self, events: list[Event]) -> None:
        """Count the open cycle, once it is more than a prepurge."""
        state = self._state
        state.cycles += 1
        events.append(Event("cycles", state.cycles, state.time))

    def light(self) -> None:
        """Note the first flame of the open cycle."""
        state = self._state
        if not state.cycle_lit:
            state.cycle_lit = state.time
            state.day.starts += 1
            state.flames += 1

    def rest(self, previous: str, events: list[Event]) -> None:
        """Close the cycle that ended in rest."""
        state, rules = self._state, self._rules
        if not state.cycle_start:
            return
        if previous == "prepurge":
            state.cycle_start = 0
            return
        if state.cycle_lit:
            self.close_cycle("burned", events)
            return
        tried = state.time - state.ignition_start >= rules.ignition_max_s * 1000
        if tried or state.cycle_lighted:
            state.day.starts += 1
            state.day.failed += 1
            state.attempts += 1
            state.failed_start, state.failed_end = state.ignition_start, state.time
        self.close_cycle("failed", events)

    def close_cycle(self, outcome: Outcome, events: list[Event]) -> None:
        """Tell what the open cycle cost, and how much of it was seen; no fuel of one with a hole."""
        state, stock = self._state, self._stock
        now = state.time
        ended = state.cycle_known if outcome == "interrupted" and state.cycle_known > state.cycle_start else now
        length = max(1, ended - state.cycle_start)
        seen = min(1.0, state.cycle_known_ms / length)
        if stock.auger is not None:
            seen = min(seen, max(0.0, stock.seen_ms - state.cycle_seen_ms) / length)
        auger_s = round((stock.auger_ms - state.cycle_auger_ms) / 1000, 1)
        rate = self._rules.auger_rate
        told = stock.auger is not None and seen >= WHOLE and outcome != "interrupted"
        cycle = Cycle(
            number=state.cycles,
            start=state.cycle_start,
            end=ended,
            outcome=outcome,
            seen=round(seen, 3),
            ignition_s=(state.cycle_lit - state.cycle_start) / 1000 if state.cycle_lit and state.cycle_whole else None,
            auger_s=auger_s if told else None,
            fuel_kg=round(auger_s / 3600 * rate, 3) if told and rate is not None else None,
        )
        state.finished = cycle
        events.append(Event("cycle_duration", (cycle.end - cycle.start) / 1000, now))
        events.append(Event("cycle_seen_share", round(100 * seen, 1), now))
        for name, value in (
            ("ignition_duration", cycle.ignition_s),
            ("auger_duration", cycle.auger_s),
            ("cycle_mass", cycle.fuel_kg),
        ):
            if value is not None:
                events.append(Event(name, value, now))
        state.cycle_start = state.cycle_known = 0

    def midnight(self, events: list[Event]) -> None:
        """Tell what the day that ends now cost, as far as it was seen, and open the next."""
        state, stock = self._state, self._stock
        day, last = state.day, state.day.end - 1
        length = day.end - day.start
        seen = day.known_ms / length
        fuel = stock.kg(stock.auger_ms - state.day_auger_ms)
        fed = max(0.0, stock.seen_ms - state.day_seen_ms) / length if stock.auger is not None else seen
        if day.known_ms:
            events.append(Event("day_seen_share", round(100 * min(seen, fed, 1.0), 1), last))
        if seen >= HALF:
            events.append(Event("day_starts_count", day.starts, last))
            events.append(Event("day_failed_count", day.failed, last))
            if day.duty is not None:
                events.append(Event("day_duty", day.duty, last))
        degreedays = self._degreedays()
        if degreedays is not None:
            events.append(Event("day_degreedays", degreedays, last))
        if fuel is not None and min(seen, fed) >= WHOLE:
            events.append(Event("day_mass", round(fuel, 2), last))
            if degreedays is not None and degreedays >= COLD:
                events.append(Event("day_intensity", round(fuel / degreedays, 3), last))
            stock.remember_day(day.start, fuel, degreedays)
        events += stock.silo(last)
        self.begin_day(state.time)

    def _degreedays(self) -> float | None:
        """How much colder than the base it was outside, K·d: by the means of the hours that were measured."""
        means = [total / count for total, count in self._state.outdoor if count]
        if len(means) < HOURS:
            return None
        return round(max(0.0, self._rules.degree_base - sum(means) / len(means)), 2)
