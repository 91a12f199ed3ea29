"""Fuel as far as the auger was seen: what was burned in all, what is left in the silo and for how long, and what is due."""

from datetime import UTC, datetime
from typing import Final

from services.boiler.evidence import Motor
from services.boiler.records import HOUR_MS, Chore, FuelDay
from services.boiler.rules import Rules
from services.boiler.season import days_left
from services.boiler.state import DetectorState, Event

SEEN: Final = 0.95
"""The silo is told while the auger was seen for this share of the time since its refill."""
HISTORY: Final = 60
"""Days of fuel that are kept, for their relation to the weather."""
CHORES: Final = ("ash", "cleaning", "service")
"""What is due now and then, and can be reset."""


class FuelStock:
    """The fuel of one boiler; what it writes stands in the state."""

    def __init__(self, rules: Rules, state: DetectorState, auger: Motor | None) -> None:
        """`auger` is the clamp from which fuel is reckoned, where there is one."""
        self._rules, self._state, self.auger = rules, state, auger
        if state.fuel_rate != rules.auger_rate:  # what was reckoned with the old rate stays
            state.fuel_base_kg, state.fuel_base_ms = self.burned_kg or state.fuel_base_kg, self.auger_ms
            state.fuel_rate = rules.auger_rate

    @property
    def auger_ms(self) -> float:
        """What the auger has run in all, as far as it was seen, ms."""
        return self.auger.on_ms if self.auger is not None else 0.0

    @property
    def seen_ms(self) -> float:
        """For how long it has been seen in all, ms."""
        return self.auger.seen_ms - self._state.unfed_ms if self.auger is not None else 0.0

    def kg(self, auger_ms: float) -> float | None:
        """Fuel that the auger moves in a time, kg; None where that is not reckoned."""
        rate = self._rules.auger_rate
        return None if self.auger is None or rate is None else auger_ms / HOUR_MS * rate

    @property
    def burned_kg(self) -> float | None:
        """Fuel that was ever seen, kg; it never falls."""
        rate = self._state.fuel_rate
        if self.auger is None or rate is None:
            return None
        return self._state.fuel_base_kg + (self.auger_ms - self._state.fuel_base_ms) / HOUR_MS * rate

    # -- running sums -------------------------------------------------------------------------------------------

    def sums(self, time: int) -> list[Event]:
        """Tell the running sums that have changed."""
        state, rules, fuel = self._state, self._rules, self.burned_kg
        found: dict[str, float] = {"burner_hours": round(state.burning_ms / HOUR_MS, 2), "starts": state.flames}
        if fuel is not None:
            found["fuel_consumption"] = round(fuel, 3)
            found["fuel_energy"] = round(fuel * rules.heating_value, 2)
            found["ash_mass"] = round((fuel - self._since("ash", time).fuel_kg) * rules.ash_share / 100, 2)
        found |= {f"{chore}_warning": self._is_due(chore, time) for chore in CHORES if self.reminds(chore)}
        changed = [Event(name, value, time) for name, value in found.items() if state.sums.get(name) != value]
        state.sums = found
        return changed

    def _since(self, chore: str, time: int) -> Chore:
        return self._state.upkeep.setdefault(chore, Chore(time=time))

    def reminds(self, chore: str) -> bool:
        """Whether the rules say when something is due."""
        rules = self._rules
        if chore == "ash":
            return rules.ash_kg is not None
        limits = (getattr(rules, f"{chore}_{unit}") for unit in ("kg", "hours", "days"))
        return any(limit is not None for limit in limits)

    def _is_due(self, chore: str, time: int) -> bool:
        state, rules, last = self._state, self._rules, self._since(chore, time)
        burned = (self.burned_kg or 0.0) - last.fuel_kg
        if chore == "ash":
            return rules.ash_kg is not None and burned * rules.ash_share / 100 >= rules.ash_kg
        passed = {
            "kg": burned,
            "hours": (state.burning_ms - last.burning_ms) / HOUR_MS,
            "days": (time - last.time) / (24 * HOUR_MS),
        }
        limits = {unit: getattr(rules, f"{chore}_{unit}") for unit in passed}
        return any(limit is not None and passed[unit] >= limit for unit, limit in limits.items())

    def reset(self, chore: str, time: int) -> list[Event]:
        """Note that something was done: the ash emptied, the boiler cleaned or serviced."""
        self._state.upkeep[chore] = Chore(time, self.burned_kg or 0.0, self._state.burning_ms)
        return self.sums(time)

    # -- the silo -----------------------------------------------------------------------------------------------

    def refill(self, mass_kg: float, time: int) -> list[Event]:
        """Enter what the silo holds after a refill (kg) at a time (ms since 1970); ValueError below zero."""
        if mass_kg < 0.0:
            raise ValueError(f"refill: {mass_kg} kg is less than nothing: give what the silo holds now")
        silo = self._state.silo
        silo.refill_kg, silo.refill_time = mass_kg, time
        silo.refill_auger_ms, silo.refill_seen_ms = self.auger_ms, self.seen_ms
        return self.silo(time)

    def fill_bags(self, bags: float, time: int) -> list[Event]:
        """Enter bags that were filled in; ValueError where nobody knows what was there before."""
        silo = self._state.silo
        silo.bags += bags
        events = [Event("bags_count", round(silo.bags, 2), time)]
        left = self.left_kg
        if left is None or silo.refill_kg is None:
            return events + self.silo(time)
        silo.refill_kg += bags * self._rules.bag_kg  # also while nobody knows what is left: it is in the silo
        if left == 0.0 and self.share(time) >= SEEN:  # it was empty, whatever had been reckoned
            return events + self.refill(bags * self._rules.bag_kg, time)
        return events + self.silo(time)

    @property
    def left_kg(self) -> float | None:
        """What is left by what was seen, kg; None before a refill."""
        silo = self._state.silo
        used = self.kg(self.auger_ms - silo.refill_auger_ms)
        return None if silo.refill_kg is None or used is None else max(0.0, silo.refill_kg - used)

    def share(self, time: int) -> float:
        """For which share of the time since the refill the auger was seen (0..1)."""
        silo = self._state.silo
        passed = time - silo.refill_time
        return 1.0 if passed < HOUR_MS else min(1.0, (self.seen_ms - silo.refill_seen_ms) / passed)

    def silo(self, time: int) -> list[Event]:
        """Tell what is left and for how many days, or why that is not known."""
        left = self.left_kg
        if left is None:
            return []
        silo, share = self._state.silo, self.share(time)
        if share < SEEN:
            refilled = datetime.fromtimestamp(silo.refill_time / 1000, UTC).date().isoformat()
            why = self._why()
            return self._say(
                f"not known: the auger was seen {share:.0%} of the time since {refilled}{why}; enter a refill", time
            )
        events = [Event("silo_mass", round(left, 1), time)]
        days = days_left(left, silo.days[-HISTORY:], self._state.day.start or time, self._rules.mean_days)
        if days is not None:
            events.append(Event("silo_days", round(days, 1), time))
        return events + self._say(f"{left:.0f} kg, reckoned from {share:.0%} of the time since the refill", time)

    def unknown(self, time: int) -> tuple[str, ...]:
        """Outputs that stop while the auger was not seen enough."""
        return ("silo_mass", "silo_days") if self.left_kg is None or self.share(time) < SEEN else ()

    def _why(self) -> str:
        auger = self.auger
        if auger is None:
            return ""
        if auger.doubted:
            return ", the zero of its clamp is not plausible"
        return ", its clamp is silent" if self._state.time > auger.counts_until else ""

    def _say(self, text: str, time: int) -> list[Event]:
        silo = self._state.silo
        if text == silo.told:
            return []
        silo.told = text
        return [Event("silo_text", text, time)]

    def remember_day(self, start: int, kg: float, degreedays: float | None) -> None:
        """Keep what a day took, for reckoning those to come."""
        silo = self._state.silo
        silo.days = [*silo.days, FuelDay(start, kg, degreedays)][-HISTORY:]
