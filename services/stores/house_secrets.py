"""Credentials of a house for its file, and whose files are, by names that are the same on another machine."""

import grp
import os
import pwd
import stat

from bootstrap_lib import state
from services.stores.house_file import OWN_SECRETS, SECRETS, Places, SealedFile, Secrets


def gather(places: Places, instances: list[str]) -> Secrets:
    """Credentials, keys that services were given, and what the broker has of its own: passwords, keys, lines of the user's."""
    found: Secrets = {}
    names = ("constellation/credentials", "mosquitto/constellation", "mosquitto/fleet", "constellation/fleet")
    folders = [places.root / "etc" / name for name in names]
    for folder in (*folders, *(places.states / name / OWN_SECRETS for name in instances)):
        with state.as_owner_of(folder):
            if folder.is_dir():
                list(folder.iterdir())  # `rglob` would say nothing of one that may not be looked into
            for path in sorted(folder.rglob("*")) if folder.is_dir() else ():
                name = str(path.relative_to(places.root))
                if SECRETS.fullmatch(name) and path.is_file() and not path.is_symlink():
                    owner = path.stat()
                    found[name] = SealedFile(stat.S_IMODE(owner.st_mode), state.read(path), *owner_names(owner))
    return found


def owner_names(found: os.stat_result) -> tuple[str, str]:
    """Names of a file's user and group, which are the same on another machine."""
    try:
        return pwd.getpwuid(found.st_uid).pw_name, grp.getgrgid(found.st_gid).gr_name
    except KeyError:
        return "", ""


def owner_of(user: str) -> tuple[int, int] | None:
    """Return user and group of a name, for root to give a file to; None where this machine does not know him."""
    if os.geteuid() or not user:
        return None
    try:
        found = pwd.getpwnam(user)
    except KeyError:
        return None
    return found.pw_uid, found.pw_gid
