"""Put a whole house back from its file, or take an archive's copy into the archive that runs.

    constellation restore /media/stick/house.tar         on an empty machine: everything as it was
    constellation restore /media/stick/archive.sqlite    into the archive, while it runs: what it has already stays as it is

A house that lives on the machine is never overwritten: with --replace, and its services stopped, it is set aside first. Afterwards
`constellation units --install` makes users, units and the broker's files. After the loss of an archive alone, start it (it makes an
empty one), then restore.
"""

import argparse
from pathlib import Path

from bootstrap_lib import Registry
from services.commands.backup import INSTALLED, add_common, clear, config_of, passphrase, show


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Say what `restore` takes."""
    parser.add_argument("file", type=Path, help="what `backup` made: which of both it is, is seen by its content")
    parser.add_argument(
        "--archive", metavar="INSTANCE", help="for a file of the archive alone: which one, where there are several"
    )
    parser.add_argument("--replace", action="store_true", help="set aside the house that is on this machine")
    add_common(parser)


def main(arguments: argparse.Namespace) -> int:
    """Take in what the file is, and say how much."""
    from services.stores import house_restore
    from services.stores.house_file import Places

    if not arguments.file.is_file() or _is_archive(arguments.file):
        return _archive(arguments)
    root = arguments.root.absolute()
    config = Path(config_of(arguments) or root / INSTALLED).absolute()
    with house_restore.opened(arguments.file) as house:
        phrase = passphrase(arguments, "passphrase for the credentials (none: they stay sealed): ", twice=False)
        lines = house_restore.put_back(house, Places(config, root), phrase, show, replace=arguments.replace)
    clear()
    print(*lines, sep="\n")
    print("next: sudo constellation units --install, then sudo systemctl start constellation.target")
    return 0


def _is_archive(path: Path) -> bool:
    with path.open("rb") as file:
        magic = b"SQLite format 3\0"
        return file.read(len(magic)) == magic or path.suffix == ".sqlite"


def _archive(arguments: argparse.Namespace) -> int:
    from services.stores import backup
    from services.stores.archive_file import path_of_archive

    registry = Registry(Registry.locate(arguments.config).resolve())
    database = path_of_archive(registry, arguments.archive)
    renamed = {old: topic.name for old, topic in registry.formerly.items()}
    added = backup.take_in(database, arguments.file, renamed)
    print(f"{arguments.file}: {added} readings that the archive did not have")
    return 0
