"""Show the house's certificate authority and the broker's certificate, renew that, or keep the authority's key elsewhere.

The broker's certificate lasts a year. `ca renew` makes a new one sixty days before its end; a timer of systemd calls it every day. The
key is needed for that alone: `ca offline FOLDER` moves it to a stick, and `ca renew --key FILE` uses it from there. While it is away,
people are told in time that the certificate ends.
"""

import argparse
import os
import time
from datetime import UTC, datetime
from pathlib import Path

from bootstrap_lib import broker, broker_unit, certificates, state
from bootstrap_lib.certificates import CA, CA_KEY, RENEW_DAYS, SERVER
from bootstrap_lib.client import Client
from bootstrap_lib.document import StartError, reason
from bootstrap_lib.installation import Installation
from bootstrap_lib.location import find_registry
from bootstrap_lib.reading import as_json, format_time
from bootstrap_lib.registry import Registry
from bootstrap_lib.removal import manager_runs

PATIENCE = 10.0
"""Seconds that the broker has to take a message for people."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Say what `ca` takes."""
    parser.add_argument("what", nargs="?", choices=("show", "renew", "offline"), default="show", help="(default: show)")
    parser.add_argument("folder", nargs="?", type=Path, help="with offline: where the key is to be kept")
    parser.add_argument(
        "--key", metavar="FILE", type=Path, help="with renew: the authority's key, where it is kept elsewhere"
    )
    parser.add_argument(
        "--root", metavar="DIR", type=Path, default=Path("/"), help="work below a folder that stands for /"
    )


def main(arguments: argparse.Namespace) -> int:
    """Do one of the three; returns 1 where something must be done by hand."""
    installation = Installation(arguments.root)
    if not installation.path(CA).exists():
        raise StartError(f"{installation.path(CA)} is not there: sudo constellation units --install makes it")
    if arguments.what == "offline":
        if arguments.folder is None:
            raise StartError("say where the key is to be kept: constellation ca offline /media/stick")
        _offline(installation, arguments.folder)
        return 0
    if arguments.what == "renew":
        return _renew(installation, Registry(find_registry(arguments.config)), arguments.key)
    return _show(installation)


def _show(installation: Installation) -> int:
    authority, server = installation.path(CA), installation.path(SERVER)
    print(f"authority: {authority}, {certificates.days_left(authority)} days left")
    limits = certificates.constraints(authority)
    print(
        f"  signs for {', '.join(limits)}"
        if limits
        else "  signs for every name there is: it was made by an earlier version"
    )
    key = installation.path(CA_KEY)
    print(f"  its key is {key}" if os.access(key, os.F_OK) else "  its key is not on this machine, or not yours to see")
    if not server.exists():
        print("the broker is on another machine")
        return 0
    left = certificates.days_left(server)
    print(f"broker: {server}, {left} days left")
    return 1 if left <= RENEW_DAYS // 2 else 0


def _offline(installation: Installation, folder: Path) -> None:
    key, copy = installation.path(CA_KEY), folder / CA_KEY.name
    try:
        if folder.samefile(key.parent):
            raise StartError(f"the key lies in {folder} already: name a folder of a stick")
        content = state.read(key)
        with state.as_owner_of(folder):
            state.write(copy, content, 0o600)
            if state.read(copy) != content:
                raise OSError(f"{copy} does not say what was written")
        key.unlink()
    except FileNotFoundError as error:
        raise StartError(f"{error.filename} is not there") from None
    except OSError as error:
        raise StartError(f"the key stays at {key}: {copy} cannot be written: {reason(error)}") from None
    print(f"moved the authority's key to {copy}; the next certificate: sudo constellation ca renew --key {copy}")


def _renew(installation: Installation, registry: Registry, key: Path | None) -> int:
    if not broker.is_here(registry):
        print(f"the broker is on {registry.broker.host}: its certificate is renewed there")
        return 0
    certificates.make(installation, registry.broker.host, key=key)
    if installation.live and manager_runs():
        broker_unit.activate(installation)
    left = certificates.days_left(installation.path(SERVER))
    if left > RENEW_DAYS:
        print(f"the broker's certificate lasts {left} days")
        return 0
    text = (
        f"The broker's certificate ends in {left} days, and the authority's key is not on this machine:"
        " put the stick in, and sudo constellation ca renew --key FILE"
    )
    told = _tell(registry, text, left) if installation.live else False
    print(text if told else f"{text} (nobody could be told)")
    return 1


def _tell(registry: Registry, text: str, left: int) -> bool:
    """Tell people once a week, in the last week every day."""
    if left > 7 and datetime.now(UTC).weekday():  # noqa: PLR2004 (days of a week; Monday is 0)
        return True
    now = time.time_ns() // 1_000_000
    notice = {"text": text, "title": "A certificate ends", "time": format_time(now), "priority": 1}
    try:
        with Client(registry, user="failure", patience=PATIENCE) as client:
            return client.deliver(f"notify/certificate_{now}", as_json(notice), PATIENCE)
    except StartError:
        return False
