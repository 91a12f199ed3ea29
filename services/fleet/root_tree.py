"""Files that `constellation fleet` reads and writes as root: only where nobody else has a hand in the way to them."""

import os
from pathlib import Path

from bootstrap_lib import StartError, state


def below(root: Path, path: Path) -> Path:
    """Where a file or folder of root's really lies, `root` standing for /; StartError where somebody else has a hand in it."""
    place = Path(root, *path.parts[1:])
    if os.geteuid() == 0 and (why := state.foreign(place, root)):
        raise StartError(why)
    return place


def write(path: Path, text: str, mode: int = 0o644) -> None:
    """Write a file, whole at any moment, and the folders that it lacks."""
    path.parent.mkdir(parents=True, exist_ok=True)
    state.write(path, text.encode(), mode)
