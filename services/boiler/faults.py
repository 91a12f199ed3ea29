"""The faults of a boiler: when each begins and ends, from the phase and what is seen at this instant."""

from typing import Final

from services.boiler.phases import PULSES
from services.boiler.rules import FAULTS, REST, Fault, Rules
from services.boiler.signals import Evidence, Signals
from services.boiler.state import DetectorState, Event
from services.boiler.tellable import NEEDED, tellable_faults

SERIOUS: Final = 2 / 3
"""An attempt that lasted for this share of `ignition_max_s` is judged from its beginning, a shorter one from its end."""
CLAMPS: Final[dict[str, Fault]] = {"igniter": "igniter_clamp", "fan": "fan_clamp", "auger": "auger_clamp"}
"""The fault of each clamp."""


class FaultJudge:
    """Sets and resolves the faults that stand in a state."""

    def __init__(self, rules: Rules, state: DetectorState, signals: Signals) -> None:
        """`signals` are the inputs that the boiler has: a missing one leaves some faults as they are."""
        self._rules, self._state, self._signals = rules, state, signals
        self._tellable = tellable_faults(signals.roles)

    def set(self, fault: Fault, active: bool, events: list[Event]) -> None:
        """Let a fault be or not be; told where that is new, and once that it is not."""
        faults, told = self._state.faults, self._state.told
        if active == (fault in faults) and fault in told:
            return
        told.add(fault)
        if active:
            faults.add(fault)
        else:
            faults.discard(fault)
        events.append(Event(f"{fault}_fault", active, self._state.time))

    def is_heard(self, fault: Fault) -> bool:
        """Whether every input speaks now that tells a fault; that nothing is too hot takes water and flue, that something is, itself."""
        if fault == "overheating" and fault in self._state.faults:
            return self._over(self._signals.at(self._state.time)) is True
        heard = self._signals.heard(self._state.time)
        needed = NEEDED.get(fault, self._signals.roles & {"water", "flue"})
        return all(role in heard and (heard[role] or fault in CLAMPS.values()) for role in needed)

    def greet(self, events: list[Event]) -> None:
        """Tell of each fault that can be told now what it is, once."""
        for fault in FAULTS:
            if fault in self._tellable and fault not in self._state.told and self.is_heard(fault):
                self.set(fault, fault in self._state.faults, events)

    def burning(self, events: list[Event]) -> None:
        """Resolve what a flame shows to be over."""
        for fault in ("ignition_failed", "jam_or_empty", "fire_out"):
            if fault in self._state.faults:
                self.set(fault, False, events)

    def judge(self, seen: Evidence, events: list[Event]) -> None:
        """Find the faults of this instant; without a flue, those that need one are left as they are."""
        self._clamps(seen, events)
        if seen.flue is not None:
            self._charge(seen)
            self._ignition(events)
            self._feeding(seen, events)
        else:
            self._state.lost_since = self._state.charge_start = 0
        self.overheat(seen, events)
        self._cold(seen, events)

    def _charge(self, seen: Evidence) -> None:
        """Follow fan and auger that work for a fire which is not seen: an attempt to light, whatever the igniter does."""
        state, rules, auger, now = self._state, self._rules, seen.auger, self._state.time
        idle = state.phase not in ("ignition", "combustion", "burnout", "unknown") and not state.hot
        working = auger is not None and auger.running and (seen.fan is None or seen.blowing)
        if idle and working and auger is not None and "jam_or_empty" not in state.faults:
            paused = auger.pulses >= PULSES or rules.auger.duty_max >= 1.0
            if not state.charge_start and paused and now - auger.since >= rules.burst_s * 1000:
                state.charge_start = auger.since
        elif state.charge_start:
            if idle:  # it was given up; else it is an ignition now
                state.attempts += 1
                state.day.starts += 1
                state.day.failed += 1
                state.failed_start, state.failed_end = state.charge_start, now
            state.charge_start = 0

    def _ignition(self, events: list[Event]) -> None:
        state, rules = self._state, self._rules
        now, phase = state.time, state.phase
        longest = rules.ignition_max_s * 1000
        slow = phase == "ignition" and not state.hot and now - state.ignition_start >= longest
        slow |= state.charge_start > 0 and now - state.charge_start >= longest
        resting = state.attempts > 0 and phase in REST
        given_up = resting and now - max(state.failed_end, state.since) >= longest
        if resting and state.failed_end - state.failed_start >= SERIOUS * longest:
            given_up |= now - state.failed_start >= longest
        if slow or given_up or state.attempts >= rules.ignition_attempts:
            self.set("ignition_failed", True, events)

    def _feeding(self, seen: Evidence, events: list[Event]) -> None:
        """Find a flame that was lost while the auger still feeds; whether the fan helps does not matter."""
        state, rules = self._state, self._rules
        if seen.feeding and not state.hot and state.phase in ("combustion", "burnout"):
            state.lost_since = state.lost_since or state.time
            if state.time - state.lost_since >= rules.jam_s * 1000:
                self.set("jam_or_empty", True, events)
        else:
            state.lost_since = 0

    def _clamps(self, seen: Evidence, events: list[Event]) -> None:
        """Find clamps whose zero is not plausible: an auger or igniter that never pauses, a fan that blows for nothing."""
        state, rules, fan = self._state, self._rules, seen.fan
        if (
            seen.flue is not None
            and fan is not None
            and fan.running
            and state.phase in (*REST, "prepurge")
            and not (seen.feeding or seen.lighting)
        ):
            blind = seen.auger is None  # it may feed an attempt that is not seen
            longest = rules.prepurge_max_s + (2 * rules.ignition_max_s if blind else 0.0)
            moved = max((motor.on_at for motor in (seen.auger, seen.igniter) if motor is not None), default=0)
            if state.time - max(fan.since, state.idle_since, moved) >= longest * 1000:
                fan.doubt(state.time)
        for name, motor in self._signals.motors.items():
            fault = CLAMPS[name]
            if motor.time and bool(motor.doubted) != (fault in state.faults):
                self.set(fault, bool(motor.doubted), events)

    def overheat(self, seen: Evidence, events: list[Event]) -> None:
        """Find what is too hot, by the inputs that are heard."""
        state = self._state
        over = self._over(seen)
        if over is True:
            state.over_since = state.over_since or state.time
            state.hot_by |= self._hot(seen)
            if state.time - state.over_since >= self._rules.overheating_s * 1000:
                self.set("overheating", True, events)
        elif over is False or (seen.water is None and seen.flue is None):
            state.over_since = 0
            if over is False:
                state.hot_by.clear()
                if "overheating" in state.faults:
                    self.set("overheating", False, events)

    def _over(self, seen: Evidence) -> bool | None:
        """Whether it is too hot; None when an input that could still be is missing: where it was, one by which it was."""
        if self._hot(seen):
            return True
        needed = self._state.hot_by or self._signals.roles & {"water", "flue"}
        heard = {role for role, signal in (("water", seen.water), ("flue", seen.flue)) if signal is not None}
        return False if heard >= needed else None

    def _hot(self, seen: Evidence) -> frozenset[str]:
        rules, inputs = self._rules, (("water", seen.water), ("flue", seen.flue))
        below = rules.overheating_hysteresis if "overheating" in self._state.faults else 0.0
        most = {"water": rules.water_max, "flue": rules.flue_max}
        return frozenset(role for role, signal in inputs if signal is not None and signal.value >= most[role] - below)

    def _cold(self, seen: Evidence, events: list[Event]) -> None:
        state, rules = self._state, self._rules
        now, water = state.time, seen.water
        if water is None:
            state.low_since = 0
            return
        if water.value >= rules.water_low + rules.water_low_hysteresis:
            state.armed = True
            if "fire_out" in state.faults:
                self.set("fire_out", False, events)
        if water.value < rules.water_low and state.phase in REST and state.armed:
            state.low_since = state.low_since or now
            explained = "ignition_failed" in state.faults or "jam_or_empty" in state.faults
            if now - state.low_since >= rules.fire_out_s * 1000 and not explained:
                self.set("fire_out", True, events)
                state.armed = False
        else:
            state.low_since = 0
