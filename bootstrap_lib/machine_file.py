"""The machine's own file beside topics.yaml: what was configured over MQTT, in the same form; the user's file is never touched."""

import copy
import fcntl
import functools
import logging
import os
from collections.abc import Callable, Collection, Mapping
from pathlib import Path
from typing import Any, Final

import yaml

from bootstrap_lib import state
from bootstrap_lib.document import MOST_BYTES, Document, DocumentError, Problem, plain
from bootstrap_lib.needs import needs_of
from bootstrap_lib.secrets import REFERENCE, texts_of

log = logging.getLogger(__name__)

NAME: Final = "topics.machine.yaml"
"""Beside topics.yaml."""

_HEAD: Final = (
    "# Written by Constellation: what was configured over MQTT. What you write yourself belongs into topics.yaml.\n"
)


def change(registry: Path, edit: Callable[[dict[str, Any]], None], judge: Callable[[bytes], Collection[str]]) -> bool:
    """Let `edit` change the content of the file beside the topics.yaml `registry`; True if it now says something else.

    `judge` reads what the file is going to say and returns the lines of topics that are good; the others are not written. At
    any moment the file is there whole, and two processes never change it at once. DocumentError where it cannot be read,
    or is refused; OSError where it cannot be written.
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
        text = _text(document.content, path)
        good, lines = judge(text), document.content.get("topics", {})
        if bad := [name for name in lines if name not in good]:
            document.content["topics"] = {name: line for name, line in lines.items() if name in good}
            if document.content == before:
                return False
            log.warning("not written to %s, where they are wrong: %s", path, plain(", ".join(bad)))
            text = _text(document.content, path)
        mode = path.stat().st_mode & 0o777 if path.exists() else None
        state.write(path, text, mode)
    finally:
        os.close(folder)
    return True


def _text(content: dict[str, Any], path: Path) -> bytes:
    """Write YAML by libyaml where it is there: the topics of a thousand meters take it a tenth of the time."""
    dumper: Any = getattr(yaml, "CSafeDumper", yaml.SafeDumper)
    text: bytes = (_HEAD + yaml.dump(content, Dumper=dumper, sort_keys=False, allow_unicode=True)).encode()
    if len(text) > MOST_BYTES:
        raise DocumentError(
            [Problem(str(path), 1, "", f"it would be longer than {MOST_BYTES:,} bytes: list fewer meters")]
        )
    return text


def left_behind(own: Document, sources: Mapping[str, Any]) -> list[Problem]:
    """Take out what a source wrote that topics.yaml has no more, and return its topics' lines: they stop nobody."""
    gone = []
    for section in ("sources", "topics"):
        entries = found if isinstance(found := own.content.get(section), dict) else {}
        for name, entry in list(entries.items()):
            owner = entry.get("from") if section == "topics" and isinstance(entry, dict) else name
            if isinstance(entry, dict) and isinstance(owner, str) and owner not in sources:
                del entries[name]
                if section == "topics":
                    gone.append(own.problem((section, name), f"topics.yaml has no source '{owner}' any more"))
    return gone


def problems_of(own: Document, sources: Mapping[str, Any]) -> list[Problem]:
    """Return what may not stand in such a file: it holds what its writers own, lists of theirs and the topics of these."""
    found = list(own.problems)
    lists = functools.cache(
        lambda service: needs_of(service).machine
    )  # one look at the folder of services, not one a line
    for section, entries in own.content.items():
        for name, entry in entries.items() if isinstance(entries, dict) else [("", None)]:
            if problem := _is_not_its_own(sources, section, name, entry, lists):
                found.append(own.problem((section, name), f"{problem}: write it into topics.yaml"))
    return found


def _is_not_its_own(
    sources: Mapping[str, Any], section: str, name: str, entry: Any, lists: Callable[[str], Collection[str]]
) -> str | None:
    """Say why an entry may not stand here, or None."""
    owner = str(entry.get("from")) if section == "topics" and isinstance(entry, dict) else name
    options = sources.get(owner)
    if section not in ("sources", "topics") or not isinstance(entry, dict) or not isinstance(options, dict | None):
        return "this file holds lists of sources and their topics, nothing else"
    owned = lists(str((options or {}).get("service", owner)))
    if owner not in sources or not owned:
        return f"'{owner}' is no source that writes here"
    if section == "sources" and (strange := ", ".join(entry.keys() - set(owned))):
        return f"{owner} may keep {', '.join(owned)} here, and not {strange}"
    if any(text.startswith(REFERENCE) for text in texts_of(entry)):
        return "no secret is named here"
    return None
