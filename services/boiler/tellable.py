"""What can be told of a boiler by the inputs that it has: the phases, faults and sums that are published, and no others."""

from collections.abc import Set as AbstractSet
from typing import Final, cast

from services.boiler.rules import FAULTS, MOTORS, PHASES, Fault, Phase, Role, Rules
from services.boiler.units import UNITS

NEEDED: Final[dict[Fault, AbstractSet[Role]]] = {
    "ignition_failed": {"flue"},
    "jam_or_empty": {"flue", "auger"},
    "fire_out": {"water"},
    "igniter_clamp": {"igniter"},
    "fan_clamp": {"fan", "flue"},
    "auger_clamp": {"auger"},
}
"""Inputs without which a fault cannot be told; overheating takes the water or the flue."""

FUEL: Final = frozenset(
    (
        *("cycle_mass", "day_mass", "day_intensity", "silo_mass", "silo_days", "silo_text", "bags_count"),
        *("fuel_consumption", "fuel_energy", "ash_mass", "ash_warning"),
    )
)
"""Outputs that are reckoned from the auger and its rate."""


def tellable_phases(roles: AbstractSet[Role]) -> tuple[Phase, ...]:
    """Phases that can be found by these inputs; without a flue only an igniter shows a lighting."""
    clamps = bool(roles & set(MOTORS))
    missing: set[Phase] = set()
    if "fan" not in roles:
        missing.add("prepurge")
    if not roles & {"flue", "igniter"}:
        missing.add("ignition")
    if "flue" not in roles and not clamps:
        missing |= {"ignition", "prepurge", "burnout"}
    return tuple(phase for phase in PHASES if phase not in missing)


def tellable_faults(roles: AbstractSet[Role]) -> tuple[Fault, ...]:
    """Faults that can be told by these inputs."""
    return tuple(fault for fault in FAULTS if NEEDED.get(fault, set()) <= roles)


def missing_for(output: str, roles: AbstractSet[Role], rules: Rules) -> str | None:
    """What an output wants that the boiler has not, as words; None where it can be told."""
    fault = output.removesuffix("_fault")
    if output.endswith("_fault"):
        lacking = [role for role in sorted(NEEDED.get(cast("Fault", fault), set())) if role not in roles]
        return f"the input {' and '.join(lacking)}" if lacking else None
    if output == "ignition_duration" and not roles & {"flue", "igniter"}:
        return "the input flue or igniter"
    if output.endswith("_warning"):
        wanted = {"ash_warning": "ash_kg"}.get(output, f"{output.removesuffix('warning')}kg, …hours or …days")
        chore = output.removesuffix("_warning")
        given = [getattr(rules, f"{chore}_{unit}", None) for unit in ("kg", "hours", "days")]
        return None if any(limit is not None for limit in given) else f"the rule {wanted}"
    if output == "auger_duration" or output in FUEL:
        if "auger" not in roles:
            return "the input auger"
        if output in FUEL and rules.auger_rate is None:
            return "the rule auger_rate"
    if output in ("day_degreedays", "day_intensity") and "outdoor" not in roles:
        return "the input outdoor"
    return None


def tells(roles: AbstractSet[Role], rules: Rules) -> list[str]:
    """Lines that say which phases, faults and sums can be told by these inputs, and what the others want."""
    sums = [name for name in UNITS if not name.endswith(("_fault", "phase", "since_text"))]
    lines = [
        f"phases: {', '.join(tellable_phases(roles))}",
        f"faults: {', '.join(tellable_faults(roles))}",
        f"sums: {', '.join(name for name in sums if missing_for(name, roles, rules) is None)}",
    ]
    untold: dict[str, list[str]] = {}
    for name in UNITS:
        if why := missing_for(name, roles, rules):
            untold.setdefault(why, []).append(name)
    return lines + [f"not told without {why}: {', '.join(names)}" for why, names in untold.items()]
