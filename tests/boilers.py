"""Simulated boilers of every set-up, each input dying, drifting, swapped or late, and the boiler's own faults: what is told, and when.

    python -m tests.boilers                 # the table, and two days without a fault
    python -m tests.boilers --days 120      # a winter: minutes for each set-up

It ends with 1 where a fault is told that is none, or one that was seeded is not told within its documented time.
"""

import argparse
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Final

from services.boiler import PhaseDetector, Rules
from services.boiler.tellable import tellable_faults
from services.simulators.models.boiler import AUGER_KG_H, SimulatedBoiler

Row = tuple[int, dict[str, float], str]
"""Time in ms, what each input shows, and the true phase."""

ROLES: Final = ("water", "flue", "return", "igniter", "fan", "auger")
SETUPS: Final[dict[str, frozenset[str]]] = {
    "everything": frozenset(ROLES),
    "no igniter": frozenset(ROLES) - {"igniter"},
    "no fan": frozenset(ROLES) - {"fan"},
    "no auger": frozenset(ROLES) - {"auger"},
    "only auger": frozenset(("water", "flue", "auger")),
    "no clamps": frozenset(("water", "flue")),
    "only flue": frozenset(("flue",)),
    "no flue": frozenset(ROLES) - {"flue", "return"},
    "no flue, no igniter": frozenset(("water", "fan", "auger")),
    "only water": frozenset(("water",)),
}
START: Final = 1_798_761_600_000  # 2027-01-01
MINUTE: Final = 60_000
HOUR: Final = 60 * MINUTE
SEED_AT: Final = 5 * HOUR
"""When a fault is seeded, after the start of a day of simulation."""
STEP: Final = 20
"""Seconds between readings: an auger that pulses each 32 s is seen by this, by 30 s it is not."""
RULES: Final = Rules(auger_rate=AUGER_KG_H)


def simulate(
    hours: float, step: int = STEP, seed: int = 1, change: Callable[[SimulatedBoiler, int], None] | None = None
) -> list[Row]:
    """Let a boiler live; `change` is called before each step with the milliseconds since the start."""
    boiler, rows = SimulatedBoiler(seed), []
    for n in range(int(hours * 3600 / step)):
        if change is not None:
            change(boiler, n * step * 1000)
        sample = boiler.step(step)
        shown = {role: getattr(sample, "return_" if role == "return" else role) for role in ROLES}
        rows.append((START + (n + 1) * step * 1000, shown, boiler.phase))
    return rows


@dataclass(frozen=True)
class Case:
    """Something that goes wrong: how the readings show it, which fault has to be told by whom, and how soon."""

    name: str
    rows: list[Row]
    show: Callable[[int, str, float], float | None] = lambda _time, _role, value: value
    """What an input shows at a time (ms since the start) in place of its value; None for nothing."""
    fault: str | None = None
    within: int = 0
    """Milliseconds from `begins`."""
    begins: int = SEED_AT
    allowed: frozenset[str] = frozenset()
    """Faults that may be told beside it."""
    wants: frozenset[str] = frozenset()
    """Inputs without which it cannot be told."""
    late: str | None = None
    """An input whose readings come an hour late."""
    tries: bool = False
    """It takes an igniter or an auger to see that the boiler tries."""
    either: str | None = None
    """Another fault that says the same."""
    touches: frozenset[str] = frozenset()
    """Inputs of which one must be there, or nothing is other than usual."""


def told(case: Case, roles: frozenset[str], rules: Rules = RULES) -> list[tuple[str, int]]:
    """Faults that a detector with these inputs tells, with the milliseconds since the case begins."""
    detector, events = PhaseDetector(rules, set(roles)), []
    for time, role, value in delivered(case, roles):
        events += detector.feed(role, value, time)
    return [
        (e.name.removesuffix("_fault"), e.time - START - case.begins)
        for e in events
        if e.name.endswith("_fault") and e.value
    ]


def delivered(case: Case, roles: frozenset[str]) -> Iterator[tuple[int, str, float]]:
    """Readings as they come."""
    found = []
    for n, (time, shown, _) in enumerate(case.rows):
        for role in roles:
            value = case.show(time - START, role, shown[role])
            if value is not None:
                found.append((time + HOUR * (role == case.late), n, role, time, value))
    if case.late:
        found.sort()
    for _, _, role, time, value in found:
        yield time, role, value


