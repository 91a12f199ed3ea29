"""Raw readings lie (power-on values, dead buses, drifting clamps): here they become evidence for a state machine."""

from __future__ import annotations

from math import exp
from statistics import median
from typing import TYPE_CHECKING

import msgspec

from services.boiler.pace import FIRST_MS, paced

if TYPE_CHECKING:
    from services.boiler.rules import MotorRules, Rules, TemperatureRules

POINTS = 15
"""A slope is fitted through at most so many means of equal spans."""
FEWEST = 3
"""... and through no fewer."""
CONFIRM = 2
"""A first level, or one after a gap, is believed from so many readings that agree."""
NOISE = 4.0
"""A motor is on only this many times the clamp's noise above zero."""
COUNTS = 2.0
"""... and at least this much, where it reads in whole counts."""
CERTAIN = 2.0
"""... and where it does not, this many times the rule's `on` is a motor however noisy it seems."""
LEARN = 30
"""A new clamp's noise is learned from so many readings, before any of them is a motor,"""
LEARN_MS = 600_000
"""... but for no longer than this."""


GOOD_MS = 86_400_000
"""A clamp that was in doubt is believed after so long without another reason for it."""


class Temperature(msgspec.Struct):
    """A temperature without impossible steps, and its slope; plain state that can be written down (times in ms)."""

    seen: int = 0
    """Time of the newest reading, good or bad."""
    time: int = 0
    """Time of the newest good reading; 0 before the first."""
    value: float = 0.0
    """The newest good reading, °C."""
    interval: int = 0
    """How often it speaks; 0 until that is known."""
    pending: float = 0.0
    pending_since: int = 0
    pending_time: int = 0
    pending_count: int = 0
    times: list[int] = []
    means: list[float] = []
    count: int = 0
    fitted: int = -1
    slope: float = 0.0
    """Robust slope, °C/min; 0 until the window holds three points."""
    rise: float = 0.0
    """The newest mean above the lowest of the window, °C."""

    @property
    def counts_until(self) -> int:
        """Until when its newest level counts: two of its intervals."""
        return self.time + 2 * (self.interval or FIRST_MS)

    def clear(self) -> None:
        """Take note that nobody can measure it any more; it is believed again as after a gap."""
        self.time = self.pending_count = 0

    def feed(self, value: float, time: int, limits: TemperatureRules, rules: Rules) -> bool:
        """Take a reading (°C at ms); False when it is not newer, not plausible or not yet believed."""
        if time <= self.seen:
            return False
        self.seen = time
        if not limits.low <= value <= limits.high:
            return False
        fresh = self.time > 0 and time - self.time <= rules.stale_s * 1000
        if fresh:
            allowed = limits.jump
            if value != rules.power_on:
                allowed += limits.rate * (time - self.time) / 1000
            if abs(value - self.value) <= allowed:
                self._accept(value, time, limits)
                return True
        if value == rules.power_on:
            return False
        agrees = (
            self.pending_count > 0
            and time - self.pending_time <= rules.stale_s * 1000
            and abs(value - self.pending) <= limits.jump + limits.rate * (time - self.pending_time) / 1000
        )
        if not agrees:
            self.pending_since, self.pending_count = time, 0
        self.pending, self.pending_time = value, time
        self.pending_count += 1
        if self.pending_count < CONFIRM or (fresh and time - self.pending_since < limits.settle_s * 1000):
            return False
        self.times.clear()
        self.means.clear()
        self.fitted, self.slope, self.rise = -1, 0.0, 0.0
        self._accept(value, time, limits)
        return True

    def _accept(self, value: float, time: int, limits: TemperatureRules) -> None:
        if self.time:
            self.interval = paced(self.interval, time - self.time)
        self.value, self.time, self.pending_count = value, time, 0
        span = int(limits.window_s * 1000 / POINTS)
        if self.times and time // span == self.times[-1] // span:
            self.count += 1
            self.means[-1] += (value - self.means[-1]) / self.count
            return
        self.times.append(time)
        self.means.append(value)
        self.count = 1
        oldest = time - limits.window_s * 1000
        while self.times[0] < oldest:
            del self.times[0], self.means[0]

    def fit(self) -> None:
        """Bring slope and rise up to date: the median of the slopes between all pairs (Theil and Sen)."""
        times, means = self.times, self.means
        if not times or self.fitted == times[-1]:
            return
        self.fitted = times[-1]
        self.rise = means[-1] - min(means)
        if len(times) < FEWEST:
            self.slope = 0.0
            return
        slopes = [(means[j] - means[i]) / (times[j] - times[i]) for j in range(1, len(times)) for i in range(j)]
        self.slope = median(slopes) * 60_000


