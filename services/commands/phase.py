"""Propose rules of phases that fit a boiler, from its stored readings, and show what they would change.

    constellation phase calibrate --since 8d                     # from the archive of this host
    constellation phase calibrate winter.jsonl --picture rules.png

Nothing is changed: write what you like into `rules:` of the boiler's entry in topics.yaml, and reload. Then
`constellation rework` puts right what the old rules said.
"""

import argparse
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from bootstrap_lib import Registry, StartError

if TYPE_CHECKING:
    from services.boiler.boiler import BoilerEntry
    from services.boiler.calibrate import Outcome, StoredReading


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Say what `phase` takes."""
    parser.add_argument("action", choices=["calibrate"], help="propose rules from stored readings")
    parser.add_argument("file", nargs="?", type=Path, help="readings as JSON lines (default: those of the archive)")
    parser.add_argument("--since", default="8d", help="how far back in the archive: 8d, or a time (default: 8d)")
    parser.add_argument("--boiler", metavar="NAME", help="an entry of phases:, where there are several")
    parser.add_argument("--picture", type=Path, default=Path("rules.png"), help="file to draw (default: rules.png)")


def main(arguments: argparse.Namespace) -> int:
    """Print proposals and what they change, and draw both."""
    from services.boiler import calibrate

    registry = Registry(Registry.locate(arguments.config).resolve())
    name, entry = _entry(registry, arguments.boiler)
    readings = _readings(registry, entry, arguments)
    if not readings:
        raise StartError(f"there is no reading of an input of {name} in {arguments.file or 'the archive'}")
    roles = frozenset(role for role in entry.inputs.topics if role != "outdoor")
    proposals = calibrate.propose(readings, roles, entry.rules)
    hours = (readings[-1][0] - readings[0][0]) / 3_600_000
    print(f"{name}: {len(readings)} readings of {hours:.0f} hours")
    if not proposals:
        print("its rules fit: nothing is proposed")
        return 0
    for proposal in proposals:
        print(f"  {proposal.rule}: {proposal.now:g} -> {proposal.better:g}    {proposal.why}")
    before, *_ = calibrate.find(readings, roles, entry.rules)
    after, *_ = calibrate.find(readings, roles, calibrate.with_proposals(entry.rules, proposals))
    print(f"what it changes:   cycles {before.cycles} -> {after.cycles}")
    for phase in dict.fromkeys(word for _, word in (*before.phases, *after.phases)):
        print(f"  {phase:10} {before.share(phase):6.1%} -> {after.share(phase):6.1%} of the time")
    for fault in sorted(before.faults.keys() | after.faults.keys()):
        print(f"  {fault}: {before.faults.get(fault, 0)} -> {after.faults.get(fault, 0)} times")
    print(f"in topics.yaml, below phases: {name}:\n  {calibrate.as_yaml(entry.rules, proposals)}")
    try:
        _draw(registry, entry, before, after, arguments.picture)
        print(arguments.picture)
    except ImportError:
        print("no picture: it takes the module rrdtool (`apt install python3-rrdtool`)", file=sys.stderr)
    return 0


def _entry(registry: Registry, wanted: str | None) -> "tuple[str, BoilerEntry]":
    from services.boiler.boiler import BoilerEntry

    entries = {
        name: entry for name, entry in registry.entries("phases", BoilerEntry).items() if entry.profile == "modern"
    }
    if wanted is not None:
        entries = {name: entry for name, entry in entries.items() if name == wanted}
    if len(entries) != 1:
        raise StartError(f"say with --boiler which of {', '.join(entries) or 'the entries that phases: has'} is meant")
    return next(iter(entries.items()))


def _readings(registry: Registry, entry: "BoilerEntry", arguments: argparse.Namespace) -> "list[StoredReading]":
    from services.boiler.replay import readings_of
    from services.commands.replay import archived

    prefix = f"{registry.root}/data/"
    topics = {topic: role for role, topic in entry.inputs.topics.items() if role != "outdoor"}
    roles = topics | {f"{prefix}{topic}": role for topic, role in topics.items()}
    try:
        lines = (
            arguments.file.read_bytes().splitlines() if arguments.file else archived(registry, topics, arguments.since)
        )
        return sorted(readings_of(lines, roles, in_order=False))
    except ValueError as error:
        raise StartError(str(error)) from None


def _draw(registry: Registry, entry: "BoilerEntry", before: "Outcome", after: "Outcome", output: Path) -> None:
    """Draw the phases by both rules, one below the other."""
    from services.boiler.rules import PHASES
    from services.stores import canvas, graph

    phase = registry.topics.get(f"{entry.thing}/phase")
    if phase is None:
        raise StartError(f"topics.yaml has no line of {entry.thing}/phase: it is needed for the picture")
    rules: dict[str, tuple[Any, Outcome]] = {
        label: (msgspec.structs.replace(phase, name=label, label=label, states=PHASES), outcome)
        for label, outcome in (("rules as they are", before), ("rules as proposed", after))
    }
    span = graph.Span(min(o.phases[0][0] for o in (before, after)) // 1000, before.end // 1000 + 1)
    with tempfile.TemporaryDirectory(prefix="rules-") as folder:
        paths, bands = {}, {}
        for number, (label, (_, outcome)) in enumerate(rules.items()):
            bands[label] = [(begin, end, float(PHASES.index(word))) for begin, end, word in outcome.pieces]
            paths[label] = Path(folder) / f"{number}.rrd"
            canvas.paint(paths[label], bands[label], span.start, span.end, graph.WIDTH)
        sheet = graph.Sheet(span, paths, bands, frozenset())
        graph.draw_sheet([topic for topic, _ in rules.values()], sheet, output, width=graph.WIDTH, height=260)
