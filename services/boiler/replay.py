"""Recorded readings in, published lines out: what the service would have said, for tuning rules and for tests."""

from __future__ import annotations

import time
from operator import itemgetter
from typing import TYPE_CHECKING, Final

import msgspec

from bootstrap_lib import format_time
from services.boiler.boiler import Boiler, FirstSystem
from services.boiler.detector import PhaseDetector
from services.boiler.legacy import LegacyRules, LegacyState
from services.protocols.recording import LATE_MS, ordered, recorded

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Iterator, Mapping

    from services.boiler.boiler import BoilerEntry
    from services.boiler.rules import Role, Rules
    from services.boiler.state import Event

REBASE_AFTER: Final = 500
"""When so many readings in a row, of every input, are older than that, it was the clock that had been wrong."""


def replay_house(
    lines: Iterable[str | bytes], entries: Collection[BoilerEntry], timezone: str, prefix: str
) -> Iterator[str]:
    """Run readings through the machine of each boiler, one after the other; `prefix` stands before names of topics."""
    lines = lines if len(entries) == 1 else list(lines)
    for entry in entries:
        boiler = Boiler(entry, timezone)
        roles = boiler.roles | {f"{prefix}{topic}": role for topic, role in boiler.roles.items()}
        if entry.profile == "legacy":
            yield from replay_legacy(lines, roles, entry.legacy, f"{prefix}{entry.thing}")
        else:
            yield from replay(lines, roles, boiler.rules, f"{prefix}{entry.thing}")


def replay(
    lines: Iterable[str | bytes],
    roles: Mapping[str, Role],
    rules: Rules,
    prefix: str = "home/data/boiler/burner",
    late_ms: int = LATE_MS,
) -> Iterator[str]:
    """Run readings as JSON lines (`topic`, `value`, `unit`, `time`) through the machine.

    What comes out are lines as `mosquitto_sub -v` prints them, below `prefix` (place and thing). `roles` gives the
    input for each topic; other topics are passed over. Readings up to `late_ms` late are sorted in, as the archive
    would have them. ValueError names the line that is no reading.
    """
    machine = PhaseDetector(rules, frozenset(roles.values()))
    feed = machine.feed
    known = count = 0
    seen: set[Role] = set()
    behind: set[Role] = set()
    for moment, role, value in ordered(readings_of(lines, roles), late_ms, itemgetter(0)):
        if moment >= known:
            known = moment
            seen.add(role)
            behind.clear()
            count = 0
        elif moment < known - LATE_MS:
            behind.add(role)
            count += 1
            if count >= REBASE_AFTER and behind == seen:
                for event in machine.rebase(moment):
                    yield line(prefix, event)
                known = moment
        for event in feed(role, value, moment):
            yield line(prefix, event)
    for event in machine.advance(known + 1) if seen else ():
        yield line(prefix, event)


def replay_legacy(
    lines: Iterable[str | bytes],
    roles: Mapping[str, Role],
    rules: LegacyRules | None = None,
    prefix: str = "home/data/boiler/burner",
) -> Iterator[str]:
    """Do the same by the first system's rules: its phase at each minute where it changes, and its alert."""
    system = FirstSystem(msgspec.structs.replace(rules or LegacyRules(), late_minutes=None), LegacyState(), {})
    for moment, role, value in readings_of(lines, roles):
        system.feed(role, value, moment)
    for event in system.close():
        yield line(prefix, event)


def line(prefix: str, event: Event) -> str:
    """One output as `mosquitto_sub -v` prints it; `prefix` is the place and thing of its topic."""
    unit = f'"unit":"{event.unit}",' if event.unit else ""
    value = msgspec.json.encode(event.value).decode()
    return f'{prefix}/{event.name} {{"value":{value},{unit}"time":"{format_time(event.time)}"}}'


def readings_of(
    lines: Iterable[str | bytes], roles: Mapping[str, Role], *, in_order: bool = True
) -> Iterator[tuple[int, Role, float]]:
    """Time (ms), role and value of each JSON line that is a reading of an input; ValueError names a line that is none."""
    for name, value, moment in recorded(lines, roles, time.time_ns() // 1_000_000, in_order=in_order):
        if not isinstance(value, str):
            yield moment, roles[name], float(value)