def cases() -> Iterator[Case]:
    """Everything that goes wrong, each in a day of its own."""
    day = simulate(22)
    resting = next(t - START for t, _, phase in day if t - START >= SEED_AT and phase == "keep_fire")

    def after(role: str, becomes: Callable[[int, float], float | None]) -> Callable[[int, str, float], float | None]:
        return lambda time, of, value: becomes(time, value) if of == role and time >= resting else value

    for role in ("igniter", "fan", "auger", "flue", "water"):
        yield Case(f"{role} falls silent", day, after(role, lambda _t, _v: None), touches=frozenset({role}))
        yield Case(f"{role} an hour late", day, late=role, touches=frozenset({role}))
    for role in ("igniter", "fan", "auger"):
        yield Case(f"{role} clamp reads nothing", day, after(role, lambda _t, _v: 0.0), touches=frozenset({role}))
        yield Case(
            f"{role} clamp drifts by 0.3 A in 10 h",
            day,
            after(role, lambda t, v: v + 0.3 * (t - resting) / (10 * HOUR)),
            allowed=frozenset({f"{role}_clamp"}),
            touches=frozenset({role}),
        )
    offset = {"auger": ("auger_clamp", 12 * MINUTE), "fan": ("fan_clamp", 4 * HOUR)}
    for role, (fault, within) in offset.items():
        yield Case(
            f"{role} clamp jumps by 0.3 A",
            day,
            after(role, lambda _t, v: v + 0.3),
            fault,
            within,
            resting,
            wants=frozenset({role}) if role == "auger" else frozenset({"fan", "auger", "flue"}),
            touches=frozenset({role}),
        )
    yield Case(
        "igniter clamp jumps by 3 A",
        day,
        after("igniter", lambda _t, v: v + 3.0),
        "igniter_clamp",
        50 * MINUTE,
        resting,
        wants=frozenset({"igniter"}),
        touches=frozenset({"igniter"}),
    )
    for one, other in (("fan", "auger"), ("fan", "igniter"), ("auger", "igniter")):
        swap = {one: other, other: one}
        swapped = [
            (t, {r: shown[swap.get(r, r)] if t - START >= resting else shown[r] for r in shown}, p)
            for t, shown, p in day
        ]
        yield Case(
            f"{one} and {other} swapped",
            swapped,
            allowed=frozenset({"auger_clamp", "igniter_clamp"}),
            touches=frozenset({one, other}),
        )

    def dead_flame(boiler: SimulatedBoiler, time: int) -> None:
        boiler.igniter_works = time < HOUR / 12 or time >= 5 * HOUR
        boiler.enabled = boiler.enabled or time == 5 * HOUR

    def empty(boiler: SimulatedBoiler, time: int) -> None:
        if time >= SEED_AT and boiler.phase == "combustion" and boiler.time - boiler.since < 60.0:
            boiler.silo_kg = 0.0

    def switched_off(boiler: SimulatedBoiler, time: int) -> None:
        boiler.enabled = time < SEED_AT

    unlit = simulate(7, change=dead_flame)
    begins = next(t - START for t, _, phase in unlit if phase == "ignition")
    flue = frozenset({"flue"})
    yield Case(
        "no flame: the igniter draws",
        unlit,
        fault="ignition_failed",
        within=30 * MINUTE,
        begins=begins,
        wants=flue,
        tries=True,
        allowed=frozenset({"fire_out"}),
    )
    burnt_out = [
        (t, {**shown, "igniter": 0.001 if t - START < 5 * HOUR else shown["igniter"]}, p) for t, shown, p in unlit
    ]
    yield Case(
        "no flame: the igniter is burnt out",
        burnt_out,
        fault="ignition_failed",
        within=30 * MINUTE,
        begins=begins,
        wants=flue,
        tries=True,
        allowed=frozenset({"fire_out"}),
    )
    starved = simulate(14, change=empty)
    lost = lost_flame(starved)
    yield Case(
        "the silo is empty",
        starved,
        fault="jam_or_empty",
        either="ignition_failed",
        within=45 * MINUTE,
        begins=lost,
        wants=frozenset({"flue", "auger", "water"}),
        allowed=frozenset({"fire_out", "ignition_failed", "jam_or_empty"}),
    )
    off = simulate(14, change=switched_off)
    cold = next(t - START for t, shown, _ in off if t - START > SEED_AT and shown["water"] < RULES.water_low)
    yield Case("switched off", off, fault="fire_out", within=12 * MINUTE, begins=cold, wants=frozenset({"water"}))

    def hot(time: int, role: str, value: float) -> float:
        return value + min(60.0, (time - SEED_AT) / MINUTE) if role == "water" and time >= SEED_AT else value

    boils = next(
        t - START
        for t, shown, _ in day
        if t - START > SEED_AT and hot(t - START, "water", shown["water"]) >= RULES.water_max
    )
    yield Case(
        "the water boils",
        day,
        hot,
        "overheating",
        3 * MINUTE,
        boils,
        wants=frozenset({"water"}),
        allowed=frozenset({"jam_or_empty", "ignition_failed"}),
    )


