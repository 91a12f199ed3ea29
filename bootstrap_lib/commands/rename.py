"""Rename a topic in topics.yaml and keep its history: the stores give it to the new name when they reload.

The line gets `was: OLD`, by which everything that was measured under the old name is the new one's: what is stored, what
waits in a spool, what a backup holds. Alerts and phases that name the topic name the new one then; comments stay. Names of
before stay in `was` as long as a backup or a service that is away may know them. A time-series database keeps the old
name's series as they are.
"""

import argparse
import re
from collections.abc import Iterable
from typing import Final

from bootstrap_lib import state
from bootstrap_lib.commands.check import problems_of
from bootstrap_lib.document import DocumentError, StartError, nearest
from bootstrap_lib.entries import expand
from bootstrap_lib.location import find_registry
from bootstrap_lib.registry import Registry

_WAS: Final = re.compile(r"""was:\s*(?:\[(?P<list>[^\]]*)\]|(?P<one>'[^']*'|"[^"]*"|[^,}\s]+))\s*,?\s*""")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Say what `rename` takes."""
    parser.add_argument("old", help="the key as it stands in topics.yaml, braces included")
    parser.add_argument("new", help="the key it is to have")


def renamed(text: str, old: str, new: str) -> str:
    """Text of topics.yaml with the line's key changed, its old names noted, and the topic renamed where rules name it.

    StartError if there is no such line.
    """
    key = rf"^(?P<indent>\s+)(?P<quote>[\"']?){re.escape(old)}(?P=quote):"
    lines = text.splitlines(keepends=True)
    there = [number for number, line in enumerate(lines) if re.match(key + r"(\s|$)", line)]
    if len(there) != 1:
        raise StartError(f"no line of the form `{old}: {{…}}` is there: rename it by hand and add was: '{old}'")
    pairs = [pair for pair in zip(expand(old), expand(new), strict=False) if old != new]
    lines = [line if number == there[0] else _in_rules(line, pairs) for number, line in enumerate(lines)]
    lines[there[0]] = _changed(lines[there[0]], key, old, new, lines[there[0] + 1 : there[0] + 2])
    return "".join(lines)


def _changed(line: str, key: str, old: str, new: str, following: list[str]) -> str:
    flow = re.match(key + r"(?P<space>\s*)\{", line)
    if flow:
        rest = line[flow.end() :]
        earlier = _WAS.search(rest)
        names = [old, *(name for name in _names(earlier) if name != new)]
        if earlier:
            rest = rest[: earlier.start()] + rest[earlier.end() :]
        was = f"'{names[0]}'" if len(names) == 1 else "[" + ", ".join(f"'{name}'" for name in names) + "]"
        return f"{flow['indent']}{new}:{flow['space']}{{was: {was}, {rest}"
    block = re.match(key + r"\s*(#.*)?$", line)
    deeper = re.match(r"\s+", following[0]) if following else None
    if not block or deeper is None or any(word.lstrip().startswith("was:") for word in following):
        raise StartError(f"no line of the form `{old}: {{…}}` is there: rename it by hand and add was: '{old}'")
    return re.sub(key, rf"\g<indent>{new}:", line) + f"{deeper[0]}was: '{old}'\n"


def _names(earlier: re.Match[str] | None) -> list[str]:
    if earlier is None:
        return []
    found = earlier["list"] if earlier["list"] is not None else earlier["one"]
    return [name.strip().strip("'\"") for name in found.split(",") if name.strip()]


def _in_rules(line: str, pairs: Iterable[tuple[str, str]]) -> str:
    """Name the new topic where a rule named the old one, but not in a comment, nor where `was:` says how it was."""
    code, mark, comment = line.partition(" #")
    if line.lstrip().startswith("#") or "was:" in code:
        return line
    for old, new in pairs:
        code = re.sub(rf"(?<![\w/]){re.escape(old)}(?![\w/]|:\s)", new, code)
    return code + mark + comment


def main(arguments: argparse.Namespace) -> int:
    """Rewrite the file; one that would be wrong is left as it is."""
    path = find_registry(arguments.config).resolve()
    registry = Registry(path)
    keys = registry.document.section("topics")
    if arguments.old not in keys:
        raise StartError(f"topics.yaml has no line '{arguments.old}'{nearest(arguments.old, keys)}")
    if arguments.new in keys or arguments.new in registry.topics:
        raise StartError(f"'{arguments.new}' is there already: a topic has one history")
    before = path.stat()
    with state.as_owner_of(path.parent):
        content = renamed(path.read_text("utf-8"), arguments.old, arguments.new).encode()
        tried = path.with_name(f"{path.name}.renamed")
        state.write(tried, content)
        try:
            if problems := problems_of(Registry(tried)):
                raise DocumentError(problems)
        except DocumentError as error:
            raise DocumentError(
                problem._replace(file=str(path)) if problem.file == str(tried) else problem
                for problem in error.problems
            ) from None
        finally:
            tried.unlink()
        state.write(path, content, before.st_mode & 0o777)
    print(f"{path}: {arguments.old} is now {arguments.new}; services that run take it over by themselves")
    return 0
