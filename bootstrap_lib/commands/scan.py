"""Show what is there: sensors with live values, batteries, meters heard, ports; what has no name yet is marked.

`constellation scan onewire` needs no line in topics.yaml: it looks with the service's default options, or with those
of the instance of that name, or of the service's only one.
"""

import argparse
from collections.abc import Iterator, Mapping
from typing import Any

import msgspec

from bootstrap_lib import catalog
from bootstrap_lib.commands.once import failures_as_sentences
from bootstrap_lib.document import DocumentError, StartError, plain
from bootstrap_lib.entries import Instance, InstanceOptions
from bootstrap_lib.location import find_registry
from bootstrap_lib.registry import Registry
from bootstrap_lib.service import option_type, topic_option_type
from bootstrap_lib.source import Source


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Say what `scan` takes."""
    parser.add_argument("source", help="an instance of topics.yaml, or the name of a service")


def main(arguments: argparse.Namespace) -> int:
    """Look, and print what is found; what topics.yaml names already is said with its topic."""
    registry, name = _registry(arguments.config), arguments.source
    instance = _instance(registry, name) if registry else None
    service = catalog.find(instance.service if instance else name)
    if not issubclass(service, Source):
        raise StartError(f"'{name}' has nothing to scan for")
    options = _options(service, registry, instance, name)
    named = _named(service, registry, instance) if registry and instance else {}
    found = 0
    with failures_as_sentences():
        for line in service.scan(options):
            found += 1
            marks = identity(line)
            owner = next((topic for topic, words in named.items() if marks <= words), None)
            known = "" if " -> " in line else f"   -> {owner}" if owner else "   (not yet named)"
            print(f"{plain(line, 500)}{known}", flush=True)
    if not found:
        print(f"nothing was found; `constellation doctor` tells what may be missing for {name}")
    return 0 if found else 1


def identity(line: str) -> frozenset[str]:
    """Words by which a line of a scan says what it is about: those before two spaces, or else its first."""
    head, gap, _ = line.partition("  ")
    return frozenset(head.casefold().split() if gap else line.casefold().split()[:1])


def words_of(kind: type, name: str, options: Mapping[str, Any]) -> frozenset[str]:
    """Words that a topic's line stands for: the values of its keys, also those that it leaves out, and its last level."""
    defaults = {field.encode_name: field.default for field in msgspec.structs.fields(kind)}
    return frozenset(
        (name.rpartition("/")[2], *(word for value in (defaults | dict(options)).values() for word in _words(value)))
    )


def _words(value: object) -> Iterator[str]:
    if isinstance(value, int) and not isinstance(value, bool):
        yield from (str(value), f"{value:#04x}", f"{value:08d}")  # a number, an address, a meter
    elif isinstance(value, str):
        yield value.casefold()


def _named(service: type[Source], registry: Registry, instance: Instance) -> dict[str, frozenset[str]]:
    kind = topic_option_type(service)
    topics = (topic for topic in registry.topics.values() if topic.source == instance.name)
    return {topic.name: words_of(kind, topic.name, topic.options) for topic in topics}


def _instance(registry: Registry, name: str) -> Instance | None:
    of_service = registry.find(name)
    return registry.instances.get(name) or (of_service[0] if len(of_service) == 1 else None)


def _options(service: type[Source], registry: Registry | None, instance: Instance | None, name: str) -> InstanceOptions:
    kind = option_type(service)
    if registry and instance:
        return registry.options_of(instance.name, kind)
    if missing := [field.encode_name for field in msgspec.structs.fields(kind) if field.required]:
        raise StartError(
            f"'{name}' cannot look without {' and '.join(missing)}: write `{name}: {{{missing[0]}: …}}` below sources:"
            " in topics.yaml, and scan again"
        )
    return kind()


def _registry(config: str | None) -> Registry | None:
    try:
        return Registry(find_registry(config))
    except DocumentError:
        if config:
            raise
        return None
