"""One measurement as a round-robin file: how it is made, what goes into it, and how it follows topics.yaml.

A file holds one data source named `value` and never grows: older readings live on as means, minima and maxima of
longer and longer intervals (rrdtool.org, rrdcreate(1), rrdupdate(1), rrdtune(1)). It is a picture, not the record.
"""

import math
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any, Final, NamedTuple, Self

from bootstrap_lib import Topic, Value, parse_time, reason, state
from services.stores.backfill import ReplayEntry

Point = tuple[int, float]
"""Time in milliseconds since 1970, and the value."""


class Mean(NamedTuple):
    """The mean of `length` milliseconds from a time on, with the lowest and the highest mean of its minutes."""

    time: int
    length: int
    value: float
    low: float
    high: float


MINUTE, HOUR, DAY = 60, 3600, 86400
STEPS: Final = (60, 30, 20, 15, 10, 5, 2, 1)
"""Seconds that a file's grid may have: each divides a minute, so that all files meet on it."""


class Tier(NamedTuple):
    """One of a file's arrays: an entry every `resolution` seconds for `span` seconds."""

    resolution: int
    span: int


TIERS: Final = (Tier(5 * MINUTE, 21 * DAY), Tier(HOUR, 366 * DAY), Tier(6 * HOUR, 3653 * DAY))
"""What follows a day on the file's own grid: three weeks, a year, ten years."""

FUNCTIONS: Final = {"gauge": ("AVERAGE", "MIN", "MAX"), "state": ("LAST",)}
"""How entries are consolidated: between two states there is no mean."""


class Damaged(RuntimeError):
    """A file that is no round-robin file any more; the message says how it shows."""


class Array(NamedTuple):
    """One RRA as rrdtool describes it; `steps` of the grid make an entry."""

    function: str
    steps: int
    rows: int


