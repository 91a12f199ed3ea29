"""Where topics.yaml of the house is, and the time zones that the machine knows."""

import functools
import os
import re
import sys
from pathlib import Path
from typing import Final

from bootstrap_lib.document import StartError

ZONES: Final = Path("/usr/share/zoneinfo")
"""The time zones that the system knows (package tzdata)."""

_ZONE: Final = re.compile(r"[A-Za-z0-9_+-]+(/[A-Za-z0-9_+-]+){0,2}")
"""Names of zones, as in the tz database; never a path."""

INSTALLED: Final = Path("/etc/constellation/topics.yaml")
"""The file of an installed house: what every verb judges, from every folder."""


def find_registry(given: str | None = None, *, say: bool = True, shipped: bool = False) -> Path:
    """Path of topics.yaml: as given, $CONSTELLATION_CONFIG, or the installed one. StartError for root where others could write it.

    Where it is not the installed one, that is said once, unless the verb says so itself. Where no house is installed yet, `shipped` takes
    the one that came along.
    """
    path = Path(given or os.environ.get("CONSTELLATION_CONFIG") or INSTALLED)
    if shipped and path == INSTALLED and not path.exists():
        path = shipped_house()
    if os.geteuid() == 0 and path.exists():
        owner = path.stat().st_uid
        if owner not in (0, int(os.environ.get("SUDO_UID", "0"))):
            raise StartError(
                f"{path} belongs to another user (number {owner}), and root does as it says: sudo chown root {path}"
            )
    if say and path.absolute() != INSTALLED:
        _say(path.absolute())
    return path


def shipped_house() -> Path:
    """The topics.yaml that came with the distribution, or with a clone of it."""
    package = Path(__file__).parent
    return next(file for file in (package / "share" / "topics.yaml", package.parent / "topics.yaml") if file.exists())


@functools.lru_cache(maxsize=8)
def _say(path: Path) -> None:
    print(f"constellation: {path} is used, not {INSTALLED}", file=sys.stderr)  # noqa: T201 (to whoever gave the verb)


def is_zone(name: str) -> bool:
    """Whether a name is that of a time zone whose file (TZif of RFC 8536) is there."""
    if not _ZONE.fullmatch(name):
        return False
    try:
        with (ZONES / name).open("rb") as zone:
            return zone.read(4) == b"TZif"
    except OSError:
        return False
