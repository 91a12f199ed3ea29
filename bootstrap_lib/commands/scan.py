"""Show what is there: sensors with live values, batteries, meters heard, ports; what has no name yet is marked.

`constellation scan onewire` needs no line in topics.yaml: it looks with the service's default options, or with those
of the instance of that name.
"""

import argparse

import msgspec

from bootstrap_lib import catalog
from bootstrap_lib.document import DocumentError, from_text
from bootstrap_lib.registry import Registry, find_registry
from bootstrap_lib.service import StartError, option_type
from bootstrap_lib.source import Source


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Say what `scan` takes."""
    parser.add_argument("source", help="an instance of topics.yaml, or the name of a service")


def main(arguments: argparse.Namespace) -> int:
    """Look, and print what is found; what topics.yaml names already is said with its topic."""
    registry = _registry(arguments.config)
    instance = registry.instances.get(arguments.source) if registry else None
    service = catalog.find(instance.service if instance else arguments.source)
    if not issubclass(service, Source):
        raise StartError(f"'{arguments.source}' has nothing to scan for")
    kind = option_type(service)
    options = msgspec.convert(instance.raw if instance else {}, kind, dec_hook=from_text)
    named = {
        str(value): topic.name
        for topic in (registry.topics.values() if registry else ())
        for value in topic.options.values()
    }
    found = 0
    for line in service.scan(options):
        found += 1
        owner = next((named[word] for word in line.split() if word in named), None)
        known = "" if " -> " in line else f"   -> {owner}" if owner else "   (not yet named)"
        print(f"{line}{known}", flush=True)
    if not found:
        print(f"nothing was found; `constellation doctor` tells what may be missing for {arguments.source}")
    return 0 if found else 1


def _registry(config: str | None) -> Registry | None:
    try:
        return Registry(find_registry(config))
    except DocumentError:
        if config:
            raise
        return None
