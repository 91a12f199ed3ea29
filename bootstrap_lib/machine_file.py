"""The machine's own file beside topics.yaml: what was configured over MQTT, in the same form; the user's file is never touched."""

import copy
import fcntl
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final

import yaml

from bootstrap_lib import state
from bootstrap_lib.document import Document, Problem
from bootstrap_lib.needs import needs_of
from bootstrap_lib.secrets import REFERENCE, texts_of

NAME: Final = "topics.machine.yaml"
"""Beside topics.yaml."""

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
        if os.path.lexists(path):
            document.read(path, follow=False)
        before = copy.deepcopy(document.content)
        edit(document.content)
        if document.content == before:
            return False
        mode = path.stat().st_mode & 0o777 if path.exists() else None
        state.write(path, (_HEAD + _text(document.content)).encode(), mode)
    finally:
        os.close(folder)
    return True


def _text(content: dict[str, Any]) -> str:
    """Write YAML by libyaml where it is there: the topics of a thousand meters take it a tenth of the time."""
    dumper: Any = getattr(yaml, "CSafeDumper", yaml.SafeDumper)
    text: str = yaml.dump(content, Dumper=dumper, sort_keys=False, allow_unicode=True)
    return text


def problems_of(own: Document, sources: Mapping[str, Any]) -> list[Problem]:
    """Return what may not stand in such a file: it holds what its writers own, lists of theirs and the topics of these."""
    found = list(own.problems)
    for section, entries in own.content.items():
        for name, entry in entries.items() if isinstance(entries, dict) else [("", None)]:
            if problem := _is_not_its_own(sources, section, name, entry):
                found.append(own.problem((section, name), f"{problem}: write it into topics.yaml"))
    return found


def _is_not_its_own(sources: Mapping[str, Any], section: str, name: str, entry: Any) -> str | None:
    """Say why an entry may not stand here, or None."""
    owner = str(entry.get("from")) if section == "topics" and isinstance(entry, dict) else name
    options = sources.get(owner)
    if section not in ("sources", "topics") or not isinstance(entry, dict) or not isinstance(options, dict | None):
        return "this file holds lists of sources and their topics, nothing else"
    owned = needs_of(str((options or {}).get("service", owner))).machine
    if owner not in sources or not owned:
        return f"'{owner}' is no source that writes here"
    if section == "sources" and (strange := ", ".join(entry.keys() - set(owned))):
        return f"{owner} may keep {', '.join(owned)} here, and not {strange}"
    if any(text.startswith(REFERENCE) for text in texts_of(entry)):
        return "no secret is named here"
    return None
