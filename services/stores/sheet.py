"""What a graph is drawn from: the time that is shown, the file of each topic, and what its states were when."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from bootstrap_lib import Duration, ReadingError, Topic, parse_time
from services.stores.canvas import Piece, first_known, is_young, paint, pieces_of
from services.stores.fresh import Recent
from services.stores.roundrobin import path_of

LEAST_S: Final = 10
"""A graph shows at least so many seconds."""


class GraphError(ValueError):
    """A graph that cannot be drawn; the message says why and what to ask for instead."""


@dataclass(frozen=True, slots=True)
class Span:
    """What time a graph shows, in seconds since 1970."""

    start: int
    end: int

    @classmethod
    def parse(cls, start: str, end: str | None, now: float) -> "Span":
        """Read `4h` (ago) or a time such as 2026-11-20T15:00:00Z for both ends; GraphError where they are none."""
        last = int(now) if end is None else _moment(end, now)
        first = _moment(start, now)
        if first >= last:
            raise GraphError(f"a graph goes from earlier to later, not from {start} to {end or 'now'}")
        return cls(first, last)


def _moment(text: str, now: float) -> int:
    try:
        return int(now - Duration.parse(text))
    except ValueError:
        pass
    try:
        return parse_time(text) // 1000
    except ReadingError:
        raise GraphError(f"'{text}' is neither a duration such as 4h nor a time such as 2026-11-20T15:00:00Z") from None


def is_band(topic: Topic[Any]) -> bool:
    """Whether a topic is shown as a band: a switch, or a state."""
    return topic.kind in ("switch", "state")


@dataclass(frozen=True, slots=True)
class Sheet:
    """What a picture is drawn from: the file of each topic, what its states were when, and the time that is shown."""

    span: Span
    paths: dict[str, Path]
    bands: dict[str, list[Piece]]
    empty: frozenset[str]
    """Topics of which nothing is known in that time."""


def prepare(
    topics: Sequence[Topic[Any]], folder: Path, scratch: Path, span: Span, recent: Mapping[str, Recent], *, width: int
) -> Sheet:
    """Make a file of its own in `scratch` for each state, and for each number that has too few entries yet."""
    paths = {topic.name: path_of(folder, topic.name) for topic in topics}
    painted: dict[str, list[Piece]] = {}
    for topic in topics:
        name, known, hold = topic.name, recent.get(topic.name), max(2 * topic.every, topic.stale)
        if is_band(topic):
            function = "LAST" if topic.kind == "state" else "AVERAGE"
            painted[name] = pieces_of(known, paths[name], span.start, span.end, hold=hold, function=function)
        elif topic.kind == "gauge" and is_young(paths[name], span.start, known):
            painted[name] = _sloped(pieces_of(known, paths[name], span.start, span.end, hold=hold, function=None))
    firsts = {name: pieces[0][0] // 1000 if pieces else None for name, pieces in painted.items()}
    for name in paths.keys() - painted.keys():
        firsts[name] = first_known(paths[name], span.start, span.end)
    begin = max(span.start, min((first for first in firsts.values() if first is not None), default=span.start))
    shown = Span(min(begin, span.end - LEAST_S), span.end)
    for number, (name, pieces) in enumerate(painted.items()):
        paths[name] = scratch / f"{number}.rrd"
        paint(paths[name], pieces, shown.start, shown.end, width)
    empty = frozenset(name for name, first in firsts.items() if first is None)
    bands = {topic.name: painted[topic.name] for topic in topics if is_band(topic)}
    return Sheet(shown, paths, bands, empty)


def _sloped(pieces: list[Piece]) -> list[Piece]:
    """Let the newest value last no longer than the others did: a curve ends where the readings end."""
    if len(pieces) > 1:
        begin, until, value = pieces[-1]
        pieces[-1] = (begin, min(until, begin + max(1000, pieces[-2][1] - pieces[-2][0])), value)
    return pieces
