"""Clear retained topics that nobody owns: not in topics.yaml any more, or of a service that it no longer names."""

import argparse

from bootstrap_lib import catalog
from bootstrap_lib.client import Client
from bootstrap_lib.document import plain
from bootstrap_lib.location import find_registry
from bootstrap_lib.needs import needs_of
from bootstrap_lib.registry import Registry


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Say what `prune` takes."""
    parser.add_argument("--dry-run", action="store_true", help="only say what would be cleared")


def main(arguments: argparse.Namespace) -> int:
    """Compare what stands at the broker with topics.yaml, and clear the rest."""
    registry = Registry(find_registry(arguments.config))
    with Client(registry) as client:
        data = client.retained("data/#")
        services = client.retained("service/+/status") | client.retained("service/+/health")
        stored = client.retained("service/+/stored/+")
        orphans = [topic for topic in data if topic.removeprefix("data/") not in registry.topics]
        orphans += [topic for topic in services if topic.split("/")[1] not in registry.instances]
        orphans += [topic for topic in stored if topic.rpartition("/")[2] not in registry.instances]
        for service in dict.fromkeys(instance.service for instance in registry.instances.values()):
            for pattern in needs_of(service).keeps:
                owns = catalog.find(service).owns
                orphans += [topic for topic in client.retained(pattern) if not owns(registry, topic)]
        for topic in sorted(orphans):
            print(f"{'would clear' if arguments.dry_run else 'cleared'} {registry.root}/{plain(topic)}")
            if not arguments.dry_run:
                client.publish(topic, b"", retain=True)
    print(f"{len(orphans)} topics without an owner" if orphans else "every topic has an owner")
    return 0
