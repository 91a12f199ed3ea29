"""Give somebody a password for the page, so that they may change something: `constellation password web NAME`.

It is asked for on the terminal, or read from a pipe; only its hash (scrypt) is kept, among the credentials. The page
takes it over when it is restarted; on an installed house `constellation units --install` hands it to its unit.
"""

import argparse
import getpass
import os
import sys
from pathlib import Path

from bootstrap_lib import Registry, StartError, secrets
from services.page import people


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Say what `password` takes."""
    parser.add_argument("service", choices=["web", "fleet_page"], help="the page of the house, or that of a fleet")
    parser.add_argument("name", help="what the person is called on the page and in the journal")
    parser.add_argument("--remove", action="store_true", help="take it away again; whoever is logged in by it is out")


def main(arguments: argparse.Namespace) -> int:
    """Write or remove it; returns the exit code."""
    name = arguments.name
    if not people.NAME.fullmatch(name):
        raise StartError(f"'{name}' is no name: use letters, digits, and . _ @ -, 40 at most")
    if not Registry(Registry.locate(arguments.config)).find(arguments.service):
        raise StartError(f"topics.yaml has no page: write `{arguments.service}:` below subscribers:")
    secret = people.secret_of(arguments.service)
    folder = _folder()
    known = _known(folder / secret)
    if arguments.remove:
        if known.pop(name, None) is None:
            raise StartError(f"nobody is called '{name}'")
    else:
        known[name] = people.hashed(_ask())
    secrets.keep(folder, {secret: people.write(known).rstrip("\n")})
    done = "may no longer change anything" if arguments.remove else "may change things on the page"
    unit = f"constellation@{arguments.service}"
    print(f"{name} {done} once it is restarted: sudo constellation units --install && sudo systemctl restart {unit}")
    return 0


def _folder() -> Path:
    given = os.environ.get("CONSTELLATION_CREDENTIALS")
    return Path(given) if given else secrets.FOLDER


def _known(path: Path) -> dict[str, str]:
    return people.read(path.read_text("utf-8")) if path.exists() else {}


def _ask() -> str:
    if sys.stdin.isatty():
        password = getpass.getpass("Password: ")
        if password != getpass.getpass("Once more: "):
            raise StartError("these are two different ones")
    else:
        password = sys.stdin.readline().rstrip("\n")
    if len(password) < people.LEAST:
        raise StartError(f"a password has {people.LEAST} characters at least")
    return password
