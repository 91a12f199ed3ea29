"""The data passport: all that the archive holds as one zip that needs no program of ours, CSV by topic and local year.

Raw readings where they are kept, minutes where these are gone, hours where minutes are gone: each time stands in one file. The time order
of raw readings goes over scratch files, a topic each, so that a history of any length needs little memory.
"""

import csv
import hashlib
import io
import tempfile
import time
import zipfile
from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Iterator
from datetime import datetime
from itertools import pairwise
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self
from zoneinfo import ZoneInfo

import sqlalchemy as sql

from bootstrap_lib import Registry, Topic, as_json, format_time, quantities, state
from bootstrap_lib.version import VERSION
from services.stores import backup, replay
from services.stores.schema import MINUTE

FORMAT: Final = "constellation passport 1"
DESCRIPTION: Final = "description.json"
SUMS: Final = "SHA256SUMS"
SLICE: Final = 5000
HOUR: Final = 60 * MINUTE
MOST_GAPS: Final = 200
"""Times without anything that are listed of a topic, the longest first."""
RAW_SHARE: Final = 0.4
"""Part of the work that raw readings are, for the bar."""

_AGGREGATES: Final = "count, mean, low, high, last, difference, seconds_on, starts, word"
_RAW: Final = ("name", "time", "value", "unit", "ucum")
_MINUTES: Final = ("name", "time", "unit", *_AGGREGATES.split(", "), "ucum")
_HOURS: Final = ("name", "time", "unit", "minutes", *_AGGREGATES.split(", "), "ucum")

COLUMNS: Final = {
    "time": "UTC, RFC 3339; the beginning of a minute or an hour",
    "unit": "as people write it; ucum: the same for machines (ucum.org), empty where it has none",
    "count": "readings",
    "minutes": "minutes of the hour of which something is known",
    "mean, low, high": "of a number that comes and goes; high of a switch is 1 if it was on at any time",
    "last": "stand of a counter; whether a switch was on at the end",
    "difference": "what a counter counted since the stand before",
    "seconds_on, starts": "of a switch",
    "word": "the last of a state",
}
"""What the columns of the files say."""

Progress = Callable[[float, str], None]


class _Zip:
    """The zip that is written, with the sums of what is in it."""

    def __init__(self, file: Any) -> None:
        self._zip = zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED)
        self._sums: list[str] = []

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._zip.close()

    def add(self, name: str, pieces: Iterable[bytes]) -> None:
        digest = hashlib.sha256()
        entry = zipfile.ZipInfo(name, time.gmtime()[:6])
        entry.compress_type, entry.external_attr = zipfile.ZIP_DEFLATED, 0o600 << 16
        with self._zip.open(entry, "w", force_zip64=True) as member:
            for piece in pieces:
                digest.update(piece)
                member.write(piece)
        self._sums.append(f"{digest.hexdigest()}  {name}\n")

    def end(self) -> None:
        """Write the sums, as `sha256sum -c` reads them."""
        self._zip.writestr(SUMS, "".join(self._sums))


class _TopicFiles:
    """What the description says of a topic; files are noted as they are written."""

    def __init__(self, name: str, topic: Topic[Any] | None) -> None:
        self.name, self._topic = name, topic
        self.units: set[str] = set()
        self.files: list[dict[str, Any]] = []
        self.hours: set[int] = set()
        """Hours since 1970 of which something is known."""
        self.raw_minutes = bytearray()
        """Which minutes of the raw readings' time have one, a bit each."""

    def ucum(self, unit: str) -> str:
        """Return a unit as machines write it."""
        found = self._topic.row if self._topic else quantities.quantity_of(self.name)
        return found.ucum if found and found.unit == unit else ""

    def description(self) -> dict[str, Any]:
        """Return it as JSON."""
        topic = self._topic
        told: dict[str, Any] = {"topic": self.name, "files": self.files}
        if topic is not None:
            told |= {"label": topic.label, "quantity": topic.quantity, "kind": topic.kind, "source": topic.source}
            told |= {"states": topic.states} if topic.states else {}
        told["units"] = [{"unit": unit, "ucum": self.ucum(unit) or None} for unit in sorted(self.units)]
        if self.hours:
            gaps = _gaps(self.hours)
            told["missing"] = [[format_time(begin * HOUR), format_time(end * HOUR)] for begin, end in gaps[:MOST_GAPS]]
            told |= {"missing_more": len(gaps) - MOST_GAPS} if len(gaps) > MOST_GAPS else {}
        return told


