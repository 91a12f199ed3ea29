"""What is known of the house's last file, for whoever shows what can be shown: when it was made, and when one was put back on trial."""

import contextlib
from pathlib import Path
from typing import Final

import msgspec

from bootstrap_lib import state

FILE: Final = "last_backup.json"
"""Beside the state folders of the instances; not secret."""


class LastBackup(msgspec.Struct, frozen=True):
    """Times in ms, 0 for never; `bytes` of the file that was made last."""

    taken: int = 0
    bytes: int = 0
    tried: int = 0


def read(folder: Path) -> LastBackup:
    """What the note says; nothing where there is none, or it is no note."""
    try:
        return msgspec.json.decode(state.read(folder / FILE), type=LastBackup)
    except (OSError, msgspec.DecodeError, UnicodeDecodeError):
        return LastBackup()


def note(folder: Path, **changed: int) -> None:
    """Write down what has changed; who may not write there has made a file of their own all the same."""
    with contextlib.suppress(OSError):
        state.write(folder / FILE, msgspec.json.encode(msgspec.structs.replace(read(folder), **changed)), 0o644)
