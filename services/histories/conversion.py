"""Foreign rows made into minutes and hours of a topic: units, ranges, words, and what a length of time becomes.

Values at a time become the minutes that they are in, as the archive's own do. A mean of up to half an hour becomes the minute at its
beginning, one of whole hours becomes hours; where the zone's hours begin elsewhere, the quarters of it. What is of a minute stays.
"""

from collections.abc import Iterable, Iterator
from datetime import datetime
from itertools import groupby
from typing import Any, Final, NamedTuple
from zoneinfo import ZoneInfo

from bootstrap_lib import ReadingError, Topic, quantities
from services.histories.scratch import Foreign, Old
from services.stores.database import CEILING, FLOOR
from services.stores.days import midnight
from services.stores.minutes import DECIMALS, Point, switch_minutes
from services.stores.schema import MINUTE

HOUR: Final = 60 * MINUTE
QUARTER: Final = 15 * MINUTE
SHORT: Final = 30 * MINUTE
DAY: Final = 24 * HOUR
HELD: Final = DAY
"""How long a switch is believed whose program writes changes alone."""

ON: Final = frozenset({"on", "true", "open", "home", "yes", "active", "heat"})
OFF: Final = frozenset({"off", "false", "closed", "not_home", "no", "idle", "inactive"})


class Kept(NamedTuple):
    """A minute, or an hour, as the archive keeps it; `stands` of a counter are those of its minute, in order.

    `span` is the begin and end (ms) of the row that it is all of, or a part of, where that stood for more than the minute;
    its parts counted from `since` on, where that is before its begin.
    """

    time: int
    length: int
    readings: int = 1
    mean: float | None = None
    low: float | None = None
    high: float | None = None
    last: float | None = None
    difference: float | None = None
    seconds_on: float | None = None
    starts: int | None = None
    word: str | None = None
    stands: tuple[float, ...] = ()
    span: tuple[int, int] | None = None
    since: int | None = None


class NotTaken(NamedTuple):
    """Why rows were not taken, how many, and the first."""

    why: str
    rows: int
    example: str


