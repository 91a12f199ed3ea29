"""The books of a boiler: what each cycle and each local day cost, and what is left in the silo, as events."""

from services.boiler.evidence import Motor
from services.boiler.records import HOUR_MS, Cycle, Outcome, day_of
from services.boiler.rules import Rules
from services.boiler.signals import Evidence
from services.boiler.state import DetectorState, Event


class BoilerBooks:
    """Cycles, days and silo of one boiler; what it writes stands in the state."""

    def __init__(self, rules: Rules, state: DetectorState, auger: Motor | None) -> None:
        """`auger` is the clamp from which fuel is reckoned, where there is one."""
        self._rules, self._state, self._auger = rules, state, auger

    @property
    def auger_ms(self) -> float:
        """What the auger has run in all, ms."""
        return self._auger.on_ms if self._auger is not None else 0.0

    def observe(self, seen: Evidence) -> None:
        """Note what the motors did in the open cycle: a clamp that moved in a burn can be trusted to tell its end."""
        state = self._state
        if state.cycle_start:
            state.cycle_blown |= state.phase == "combustion" and seen.fan is not None and seen.fan.running
            state.cycle_fed |= state.phase == "combustion" and seen.auger is not None and seen.auger.running
            state.cycle_lighted |= state.phase == "ignition" and seen.igniter is not None and seen.igniter.running

    def begin_day(self, time: int) -> None:
        """Open the local day of a time (ms)."""
        self._state.day = day_of(time, self._rules.timezone)
        self._state.day_auger_ms = self.auger_ms

    def open_cycle(self, *, whole: bool) -> None:
        """Open a cycle; `whole` when its beginning was seen."""
        state = self._state
        state.cycle_start, state.cycle_lit, state.cycle_whole = state.time, 0, whole
        state.cycle_blown = state.cycle_fed = state.cycle_lighted = False
        state.cycle_auger_ms = self.auger_ms

    def number_cycle(self, events: list[Event]) -> None:
        """Count the open cycle, once it is more than a prepurge."""
        state = self._state
        state.cycles += 1
        events.append(Event("cycles", state.cycles, state.time))

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
        self.close_cycle("failed", events)

    def close_cycle(self, outcome: Outcome, events: list[Event]) -> None:
        """Tell what the open cycle cost."""
        state = self._state
        now = state.time
        ended = state.cycle_known if outcome == "interrupted" and state.cycle_known > state.cycle_start else now
        auger_s = round((self.auger_ms - state.cycle_auger_ms) / 1000, 1) if self._auger is not None else None
        rate = self._rules.auger_rate
        cycle = Cycle(
            number=state.cycles,
            start=state.cycle_start,
            end=ended,
            outcome=outcome,
            ignition_s=(state.cycle_lit - state.cycle_start) / 1000 if state.cycle_lit and state.cycle_whole else None,
            auger_s=auger_s,
            fuel_kg=round(auger_s / 3600 * rate, 3) if auger_s is not None and rate is not None else None,
        )
        state.finished = cycle
        events.append(Event("cycle_duration", (cycle.end - cycle.start) / 1000, now))
        for name, value in (
            ("ignition_duration", cycle.ignition_s),
            ("auger_duration", cycle.auger_s),
            ("cycle_mass", cycle.fuel_kg),
        ):
            if value is not None:
                events.append(Event(name, value, now))
        state.cycle_start = state.cycle_known = 0

    def midnight(self, events: list[Event]) -> None:
        """Tell what the day that ends now cost, and open the next."""
        state, rules = self._state, self._rules
        day, last = state.day, state.day.end - 1
        if day.known_ms:
            events.append(Event("day_starts_count", day.starts, last))
            events.append(Event("day_failed_count", day.failed, last))
            if day.duty is not None:
                events.append(Event("day_duty", day.duty, last))
            if self._auger is not None and rules.auger_rate is not None:
                fuel = (self.auger_ms - state.day_auger_ms) / HOUR_MS * rules.auger_rate
                events.append(Event("day_mass", round(fuel, 2), last))
                length = day.end - day.start
                if day.known_ms * 2 >= length:
                    whole = fuel * length / day.known_ms
                    state.silo.days_kg = [*state.silo.days_kg, whole][-rules.mean_days :]
                events += self.silo(last)
        self.begin_day(state.time)

    def refill(self, mass_kg: float, time: int) -> list[Event]:
        """Enter what the silo holds after a refill (kg) at a time (ms since 1970); ValueError below zero."""
        if mass_kg < 0.0:
            raise ValueError(f"refill: {mass_kg} kg is less than nothing: give what the silo holds now")
        self._state.silo.refill_kg = mass_kg
        self._state.silo.refill_auger_ms = self.auger_ms
        return self.silo(time)

    def silo(self, time: int) -> list[Event]:
        """Tell what is left, where a refill was entered."""
        silo, rate = self._state.silo, self._rules.auger_rate
        if silo.refill_kg is None or rate is None:
            return []
        left = max(0.0, silo.refill_kg - (self.auger_ms - silo.refill_auger_ms) / HOUR_MS * rate)
        events = [Event("silo_mass", round(left, 1), time)]
        used = sum(silo.days_kg)
        if used > 0.0:
            events.append(Event("silo_days", round(left * len(silo.days_kg) / used, 1), time))
        return events
