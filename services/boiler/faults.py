"""The faults of a boiler: when each begins and ends, from the phase and what is seen at this instant."""

from services.boiler.rules import REST, Fault, Rules
from services.boiler.signals import Evidence, Signals
from services.boiler.state import DetectorState, Event


class FaultJudge:
    """Sets and resolves the faults that stand in a state."""

    def __init__(self, rules: Rules, state: DetectorState, signals: Signals) -> None:
        """`signals` are the inputs that the boiler has: a missing one leaves some faults as they are."""
        self._rules, self._state, self._signals = rules, state, signals

    def set(self, fault: Fault, active: bool, events: list[Event]) -> None:
        """Let a fault be or not be; told where that is new."""
        faults = self._state.faults
        if active == (fault in faults):
            return
        if active:
            faults.add(fault)
        else:
            faults.discard(fault)
        events.append(Event(f"{fault}_fault", active, self._state.time))

    def burning(self, events: list[Event]) -> None:
        """Resolve what a flame shows to be over."""
        for fault in ("ignition_failed", "jam_or_empty", "fire_out"):
            self.set(fault, False, events)

    def judge(self, seen: Evidence, events: list[Event]) -> None:
        """Find the faults of this instant."""
        self._ignition(events)
        self._feeding(seen, events)
        self._heat(seen, events)
        self._cold(seen, events)

    def _ignition(self, events: list[Event]) -> None:
        state, rules = self._state, self._rules
        now, phase = state.time, state.phase
        slow = phase == "ignition" and not state.hot and now - state.ignition_start >= rules.ignition_max_s * 1000
        given_up = state.attempts > 0 and phase in REST and now - state.since >= rules.ignition_max_s * 1000
        if slow or given_up or state.attempts >= rules.ignition_attempts:
            self.set("ignition_failed", True, events)

    def _feeding(self, seen: Evidence, events: list[Event]) -> None:
        """Find a flame that was lost while the auger still feeds; whether the fan helps does not matter."""
        state, rules = self._state, self._rules
        feeding = seen.auger is not None and seen.auger.running
        cooling = seen.water is not None and seen.water.slope < -rules.water_slope
        lost = not state.hot if seen.flue is not None else cooling
        if feeding and lost and state.phase in ("combustion", "burnout"):
            state.lost_since = state.lost_since or state.time
            if state.time - state.lost_since >= rules.jam_s * 1000:
                self.set("jam_or_empty", True, events)
        else:
            state.lost_since = 0

    def _heat(self, seen: Evidence, events: list[Event]) -> None:
        state = self._state
        over = self._over(seen)
        if over is True:
            state.over_since = state.over_since or state.time
            if state.time - state.over_since >= self._rules.overheating_s * 1000:
                self.set("overheating", True, events)
        elif over is False:
            state.over_since = 0
            self.set("overheating", False, events)

    def _over(self, seen: Evidence) -> bool | None:
        """Whether it is too hot; None when an input that could still be is missing."""
        rules, signals = self._rules, self._signals
        below = rules.overheating_hysteresis if "overheating" in self._state.faults else 0.0
        if seen.flue is not None and seen.flue.value >= rules.flue_max - below:
            return True
        if seen.water is not None and seen.water.value >= rules.water_max - below:
            return True
        blind = (seen.flue is None and signals.flue is not None) or (seen.water is None and signals.water is not None)
        return None if blind else False

    def _cold(self, seen: Evidence, events: list[Event]) -> None:
        state, rules = self._state, self._rules
        now, water = state.time, seen.water
        if water is None:
            state.low_since = 0
            return
        if water.value >= rules.water_low + rules.water_low_hysteresis:
            state.armed = True
            self.set("fire_out", False, events)
        if water.value < rules.water_low and state.phase in REST and state.armed:
            state.low_since = state.low_since or now
            explained = "ignition_failed" in state.faults or "jam_or_empty" in state.faults
            if now - state.low_since >= rules.fire_out_s * 1000 and not explained:
                self.set("fire_out", True, events)
                state.armed = False
        else:
            state.low_since = 0
