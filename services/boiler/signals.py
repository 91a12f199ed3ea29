"""The inputs of one boiler together, and what of them can be believed at an instant."""

from typing import Final, NamedTuple, TypeVar

from services.boiler.evidence import Motor, Temperature
from services.boiler.rules import MOTORS, MotorRules, Role, Rules, TemperatureRules

Signal = TypeVar("Signal", Temperature, Motor)

APART_MS: Final = 300_000
"""In a lighting the igniter draws for no longer than this before fan or auger begin."""


class Evidence(NamedTuple):
    """What is seen at one instant; an input that is missing is None."""

    flue: Temperature | None
    water: Temperature | None
    return_: Temperature | None
    igniter: Motor | None
    fan: Motor | None
    auger: Motor | None
    enough: bool
    """Whether it is enough to say anything of the phase."""
    heard: bool
    """Whether every level still counts: while an input is silent and not missing yet, nothing is concluded."""

    @property
    def clamps(self) -> bool:
        """Whether a motor is seen."""
        return self.igniter is not None or self.fan is not None or self.auger is not None

    @property
    def lighting(self) -> bool:
        """Whether the igniter draws, and fan or auger move for it, where they are seen: alone it is an offset of its clamp."""
        if self.igniter is None or not self.igniter.running:
            return False
        others = [motor for motor in (self.fan, self.auger) if motor is not None]
        return not others or any(motor.running and motor.since - self.igniter.since < APART_MS for motor in others)

    @property
    def blowing(self) -> bool:
        """Whether the fan runs."""
        return self.fan is not None and self.fan.running

    @property
    def feeding(self) -> bool:
        """Whether the auger is at work, its pauses included."""
        return self.auger is not None and self.auger.running


class Signals:
    """Temperatures and motors of the roles that a boiler has."""

    def __init__(
        self, rules: Rules, roles: frozenset[Role], temperatures: dict[str, Temperature], motors: dict[str, Motor]
    ) -> None:
        """`temperatures` and `motors` are the detector's state; what is not there yet is added."""
        self._rules = rules
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
        self.roles = roles
        self._temperatures, self._motors = temperatures, motors
        for role in roles:
            if role in MOTORS:
                motors.setdefault(role, Motor())
            else:
                temperatures.setdefault(role, Temperature())
        self.water = temperatures["water"] if "water" in roles else None
        self.flue = temperatures["flue"] if "flue" in roles else None
        self.return_ = temperatures["return"] if "return" in roles else None
        self.motors = {role: motors[role] for role in roles if role in MOTORS}
        self.igniter = motors["igniter"] if "igniter" in roles else None
        self.fan = motors["fan"] if "fan" in roles else None
        self.auger = motors["auger"] if "auger" in roles else None

    def feed(self, role: Role, value: float, time: int, *, resting: bool) -> None:
        """Take a reading; `resting` while the motors stand, so that a clamp can be learned anew."""
        motor = self._motors.get(role)
        if motor is None:
            self._temperatures[role].feed(value, time, self._limits[role], self._rules)
            return
        if motor.held and time - motor.held > self._stale and resting:
            motor.relearn()  # an offset that changed while the clamp was away is not a motor
        motor.feed(value, time, self._motor_limits[role], self._rules)

    def clear(self, role: Role, time: int) -> None:
        """Take note that nobody could measure an input any more after a time (ms)."""
        signal = self._motors.get(role) or self._temperatures[role]
        if signal.time <= time:
            signal.clear()

    def at(self, now: int) -> Evidence:
        """Return what can be believed at a time (ms), with the motors held until then."""
        oldest = now - self._stale
        flue, water = _fresh(self.flue, oldest), _fresh(self.water, oldest)
        igniter, fan, auger = _fresh(self.igniter, oldest), _fresh(self.fan, oldest), _fresh(self.auger, oldest)
        heard = (flue is None or now <= flue.counts_until) and (water is None or now <= water.counts_until)
        for motor, limits in ((igniter, self._rules.igniter), (fan, self._rules.fan), (auger, self._rules.auger)):
            if motor is not None:
                motor.hold(now, limits)
                heard &= now <= motor.counts_until
        igniter, fan, auger = _believed(igniter), _believed(fan), _believed(auger)
        clamps = igniter is not None or fan is not None or auger is not None
        enough = flue is not None or (water is not None and (self.flue is None or clamps))
        return Evidence(flue, water, _fresh(self.return_, oldest), igniter, fan, auger, enough, heard)

    def heard(self, now: int) -> dict[Role, bool]:
        """Roles that speak at a time (ms), and whether what they say is believed."""
        oldest, temperatures = now - self._stale, self._temperatures
        heard = {role: True for role in self.roles - {*self.motors} if _fresh(temperatures[role], oldest)}
        return heard | {role: not motor.doubted for role, motor in self.motors.items() if _fresh(motor, oldest)}

    def next_due(self, now: int, until: int) -> int:
        """Return the first moment after `now` at which a level counts no more or an input goes missing, or `until` (ms)."""
        signals: list[Temperature | Motor] = [*self._temperatures.values(), *self._motors.values()]
        for signal in signals:
            for due in (signal.counts_until + 1, signal.time + self._stale + 1):
                if now < due < until:
                    until = due
        return until

    def forget_times(self) -> None:
        """Have all inputs be seen again; zeros and sums stay."""
        for temperature in self._temperatures.values():
            temperature.seen = 0
            temperature.clear()
            temperature.times.clear()
            temperature.means.clear()
        for motor in self._motors.values():
            motor.clear()
            motor.held = motor.on_at = 0


def _fresh(signal: Signal | None, oldest: int) -> Signal | None:
    return signal if signal is not None and signal.time and signal.time >= oldest else None


def _believed(motor: Motor | None) -> Motor | None:
    return motor if motor is not None and not motor.doubted else None