def _gaps(known: Collection[int]) -> list[tuple[int, int]]:
    """Runs of whole hours of which nothing is known, the longest first."""
    line = sorted(known)
    gaps = [(before + 1, after) for before, after in pairwise(line) if after > before + 1]
    return sorted(gaps, key=lambda gap: gap[0] - gap[1])


def write(
    engine: sql.Engine, registry: Registry, names: Collection[str], target: Path, progress: Progress
) -> dict[str, int]:
    """Write the passport of some topics; returns how many rows of each kind it has. OSError, and errors of SQLAlchemy."""
    told = {name: _TopicFiles(name, registry.topics.get(name)) for name in names}
    now = time.time_ns() // 1_000_000
    with (
        tempfile.TemporaryDirectory(dir=backup.scratch_for(target), prefix=".passport-") as beside,
        state.replacing(target, 0o600) as file,
        _Zip(file) as into,
    ):
        writing = _Passport(engine, registry.timezone, into, Path(beside))
        first = writing.spread_raw(told, now, progress)
        for number, one in enumerate(told.values()):
            progress(RAW_SHARE + (1 - RAW_SHARE) * number / len(told), one.name)
            writing.topic(one, first)
        into.add(DESCRIPTION, [_described(registry, told, now)])
        into.end()
    return dict(writing.rows)


def _described(registry: Registry, told: dict[str, _TopicFiles], now: int) -> bytes:
    lacking = sorted(name for name, topic in registry.topics.items() if name not in told or not told[name].files)
    content = {
        "format": FORMAT,
        "made": format_time(now),
        "version": VERSION,
        "timezone": registry.timezone.key,
        "columns": COLUMNS,
        "topics": [one.description() for one in told.values() if one.files],
        "nothing_of": lacking,
    }
    return as_json(content)


