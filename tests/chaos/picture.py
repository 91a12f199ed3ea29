"""What round-robin files must show, computed from the archive: the mean of each second, to the last reading."""

import itertools
import math
import sqlite3
from collections import Counter, defaultdict
from contextlib import closing
from pathlib import Path

import rrdtool


def wrong_rows(folder: Path, archive: Path, pattern: str) -> Counter[bool]:
    """Count the seconds of all topics that are like a pattern by whether their mean is wrong.

    rrdtool takes a value for the time since the one before (rrdcreate(1), "the heartbeat and the step").
    """
    with closing(sqlite3.connect(archive, timeout=10)) as database:
        query = (
            "SELECT name, time, value FROM readings JOIN topics ON topics.id = topic WHERE name LIKE ? ORDER BY time"
        )
        series: dict[str, list[tuple[int, float]]] = defaultdict(list)
        for name, time, value in database.execute(query, (pattern,)):
            series[name].append((time, value))
    verdicts: Counter[bool] = Counter()
    for name, readings in series.items():
        expected = _means(readings)
        file = folder / f"{name}.rrd"
        if not file.exists():
            verdicts[True] += len(expected)
            continue
        found = _rows(file, min(expected, default=0), max(expected, default=0))
        for second, mean in expected.items():
            value = found.get(second)
            verdicts[value is None or not math.isclose(value, mean, abs_tol=0.01)] += 1
    return verdicts


def _means(readings: list[tuple[int, float]]) -> dict[int, float]:
    """Mean of each whole second between the first and the last reading, by the second at which it ends.

    An update that spans several seconds gives all of them one mean, that in which it began included.
    """
    means: dict[int, float] = {}
    total = math.nan  # the first second is not whole
    for (before, _), (time, value) in itertools.pairwise(readings):
        begin, end = before - before % 1000, time - time % 1000
        if end > begin:
            mean = (total + value * (end - before)) / (end - begin)
            means |= dict.fromkeys(range(begin // 1000 + 1, end // 1000 + 1), mean)
            total, before = 0.0, end  # noqa: PLW2901
        total += value * (time - before)
    return {second: mean for second, mean in means.items() if not math.isnan(mean)}


def _rows(file: Path, first: int, last: int) -> dict[int, float]:
    (start, _, step), _, rows = rrdtool.fetch(str(file), "AVERAGE", "-r", "1", "-s", str(first - 1), "-e", str(last))
    return {start + step * (n + 1): row[0] for n, row in enumerate(rows) if row[0] is not None}
