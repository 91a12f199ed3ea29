"""Which phase follows, by what is seen at one instant: by the flue, by the clamps, or by the water alone."""

from typing import Final

from services.boiler.evidence import Temperature
from services.boiler.rules import Phase, Rules
from services.boiler.signals import Evidence
from services.boiler.state import DetectorState

IGNITIONS: Final = 4
"""An ignition of which nothing more is seen is over after so many times `ignition_max_s`."""


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
        """Return off, or keep_fire while embers may be alive."""
        state, rules = self._state, self._rules
        warm = water is None or water.value >= rules.water_low
        alive = state.last_fire and state.time - state.last_fire < rules.keep_fire_s * 1000
        return "keep_fire" if alive and warm else "off"

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
            ended = falling
            if seen.igniter is not None and not seen.feeding and flue.slope < rules.cooling_slope:
                ended = True
            if state.time - state.since >= IGNITIONS * rules.ignition_max_s * 1000:
                ended = True
            return phase if seen.lighting or not ended else self._rest(water)
        if seen.lighting or (flue.slope >= rules.ignition_slope and flue.rise >= rules.ignition_rise):
            return "ignition"
        return self._idle(seen)

    def _idle(self, seen: Evidence) -> Phase:
        """Judge motors that move while there is no fire: a prepurge, a burst, or an offset."""
        state, rules, phase, fan = self._state, self._rules, self._state.phase, seen.fan
        now = state.time
        if phase == "keep_fire":
            # A burst feeds; air alone, in a boiler that has an igniter, begins a new lighting.
            unfed = seen.auger is not None and seen.auger.duty < rules.auger.duty_off
            if seen.blowing and fan is not None and seen.igniter is not None and unfed:
                return "prepurge" if now - fan.since >= rules.dwell.prepurge * 1000 else phase
            if seen.blowing or seen.feeding:
                state.last_fire = now
            return self._rest(seen.water)
        if phase == "prepurge":
            if seen.feeding and seen.igniter is None:
                return "ignition"
            if seen.blowing and now - state.since < rules.prepurge_max_s * 1000:
                return phase
            if seen.blowing and fan is not None:
                fan.relearn()
            return self._rest(seen.water)
        return "prepurge" if seen.blowing and phase == "off" else self._rest(seen.water)

    def _by_clamps(self, seen: Evidence) -> Phase:
        """Without a flue: what feeds, burns; what only blows, burns out."""
        state, rules, phase, now = self._state, self._rules, self._state.phase, self._state.time
        heated = seen.water is not None and seen.water.slope >= rules.water_slope
        if seen.auger is not None:
            feeding = seen.auger.running
            sustained = feeding and now - seen.auger.since >= rules.burst_s * 1000
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
        if sustained:
            return "combustion" if phase == "unknown" else "ignition"
        return self._idle(seen)

    def _by_water(self, water: Temperature | None) -> Phase:
        """With nothing but the water: what is heated, burns."""
        if water is None:
            return "unknown"
        if water.slope >= self._rules.water_slope:
            return "combustion"
        return "combustion" if self._state.phase == "combustion" and water.slope > 0.0 else self._rest(water)
