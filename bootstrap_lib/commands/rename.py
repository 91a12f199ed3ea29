"""Rename a topic in topics.yaml and keep its history: the stores give it to the new name when they reload.

The line gets `was: OLD`, by which the archive and the round-robin files find what they stored before; it may be removed
when all stores have reloaded. A time-series database keeps the old name's series as they are.
"""

import argparse
import contextlib
import os
import re

from bootstrap_lib.commands.check import problems_of
from bootstrap_lib.document import DocumentError, StartError, nearest
from bootstrap_lib.registry import Registry, find_registry


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Say what `rename` takes."""
    parser.add_argument("old", help="the key as it stands in topics.yaml, braces included")
    parser.add_argument("new", help="the key it is to have")


def renamed(text: str, old: str, new: str) -> str:
    """Text of topics.yaml with the line's key changed and its old name noted; StartError if there is no such line."""
    line = re.compile(rf"^(?P<indent>\s+)(?P<quote>[\"']?){re.escape(old)}(?P=quote):(?P<space>\s*)\{{", re.MULTILINE)
    changed, count = line.subn(rf"\g<indent>{new}:\g<space>{{was: '{old}', ", text)
    if count != 1:
        raise StartError(f"no line of the form `{old}: {{…}}` is there: rename it by hand and add was: '{old}'")
    return changed


def main(arguments: argparse.Namespace) -> int:
    """Rewrite the line; a file that would be wrong is left as it is."""
    path = find_registry(arguments.config).resolve()
    registry = Registry(path)
    keys = registry.document.section("topics")
    if arguments.old not in keys:
        raise StartError(f"topics.yaml has no line '{arguments.old}'{nearest(arguments.old, keys)}")
    if arguments.new in keys or arguments.new in registry.topics:
        raise StartError(f"'{arguments.new}' is there already: a topic has one history")
    text = path.read_text("utf-8")
    beside = path.with_name(path.name + ".new")
    beside.write_text(renamed(text, arguments.old, arguments.new), "utf-8")
    try:
        if problems := problems_of(Registry(beside)):
            raise DocumentError(problems)
    except DocumentError as error:
        beside.unlink()
        raise DocumentError(
            problem._replace(file=str(path)) if problem.file == str(beside) else problem for problem in error.problems
        ) from None
    before = path.stat()
    with contextlib.suppress(PermissionError):  # only root may give a file to its owner
        os.chown(beside, before.st_uid, before.st_gid)
    beside.chmod(before.st_mode & 0o777)
    beside.replace(path)
    print(f"{path}: {arguments.old} is now {arguments.new}; services that run take it over by themselves")
    return 0
