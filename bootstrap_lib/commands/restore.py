"""Take a backup into the archive while it runs: what the archive has already stays as it is.

After the loss of the archive, start it (it makes an empty one), then restore.
"""

import argparse
from pathlib import Path

from bootstrap_lib.registry import Registry, find_registry
from bootstrap_lib.service import StartError


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Say what `restore` takes."""
    parser.add_argument("file", type=Path, help="a copy made by `constellation backup`")
    parser.add_argument("--archive", metavar="INSTANCE", help="which one, where there are several")


def main(arguments: argparse.Namespace) -> int:
    """Take it in, and say how much was new."""
    from services.stores.access import path_of_archive  # noqa: PLC0415 (SQLAlchemy is only needed here)
    from services.stores.backup import BackupError, take_in  # noqa: PLC0415

    database = path_of_archive(Registry(find_registry(arguments.config).resolve()), arguments.archive)
    try:
        count = take_in(database, arguments.file)
    except BackupError as error:
        raise StartError(str(error)) from None
    print(f"{arguments.file}: {count} readings that the archive did not have")
    return 0
