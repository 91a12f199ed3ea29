"""Recorded readings in, published lines out: what the service would have said, for tuning rules and for tests."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Final

import msgspec

from bootstrap_lib import format_time
from services.boiler.boiler import Boiler, FirstSystem
from services.boiler.detector import PhaseDetector
from services.boiler.legacy import LegacyRules, LegacyState
from services.protocols.recording import recorded

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Iterator, Mapping

    from services.boiler.boiler import BoilerEntry
    from services.boiler.rules import Role, Rules
    from services.boiler.state import Event

LATE_MS: Final = 2 * 3_600_000
"""Readings that are late by up to this are put in order first, as the archive would have them."""
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
    for moment, role, value in _ordered(readings_of(lines, roles), late_ms):
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


def readings_of(lines: Iterable[str | bytes], roles: Mapping[str, Role]) -> Iterator[tuple[int, Role, float]]:
    """Time (ms), role and value of each JSON line that is a reading of an input; ValueError names a line that is none."""
    for name, value, moment in recorded(lines, roles, time.time_ns() // 1_000_000):
        if not isinstance(value, str):
            yield moment, roles[name], float(value)


def _ordered(readings: Iterable[tuple[int, Role, float]], late_ms: int) -> Iterator[tuple[int, Role, float]]:
    """Sort by time within a span; what is later still comes as it came."""
    if late_ms <= 0:
        yield from readings
        return
    waiting: list[tuple[int, Role, float]] = []
    newest = limit = 0
    for reading in readings:
        waiting.append(reading)
        if reading[0] > newest:
            newest = reading[0]
            if not limit:
                limit = newest + 2 * late_ms
            if newest >= limit:
                waiting.sort(key=_time)
                ready = newest - late_ms
                cut = next(i for i, r in enumerate(waiting) if r[0] > ready)
                yield from waiting[:cut]
                del waiting[:cut]
                limit = newest + late_ms
    waiting.sort(key=_time)
    yield from waiting


def _time(reading: tuple[int, Role, float]) -> int:
    return reading[0]
