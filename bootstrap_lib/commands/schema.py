"""Print the JSON schema of topics.yaml, from which editors complete and check it, or the reference page."""

import argparse
import json

from bootstrap_lib import schema


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Say what `schema` takes."""
    parser.add_argument("--page", action="store_true", help="the reference page docs/topics.md instead")


def main(arguments: argparse.Namespace) -> int:
    """Print it."""
    print(schema.page() if arguments.page else json.dumps(schema.build(), indent=1, ensure_ascii=False), end="")
    return 0
