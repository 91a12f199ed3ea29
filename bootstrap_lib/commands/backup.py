"""Copy the archive into a file while it runs.

The copy is complete and consistent; `constellation restore FILE` takes it in again.
"""

import argparse
from pathlib import Path

from bootstrap_lib.registry import Registry, find_registry
from bootstrap_lib.service import StartError


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Say what `backup` takes."""
    parser.add_argument("file", type=Path, help="where to write the copy; it is replaced when it is whole")
    parser.add_argument("--archive", metavar="INSTANCE", help="which one, where there are several")


def main(arguments: argparse.Namespace) -> int:
    """Copy, and say how much."""
    from services.stores.access import path_of_archive  # noqa: PLC0415 (SQLAlchemy is only needed here)
    from services.stores.backup import BackupError, back_up  # noqa: PLC0415

    database = path_of_archive(Registry(find_registry(arguments.config).resolve()), arguments.archive)
    try:
        size = back_up(database, arguments.file)
    except BackupError as error:
        raise StartError(str(error)) from None
    print(f"{arguments.file}: {size / 1e6:.1f} MB")
    return 0