class Conversion:
    """One series on its way to one topic. `refused` is known when all rows were drawn."""

    def __init__(self, foreign: Foreign, topic: Topic[Any], zone: ZoneInfo, now: int) -> None:
        """ReadingError where the unit does not convert; one that nobody told is taken for the topic's own. `now` in ms."""
        self.foreign, self.topic = foreign, topic
        self._zone, self._now = zone, now
        line = quantities.conversion(foreign.unit or topic.unit, topic.unit)
        if line is None and topic.kind in ("gauge", "counter"):
            raise ReadingError(f"its unit {foreign.unit} does not convert to {topic.unit or 'no unit'}")
        self._factor, self._summand = line or (1.0, 0.0)
        self._refusals: dict[str, list[Any]] = {}

    @property
    def refused(self) -> list[NotTaken]:
        """What was not taken."""
        return [NotTaken(why, count, example) for why, (count, example) in self._refusals.items()]

    def _refuse(self, why: str, example: object) -> None:
        self._refusals.setdefault(why, [0, str(example)])[0] += 1

    def rows(self, old: Iterable[Old]) -> Iterator[Kept]:
        """What the archive keeps of rows, which come as `Scratch.rows` gives them."""
        for length, some in groupby(old, key=lambda row: row.length):
            timely = (row for row in some if self._is_timely(row))
            if length >= MINUTE:
                for row in timely:
                    yield from self._span(row)
            elif self.topic.kind == "switch":
                yield from self._switch(timely)
            else:
                for begin, points in groupby(timely, key=lambda row: row.time - row.time % MINUTE):
                    yield from self._minute(begin, points)

    def _is_timely(self, row: Old) -> bool:
        if row.time + row.length > self._now:
            self._refuse("of the future", row.time)
        elif not FLOOR <= row.time < CEILING:
            self._refuse("before 2000", row.time)
        else:
            return True
        return False

    # -- values ------------------------------------------------------------------------------------------------------

    def _number(self, value: float | None, *, computed: bool = False) -> float | None:
        """Make a number one of the topic; one that was `computed`, as a mean, has more digits than a reading."""
        if value is None:
            return None
        number = round(value * self._factor + self._summand, DECIMALS)
        try:
            proper = float(self.topic.proper(number))
        except (ReadingError, OverflowError) as error:
            self._refuse(str(error).partition(" is ")[2] or str(error), value)
            return None
        return number if computed else proper

    def _value(self, row: Old) -> float | None:
        """Number of a row that stands for a gauge or a counter."""
        if row.word is not None:
            self._refuse("no number", row.word)
        return self._number(row.value, computed=row.length > 0) if row.word is None else None

    def _on(self, row: Old) -> bool | None:
        """Whether a switch was on; None where nobody knew."""
        if row.word is None:
            return None if row.value is None else row.value > 0
        word = row.word.lower()
        if word not in ON | OFF:
            self._refuse("neither on nor off", row.word)
        return word in ON if word in ON | OFF else None

    def _word(self, row: Old) -> str | None:
        """Word of a state, also from its number among the topic's states, as round-robin files keep it."""
        word, states = row.word, self.topic.states
        if word is None and row.value is not None and row.value.is_integer() and 0 <= row.value < len(states):
            word = states[int(row.value)]
        if word is not None and word not in states:
            self._refuse(f"none of its states {', '.join(states)}", word)
            return None
        return word

    # -- values at a time ------------------------------------------------------------------------------------------

    def _minute(self, begin: int, points: Iterable[Old]) -> Iterator[Kept]:
        if self.topic.kind == "state":
            words = [word for row in points if (word := self._word(row)) is not None]
            if words:
                yield Kept(begin, MINUTE, len(words), word=words[-1])
            return
        values = [value for row in points if (value := self._value(row)) is not None]
        if values and self.topic.kind == "counter":
            yield Kept(begin, MINUTE, len(values), last=values[-1], stands=tuple(values))
        elif values:
            mean = round(sum(values) / len(values), DECIMALS)
            yield Kept(begin, MINUTE, len(values), mean, min(values), max(values))

    def _switch(self, points: Iterable[Old]) -> Iterator[Kept]:
        """Minutes in which the state of a switch was known, a day at a time."""
        hold = HELD if self.foreign.on_change else round(self.topic.stale * 1000)
        before: Point | None = None
        reached = 0
        for day, some in groupby(points, key=lambda row: row.time - row.time % DAY):
            line = [Point(row.time, self._on(row)) for row in some]
            if before is not None:  # what was held from the day before, up to this one's first
                yield from self._held(before, [], hold, reached, min(day, before.time + hold))
            first = max(day, reached)
            last = line[-1].time - line[-1].time % MINUTE + MINUTE
            yield from self._held(before, line, hold, first, last)
            before, reached = line[-1], last

    @staticmethod
    def _held(before: Point | None, line: list[Point], hold: int, begin: int, end: int) -> Iterator[Kept]:
        for one in switch_minutes(before, line, hold, begin, end) if begin < end else ():
            yield Kept(
                one.time,
                MINUTE,
                one.count,
                high=one.high,
                last=one.last,
                seconds_on=one.seconds_on,
                starts=one.starts,
            )

    # -- what is known of a length of time -------------------------------------------------------------------------

    def _span(self, row: Old) -> Iterator[Kept]:
        one = self._whole(row)
        if one is None:
            return
        times, length = self._times(row)
        parts = len(times)
        end = row.time + row.length
        by_minute = end - times[0] <= parts * MINUTE
        for number, time in enumerate(times, 1):
            final = number == parts
            yield one._replace(
                time=time,
                length=length,
                last=one.last if final or self.topic.kind != "counter" else None,
                difference=None if one.difference is None else one.difference / parts,
                seconds_on=None if one.seconds_on is None else one.seconds_on / parts,
                starts=one.starts if number == 1 or one.starts is None else 0,
                span=None if by_minute else (times[0], end),
                since=row.since,
            )

    def _times(self, row: Old) -> tuple[list[int], int]:
        """Times of the minutes, or hours, that a length of time becomes."""
        begin, end = row.time - row.time % MINUTE, row.time + row.length
        kind = self.topic.kind
        if row.length < SHORT and kind == "switch":
            return list(range(begin, end - MINUTE + 1, MINUTE)) or [begin], MINUTE
        if row.length <= SHORT:
            return [begin], MINUTE
        if row.length % HOUR == 0 and self._begins_an_hour(begin):
            return list(range(begin, end, HOUR)), HOUR
        return list(range(begin, end, QUARTER)) if kind != "state" else [begin], MINUTE

    def _begins_an_hour(self, moment: int) -> bool:
        day = datetime.fromtimestamp(moment / 1000, self._zone).date()
        return (moment - midnight(day, self._zone)) % HOUR == 0

    def _whole(self, row: Old) -> Kept | None:
        """What is known of a length of time, as a whole."""
        count = 1 if row.readings is None else row.readings
        kept = Kept(row.time, row.length, count)
        match self.topic.kind:
            case "state":
                word = self._word(row)
                return None if word is None else kept._replace(word=word)
            case "switch":
                return self._known_switch(row, kept)
            case "counter":
                last = self._value(row)
                difference = None if row.difference is None else round(row.difference * self._factor, DECIMALS)
                if difference is not None and difference < 0:
                    difference = None
                if last is None and difference is None:
                    return None
                return kept._replace(readings=count if last is not None else 0, last=last, difference=difference)
        mean = self._value(row)
        if mean is None:
            return None
        low, high = (mean if edge is None else self._number(edge, computed=True) for edge in (row.low, row.high))
        return kept._replace(mean=mean, low=mean if low is None else low, high=mean if high is None else high)

    def _known_switch(self, row: Old, kept: Kept) -> Kept | None:
        seconds = row.seconds_on
        if seconds is None:
            on = self._on(row) if row.word is not None or row.value is None else None
            share = row.value if row.word is None else (None if on is None else float(on))
            if share is None or not 0 <= share <= 1:
                return None
            seconds = share * row.length / 1000
        high = float(seconds > 0) if row.high is None else row.high
        return kept._replace(
            high=high, last=row.value if row.value in (0, 1) else None, seconds_on=seconds, starts=row.starts or 0
        )
