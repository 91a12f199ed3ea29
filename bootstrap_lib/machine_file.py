"""The machine's own file beside topics.yaml: what was configured over MQTT, in the same form; the user's file is never touched."""

import copy
import fcntl
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import yaml

from bootstrap_lib.document import Document
from bootstrap_lib.registry import MACHINE_FILE

NAME: Final = MACHINE_FILE

_HEAD: Final = (
    "# Written by Constellation: what was configured over MQTT. What you write yourself belongs into topics.yaml.\n"
)


def change(registry: Path, edit: Callable[[dict[str, Any]], None]) -> bool:
    """Let `edit` change the content of the file beside the topics.yaml `registry`; True if it now says something else.

    At any moment the file is there whole, and two processes never change it at once. DocumentError where it cannot be
    read, OSError where it cannot be written.
    """
    path = registry.with_name(NAME)
    folder = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY)
    try:
        fcntl.flock(folder, fcntl.LOCK_EX)
        document = Document()
        if path.exists():
            document.read(path)
        before = copy.deepcopy(document.content)
        edit(document.content)
        if document.content == before:
            return False
        beside = path.with_name(f".{path.name}.new")
        with beside.open("w", encoding="utf-8") as file:
            file.write(_HEAD + _text(document.content))
            file.flush()
            os.fsync(file.fileno())
        if path.exists():
            beside.chmod(path.stat().st_mode & 0o777)
        beside.replace(path)
        os.fsync(folder)
    finally:
        os.close(folder)
    return True


def _text(content: dict[str, Any]) -> str:
    """Write YAML by libyaml where it is there: the topics of a thousand meters take it a tenth of the time."""
    dumper: Any = getattr(yaml, "CSafeDumper", yaml.SafeDumper)
    text: str = yaml.dump(content, Dumper=dumper, sort_keys=False, allow_unicode=True)
    return text
