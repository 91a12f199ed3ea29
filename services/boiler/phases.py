"""Which phase follows, by what is seen at one instant: by the flue, by the clamps, or by the water alone."""

from typing import Final

from services.boiler.evidence import Temperature
from services.boiler.rules import REST, Phase, Rules
from services.boiler.signals import Evidence
from services.boiler.state import DetectorState

APART_MS: Final = 60_000
"""A fan that begins to blow so long after the auger fed does not belong to that burst."""
TAIL_MS: Final = 30_000
"""A motor that has stood for so long has stopped."""
PULSES: Final = 2
"""An auger has paused so often before it is taken to feed a fire: an offset of its clamp never does."""


class PhaseJudge:
    """The rules of phases: from a state and the evidence of an instant to the phase that is now."""

    def __init__(self, rules: Rules, state: DetectorState) -> None:
        """`state` is the detector's; only `hot` and `last_fire` are written here."""
        self._rules, self._state = rules, state

    def target(self, seen: Evidence) -> Phase:
        """Return the phase that this evidence shows."""
        if seen.flue is not None:
            return self._by_flue(seen, seen.flue)
        self._state.hot = False
        return self._by_clamps(seen) if seen.clamps else self._by_water(seen.water)

    def heat(self, flue: Temperature, water: Temperature | None) -> None:
        """Find out whether the flue shows a fire, by two thresholds."""
        state, rules = self._state, self._rules
        if water is not None:
            limit = rules.hot_off if state.hot else rules.hot_on
            state.hot = flue.value - water.value >= limit
        else:
            limit = rules.flue_hot_off if state.hot else rules.flue_hot_on
            state.hot = flue.value >= limit

    def _rest(self, water: Temperature | None) -> Phase:
        """Return off, or keep_fire while embers may be alive: after a fire while it is warm, after a burst in any case."""
        state, rules = self._state, self._rules
        alive = state.time - rules.keep_fire_s * 1000
        warm = water is None or water.value >= rules.water_low
        kept = (warm and 0 < state.last_fire > alive) or 0 < state.last_burst > alive
        return "keep_fire" if kept else "off"

    def _by_flue(self, seen: Evidence, flue: Temperature) -> Phase:
        state, rules, phase = self._state, self._rules, self._state.phase
        water, falling = seen.water, flue.slope <= -rules.cooling_slope
        weak = water is not None and flue.value - water.value < rules.burnout_below
        if phase == "combustion":
            if not state.hot:
                return "burnout"
            starved = state.cycle_fed and seen.auger is not None and not seen.feeding and not seen.auger.on
            return "burnout" if falling and (weak or starved) else phase
        if phase == "burnout":
            busy = seen.feeding or seen.blowing
            over = seen.fan is not None and state.cycle_blown and not busy
            if state.hot and not over:
                again = flue.slope >= rules.cooling_slope or not (falling or weak)
                return "combustion" if again else phase
            return phase if busy and state.time - state.since < rules.burnout_max_s * 1000 else self._rest(water)
        if state.hot and not falling:
            return "combustion"
        if state.hot and phase == "unknown":
            return "burnout"
        if phase == "ignition":
            rising = flue.slope >= rules.cooling_slope
            lasted = state.time - state.since
            late = lasted >= rules.ignition_max_s * 1000
            still = not (seen.feeding or seen.blowing)
            stopped = not seen.feeding if seen.igniter is not None else state.cycle_moved and still
            ended = falling or (not rising and (stopped or late)) or lasted >= 2 * rules.ignition_max_s * 1000
            drawing = seen.igniter is not None and seen.igniter.running
            return phase if drawing or not ended else self._rest(water)
        if seen.lighting or (flue.slope >= rules.ignition_slope and flue.rise >= rules.ignition_rise):
            return "ignition"
        return self._idle(seen)

    def _idle(self, seen: Evidence) -> Phase:
        """Judge motors that move while there is no fire: a prepurge blows, a burst feeds."""
        state, rules, phase, fan, auger = self._state, self._rules, self._state.phase, seen.fan, seen.auger
        now = state.time
        fed = auger is not None and (seen.feeding or (fan is not None and 0 < auger.on_at > fan.since - APART_MS))
        if phase == "prepurge":
            longest = rules.ignition_max_s if seen.feeding else rules.prepurge_max_s
            return phase if seen.blowing and now - state.since < longest * 1000 else self._rest(seen.water)
        if fan is not None and seen.blowing and not fed:
            # Air alone begins a lighting; where no auger is seen, it is a burst of embers as well as that.
            begun = now - fan.since
            if phase == "off" or (auger is not None and begun >= rules.dwell.prepurge * 1000):
                return "prepurge" if begun < rules.prepurge_max_s * 1000 else self._rest(seen.water)
        if phase == "keep_fire" and (seen.blowing or seen.feeding) and self._is_burst(seen):
            state.last_fire = now
        return self._rest(seen.water)

    def rest_burst(self, seen: Evidence) -> None:
        """Follow fan and auger at rest: what both moved for a short while was a burst, and shows that embers are kept."""
        state, fan, auger = self._state, seen.fan, seen.auger
        if fan is None or auger is None or state.phase not in REST:
            state.moved_since, state.moved_fed = 0, False
            return
        fed = 0 < state.time - auger.on_at < TAIL_MS
        if seen.blowing or fed:
            state.moved_since = state.moved_since or state.time
            state.moved_fed |= seen.blowing and fed
        elif state.moved_since:
            lasted = state.time - TAIL_MS - state.moved_since
            if state.moved_fed and lasted < self._rules.burst_s * 1000:
                state.last_burst = state.time
            state.moved_since, state.moved_fed = 0, False

    def _is_burst(self, seen: Evidence) -> bool:
        """Whether what moves has moved for no longer than a burst does."""
        since = [motor.since for motor in (seen.fan, seen.auger) if motor is not None and motor.running]
        return self._state.time - min(since) < self._rules.burst_s * 1000

    def _by_clamps(self, seen: Evidence) -> Phase:
        """Without a flue: what feeds, burns; what only blows, burns out; only an igniter shows a lighting."""
        state, rules, phase, now, auger = self._state, self._rules, self._state.phase, self._state.time, seen.auger
        heated = seen.water is not None and seen.water.slope >= rules.water_slope
        if auger is not None:
            feeding = auger.running
            sustained = self.feeds(seen) and now - auger.since >= rules.burst_s * 1000
        else:
            sustained = heated and (seen.blowing or seen.fan is None)
            feeding = sustained or (seen.blowing and phase in ("ignition", "combustion"))
        if phase == "combustion":
            return phase if feeding else "burnout"
        if phase == "burnout":
            if feeding:
                return "combustion"
            return phase if seen.blowing and now - state.since < rules.burnout_max_s * 1000 else self._rest(seen.water)
        if phase == "ignition":
            if seen.lighting:
                return phase
            if heated or (sustained and now - (seen.igniter or state).since >= rules.burst_s * 1000):
                return "combustion"
            return phase if feeding else self._rest(seen.water)
        if seen.lighting:
            return "ignition"
        return "combustion" if sustained else self._idle(seen)

    def feeds(self, seen: Evidence) -> bool:
        """Whether the auger is at work, and its clamp shows the pauses of one."""
        auger = seen.auger
        return auger is not None and auger.running and (auger.pulses >= PULSES or self._rules.auger.duty_max >= 1.0)

    def _by_water(self, water: Temperature | None) -> Phase:
        """With nothing but the water: what is heated, burns."""
        if water is None:
            return "unknown"
        if water.slope >= self._rules.water_slope:
            return "combustion"
        return "combustion" if self._state.phase == "combustion" and water.slope > 0.0 else self._rest(water)