@dataclass(frozen=True, slots=True)
class FileShape:
    """What a topic's file must look like: all of it follows from its line in topics.yaml.

    `step` and `heartbeat` are in seconds; `stepwise` is a value that holds until it changes.
    """

    type: str
    step: int
    heartbeat: int
    low: float | None
    high: float | None
    arrays: tuple[Array, ...]
    stepwise: bool

    @classmethod
    def of(cls, topic: Topic[Any], finest: float) -> Self:
        """FileShape for a topic, on a grid of a minute, or of its interval where that is shorter, but not below `finest`."""
        step = next((step for step in STEPS if step <= max(topic.every, finest)), 1)
        # All that a counter's range could bound is its total; what a file bounds is the rate, which is never negative.
        low, high = {"gauge": (topic.low, topic.high), "counter": (0.0, None), "switch": (0.0, 1.0)}.get(
            topic.kind, (0.0, max(1.0, len(topic.states) - 1))
        )
        functions = FUNCTIONS.get(topic.kind, FUNCTIONS["gauge"])
        coarser = (
            Array(function, tier.resolution // step, tier.span // tier.resolution)
            for tier in TIERS
            for function in functions
        )
        return cls(
            type=topic.row.rrd if topic.kind in ("gauge", "counter") else "GAUGE",
            step=step,
            heartbeat=math.ceil(max(2 * topic.every, topic.stale)),
            low=low,
            high=high,
            arrays=(Array(functions[0], 1, DAY // step), *coarser),
            stepwise=topic.kind in ("switch", "state") or topic.deadband is not None,
        )

    def create(self) -> list[str]:
        """Return the arguments of rrdtool's `create`, without path and start."""
        source = f"DS:value:{self.type}:{self.heartbeat}:{_bound(self.low)}:{_bound(self.high)}"
        return ["--step", str(self.step), source, *(f"RRA:{f}:0.5:{steps}:{rows}" for f, steps, rows in self.arrays)]

    def tune(self) -> list[str]:
        """Return the arguments of rrdtool's `tune` for what may change in place."""
        low, high = _bound(self.low), _bound(self.high)
        return ["--heartbeat", f"value:{self.heartbeat}", "--minimum", f"value:{low}", "--maximum", f"value:{high}"]


def _bound(limit: float | None) -> str:
    return "U" if limit is None else f"{limit:.12g}"


def number(value: Value, topic: Topic[Any]) -> float:
    """Return a value as a file holds it: switches as 0 and 1, states as their place in the list."""
    return float(topic.states.index(value)) if isinstance(value, str) else float(value)


def path_of(folder: Path, topic: str) -> Path:
    """File of a topic: `<folder>/<place>/<thing>/<name>.rrd`."""
    return folder / f"{topic}.rrd"


class RoundRobinFile:
    """A topic's file, brought into line with its definition. OSError where the disk refuses, Damaged where the file does.

    `last` is the time (ms) of the newest point in it, None while there is no file.
    """

    def __init__(self, path: Path, definition: FileShape) -> None:
        """Look at the file if there is one; a changed definition is carried into it, history and all."""
        self.path, self._definition, self._rrdtool = path, definition, _rrdtool()
        self.last: int | None = None
        self._value: float | None = None
        self._inode: int | None = None
        if hindrance := state.hindrance(path):
            raise Damaged(f"{hindrance}, and no round-robin file")
        if path.exists():
            self._adapt(self._inspect())
            self._inode = path.lstat().st_ino

    @property
    def whole(self) -> bool:
        """Whether the file is still there, and was not exchanged."""
        try:
            return self._inode in (None, self.path.lstat().st_ino)
        except OSError:
            return self._inode is None

    def _inspect(self) -> dict[str, Any]:
        with self.path.open("rb+"):
            pass
        info: dict[str, Any] = self._call("info")
        rows = [info[f"rra[{n}].cur_row"] < info[f"rra[{n}].rows"] for n in range(len(_arrays(info)))]
        if "ds[value].type" not in info or not rows or not all(rows):
            raise Damaged(f"{self.path} is damaged: its header contradicts itself")
        self.last = int(info["last_update"]) * 1000
        try:
            self._value = float(info["ds[value].last_ds"])
        except ValueError:
            self._value = None
        return info

    def _adapt(self, info: dict[str, Any]) -> None:
        definition = self._definition
        retype = ["--data-source-type", f"value:{definition.type}"] if info["ds[value].type"] != definition.type else []
        self._call("tune", *definition.tune(), *retype)
        if (info["step"], _arrays(info)) != (definition.step, definition.arrays):
            self._call("create", "--source", str(self.path), "--start", str(info["last_update"]), *definition.create())

    def _call(self, command: str, *arguments: str) -> Any:
        try:
            return getattr(self._rrdtool, command)(str(self.path), *arguments)
        except self._rrdtool.OperationalError as error:
            if command == "create" and "--source" not in arguments:
                raise OSError(f"{self.path} cannot be made: {error}") from None
            raise Damaged(f"{self.path} is damaged: {error}") from None

    def write(self, points: Iterable[Point]) -> int:
        """Add points in the order of their times; returns how many came too late or again, and were left out."""
        late, lines = 0, []
        last, value = self.last, self._value
        for time, new in sorted(points):
            if last is not None and time <= last:
                late += 1
                continue
            if self._holds(last, value, time, new):
                lines.append(_line(time - 1, value))
            lines.append(_line(time, new))
            last, value = time, new
        if lines:
            self._create(lines[0])
            self._call("update", "--skip-past-updates", *lines)
            self.last, self._value = last, value
        return late

    def write_means(self, means: Iterable[Mean]) -> int:
        """Add means of a time without readings, in their order; returns how many came too late, and were left out.

        Of each, a minute is its lowest and a minute its highest, for the arrays of extremes, and the rest makes up the mean.
        """
        late, lines, heartbeat, longest = 0, [], self._definition.heartbeat, 0
        last, value = self.last, self._value
        for mean in sorted(means):
            if last is not None and mean.time < last:
                late += 1
                continue
            if last is None or mean.time > last + 1000 * heartbeat:
                lines.append(_line(mean.time, None))
            elif mean.time > last and self._definition.stepwise:
                lines.append(_line(mean.time, value))
            minutes, rest = mean.length // 60_000, mean.value
            if mean.low < mean.high and minutes > len(extremes := (mean.low, mean.high)):
                lines += [_line(mean.time + 60_000 * n, extreme) for n, extreme in enumerate(extremes, 1)]
                rest = (minutes * mean.value - sum(extremes)) / (minutes - len(extremes))
            last, value = mean.time + mean.length, rest
            lines.append(_line(last, rest))
            longest = max(longest, mean.length // 1000)
        if lines:
            self._create(lines[0])
            self._call("tune", "--heartbeat", f"value:{heartbeat + longest}")
            self._call("update", "--skip-past-updates", *lines)
            self._call("tune", *self._definition.tune())
            self.last, self._value = last, value
        return late

    def _create(self, line: str) -> None:
        """Make the file, if there is none, to begin with a line."""
        if not self.path.exists():
            self.path.parent.mkdir(parents=True, exist_ok=True)
            start = int(line.partition(".")[0]) - 1
            self._call("create", "--start", str(start), *self._definition.create())
        self._inode = self.path.lstat().st_ino

    def _holds(self, last: int | None, value: float | None, time: int, new: float) -> bool:
        """Whether the old value must be written up to the change: rrdtool takes a value for all the time before it."""
        held = self._definition.stepwise and last is not None and value is not None and value != new
        return held and last + 1 < time <= last + 1000 * self._definition.heartbeat  # type: ignore[operator]


def _line(time: int, value: float | None) -> str:
    return f"{time // 1000}.{time % 1000:03d}:{'U' if value is None else repr(value)}"


def _arrays(info: dict[str, Any]) -> tuple[Array, ...]:
    count = sum(key.endswith("].cf") for key in info)
    return tuple(Array(*(info[f"rra[{n}].{key}"] for key in ("cf", "pdp_per_row", "rows"))) for n in range(count))


def _rrdtool() -> ModuleType:
    import rrdtool

    module: ModuleType = rrdtool
    return module


def rename(folder: Path, old: str, new: str) -> bool:
    """Give a topic's history to its new name, unless that has one; False where there is none to give."""
    before, after = path_of(folder, old), path_of(folder, new)
    if not before.exists() or after.exists():
        return False
    after.parent.mkdir(parents=True, exist_ok=True)
    before.rename(after)
    return True


def disk_hindrance(folder: Path) -> str | None:
    """Say why a folder takes nothing, or None where it does."""
    probe = folder / ".probe"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        state.write(probe, bytes(4096))
        probe.unlink()
    except OSError as error:
        return reason(error)
    return None


def means_of(topic: Topic[Any], entries: Iterable[ReplayEntry]) -> list[Mean]:
    """Means that the archive replayed, as far as they are this topic's by unit and words."""
    means = []
    for entry in entries:
        fits = entry.value in topic.states if isinstance(entry.value, str) else topic.kind != "state"
        if fits and entry.unit == topic.unit:
            value = number(entry.value, topic)
            extremes = value if entry.low is None else entry.low, value if entry.high is None else entry.high
            means.append(Mean(parse_time(entry.time), entry.span * 1000, value, *extremes))
    return means
