"""Make a store's files again from what `constellation dump` wrote; files that exist are replaced.

Stop the service before: `systemctl stop constellation@rrd`.
"""

import argparse
from pathlib import Path

from services.commands.dump import move


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Say what `load` takes."""
    parser.add_argument("store", help="the instance whose store it is, such as rrd")
    parser.add_argument("file", type=Path, help="the tar file")


def main(arguments: argparse.Namespace) -> int:
    """Load."""
    return move(arguments, arguments.store, arguments.file)
