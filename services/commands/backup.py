"""Copy the archive into a file while it runs.

The copy is complete and consistent; `constellation restore FILE` takes it in again.
"""

import argparse
from pathlib import Path

from bootstrap_lib import Registry


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Say what `backup` and `restore` take."""
    parser.add_argument(
        "file", type=Path, help="the copy; `backup` replaces one that is there when the new one is whole"
    )
    parser.add_argument("--archive", metavar="INSTANCE", help="which one, where there are several")


def main(arguments: argparse.Namespace) -> int:
    """Copy, or take a copy in if that verb was called, and say how much."""
    from services.stores import backup  # noqa: PLC0415 (SQLAlchemy is only needed here)
    from services.stores.archive_file import path_of_archive  # noqa: PLC0415

    registry = Registry(Registry.locate(arguments.config).resolve())
    database = path_of_archive(registry, arguments.archive)
    if arguments.verb == "backup":
        print(f"{arguments.file}: {backup.back_up(database, arguments.file) / 1e6:.1f} MB")
    else:
        renamed = {old: topic.name for old, topic in registry.formerly.items()}
        print(
            f"{arguments.file}: {backup.take_in(database, arguments.file, renamed)} readings that the archive did not have"
        )
    return 0
