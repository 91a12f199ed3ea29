"""Check topics.yaml and everything that services want of it; say what the settings cost the SD card.

Exit code 0 if it can be used, 78 if not. Every problem stands on a line of its own: file:line: path: message.
"""

import argparse
import contextlib
import sys
from collections.abc import Iterator
from ipaddress import ip_address
from pathlib import Path

from bootstrap_lib import bridges, broker, catalog
from bootstrap_lib.catalog import NoService
from bootstrap_lib.credentials import denied
from bootstrap_lib.document import DocumentError, Problem
from bootstrap_lib.location import find_registry
from bootstrap_lib.needs import needs_of
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
    found += _listeners(registry)
    return list(dict.fromkeys(found))


def _listeners(registry: Registry) -> Iterator[Problem]:
    """Yield where services cannot listen: at what is no address, and two of one machine at one port."""
    taken: dict[tuple[str | None, object], list[tuple[str, str]]] = {}
    for instance in registry.instances.values():
        where = needs_of(instance.service).listens
        if where is None:
            continue
        address, port = instance.raw.get("listen", "127.0.0.1"), instance.raw.get(where[0], where[1])
        place = instance.section, instance.name
        if not isinstance(address, str):
            continue  # that is said already
        address = "127.0.0.1" if address == "localhost" else address
        try:
            everywhere = ip_address(address).is_unspecified
        except ValueError:
            yield registry.document.problem(
                (*place, "listen"), f"'{address}' is no address: 127.0.0.1, or 0.0.0.0 for all"
            )
            continue
        there = taken.setdefault((instance.host, port), [])
        for other, name in there:
            if everywhere or other == address or ip_address(other).is_unspecified:
                key = where[0] if where[0] in instance.raw else None
                sentence = f"'{name}' listens on port {port} already: give one of them another `{where[0]}`"
                yield registry.document.problem((*place, key) if key else place, sentence)
                break
        there.append((address, instance.name))


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
