"""Which foreign series becomes which topic, and how that looks before anything is written."""

import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Final

from bootstrap_lib import ReadingError, Registry, StartError, Topic, format_time, nearest, quantities
from services.histories.conversion import HOUR, Conversion, Kept
from services.histories.scratch import Foreign, Scratch

BARS: Final = "▁▂▃▄▅▆▇█"
WIDTH: Final = 60
"""Columns of a picture."""
LIKENESS: Final = 2
"""Words that a name must share with a topic's to be proposed."""

_WORDS: Final = re.compile(r"[^a-z0-9]+")


class Picture:
    """A series in one line of a terminal, drawn while it passes."""

    def __init__(self, foreign: Foreign) -> None:
        """Nothing has passed yet."""
        self._first, self._span = foreign.first, max(1, foreign.last - foreign.first)
        self._sums = [0.0] * WIDTH
        self._counts = [0] * WIDTH
        self.minutes = self.hours = 0

    def watch(self, rows: Iterable[Kept]) -> Iterator[Kept]:
        """Let rows pass."""
        for row in rows:
            if row.length == HOUR:
                self.hours += 1
            else:
                self.minutes += 1
            value = next(
                (one for one in (row.mean, row.seconds_on, row.last, row.difference) if one is not None), row.readings
            )
            place = min(WIDTH - 1, max(0, (row.time - self._first) * WIDTH // self._span))
            self._sums[place] += value
            self._counts[place] += 1
            yield row

    def __str__(self) -> str:
        """Return it; a dot is a time of which nothing is known."""
        means = [total / count if count else None for total, count in zip(self._sums, self._counts, strict=True)]
        known = [mean for mean in means if mean is not None]
        if not known:
            return ""
        low, height = min(known), (max(known) - min(known)) or 1.0
        return "".join("·" if mean is None else BARS[round((mean - low) / height * (len(BARS) - 1))] for mean in means)


def mapped(
    registry: Registry, found: Iterable[Foreign], maps: Mapping[str, str], units: Mapping[str, str]
) -> Iterator[tuple[Foreign, Topic[Any] | None]]:
    """Each series with its topic: as it is told, or by the same name. StartError for names that are none."""
    series = list(found)
    said = Counter(one.name for one in series)
    for name in (*maps, *units):
        if name not in said:
            raise StartError(f"there is no series '{name}'{nearest(name, said)}")
    for one in series:
        name, wanted = one.name, maps.get(one.name, one.name)
        topic = registry.topics.get(wanted) or registry.formerly.get(wanted)
        if topic is None and name in maps:
            raise StartError(f"topics.yaml has no topic '{wanted}'{nearest(wanted, registry.topics)}")
        if topic is not None and not topic.stored_by("archive"):
            raise StartError(f"the archive does not store {topic.name}")
        if one.unit is None or said[name] == 1:
            yield one._replace(unit=units.get(name, one.unit)), topic
        else:  # of several units each is what its rows say, and one that is another quantity is left out
            yield one, topic if topic is None or quantities.conversion(one.unit, topic.unit) else None


def proposal(registry: Registry, foreign: Foreign) -> str | None:
    """Return the topic that a series may be by its unit and its words, if there is just one."""
    words = set(_WORDS.split(foreign.name.lower())) - {""}
    likeness: dict[str, int] = {}
    for topic in registry.topics.values():
        fits = foreign.unit is None or quantities.conversion(foreign.unit, topic.unit) is not None
        if fits and topic.stored_by("archive"):
            theirs = set(_WORDS.split(topic.name)) | set(_WORDS.split(topic.label.lower()))
            likeness[topic.name] = len(words & theirs)
    best = max(likeness.values(), default=0)
    names = [name for name, common in likeness.items() if common == best]
    return names[0] if best >= LIKENESS and len(names) == 1 else None


def conversion(registry: Registry, foreign: Foreign, topic: Topic[Any], now: int) -> Conversion:
    """Return the way of a series. StartError where its unit is another one."""
    try:
        return Conversion(foreign, topic, registry.timezone, now)
    except ReadingError as error:
        raise StartError(f"{foreign.name} cannot become {topic.name}: {error}; say another with --unit") from None


def lines(foreign: Foreign, way: Conversion, picture: Picture) -> Iterator[str]:
    """What is said of a series that is taken."""
    unit = foreign.unit or f"no unit said: taken for {way.topic.unit or 'none'}"
    yield f"{foreign.name} ({unit}) → {way.topic.name}"
    yield f"  {format_time(foreign.first)} to {format_time(foreign.last)}"
    yield f"  {foreign.size} rows: {picture.minutes} minutes and {picture.hours} hours"
    if drawn := str(picture):
        yield f"  {drawn}"
    for one in way.refused:
        yield f"  refused {one.rows}: {one.why} (the first: {one.example})"


def left_out(registry: Registry, foreign: Foreign) -> str:
    """What is said of a series that is not taken."""
    proposed = proposal(registry, foreign)
    how = f"--map '{foreign.name}={proposed}' ?" if proposed else "no topic is like it"
    unit = f" ({foreign.unit})" if foreign.unit else ""
    return f"{foreign.name}{unit}: not taken, {foreign.size} rows to {format_time(foreign.last)[:10]}; {how}"


def problems(scratch: Scratch) -> Iterator[str]:
    """What could not be read."""
    for why, count in scratch.problems.items():
        yield f"not read: {count} {why}"
