"""Which version has written in a state folder: that of an earlier one is taken over, that of a later one left as it is."""

from pathlib import Path
from typing import Final

import msgspec

from bootstrap_lib import state
from bootstrap_lib.document import StartError

FORMAT: Final = 2
"""Of an instance's state folder; 1 is that of 0.1.0. Whoever changes a file in it so that the version before would misread it
counts this up, goes on reading the format before, and keeps a folder of it (docs/durability.md)."""


class Stamp(msgspec.Struct):
    """What `instance.json` says of its folder: its format, and the version that wrote there last."""

    format: int = 1
    version: str = ""


def refuse_later(path: Path) -> None:
    """StartError where the `instance.json` at a path says that a later version of Constellation wrote in its folder."""
    try:
        stamp = msgspec.json.decode(state.read(path), type=Stamp)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError, OSError):
        return  # there is none, or `state.load` says what is wrong with it
    if stamp.format > FORMAT:
        raise StartError(
            f"{path.parent} was written by Constellation {stamp.version or 'of a later version'} (format {stamp.format}, this"
            f" one knows {FORMAT}): install that version again, or move the folder away to begin anew"
        )