class Motor(msgspec.Struct):
    """A motor seen through a clamp: learned zero and noise, two thresholds, and a duty average (times in ms).

    What it ran is summed only while the clamp speaks and its zero is plausible: a run counts once its end was seen,
    and one that does not end is an offset of the clamp, which is then in doubt.
    """

    time: int = 0
    """Time of the newest good reading; 0 before the first, and when nobody measures it."""
    held: int = 0
    """Until when duty and time on are reckoned."""
    interval: int = 0
    """How often it speaks; 0 until that is known."""
    zero: float | None = None
    """What the clamp shows while the motor stands, in its own unit."""
    value: float = 0.0
    """The newest reading."""
    noise: float = 0.0
    """Mean step from reading to reading, without those of the motor."""
    born: int = 0
    """Time of the first reading of all."""
    learned: int = 0
    """Readings that it has learned from, up to `LEARN`."""
    whole: bool = True
    """Whether it has only ever read whole numbers."""
    on: bool = False
    """The level of the newest reading."""
    duty: float = 0.0
    """Share of time on, averaged over `tau_s`."""
    running: bool = False
    """Whether the motor is at work, pauses of a pulsed one included."""
    since: int = 0
    """When `running` last changed."""
    pulses: int = 0
    """Runs that ended since it is at work: an offset has none."""
    on_at: int = 0
    """The last moment at which it was on, while at work: a single wild reading is no feeding."""
    run_since: int = 0
    """When the level that is on now began; 0 while it is off."""
    run_ms: float = 0.0
    """What of that was seen, and is not summed yet."""
    on_ms: float = 0.0
    """All time on that was ever seen; a gap counts nothing."""
    seen_ms: float = 0.0
    """All time for which it is known whether it was on."""
    doubted: int = 0
    """The last time at which its zero was not plausible; 0 when it is believed."""

    @property
    def counts_until(self) -> int:
        """Until when its newest level counts: two of its intervals."""
        return self.time + 2 * (self.interval or FIRST_MS)

    def clear(self) -> None:
        """Take note that nobody can measure it any more."""
        self._lose()
        self.time = 0

    def feed(self, value: float, time: int, limits: MotorRules, rules: Rules) -> bool:
        """Take a reading (the clamp's unit at ms); False when it is not newer or not plausible."""
        if time <= self.time or value < 0.0 or value > limits.high:
            return False
        gap = time - self.time if self.time else 0
        if not gap or gap > rules.stale_s * 1000:
            self._lose()
        else:
            late = time > self.counts_until
            self.hold(time, limits)
            self.interval = paced(self.interval, gap)
            if late:  # how its run went on was not seen
                self._count()
                self.run_since = 0
        self.time = self.held = time
        self._level(value, limits)
        if self.doubted and time - self.doubted >= GOOD_MS and self.pulses:
            self.doubted = 0
        return True

    def _lose(self) -> None:
        self.on = self.running = False
        self.duty = self.run_ms = 0.0
        self.run_since = 0

    def hold(self, time: int, limits: MotorRules) -> None:
        """Let the newest level last until a time (ms), but for two of its intervals at most."""
        until = min(time, self.counts_until)
        passed = until - self.held
        if passed <= 0:
            return
        self.held = until
        if self.on:
            self.run_ms += passed
        elif not self.doubted:
            self.seen_ms += passed
        self.duty += (self.on - self.duty) * (1.0 - exp(-passed / (limits.tau_s * 1000.0)))
        self._judge(limits, until)
        if self.on and self.running:
            self.on_at = until
        if limits.run_max_s is None:
            if self.on:
                self._count()
        elif self.run_since and until - self.run_since >= limits.run_max_s * 1000:
            self.doubt(until)

    def _count(self) -> None:
        """Sum what was seen of a run, where nothing speaks against it."""
        if not self.doubted:
            self.on_ms += self.run_ms
            self.seen_ms += self.run_ms
        self.run_ms = 0.0

    def doubt(self, time: int) -> None:
        """Take the level for an offset of the clamp: what it showed counts nothing, and its zero is learned anew."""
        self.doubted = time
        self.relearn()

    def _judge(self, limits: MotorRules, time: int) -> None:
        running = limits.duty_on <= self.duty <= limits.duty_max
        if self.running and limits.duty_off < self.duty <= limits.duty_max:
            running = True
        if running != self.running:
            self.running, self.since, self.pulses = running, time, 0

    def _level(self, value: float, limits: MotorRules) -> None:
        step = abs(value - self.value)
        self.value = value
        if self.zero is None:
            self.zero = value
            self.born = self.born or self.time
            return
        self.whole = self.whole and value == int(value)
        learning = self.learned < LEARN and self.time - self.born < LEARN_MS
        if learning or not self.running:
            # Clipped, so that a motor that starts is not noise.
            self.noise += (min(step, 3.0 * self.noise + limits.on / 10.0) - self.noise) * (0.1 if learning else 0.02)
        if learning:
            self.learned += 1
            self.zero += (value - self.zero) * (0.3 if value < self.zero else 0.05)
            return
        margin = NOISE * self.noise
        margin = max(margin, COUNTS) if self.whole else min(margin, CERTAIN * limits.on)
        above = value - self.zero
        on = above > (max(limits.off, margin / 2.0) if self.on else max(limits.on, margin))
        if on and not self.run_since:
            self.run_since = self.time
        elif not on and self.run_since:
            self.run_since = 0
            self.pulses += 1
            self._count()
        self.on = on
        if not on:
            # A zero that is too high is found at once, one that is too low slowly: a motor only ever adds.
            self.zero += above * (0.3 if above < -margin else 0.01)

    def relearn(self) -> None:
        """Forget the zero: the next reading is it."""
        self.zero = None
        self._lose()
