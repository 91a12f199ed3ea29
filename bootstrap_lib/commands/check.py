"""Check topics.yaml and everything that services want of it; say what the settings cost the SD card.

Exit code 0 if it can be used, 78 if not. Every problem stands on a line of its own: file:line: path: message.
"""

import argparse
import contextlib
import sys
from collections.abc import Iterator
from pathlib import Path

from bootstrap_lib import bridges, broker, catalog
from bootstrap_lib.catalog import NoService
from bootstrap_lib.credentials import denied
from bootstrap_lib.document import DocumentError, Problem
from bootstrap_lib.location import find_registry
from bootstrap_lib.registry import Registry


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Say what `check` takes."""
    parser.add_argument("file", nargs="?", help="topics.yaml (default: as for all commands)")
    parser.add_argument("--quiet", action="store_true", help="say only what is wrong")


def problems_of(registry: Registry) -> list[Problem]:
    """Return what the services find wrong, as far as they can be loaded here; those of this host and unknown ones must be."""
    found: list[Problem] = []
    for instance in registry.instances.values():
        try:
            found += catalog.find(instance.service).check(registry, instance.name)
        except NoService as error:
            if instance.here or instance.service not in catalog.names():
                found.append(registry.document.problem((instance.section, instance.name), str(error)))
        for name in denied(registry, instance):
            text = (
                f"secret:{name} is handed to no service, it is another's key to the house: give the secret another name"
            )
            found.append(registry.document.problem((instance.section, instance.name), text))
    return list(dict.fromkeys(found))


def not_judged(registry: Registry) -> Iterator[str]:
    """Yield the instances of other hosts whose services cannot be loaded here, each with the reason."""
    for instance in registry.instances.values():
        try:
            catalog.find(instance.service)
        except NoService as error:
            yield f"{instance.name}, which runs on {instance.host}: {error}"


def bridges_of(registry: Registry, root: Path = Path("/")) -> Iterator[Problem]:
    """Yield what is wrong with bridges of this machine's broker, where it is the house's."""
    for fault in bridges.faults(bridges.files(root)) if broker.is_here(registry) else ():
        yield Problem(
            str(fault.file), fault.line, f"connection {fault.connection}", f"{fault.text}: write {fault.mend}"
        )


def cost(registry: Registry) -> list[str]:
    """Lines that say what the settings cost the SD card in a day."""
    kept = [topic for topic in registry.topics.values() if topic.kind != "text" and topic.store is not False]
    rate = sum(1 / topic.every for topic in kept)
    lines = [f"{len(registry.topics)} topics, {rate:.2f} readings a second at most, {rate * 86400:,.0f} a day"]
    for instance in registry.instances.values():
        with contextlib.suppress(NoService):
            lines += [
                f"{instance.name}: {line}" for line in catalog.find(instance.service).cost(registry, instance.name)
            ]
    return lines


def main(arguments: argparse.Namespace) -> int:
    """Check, and print what was found."""
    path = find_registry(arguments.file or arguments.config, say=False)
    registry = Registry(path)
    if problems := problems_of(registry) + list(bridges_of(registry)):
        raise DocumentError(problems)
    for problem in registry.left_out:
        print(f"left out: {problem}")
    if not arguments.quiet:
        here = [instance.name for instance in registry.instances.values() if instance.here]
        print(f"{path.absolute()}: good. On this machine: {', '.join(here) or 'nothing'}.")
        for line in cost(registry):
            print(f"  {line}")
        for line in not_judged(registry):
            print(f"  not judged: {line}")
    sys.stdout.flush()
    return 0
