"""Root's work in folders of somebody else's, whose owner could put a link in the place of any file meanwhile."""

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path


@contextlib.contextmanager
def as_owner_of(folder: Path) -> Iterator[None]:
    """Do what root was asked to do in a folder of somebody else's with no more than its owner's rights.

    That is also who owns a folder or a link on the way there: he could lead it elsewhere.
    """
    owner = _foreign(folder.absolute()) if os.geteuid() == 0 else None
    if owner is None:
        yield
        return
    groups = os.getgroups()
    os.setgroups([owner.st_gid])
    os.setegid(owner.st_gid)
    os.seteuid(owner.st_uid)
    try:
        yield
    finally:
        os.seteuid(0)
        os.setegid(0)
        os.setgroups(groups)


def foreign(path: Path, root: Path = Path("/")) -> str | None:
    """Why root keeps nothing of its own at a path, or None: it, or a folder above it and below `root`, is a link or somebody else's."""
    for place in (path, *(above for above in path.parents if above.is_relative_to(root))):
        if place == root != Path("/"):
            break
        if place.is_symlink():
            return f"{place} is a link, and root follows none: put a folder in its place"
        if place.exists() and (owner := place.stat().st_uid):
            return (
                f"{place} belongs to another user (number {owner}), and what root keeps there would be theirs:"
                f" look at it, then sudo chown root {place}"
            )
    return None


def _foreign(folder: Path) -> os.stat_result | None:
    """Whoever is not root and owns the folder, or else what is nearest above it."""
    for place in (folder, *folder.parents):
        with contextlib.suppress(FileNotFoundError, NotADirectoryError):
            if (found := place.lstat()).st_uid:
                return found
    return None
