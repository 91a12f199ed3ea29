"""The phases of a boiler as a state machine on reading time, so that a recording, a backlog and live readings agree."""

from __future__ import annotations

from typing import Final, TypeVar

import msgspec

from services.boiler.books import HOUR_MS, Cycle, Outcome, day_of
from services.boiler.evidence import Motor, Temperature
from services.boiler.rules import MOTORS, Fault, MotorRules, Phase, Role, Rules, TemperatureRules
from services.boiler.state import Event, State, timestamp

Signal = TypeVar("Signal", Temperature, Motor)

STEP_MS: Final = 60_000
"""Across a gap the machine looks at least this often, ms."""
FIRE: Final[frozenset[Phase]] = frozenset(("prepurge", "ignition", "combustion", "burnout"))
"""Phases that belong to a cycle."""
REST: Final[frozenset[Phase]] = frozenset(("off", "keep_fire"))
"""Phases without a fire that needs anything."""
IGNITIONS: Final = 4
"""An ignition of which nothing more is seen is over after so many times `ignition_max_s`."""


class Machine:
    """Phases, faults and sums of one boiler from the readings of the inputs that it has.

    Time is reading time. Readings of one instant are judged together, when the next reading or `advance` shows that
    the instant is over. A reading that is not newer than the last of its role is ignored, which makes repeats and
    backlogs harmless and lets a clock that stepped back catch up; one that is late relative to the others counts for
    the auger's sum, and as evidence only while it is younger than `stale_s`.
    """

    def __init__(self, rules: Rules, roles: frozenset[Role] | set[Role], state: State | None = None) -> None:
        """`roles` are the inputs that this boiler has; ValueError when neither flue nor water is among them."""
        if not roles & {"flue", "water"}:
            raise ValueError("phase: neither a flue nor a water temperature is among the inputs: give at least one")
        self.rules = rules
        self.roles = frozenset(roles)
        self.state = state if state is not None else State()
        self._stale = int(rules.stale_s * 1000)
        self._limits: dict[str, TemperatureRules] = {
            "water": rules.water,
            "flue": rules.flue,
            "return": rules.return_,
        }
        self._motor_limits: dict[str, MotorRules] = {
            "igniter": rules.igniter,
            "fan": rules.fan,
            "auger": rules.auger,
        }
        self._dwell: dict[str, int] = {
            name: int(value * 1000) for name, value in msgspec.structs.asdict(rules.dwell).items()
        }
        for role in self.roles:
            if role in MOTORS:
                self.state.motors.setdefault(role, Motor())
            else:
                self.state.temperatures.setdefault(role, Temperature())
        temperatures, motors = self.state.temperatures, self.state.motors
        self._water = temperatures["water"] if "water" in self.roles else None
        self._flue = temperatures["flue"] if "flue" in self.roles else None
        self._return = temperatures["return"] if "return" in self.roles else None
        self._igniter = motors["igniter"] if "igniter" in self.roles else None
        self._fan = motors["fan"] if "fan" in self.roles else None
        self._auger = motors["auger"] if "auger" in self.roles else None

    def snapshot(self) -> bytes:
        """Write the whole state down as JSON, for a file that a restart reads."""
        return msgspec.json.encode(self.state)

    @classmethod
    def restore(cls, rules: Rules, roles: frozenset[Role] | set[Role], snapshot: bytes) -> Machine:
        """Take up where a snapshot ended; msgspec.DecodeError or ValidationError when it is damaged."""
        return cls(rules, roles, msgspec.json.decode(snapshot, type=State))

    def feed(self, role: Role, value: float, time: int) -> list[Event]:
        """Take one reading (°C, or the clamp's unit) of a time (ms since 1970); what became certain before it."""
        state = self.state
        events: list[Event] = []
        if time > state.time:
            self._run(time, events)
        motor = state.motors.get(role)
        if motor is None:
            state.temperatures[role].feed(value, time, self._limits[role], self.rules)
            return events
        if motor.time and time - motor.time > self._stale and state.phase not in FIRE:
            motor.relearn()  # an offset that changed while the clamp was away is not a motor
        motor.feed(value, time, self._motor_limits[role], self.rules)
        return events

    def advance(self, time: int) -> list[Event]:
        """Let time pass (ms since 1970) without a reading: inputs grow stale, dwell times and timeouts end."""
        events: list[Event] = []
        if time > self.state.time:
            self._run(time, events)
            self._judge(events)
        return events

    def rebase(self, time: int) -> list[Event]:
        """Accept an earlier time base (ms since 1970), for a clock that had been far ahead and is right now.

        The caller knows its clock, the machine does not: from the readings alone a corrected clock and a repeated
        backlog look the same. Inputs must be seen again, sums and zeros stay, the phase is unknown until then.
        """
        state = self.state
        events: list[Event] = []
        if not state.time or time >= state.time:
            return events
        for temperature in state.temperatures.values():
            temperature.seen = temperature.time = temperature.pending_count = 0
            temperature.times.clear()
            temperature.means.clear()
        for motor in state.motors.values():
            motor.time = motor.held = 0
            motor.on = motor.running = False
        for name in ("low_since", "lost_since", "over_since", "ignition_start", "entered"):
            setattr(state, name, min(getattr(state, name), time))
        state.last_fire = min(state.last_fire, time)
        if state.cycle_start:
            self._finish("interrupted", events)
        state.time = time
        state.day = day_of(time, self.rules.timezone)
        if state.phase != "unknown":
            self._enter("unknown", events)
        return events

    def refill(self, mass_kg: float, time: int) -> list[Event]:
        """Enter what the silo holds after a refill (kg) at a time (ms since 1970); ValueError below zero."""
        if mass_kg < 0.0:
            raise ValueError(f"refill: {mass_kg} kg is less than nothing: give what the silo holds now")
        self.state.silo.refill_kg = mass_kg
        self.state.silo.refill_auger_ms = self._auger_ms()
        return self._silo(time)

    # time

    def _run(self, until: int, events: list[Event]) -> None:
        """Move time to `until`, judging each instant that lies before it."""
        state = self.state
        if not state.time:
            state.time = state.since = until
            state.day = day_of(until, self.rules.timezone)
            state.day_auger_ms = self._auger_ms()
            events += (Event("phase", "unknown", until), Event("since_text", timestamp(until), until))
            return
        while state.time < until:
            self._judge(events)
            now = state.time
            following = until
            if until - now > STEP_MS and (state.phase != "unknown" or state.entered):
                following = self._next_stale(now, now + STEP_MS)
            following = min(following, state.day.end)
            passed = following - now
            if state.phase != "unknown":
                state.day.known_ms += passed
                if state.phase in ("ignition", "combustion"):
                    state.day.burning_ms += passed
            state.time = following
            if following == state.day.end:
                self._midnight(events)

    def _next_stale(self, now: int, until: int) -> int:
        stale = self._stale + 1
        for temperature in self.state.temperatures.values():
            if now < temperature.time + stale < until:
                until = temperature.time + stale
        for motor in self.state.motors.values():
            if now < motor.time + stale < until:
                until = motor.time + stale
        return until

    # evidence

    def _judge(self, events: list[Event]) -> None:
        """Find the phase and the faults of this instant."""
        state = self.state
        now = state.time
        oldest = now - self._stale
        flue = _fresh(self._flue, oldest)
        water = _fresh(self._water, oldest)
        igniter = _fresh(self._igniter, oldest)
        fan = _fresh(self._fan, oldest)
        auger = _fresh(self._auger, oldest)
        for motor, limits in ((igniter, self.rules.igniter), (fan, self.rules.fan), (auger, self.rules.auger)):
            if motor is not None:
                motor.hold(now, limits)
        clamps = igniter is not None or fan is not None or auger is not None

        if flue is None and (water is None or (self._flue is not None and not clamps)):
            state.entered = state.low_since = state.lost_since = state.over_since = 0
            if state.phase != "unknown":
                self._enter("unknown", events)
            return
        if not state.entered:
            state.entered = now
        if flue is not None:
            flue.fit()
            self._heat(flue, water or _fresh(self._return, oldest))
        if water is not None and flue is None:
            water.fit()

        if state.cycle_start:
            state.cycle_blown |= state.phase == "combustion" and fan is not None and fan.running
            state.cycle_fed |= state.phase == "combustion" and auger is not None and auger.running
            state.cycle_lighted |= state.phase == "ignition" and igniter is not None and igniter.running

        begun = state.entered if state.phase == "unknown" else state.since
        if now - begun >= self._dwell[state.phase]:
            if flue is not None:
                target = self._by_flue(flue, water, igniter, fan, auger)
            elif clamps:
                state.hot = False
                target = self._by_clamps(igniter, fan, auger, water)
            else:
                state.hot = False
                target = self._by_water(water)
            if target != state.phase:
                self._enter(target, events)
        self._find_faults(flue, water, auger, events)

    def _heat(self, flue: Temperature, water: Temperature | None) -> None:
        state, rules = self.state, self.rules
        if water is not None:
            limit = rules.hot_off if state.hot else rules.hot_on
            state.hot = flue.value - water.value >= limit
        else:
            limit = rules.flue_hot_off if state.hot else rules.flue_hot_on
            state.hot = flue.value >= limit

    def _rest(self, water: Temperature | None) -> Phase:
        """Return off, or keep_fire while embers may be alive."""
        state, rules = self.state, self.rules
        warm = water is None or water.value >= rules.water_low
        alive = state.last_fire and state.time - state.last_fire < rules.keep_fire_s * 1000
        return "keep_fire" if alive and warm else "off"

    def _by_flue(
        self,
        flue: Temperature,
        water: Temperature | None,
        igniter: Motor | None,
        fan: Motor | None,
        auger: Motor | None,
    ) -> Phase:
        state, rules = self.state, self.rules
        phase = state.phase
        falling = flue.slope <= -rules.cooling_slope
        feeding = auger is not None and auger.running
        weak = water is not None and flue.value - water.value < rules.burnout_below
        if phase == "combustion":
            if not state.hot:
                return "burnout"
            starved = state.cycle_fed and auger is not None and not feeding and not auger.on
            return "burnout" if falling and (weak or starved) else phase
        if phase == "burnout":
            busy = feeding or (fan is not None and fan.running)
            over = fan is not None and state.cycle_blown and not busy
            if state.hot and not over:
                again = flue.slope >= rules.cooling_slope or not (falling or weak)
                return "combustion" if again else phase
            return phase if busy and state.time - state.since < rules.burnout_max_s * 1000 else self._rest(water)
        lighting = igniter is not None and igniter.running
        if state.hot and not falling:
            return "combustion"
        if state.hot and phase == "unknown":
            return "burnout"
        if phase == "ignition":
            ended = falling
            if igniter is not None and not feeding and flue.slope < rules.cooling_slope:
                ended = True
            if state.time - state.since >= IGNITIONS * rules.ignition_max_s * 1000:
                ended = True
            return phase if lighting or not ended else self._rest(water)
        if lighting or (flue.slope >= rules.ignition_slope and flue.rise >= rules.ignition_rise):
            return "ignition"
        return self._idle(phase, igniter, fan, auger, water)

    def _idle(
        self, phase: Phase, igniter: Motor | None, fan: Motor | None, auger: Motor | None, water: Temperature | None
    ) -> Phase:
        """Judge motors that move while there is no fire: a prepurge, a burst, or an offset."""
        state, rules = self.state, self.rules
        now = state.time
        blowing = fan is not None and fan.running
        feeding = auger is not None and auger.running
        if phase == "keep_fire":
            # A burst feeds; air alone, in a boiler that has an igniter, begins a new lighting.
            unfed = auger is not None and auger.duty < rules.auger.duty_off
            if blowing and fan is not None and igniter is not None and unfed:
                return "prepurge" if now - fan.since >= self._dwell["prepurge"] else phase
            if blowing or feeding:
                state.last_fire = now
            return self._rest(water)
        if phase == "prepurge":
            if feeding and igniter is None:
                return "ignition"
            if blowing and now - state.since < rules.prepurge_max_s * 1000:
                return phase
            if blowing and fan is not None:
                fan.relearn()
            return self._rest(water)
        return "prepurge" if blowing and phase == "off" else self._rest(water)

    def _by_clamps(
        self, igniter: Motor | None, fan: Motor | None, auger: Motor | None, water: Temperature | None
    ) -> Phase:
        """Without a flue: what feeds, burns; what only blows, burns out."""
        state, rules = self.state, self.rules
        phase, now = state.phase, state.time
        lighting = igniter is not None and igniter.running
        blowing = fan is not None and fan.running
        heated = water is not None and water.slope >= rules.water_slope
        if auger is not None:
            feeding = auger.running
            sustained = feeding and now - auger.since >= rules.burst_s * 1000
        else:
            sustained = heated and (blowing or fan is None)
            feeding = sustained or (blowing and phase in ("ignition", "combustion"))
        if phase == "combustion":
            return phase if feeding else "burnout"
        if phase == "burnout":
            if feeding:
                return "combustion"
            return phase if blowing and now - state.since < rules.burnout_max_s * 1000 else self._rest(water)
        if phase == "ignition":
            if lighting:
                return phase
            if heated or (sustained and now - (igniter or state).since >= rules.burst_s * 1000):
                return "combustion"
            return phase if feeding else self._rest(water)
        if lighting:
            return "ignition"
        if sustained:
            return "combustion" if phase == "unknown" else "ignition"
        return self._idle(phase, igniter, fan, auger, water)

    def _by_water(self, water: Temperature | None) -> Phase:
        """With nothing but the water: what is heated, burns."""
        if water is None:
            return "unknown"
        if water.slope >= self.rules.water_slope:
            return "combustion"
        return "combustion" if self.state.phase == "combustion" and water.slope > 0.0 else self._rest(water)

    # phases and cycles

    def _enter(self, phase: Phase, events: list[Event]) -> None:
        state = self.state
        now, previous = state.time, state.phase
        state.phase, state.since = phase, now
        if phase == "unknown":
            if previous in ("combustion", "burnout"):
                state.last_fire = now
            if state.cycle_start:
                state.cycle_known = now
            events += (Event("phase", phase, now), Event("since_text", timestamp(now), now))
            return
        if state.cycle_start and previous == "unknown":
            gone = now - state.cycle_known >= self.rules.cycle_gap_s * 1000
            if gone or phase not in FIRE:
                self._finish("interrupted", events)
        if phase in FIRE:
            if not state.cycle_start and phase != "burnout":
                self._start(whole=previous != "unknown")
                if phase != "prepurge":
                    self._number(events)
            elif previous == "prepurge":
                self._number(events)
        events += (Event("phase", phase, now), Event("since_text", timestamp(now), now))
        if phase == "ignition":
            state.ignition_start = now
        elif phase == "combustion":
            state.last_fire = now
            state.attempts = 0
            state.armed = True
            if not state.cycle_lit:
                state.cycle_lit = now
                state.day.starts += 1
            for fault in ("ignition_failed", "jam_or_empty", "fire_out"):
                self._set_fault(fault, False, events)
        elif phase in REST:
            self._settle(previous, events)

    def _settle(self, previous: Phase, events: list[Event]) -> None:
        """Close the books of what ended in rest."""
        state, rules = self.state, self.rules
        if previous in ("combustion", "burnout"):
            state.last_fire = state.time
        if not state.cycle_start:
            return
        if previous == "prepurge":
            state.cycle_start = 0
            return
        if state.cycle_lit:
            self._finish("burned", events)
            return
        tried = state.time - state.ignition_start >= rules.ignition_max_s * 1000
        if tried or state.cycle_lighted:
            state.day.starts += 1
            state.day.failed += 1
            state.attempts += 1
        self._finish("failed", events)

    def _start(self, *, whole: bool) -> None:
        state = self.state
        state.cycle_start, state.cycle_lit, state.cycle_whole = state.time, 0, whole
        state.cycle_blown = state.cycle_fed = state.cycle_lighted = False
        state.cycle_auger_ms = self._auger_ms()

    def _number(self, events: list[Event]) -> None:
        state = self.state
        state.cycles += 1
        events.append(Event("cycles", state.cycles, state.time))

    def _finish(self, outcome: Outcome, events: list[Event]) -> None:
        state = self.state
        now = state.time
        ended = state.cycle_known if outcome == "interrupted" and state.cycle_known > state.cycle_start else now
        auger_s = round((self._auger_ms() - state.cycle_auger_ms) / 1000, 1) if self._auger is not None else None
        rate = self.rules.auger_rate
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

    def _auger_ms(self) -> float:
        return self._auger.on_ms if self._auger is not None else 0.0

    # days

    def _midnight(self, events: list[Event]) -> None:
        state, rules = self.state, self.rules
        day, last = state.day, state.day.end - 1
        if day.known_ms:
            events.append(Event("day_starts_count", day.starts, last))
            events.append(Event("day_failed_count", day.failed, last))
            if day.duty is not None:
                events.append(Event("day_duty", day.duty, last))
            if self._auger is not None and rules.auger_rate is not None:
                fuel = (self._auger_ms() - state.day_auger_ms) / HOUR_MS * rules.auger_rate
                events.append(Event("day_mass", round(fuel, 2), last))
                length = day.end - day.start
                if day.known_ms * 2 >= length:
                    whole = fuel * length / day.known_ms
                    state.silo.days_kg = [*state.silo.days_kg, whole][-rules.mean_days :]
                events += self._silo(last)
        state.day = day_of(state.time, rules.timezone)
        state.day_auger_ms = self._auger_ms()

    def _silo(self, time: int) -> list[Event]:
        silo, rate = self.state.silo, self.rules.auger_rate
        if silo.refill_kg is None or rate is None:
            return []
        left = max(0.0, silo.refill_kg - (self._auger_ms() - silo.refill_auger_ms) / HOUR_MS * rate)
        events = [Event("silo_mass", round(left, 1), time)]
        used = sum(silo.days_kg)
        if used > 0.0:
            events.append(Event("silo_days", round(left * len(silo.days_kg) / used, 1), time))
        return events

    # faults

    def _set_fault(self, fault: Fault, active: bool, events: list[Event]) -> None:
        faults = self.state.faults
        if active == (fault in faults):
            return
        if active:
            faults.add(fault)
        else:
            faults.discard(fault)
        events.append(Event(f"{fault}_fault", active, self.state.time))

    def _find_faults(
        self, flue: Temperature | None, water: Temperature | None, auger: Motor | None, events: list[Event]
    ) -> None:
        state, rules = self.state, self.rules
        now, phase = state.time, state.phase
        slow = phase == "ignition" and not state.hot and now - state.ignition_start >= rules.ignition_max_s * 1000
        given_up = state.attempts > 0 and phase in REST and now - state.since >= rules.ignition_max_s * 1000
        if slow or given_up or state.attempts >= rules.ignition_attempts:
            self._set_fault("ignition_failed", True, events)

        # A flame that was lost while the auger still feeds; whether the fan helps does not matter.
        feeding = auger is not None and auger.running
        cooling = water is not None and water.slope < -rules.water_slope
        lost = not state.hot if flue is not None else cooling
        if feeding and lost and phase in ("combustion", "burnout"):
            state.lost_since = state.lost_since or now
            if now - state.lost_since >= rules.jam_s * 1000:
                self._set_fault("jam_or_empty", True, events)
        else:
            state.lost_since = 0

        over = self._over(flue, water)
        if over is True:
            state.over_since = state.over_since or now
            if now - state.over_since >= rules.overheating_s * 1000:
                self._set_fault("overheating", True, events)
        elif over is False:
            state.over_since = 0
            self._set_fault("overheating", False, events)

        if water is None:
            state.low_since = 0
            return
        safe = water.value >= rules.water_low + rules.water_low_hysteresis
        if safe:
            state.armed = True
            self._set_fault("fire_out", False, events)
        if water.value < rules.water_low and phase in REST and state.armed:
            state.low_since = state.low_since or now
            explained = "ignition_failed" in state.faults or "jam_or_empty" in state.faults
            if now - state.low_since >= rules.fire_out_s * 1000 and not explained:
                self._set_fault("fire_out", True, events)
                state.armed = False
        else:
            state.low_since = 0

    def _over(self, flue: Temperature | None, water: Temperature | None) -> bool | None:
        """Whether it is too hot; None when an input that could still be is missing."""
        rules = self.rules
        below = rules.overheating_hysteresis if "overheating" in self.state.faults else 0.0
        if flue is not None and flue.value >= rules.flue_max - below:
            return True
        if water is not None and water.value >= rules.water_max - below:
            return True
        blind = (flue is None and self._flue is not None) or (water is None and self._water is not None)
        return None if blind else False


def _fresh(signal: Signal | None, oldest: int) -> Signal | None:
    return signal if signal is not None and signal.time and signal.time >= oldest else None
