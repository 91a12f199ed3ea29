"""Rules that fit a boiler, proposed from its stored readings: where its clamps stand and run, where its flue is idle and burns."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Final, NamedTuple

import msgspec

from services.boiler.detector import PhaseDetector
from services.boiler.rules import MOTORS, MotorRules, Role, Rules
from services.boiler.state import Event

StoredReading = tuple[int, Role, float]
"""Time in ms, role, value; in the order of time."""

CLASSES: Final = 200
"""Classes of a histogram."""
RARE: Final = 0.002
"""A level that is seen for less than this share of the time is no motor."""
APART: Final = 4.0
"""Two levels are two when they are apart by this many deviations of the lower,"""
HEAT_APART: Final = 8.0
"""... and flue minus water when they are apart by this, °C."""
ENOUGH: Final = 500
"""Readings of an input from which anything is concluded."""
SURE: Final = 0.7
"""A limit below this share of what a motor draws sees it."""
FAR: Final = 8.0
"""A boiler that lights by itself at so much above `water_low` is told to be out too late, °C."""


class Proposal(NamedTuple):
    """A rule that would fit better."""

    rule: str
    """As topics.yaml says it: `fan.on`."""
    now: float
    better: float
    why: str


class Outcome(NamedTuple):
    """What a detector finds in the readings."""

    phases: list[tuple[int, str]]
    """From when (ms) which phase was."""
    cycles: int
    faults: dict[str, int]
    """How often each began."""
    end: int

    def share(self, phase: str) -> float:
        """For which share of the time a phase was (0..1)."""
        total = sum(until - begin for begin, until, _ in self.pieces)
        return sum(until - begin for begin, until, word in self.pieces if word == phase) / total if total else 0.0

    @property
    def pieces(self) -> list[tuple[int, int, str]]:
        """From, to (ms), phase."""
        ends = [*(time for time, _ in self.phases[1:]), self.end]
        return [(begin, until, word) for (begin, word), until in zip(self.phases, ends, strict=False)]


def find(
    readings: Iterable[StoredReading], roles: frozenset[Role], rules: Rules
) -> tuple[Outcome, PhaseDetector, list[Event]]:
    """Run a detector over stored readings."""
    detector, events, end = PhaseDetector(rules, roles), [], 0
    for time, role, value in readings:
        if role in roles:
            events += detector.feed(role, value, time)
            end = max(end, time)
    faults: dict[str, int] = {}
    for event in events:
        if event.name.endswith("_fault") and event.value is True:
            faults[event.name] = faults.get(event.name, 0) + 1
    phases = [(event.time, str(event.value)) for event in events if event.name == "phase"]
    return Outcome(phases, detector.state.cycles, faults, end), detector, events


def propose(readings: Sequence[StoredReading], roles: frozenset[Role], rules: Rules) -> list[Proposal]:
    """Return what would fit better; nothing where too little was seen to say so."""
    values: dict[Role, list[float]] = {}
    heat: list[float] = []
    water: float | None = None
    for _, role, value in readings:
        values.setdefault(role, []).append(value)
        if role == "water":
            water = value
        elif role == "flue" and water is not None and rules.flue.low < value and rules.water.low < water:
            heat.append(value - water)
    found: list[Proposal] = []
    for role in MOTORS:
        found += _clamp(role, values.get(role, []), getattr(rules, role))
    found += _heat(heat, rules)
    return found + _by_cycles(readings, roles, rules)


def _clamp(role: Role, values: list[float], rules: MotorRules) -> list[Proposal]:
    levels = two_levels([value for value in values if 0.0 <= value <= rules.high])
    if levels is None:
        return []
    zero, noise, least = levels
    above = least - zero
    on = _round(max(above * 0.4, APART * noise))
    fits = APART * noise < rules.on < SURE * above and rules.off > noise
    if fits or above <= 2 * APART * noise:
        return []
    why = f"it stands at {zero:.3g} and draws {above:.3g} more when it runs"
    return [Proposal(f"{role}.on", rules.on, on, why), Proposal(f"{role}.off", rules.off, _round(on / 2), why)]


def _heat(heat: list[float], rules: Rules) -> list[Proposal]:
    levels = two_levels(heat)
    if levels is None:
        return []
    idle, spread, burning = levels
    high = idle + min(2 * spread, 0.3 * (burning - idle))
    if burning - idle < HEAT_APART:
        return []
    on, off = round(high + 0.5 * (burning - high), 1), round(high + 0.2 * (burning - high), 1)
    if idle < rules.hot_off < rules.hot_on < burning:
        return []
    why = f"its flue is {idle:+.0f} °C from the water when idle, {burning:+.0f} and more in a fire"
    return [Proposal("hot_on", rules.hot_on, on, why), Proposal("hot_off", rules.hot_off, off, why)]


def _by_cycles(readings: Sequence[StoredReading], roles: frozenset[Role], rules: Rules) -> list[Proposal]:
    """Propose what only shows where phases are known already."""
    outcome, _, events = find(readings, roles, rules)
    found: list[Proposal] = []
    ignitions = sorted(float(event.value) for event in events if event.name == "ignition_duration")
    if len(ignitions) >= 3:  # noqa: PLR2004 (fewer say nothing)
        longest = 60.0 * round(1.5 * ignitions[-1] / 60.0 + 0.5)
        if 1.2 * ignitions[-1] > rules.ignition_max_s:
            why = f"of {len(ignitions)} lightings the slowest took {ignitions[-1] / 60:.0f} min"
            found.append(Proposal("ignition_max_s", rules.ignition_max_s, longest, why))
    begun = [begin for begin, _, word in outcome.pieces if word in ("ignition", "prepurge")]
    waters = [(time, value) for time, role, value in readings if role == "water"]
    if len(begun) >= 3 and waters and not outcome.faults:  # noqa: PLR2004
        starts = sorted(_at(waters, begin) for begin in begun)
        low = round(starts[0] - 3.0)
        if not -rules.water_low_hysteresis <= starts[0] - rules.water_low <= FAR:
            why = f"it lights by itself from {starts[0]:.0f} °C"
            found.append(Proposal("water_low", rules.water_low, float(low), why))
    return found


def _at(rows: Sequence[tuple[int, float]], time: int) -> float:
    return min(rows, key=lambda row: abs(row[0] - time))[1]


def two_levels(values: list[float]) -> tuple[float, float, float] | None:
    """Lower level, its deviation, and where the upper one begins; None where there is but one (Otsu's threshold)."""
    if len(values) < ENOUGH:
        return None
    ordered = sorted(values)
    low, high = ordered[0], ordered[-1 - len(ordered) // 2000]
    if high <= low:
        return None
    counts = [0] * CLASSES
    for value in ordered:
        counts[min(CLASSES - 1, int((value - low) / (high - low) * CLASSES))] += 1
    total, moment = len(ordered), sum(n * count for n, count in enumerate(counts))
    best, split, below, below_moment = 0.0, 0, 0, 0
    for n, count in enumerate(counts):
        below += count
        below_moment += n * count
        if 0 < below < total:
            between = (moment * below / total - below_moment) ** 2 / (below * (total - below))
            if between > best:
                best, split = between, n + 1
    limit = low + split * (high - low) / CLASSES
    under = [value for value in ordered if value < limit]
    over = [value for value in ordered if value >= limit]
    if not under or len(over) < RARE * total or len(under) < RARE * total:
        return None
    mean = sum(under) / len(under)
    deviation = (sum((value - mean) ** 2 for value in under) / len(under)) ** 0.5
    return mean, deviation, over[len(over) // 10]


def _round(value: float) -> float:
    """Two figures are enough."""
    return float(f"{value:.2g}")


def with_proposals(rules: Rules, proposals: Iterable[Proposal]) -> Rules:
    """Return the rules as they would be."""
    built = msgspec.to_builtins(rules)
    for proposal in proposals:
        place, _, name = proposal.rule.rpartition(".")
        target = built[place] if place else built
        target[name] = proposal.better
    return msgspec.convert(built, Rules)


def as_yaml(rules: Rules, proposals: Iterable[Proposal]) -> str:
    """Return the proposals as the `rules:` of an entry; a motor's rules stand there whole."""
    built = msgspec.to_builtins(with_proposals(rules, proposals))
    tree: dict[str, Mapping[str, float] | float] = {}
    for proposal in proposals:
        place, _, name = proposal.rule.rpartition(".")
        if place:
            tree[place] = {key: value for key, value in built[place].items() if value is not None}
        else:
            tree[name] = proposal.better
    parts = [
        f"{key}: {{{', '.join(f'{k}: {v:g}' for k, v in value.items())}}}"
        if isinstance(value, Mapping)
        else f"{key}: {value:g}"
        for key, value in tree.items()
    ]
    return f"rules: {{{', '.join(parts)}}}"
