"""Let a second machine run a part of the house: `host add NAME` makes one file to carry there, `host join FILE` uses it.

The file holds topics.yaml, the certificate of the house's authority, the passwords and secrets of the instances that
topics.yaml gives to that machine, services of your own, and a password by which `status`, `watch` and `doctor` work there. It is
as secret as what is in it: mode 0600; delete it once it was used. After a change of topics.yaml do both again.
"""

import argparse
import os
import re
import socket
import stat
from pathlib import Path
from typing import Final

import msgspec

from bootstrap_lib import broker, machine, state
from bootstrap_lib.certificates import CA
from bootstrap_lib.commands import units
from bootstrap_lib.credentials import given_to, secrets_of
from bootstrap_lib.document import StartError, reason
from bootstrap_lib.entries import Instance
from bootstrap_lib.installation import CREDENTIALS, Installation
from bootstrap_lib.location import INSTALLED, find_registry
from bootstrap_lib.registry import Registry

_OWN: Final = INSTALLED.with_name("services")
_ALLOWED: Final = re.compile(
    r"/etc/constellation/(topics\.yaml|ca\.crt|services/[a-z][a-z0-9_]*\.py|credentials/[A-Za-z0-9][A-Za-z0-9_.-]*)"
)
"""What `join` writes, and nothing else."""
_LARGEST: Final = 16_000_000


class Parcel(msgspec.Struct, forbid_unknown_fields=True):
    """What a second machine needs, for one machine."""

    machine: str
    files: dict[str, str]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Say what the verb takes."""
    parser.add_argument("what", choices=("add", "join"), help="add: on the broker's machine; join: on the other one")
    parser.add_argument(
        "name", metavar="NAME|FILE", help="the other machine's name in topics.yaml; the file that was carried"
    )
    parser.add_argument(
        "--output", metavar="FILE", type=Path, help="with add: the file to make (default: NAME.constellation)"
    )
    parser.add_argument(
        "--root", metavar="DIR", type=Path, default=Path("/"), help="work below a folder that stands for /"
    )


def main(arguments: argparse.Namespace) -> int:
    """Make the file, or install what it says."""
    installation = Installation(arguments.root)
    if arguments.what == "add":
        _add(installation, Registry(find_registry(arguments.config)), arguments.name, arguments.output)
        return 0
    return _join(installation, Path(arguments.name), arguments)


def _add(installation: Installation, registry: Registry, name: str, output: Path | None) -> None:
    theirs = [one for one in registry.instances.values() if one.host is not None and machine.is_same(one.host, name)]
    if not theirs:
        others = sorted({one.host for one in registry.instances.values() if one.host and not one.here})
        known = f": there are {', '.join(others)}" if others else ""
        raise StartError(f"{registry.path} gives nothing to '{name}'{known}; write `host: {name}` at an instance")
    if registry.broker.host in machine.LOOPBACK:
        raise StartError(
            f"{registry.path} says that the broker is on {registry.broker.host}, which {name} cannot reach: write"
            f" broker: {{host: {socket.gethostname()}.local, …}}, then sudo constellation units --install"
        )
    if not broker.is_here(registry):
        raise StartError(f"the broker is on {registry.broker.host}: do this there")
    parcel = Parcel(name, dict(_contents(installation, registry, theirs)))
    path = output or Path(f"{name}.constellation")
    state.write(path.absolute(), msgspec.json.encode(parcel), 0o600)
    runs = ", ".join(one.name for one in theirs)
    print(f"written {path}, for {runs} on {name}: carry it there, and there: sudo constellation host join {path.name}")


def _contents(installation: Installation, registry: Registry, theirs: list[Instance]) -> list[tuple[str, str]]:
    found = [(str(INSTALLED), registry.path.read_text("utf-8"))]
    names = ["mqtt.failure", f"mqtt.{broker.visitor(theirs[0].host or '')}"]
    for one in theirs:
        names += [*secrets_of(registry, one)[:1], *given_to(installation, registry, one)]
    paths = [CA, *(CREDENTIALS / name for name in dict.fromkeys(names)), *installation.files(f"{_OWN}/[a-z]*.py")]
    for path in paths:
        try:
            found.append((str(path), installation.path(path).read_text("utf-8")))
        except FileNotFoundError:
            raise StartError(
                f"{installation.path(path)} is not there yet: sudo constellation units --install, then this again"
            ) from None
    return found


def _join(installation: Installation, file: Path, arguments: argparse.Namespace) -> int:
    parcel = _read(file)
    if not machine.is_this(parcel.machine):
        raise StartError(
            f"{file} is for {parcel.machine}, and this machine is called {socket.gethostname()}:"
            f" sudo hostnamectl set-hostname {parcel.machine.removesuffix('.local')}, or write its name in topics.yaml"
        )
    for name, text in parcel.files.items():
        secret = Path(name).parent == CREDENTIALS
        if secret:
            installation.folder(CREDENTIALS, mode=0o700)
        installation.write(name, text, mode=0o600 if secret else 0o644)
    arguments.config, arguments.install, arguments.remove, arguments.dry_run = None, True, False, False
    done = units.main(arguments)
    if not done:
        print(f"delete {file}: it holds passwords")
    return done


def _read(file: Path) -> Parcel:
    try:
        with open(file, "rb", opener=state.unfollowed) as opened:
            found, content = os.fstat(opened.fileno()), opened.read(_LARGEST + 1)
        if os.geteuid() == 0 and found.st_uid not in (0, int(os.environ.get("SUDO_UID", "0"))):
            raise StartError(f"{file} belongs to another user, and root does as it says: sudo chown root {file}")
        if stat.S_IMODE(found.st_mode) & 0o022:
            raise StartError(f"{file} can be written by others, and root does as it says: chmod 600 {file}")
        if len(content) > _LARGEST:
            raise StartError(f"{file} is none of `constellation host add`: it is too large")
        parcel = msgspec.json.decode(content, type=Parcel)
    except OSError as error:
        raise StartError(f"{file} cannot be read: {reason(error)}") from None
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise StartError(f"{file} is none of `constellation host add`: {reason(error)}") from None
    if strange := [name for name in parcel.files if not _ALLOWED.fullmatch(name)]:
        raise StartError(f"{file} is none of `constellation host add`: it would write {strange[0]!r:.100}")
    return parcel
