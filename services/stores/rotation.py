"""A folder of many backups: the newest stay."""

import contextlib
import fcntl
import re
import time
from pathlib import Path
from typing import BinaryIO, Final

from bootstrap_lib import StartError, state
from services.stores.house_file import Manifest
from services.stores.house_restore import opened

_DAILY: Final = re.compile(r"house-\d{8}T\d{6}Z\.tar")


def next_of(folder: Path, now: float) -> Path:
    """Return the name of the next backup in a folder of many."""
    return folder / time.strftime("house-%Y%m%dT%H%M%SZ.tar", time.gmtime(now))


def newest_of(folder: Path) -> tuple[Path, Manifest] | None:
    """Return the newest whole backup in a folder of many, and what it says it holds."""
    for path in sorted(_found(folder), reverse=True):
        with contextlib.suppress(StartError), opened(path) as house:
            return path, house.manifest
    return None


def lacks_nothing(manifest: Manifest, path: Path, before: Manifest) -> None:
    """Refuse a backup without an instance whose state was in the one before: its disk is not mounted. StartError."""
    gone = sorted(_with_state(before).intersection(manifest.instances) - _with_state(manifest))
    if gone:
        raise StartError(
            f"{path} has the state of {', '.join(gone)}, and there is none now: mount its disk; nothing was changed."
            " If it is meant to be gone, move that file to another folder first"
        )


def _with_state(manifest: Manifest) -> set[str]:
    return {held.name.split("/")[1] for held in manifest.files if held.name.startswith("state/")}


def forget_older(folder: Path, keep: int) -> list[Path]:
    """Delete all but the newest backups of a folder of many; returns those that went."""
    found = sorted(_found(folder))
    gone = found[: max(0, len(found) - keep)]
    with state.as_owner_of(folder):
        for path in gone:
            path.unlink()
    return gone


def _found(folder: Path) -> list[Path]:
    return [path for path in folder.iterdir() if _DAILY.fullmatch(path.name) and not path.is_symlink()]


def alone(folder: Path) -> BinaryIO:
    """Hold a folder, so that two backups never rotate in it at once. StartError while another one does."""
    lock = open(folder / ".lock", "ab", opener=state.unfollowed)  # noqa: SIM115 (closed by the caller)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        lock.close()
        raise StartError(f"another backup into {folder} is under way") from None
    return lock
