"""What people know: of each alert, by each way to them. It lasts over restarts, and longer than the rule itself."""

from typing import Final, NamedTuple

import msgspec

from services.alerting.outbox import Outgoing
from services.alerting.rule import Count, Moment, Rule
from services.notices.notice import EMERGENCY

OFTEN: Final = 3
"""Ends within LATELY after which an emergency flaps, and has a hold-off as every other alert."""
LATELY: Final = 3_600_000


class Track(msgspec.Struct, omit_defaults=True):
    """What the people at the end of one route know of one alert. Times are wall time (ms), but for `told`."""

    told: dict[str, Moment] = {}
    """Notifiers that delivered that it fires and not yet that it is over, with since when it was so (reading time)."""
    fired: Count = 0
    """How often it had fired, and for how long in all (ms), by what they know."""
    fired_for: Count = 0
    explained: Count = 0
    """The last firing of which nobody needs to hear, as something else explained it."""
    asked: Count = 0
    """The last firing for which a notifier was asked: what explains it later comes too late where nobody could deliver."""
    spoken: Moment = 0
    woken: bool = False
    """A snooze has ended: what still fires is said again."""
    meanwhile: bool = False
    """It came in a backlog."""
    ring: list[str] = []
    """Notifiers that are to ring again: an emergency rang in vain."""
    rounds: Count = 0
    """How often nobody on the route could deliver."""
    not_before: Moment = 0


class Delivery(NamedTuple):
    """Who delivered what, when (wall, ms)."""

    time: Moment
    notifier: str
    title: str


class Told(msgspec.Struct, omit_defaults=True):
    """What was said and answered of one alert. Times are wall time (ms)."""

    title: str = ""
    priority: int = 0
    tracks: dict[str, Track] = {}
    """By route, as its notifiers are written with commas."""
    noticed: Moment = 0
    """Since when it fires and people were asked to notice; anew after a snooze."""
    ended: Moment = 0
    """When people were told that it is over: the hold-off counts from here."""
    ends: dict[Count, Moment] = {}
    """The last such moments, by how often it had fired: those who are told by several ways are told of the same end."""
    acknowledged: Moment = 0
    snoozed: Moment = 0
    unanswered: Count = 0
    """Emergencies of it that rang in vain."""
    escalated: bool = False
    history: list[Delivery] = []

    def end(self, wall: int, fired: int) -> None:
        """People were told that it is over."""
        self.ended = self.ends[fired] = wall
        self.ends = dict(list(self.ends.items())[-OFTEN:])

    def rests(self, rule: Rule, wall: int, usual: float) -> int:
        """Milliseconds for which it may not speak yet, as it was over a moment ago; `usual` (s) is where no rule says it.

        An emergency speaks at once, where nobody wants it otherwise and it has not been over often lately.
        """
        flaps = len(self.ends) == OFTEN and wall - min(self.ends.values()) < LATELY
        spared = rule.hold_off is None and rule.priority == EMERGENCY and not flaps
        hold_off = 0.0 if spared else usual if rule.hold_off is None else rule.hold_off
        return max(0, self.ended + round(hold_off * 1000) - wall) if self.ended <= wall else 0

    def shift(self, step: int) -> None:
        """The clock was set."""
        for name in ("noticed", "ended", "acknowledged", "snoozed"):
            if moment := getattr(self, name):
                setattr(self, name, max(1, moment + step))
        self.ends = {fired: max(1, moment + step) for fired, moment in self.ends.items()}
        for track in self.tracks.values():
            track.told = {notifier: max(1, begun + step) for notifier, begun in track.told.items()}
            track.spoken = max(1, track.spoken + step) if track.spoken else 0
            track.not_before = max(1, track.not_before + step) if track.not_before else 0


class TellerMemory(msgspec.Struct):
    """What must be known after a restart."""

    told: dict[str, Told] = msgspec.field(default_factory=dict)
    waiting: list[Outgoing] = msgspec.field(default_factory=list)
    settled: list[Outgoing] = msgspec.field(default_factory=list)
    maintenance: Moment = 0
