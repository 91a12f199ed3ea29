"""Write the whole house into one file while it runs: settings, credentials, readings, pictures, and what each service remembers.

    constellation backup /media/stick/house.tar            the house; asks for a passphrase for its credentials
    constellation backup --check /media/stick/house.tar    put into a scratch folder and compared; the house is not touched
    constellation backup --into /media/stick --keep 7      for a timer: a file for each time, the oldest go
    constellation backup /media/stick/archive.sqlite       the archive alone: any name that ends in .sqlite

`constellation restore FILE` takes both in again. The passphrase comes from --passphrase-file, from the credential
backup.passphrase, or from the terminal; without one, credentials are left out, and named.
"""

import argparse
import getpass
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

from bootstrap_lib import Registry, StartError, secrets

if TYPE_CHECKING:
    from collections.abc import Callable

    from services.stores.house_file import Manifest, Places

SCRATCH = Path("/var/tmp")  # noqa: S108 (folders of random names are made in it)
SUFFIX = ".sqlite"
"""Ending of a name that means the archive alone."""

INSTALLED = "etc/constellation/topics.yaml"
_PASSPHRASE = "backup.passphrase"  # noqa: S105 (the name of a file)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Say what `backup` takes."""
    parser.add_argument(
        "file", type=Path, nargs="?", help="the file to make; one that is there is replaced when the new one is whole"
    )
    parser.add_argument(
        "--archive", metavar="INSTANCE", help="for a file of the archive alone: which one, where there are several"
    )
    parser.add_argument("--check", metavar="FILE", type=Path, help="look at a house's file instead of making one")
    parser.add_argument("--scratch", metavar="DIR", type=Path, default=SCRATCH, help="with --check: where")
    parser.add_argument("--into", metavar="DIR", type=Path, help="make the next of many in a folder")
    parser.add_argument("--keep", metavar="N", type=int, default=7, help="with --into: how many stay (default: 7)")
    add_common(parser)


def add_common(parser: argparse.ArgumentParser) -> None:
    """Say what `backup` and `restore` take both."""
    parser.add_argument(
        "--passphrase-file", metavar="FILE", type=Path, help="a file with the passphrase of the credentials"
    )
    parser.add_argument(
        "--root", metavar="DIR", type=Path, default=Path("/"), help="work below a folder that stands for /"
    )


def main(arguments: argparse.Namespace) -> int:
    """Copy, and say how much."""
    given = [one for one in (arguments.file, arguments.check, arguments.into) if one is not None]
    if len(given) != 1:
        raise StartError("say one thing: a file to make, --into FOLDER, or --check FILE")
    if arguments.check:
        return _check(arguments)
    if arguments.file and arguments.file.suffix == SUFFIX:
        return _archive(arguments)
    return _house(arguments)


def _archive(arguments: argparse.Namespace) -> int:
    from services.stores import backup
    from services.stores.archive_file import path_of_archive

    registry = Registry(Registry.locate(arguments.config).resolve())
    database = path_of_archive(registry, arguments.archive)
    print(f"{arguments.file}: {backup.back_up(database, arguments.file) / 1e6:.1f} MB")
    return 0


def _house(arguments: argparse.Namespace) -> int:
    from services.stores import rotation
    from services.stores.house_file import Places

    registry = Registry(Registry.locate(config_of(arguments)).resolve())
    places = Places(registry.path, arguments.root.absolute())
    phrase = passphrase(arguments, "passphrase for the credentials (none: they are left out): ", twice=True)
    if arguments.into is None:
        _make(places, registry, arguments.file, phrase, lambda _: None)
        return 0
    if arguments.keep < 1:
        raise StartError("--keep 0 would leave no backup at all")
    if not arguments.into.is_dir():
        raise StartError(f"{arguments.into} is not there: make it, or put the stick in")
    with rotation.alone(arguments.into):
        before = rotation.newest_of(arguments.into)

        def judge(manifest: "Manifest") -> None:
            if before is not None:
                rotation.lacks_nothing(manifest, *before)

        _make(places, registry, rotation.next_of(arguments.into, time.time()), phrase, judge)
        for gone in rotation.forget_older(arguments.into, arguments.keep):
            print(f"{gone} is gone: {arguments.keep} newer ones are there")
    return 0


def _make(
    places: "Places", registry: Registry, target: Path, phrase: str | None, judge: "Callable[[Manifest], None]"
) -> None:
    from services.stores import house_backup, last_backup

    began = time.time_ns() // 1_000_000
    manifest = house_backup.make(places, registry, target, phrase, show, judge=judge)
    clear()
    last_backup.note(places.states, taken=began, bytes=target.stat().st_size)
    print(
        f"{target}: {len(manifest.files)} files, {target.stat().st_size / 1e6:.1f} MB; {', '.join(manifest.instances)}"
    )
    for sentence in manifest.left_out:
        print(f"  left out: {sentence}")


def _check(arguments: argparse.Namespace) -> int:
    from services.stores import house_restore, last_backup
    from services.stores.house_file import Places

    phrase = passphrase(arguments, "passphrase for the credentials (none: they are not opened): ", twice=False)
    noted = Places(Path(), arguments.root.absolute()).states
    try:
        with house_restore.opened(arguments.check) as house:
            lines = house_restore.check(house, arguments.scratch, phrase, show)
    except StartError:
        last_backup.note(noted, tried=0)  # what was shown before is not shown any more
        raise
    clear()
    last_backup.note(noted, tried=time.time_ns() // 1_000_000)
    print(f"{arguments.check} is whole", *lines, sep="\n  ")
    return 0


def config_of(arguments: argparse.Namespace) -> str | None:
    """Return which topics.yaml is meant."""
    if arguments.config or arguments.root == Path("/"):
        return str(arguments.config) if arguments.config else None
    return str(arguments.root / INSTALLED)


def passphrase(arguments: argparse.Namespace, question: str, *, twice: bool) -> str | None:
    """Return the passphrase of the credentials, or None: from a file, the credential, or the terminal."""
    if arguments.passphrase_file:
        file = arguments.passphrase_file.absolute()
        return secrets.resolve(f"secret:{file.name}", file.parent, lines=True)
    kept = arguments.root / "etc/constellation/credentials"
    if (kept / _PASSPHRASE).exists() or secrets.is_there(_PASSPHRASE):
        return secrets.resolve(f"secret:{_PASSPHRASE}", kept, lines=True)
    if not sys.stdin.isatty():
        return None
    said = getpass.getpass(question)
    if said and twice and getpass.getpass("again: ") != said:
        raise StartError("the two were not the same: nothing was written")
    return said or None


def show(part: float, name: str) -> None:
    """Show on a terminal how far it is."""
    if sys.stderr.isatty():
        print(f"\r\033[K{'█' * round(part * 20):░<20} {part:4.0%} {name[:50]}", end="", file=sys.stderr, flush=True)


def clear() -> None:
    """Take the bar away."""
    if sys.stderr.isatty():
        print("\r\033[K", end="", file=sys.stderr, flush=True)