class _Passport:
    """One passport on its way."""

    def __init__(self, engine: sql.Engine, zone: ZoneInfo, into: _Zip, beside: Path) -> None:
        self._engine, self._zone, self._into, self._beside = engine, zone, into, beside
        self._numbers: dict[str, int] = {}
        self.rows: dict[str, int] = defaultdict(int)

    def spread_raw(self, told: dict[str, _TopicFiles], now: int, progress: Progress) -> int:
        """Put raw readings into a scratch file for each topic and year; returns from when (ms) there are some."""
        self._numbers = {name: number for number, name in enumerate(told)}
        first = None
        for batch in replay.read(self._engine, 0, now, told.keys()):
            first = batch[0].time if first is None else first
            progress(RAW_SHARE * (batch[-1].time - first) / max(1, now - first), "raw readings")
            lines: dict[tuple[str, int], list[tuple[object, ...]]] = defaultdict(list)
            for row in batch:
                one = told[row.name]
                one.units.add(row.unit)
                one.hours.add(row.time // HOUR)
                _mark(one.raw_minutes, row.time // MINUTE - first // MINUTE)
                value = str(row.value).lower() if isinstance(row.value, bool) else row.value
                lines[row.name, self._year(row.time)].append(
                    (row.name, format_time(row.time), value, row.unit, one.ucum(row.unit))
                )
            for (name, year), rows in lines.items():
                with self._scratch(name, year).open("ab") as file:
                    file.write(_csv(rows))
        return now if first is None else first

    def _scratch(self, name: str, year: int) -> Path:
        return self._beside / f"{self._numbers[name]}-{year}"

    def _year(self, moment: int) -> int:
        return datetime.fromtimestamp(moment / 1000, self._zone).year

    def topic(self, one: _TopicFiles, first: int) -> None:
        """Write all files of a topic."""
        self._files(one, "hours", _HOURS, self._hours(one.name))
        self._files(one, "minutes", _MINUTES, self._minutes(one, first))
        for path in sorted(self._beside.glob(f"{self._numbers[one.name]}-*")):
            name = f"data/{one.name}/{path.name.partition('-')[2]}-raw.csv"
            count = 0

            def pieces(path: Path = path) -> Iterator[bytes]:
                nonlocal count
                yield _csv([_RAW])
                with path.open("rb") as file:
                    while piece := file.read(1 << 20):
                        count += piece.count(b"\n")
                        yield piece

            self._into.add(name, pieces())
            one.files.append({"file": name, "holds": "raw", "rows": count})
            self.rows["raw"] += count
            path.unlink()

    def _files(
        self, one: _TopicFiles, holds: str, header: tuple[str, ...], rows: Iterator[tuple[int, tuple[Any, ...]]]
    ) -> None:
        """Write rows, which come in the order of time, into a file for each year."""
        following = next(rows, None)
        while following is not None:
            year = self._year(following[0])
            name, count = f"data/{one.name}/{year}-{holds}.csv", 0

            def pieces(year: int = year) -> Iterator[bytes]:
                nonlocal following, count
                yield _csv([header])
                waiting = []
                while following is not None and self._year(following[0]) == year:
                    moment, row = following
                    one.units.add(row[2])
                    one.hours.add(moment // HOUR)
                    waiting.append((*row, one.ucum(row[2])))
                    count += 1
                    following = next(rows, None)
                    if len(waiting) >= SLICE:
                        yield _csv(waiting)
                        waiting = []
                yield _csv(waiting)

            self._into.add(name, pieces())
            one.files.append({"file": name, "holds": holds, "rows": count})
            self.rows[holds] += count

    def _minutes(self, one: _TopicFiles, first: int) -> Iterator[tuple[int, tuple[Any, ...]]]:
        query = f"SELECT ms, name, time, unit, {_AGGREGATES} FROM minutes_by_name WHERE name = ? AND ms > ? ORDER BY ms LIMIT {SLICE}"
        for moment, *row in self._slices(query, one.name):
            if not _is_marked(one.raw_minutes, moment // MINUTE - first // MINUTE):
                yield moment, tuple(row)

    def _hours(self, name: str) -> Iterator[tuple[int, tuple[Any, ...]]]:
        """Hours that have outlived their minutes, or never had any."""
        columns = ", ".join(f"h.{column}" for column in _AGGREGATES.split(", "))
        query = f"""
            SELECT h.time, t.name, t.unit, h.minutes, {columns} FROM topics t CROSS JOIN hours h ON h.topic = t.id
            WHERE t.name = ? AND h.time > ? AND NOT EXISTS (
                SELECT 1 FROM minutes m WHERE m.topic = t.id AND m.time >= h.time AND m.time < h.time + {HOUR})
            ORDER BY h.time LIMIT {SLICE}"""
        for moment, _, unit, *row in self._slices(query, name):
            yield moment, (name, format_time(moment), unit, *row)

    def _slices(self, query: str, name: str) -> Iterator[tuple[Any, ...]]:
        """Rows in slices: no transaction is open between two of them."""
        after = -1
        while True:
            with self._engine.connect() as connection:
                found = [tuple(row) for row in connection.exec_driver_sql(query, (name, after))]
            yield from found
            if len(found) < SLICE:
                return
            after = found[-1][0]


def _csv(rows: Iterable[Iterable[object]]) -> bytes:
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows(rows)
    return text.getvalue().encode()


def _mark(bits: bytearray, number: int) -> None:
    if number // 8 >= len(bits):
        bits.extend(bytes(number // 8 + 1 - len(bits)))
    bits[number // 8] |= 1 << number % 8


def _is_marked(bits: bytearray, number: int) -> bool:
    return 0 <= number < 8 * len(bits) and bool(bits[number // 8] >> number % 8 & 1)
