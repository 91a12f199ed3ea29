"""Check topics.yaml and everything that services want of it; say what the settings cost the SD card.

Exit code 0 if it can be used, 78 if not. Every problem stands on a line of its own: file:line: path: message.
"""

import argparse
import sys

from bootstrap_lib import catalog
from bootstrap_lib.catalog import NoService
from bootstrap_lib.document import DocumentError, Problem
from bootstrap_lib.duration import Duration
from bootstrap_lib.registry import Registry, find_registry

PAGE = 4096
"""Bytes that one small synchronised change costs at least on flash, twice: journal and place (facts of ext4)."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Say what `check` takes."""
    parser.add_argument("file", nargs="?", help="topics.yaml (default: as for all commands)")
    parser.add_argument("--quiet", action="store_true", help="say only what is wrong")


def problems_of(registry: Registry) -> list[Problem]:
    """Return what the services find wrong in a registry that can be read."""
    found: list[Problem] = []
    for instance in registry.instances.values():
        try:
            found += catalog.find(instance.service).check(registry, instance.name)
        except NoService as error:
            found.append(registry.document.problem((instance.section, instance.name), str(error)))
    return list(dict.fromkeys(found))


def cost(registry: Registry) -> list[str]:
    """Lines that say what the settings cost the SD card in a day."""
    rate = sum(1 / topic.every for topic in registry.topics.values() if topic.stored_by("archive"))
    day = 86400
    lines = [f"{len(registry.topics)} topics, {rate:.2f} readings a second at most, {rate * day:,.0f} a day"]
    for instance in registry.find("archive"):
        raw = instance.raw.get("commit", "1s")
        commits = min(rate, 1 / Duration.parse(raw)) * day
        bytes_a_day = commits * 2 * PAGE + rate * day * 60
        lines.append(
            f"{instance.name}: a commit every {raw} (what a power cut may cost) writes about "
            f"{bytes_a_day / 1e6:,.0f} MB a day; commit: 5s would write {(min(rate, 0.2) * day * 2 * PAGE + rate * day * 60) / 1e6:,.0f} MB"
        )
    updates = len(registry.topics) * 24 * 120 * PAGE / 1e6
    lines += [
        f"{instance.name}: about {updates:,.0f} MB a day at one update in 30 s" for instance in registry.find("rrd")
    ]
    return lines


def main(arguments: argparse.Namespace) -> int:
    """Check, and print what was found."""
    path = find_registry(arguments.file or arguments.config)
    registry = Registry(path)
    if problems := problems_of(registry):
        raise DocumentError(problems)
    if not arguments.quiet:
        here = [instance.name for instance in registry.instances.values() if instance.here]
        print(f"{path}: good. On this machine: {', '.join(here) or 'nothing'}.")
        for line in cost(registry):
            print(f"  {line}")
    sys.stdout.flush()
    return 0