def lost_flame(rows: list[Row]) -> int:
    """When the flue shows that the flame is lost, ms since the start."""
    return next(
        t - START
        for t, shown, _ in rows
        if t - START > SEED_AT + HOUR / 4 and shown["flue"] - shown["water"] < RULES.hot_off
    )


def judge(case: Case, name: str, roles: frozenset[str]) -> tuple[str, str | None]:
    """Cell of the table, and what is wrong with it."""
    if case.touches and not case.touches & roles:
        return "", None
    found = told(case, roles)
    seeded = case.fault if case.fault in tellable_faults(roles) and case.wants <= roles else None
    if case.tries and not roles & {"igniter" if "draws" in case.name else "auger", "auger"}:
        seeded = None
    false = [fault for fault, _ in found if fault not in (case.fault, *case.allowed)]
    cell = (
        ", ".join(
            dict.fromkeys(
                f"{fault} +{round(after / MINUTE)} min" if fault in (case.fault, case.either) else fault
                for fault, after in found
            )
        )
        or "nothing"
    )
    if false:
        return cell, f"{case.name}, {name}: {', '.join(false)} is told and is none"
    if seeded is not None:
        first = next((after for fault, after in found if fault in (seeded, case.either)), None)
        if first is None or first > case.within:
            return cell, f"{case.name}, {name}: {seeded} is not told within {case.within // MINUTE} min"
    return cell, None


def table(
    setups: dict[str, frozenset[str]], chosen: Callable[[str], bool] = lambda _name: True
) -> tuple[list[str], list[str]]:
    """Lines of a table in Markdown, and what is wrong."""
    lines, wrong = [f"| | {' | '.join(setups)} |", f"|---|{'---|' * len(setups)}"], []
    for case in cases():
        if not chosen(case.name):
            continue
        cells = []
        for name, roles in setups.items():
            cell, problem = judge(case, name, roles)
            cells.append(cell)
            wrong += [problem] if problem else []
        lines.append(f"| {case.name} | {' | '.join(cells)} |")
    return lines, wrong


def winter(
    days: float, setups: dict[str, frozenset[str]], step: int = STEP
) -> Iterator[tuple[str, list[tuple[str, int]]]]:
    """What is told of a boiler without a fault, whose silo is filled in time: nothing."""

    def fill(boiler: SimulatedBoiler, _time: int) -> None:
        boiler.silo_kg = 2000.0

    rows = simulate(24 * days, step, seed=7, change=fill)
    for name, roles in setups.items():
        yield name, told(Case(name, rows, begins=0), roles)


def main() -> int:
    """Print the table and the winter."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--days", type=float, default=2.0, help="days without a fault (default: 2)")
    parser.add_argument("--step", type=int, default=STEP, help="seconds between readings (default: 20)")
    parser.add_argument("--only-winter", action="store_true", help="no table")
    arguments = parser.parse_args()
    lines, wrong = ([], []) if arguments.only_winter else table(SETUPS)
    print("\n".join(lines), flush=True)
    for name, found in winter(arguments.days, SETUPS, arguments.step):
        print(f"{arguments.days:g} days without a fault, {name}: {found or 'nothing is told'}", flush=True)
        wrong += [f"{name}: {found}"] if found else []
    for problem in wrong:
        print(f"WRONG: {problem}", file=sys.stderr)
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
