"""Rename a topic in topics.yaml and keep its history: the stores give it to the new name when they reload.

The line gets `was: OLD`, by which everything that was measured under the old name is the new one's: what is stored, what
waits in a spool, what a backup holds. Alerts and phases that name the topic name the new one then; comments stay. Names of
before stay in `was` as long as a backup or a service that is away may know them. A time-series database keeps the old
name's series as they are.
"""

import argparse
import re
from collections.abc import Iterable
from itertools import takewhile
from typing import Final

import yaml

from bootstrap_lib import keys, state
from bootstrap_lib.commands.check import problems_of
from bootstrap_lib.document import DocumentError, StartError, nearest, plain
from bootstrap_lib.location import find_registry
from bootstrap_lib.registry import Registry

_KEY: Final = r"""["']?was["']?\s*:"""
_WAS: Final = re.compile(
    _KEY + r"""\s*(?:\[(?P<list>[^\]]*)\]|(?P<one>'[^']*'|"[^"]*"|[^\[&*!,}\s][^,}\s]*))\s*,?\s*"""
)
_NAME: Final = re.compile(r"""'([^']*)'|"([^"]*)"|([^,\s'"]+)""")
_WAS_LINE: Final = re.compile(rf"\s+{_WAS.pattern}(?P<comment>#.*)?\s*")
_WAS_ABOVE: Final = re.compile(rf"\s+{_KEY}\s*(?P<comment>#.*)?\s*")
_ITEM: Final = re.compile(r"""\s+-\s+(?P<name>'[^']*'|"[^"]*"|[^\s#'"]+)\s*(#.*)?\s*""")


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
    pairs = [pair for pair in zip(keys.expand(old), keys.expand(new), strict=False) if old != new]
    lines = [line if number == there[0] else _in_rules(line, pairs) for number, line in enumerate(lines)]
    end = next((n for n, line in enumerate(lines) if n > there[0] and _ends(line, lines[there[0]])), len(lines))
    lines[there[0] : end] = _changed(lines[there[0]], key, old, new, lines[there[0] + 1 : end])
    return "".join(lines)


def _ends(line: str, opening: str) -> bool:
    """Whether a line is none of the block below another."""
    said = line.strip()
    return bool(said) and not said.startswith("#") and _indent(line) <= _indent(opening)


def _indent(line: str) -> int:
    return len(line) - len(line.lstrip())


def _changed(line: str, key: str, old: str, new: str, block: list[str]) -> list[str]:
    """Return the lines of a topic, the key's and those below it, by its new name."""
    by_hand = StartError(f"no line of the form `{old}: {{…}}` is there: rename it by hand and add was: '{old}'")
    flow = re.match(key + r"(?P<space>\s*)\{", line)
    if flow:
        rest = line[flow.end() :]
        at = _was_of_flow(f"{{{rest}{''.join(block)}")
        earlier = None if at is None else _WAS.match(rest, at - 1)
        if at is not None and not earlier:
            raise by_hand
        was = _was(old, new, _names(earlier) if earlier else [])
        if earlier:
            rest = rest[: earlier.start()] + rest[earlier.end() :]
        return [f"{flow['indent']}{new}:{flow['space']}{{{was}, {rest}", *block]
    first = next((word for word in block if word.strip() and not word.lstrip().startswith("#")), None)
    if first is None or not re.match(key + r"\s*(#.*)?$", line):
        raise by_hand
    indent = first[: _indent(first)]
    at = next((n for n, word in enumerate(block) if re.match(indent + _KEY, word)), None)
    names, count, comment = ([], 0, "") if at is None else _earlier(block[at:])
    if at is not None and not names:
        raise by_hand
    noted = f"{indent}{_was(old, new, names)}{comment}\n"
    return [re.sub(key, rf"\g<indent>{new}:", line), *block[: at or 0], noted, *block[(at or 0) + count :]]


def _was_of_flow(text: str) -> int | None:
    """Where the key `was` stands in the braces that a text begins with; what a label says is none."""
    depth, is_key = 0, False
    for token in yaml.scan(text):
        if isinstance(token, (yaml.FlowMappingStartToken, yaml.FlowSequenceStartToken)):
            depth += 1
        elif isinstance(token, (yaml.FlowMappingEndToken, yaml.FlowSequenceEndToken)):
            depth -= 1
            if not depth:
                return None
        elif is_key and depth == 1 and isinstance(token, yaml.ScalarToken) and token.value == "was":
            return int(token.start_mark.index)
        is_key = isinstance(token, yaml.KeyToken)
    return None


def _earlier(lines: list[str]) -> tuple[list[str], int, str]:
    """Names in the `was:` that lines begin with, how many lines it has, and its comment; no name where it has another form."""
    said = _WAS_LINE.fullmatch(lines[0])
    if said:
        names, count = _names(said), 1
    else:
        said = _WAS_ABOVE.fullmatch(lines[0])
        items = list(takewhile(bool, map(_ITEM.fullmatch, lines[1:])))
        names, count = [item["name"].strip("'\"") for item in items if item], 1 + len(items)
    return (names, count, f"  {said['comment']}" if said["comment"] else "") if said else ([], 0, "")


def _was(old: str, new: str, earlier: Iterable[str]) -> str:
    names = [f"'{name}'" for name in (old, *earlier) if name != new]
    return f"was: {names[0]}" if len(names) == 1 else f"was: [{', '.join(names)}]"


def _names(earlier: re.Match[str]) -> list[str]:
    return ["".join(name) for name in _NAME.findall(earlier["list"] or earlier["one"] or "")]


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
    there = registry.document.section("topics")
    if arguments.old not in there:
        raise StartError(f"topics.yaml has no line '{arguments.old}'{nearest(arguments.old, there)}")
    try:
        keys.check(arguments.new)
    except keys.KeyFault as fault:
        raise StartError(f"'{plain(arguments.new)}': {fault}") from None
    if arguments.new in there or arguments.new in registry.topics:
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
