"""A round-robin file for one picture: at the picture's own resolution, from states' own times and from the newest readings."""

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, Final

from services.stores.fresh import Recent

Piece = tuple[int, int, float]
"""From, to (ms since 1970), and the value between."""

YOUNG_S: Final = 1800
"""A file that holds less than this shows too little of it: the readings themselves are drawn, s."""


def is_young(path: Path, start: int, recent: Recent | None) -> bool:
    """Whether a file shows less from `start` (s) on than the readings that are still at hand."""
    if recent is None or not recent.points:
        return False
    first = recent.points[0][0] // 1000
    known = [time for time, value in _rows(path, start, recent.heard // 1000 + 1, "AVERAGE") if value is not None]
    return not known or (known[-1] - known[0] < YOUNG_S and first <= known[0])


def pieces_of(
    recent: Recent | None, path: Path, start: int, end: int, *, hold: float, function: str | None
) -> list[Piece]:
    """What was so from `start` to `end` (s): by its own times where they are known, before that by the file's entries.

    A point lasts until the next, the newest for `hold` seconds; without `function` the file is not asked.
    """
    points = [] if recent is None else recent.points
    found: list[Piece] = []
    first = points[0][0] if points else end * 1000
    if function is not None and first > start * 1000:
        rows = _rows(path, start, min(end, first // 1000), function)
        step = rows[1][0] - rows[0][0] if len(rows) > 1 else 60
        for time, value in rows:
            if value is not None and (value == int(value) or function == "AVERAGE"):
                found.append(((time - step) * 1000, min(time * 1000, first), value))
    last = 0 if recent is None else min(end * 1000, recent.heard + round(hold * 1000))
    for (time, value), following in zip(points, [*(time for time, _ in points[1:]), last], strict=False):
        begin, until = max(time, start * 1000), min(following, end * 1000)
        if value is not None and begin < until:
            found.append((begin, until, value))
    return _joined(found)


def _joined(pieces: Iterable[Piece]) -> list[Piece]:
    joined: list[Piece] = []
    for begin, until, value in sorted(pieces):
        if joined and joined[-1][2] == value and begin - joined[-1][1] <= 1:
            joined[-1] = (joined[-1][0], max(until, joined[-1][1]), value)
        elif until > begin:
            joined.append((begin, until, value))
    return joined


def paint(path: Path, pieces: Sequence[Piece], start: int, end: int, width: int) -> None:
    """Make a file of pieces that has an entry for each pixel."""
    rrdtool = _rrdtool()
    step = max(1, (end - start) // max(1, width))
    first = start - 2 * step
    rows = (end - first) // step + 4
    arrays = [f"RRA:{function}:0.5:1:{rows}" for function in ("AVERAGE", "LAST")]
    rrdtool.create(str(path), "--start", str(first), "--step", str(step), "DS:value:GAUGE:2000000000:U:U", *arrays)
    updates, reached = [], first * 1000 + 1
    for begin, until, value in pieces:
        if begin > reached:
            updates.append((begin, "U"))
        reached = max(until, begin + 1)
        updates.append((reached, repr(value)))
    closing = (end + 2 * step) * 1000
    if closing > reached:
        updates.append((closing, "U"))
    lines = [f"{time // 1000}.{time % 1000:03d}:{value}" for time, value in updates]
    for at in range(0, len(lines), 500):
        rrdtool.update(str(path), "--skip-past-updates", *lines[at : at + 500])


def first_known(path: Path, start: int, end: int) -> int | None:
    """The first moment from `start` to `end` (s) of which a file knows anything: its finer arrays reach less far back."""
    for function in ("AVERAGE", "LAST"):
        for begin in (start, *(end - days * 86_400 for days in (366, 21, 1) if end - days * 86_400 > start)):
            rows = _rows(path, begin, end, function)
            step = rows[1][0] - rows[0][0] if len(rows) > 1 else 60
            if known := [time for time, value in rows if value is not None]:
                return max(start, known[0] - step)
    return None


def _rows(path: Path, start: int, end: int, function: str) -> list[tuple[int, float | None]]:
    """Entries of a file: the end of each (s), and its value."""
    if not path.exists() or end <= start:
        return []
    rrdtool = _rrdtool()
    try:
        (first, _, step), _, rows = rrdtool.fetch(str(path), function, "--start", str(start), "--end", str(end))
    except rrdtool.OperationalError:
        return []
    return [(first + (n + 1) * step, row[0]) for n, row in enumerate(rows)]


def _rrdtool() -> Any:
    import rrdtool

    return rrdtool
