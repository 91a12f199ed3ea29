"""Paths into a JSON document: `stands[0].bikes`, `stands[id=31705].bikes`, because lists rarely keep their order.

A name with dots or brackets stands in quotes: `a["b.c"].d`.
"""

import re
from typing import Any

Step = str | int | tuple[str, str]
"""A name of an object, a place in a list (from 0), or the name and text that one element of a list has."""

_STEP = re.compile(
    r"""(?:^|(?<=[^.])\.)(?P<name>[^.\[\]="]+)|\["(?P<quoted>[^"]+)"\]"""
    r"|\[(?P<place>\d+)\]|\[(?P<key>[^.\[\]=]+)=(?P<text>[^\[\]]+)\]"
)


_PLAIN = re.compile(r'[^.\[\]="]+')


class PathError(LookupError):
    """A document in which a path leads nowhere; the text says where it ends."""


def parse(path: str) -> tuple[Step, ...]:
    """Return the steps of a path; ValueError says where it cannot be understood."""
    steps: list[Step] = []
    end = 0
    while end < len(path):
        found = _STEP.match(path, end)
        if found is None:
            raise ValueError(f"'{path}' is not understood at '{path[end:]}': write names and places as in a.b[0].c")
        name, quoted, place, key, text = found.groups()
        steps.append(name or quoted or ((key, text) if key else int(place)))
        end = found.end()
    return tuple(steps)


def follow(document: Any, steps: tuple[Step, ...]) -> Any:
    """Return what a path leads to in a decoded document; PathError where it leads nowhere, or to more than one."""
    walked = ""
    for step in steps:
        match step, document:
            case str(), dict() if step in document:
                document = document[step]
            case int(), list() if step < len(document):
                document = document[step]
            case (str(key), str(text)), list():
                document = _only(document, key, text, walked)
            case _:
                raise PathError(f"{walked or 'the answer'} has no {show((step,))} ({_kind(document)})")
        walked = show((step,)) if not walked else f"{walked}{'.' * isinstance(step, str)}{show((step,))}"
    return document


def _only(elements: list[Any], key: str, text: str, walked: str) -> Any:
    found = [element for element in elements if isinstance(element, dict) and text in texts_of(element.get(key))]
    if len(found) != 1:
        raise PathError(f"{walked or 'the answer'} has {len(found) or 'no'} elements with {key}={text}")
    return found[0]


def texts_of(value: Any) -> tuple[str, ...]:
    """Texts by which people may name what a document says: true as JSON has it, a whole number with and without its point."""
    if isinstance(value, bool):
        return str(value).lower(), str(value)
    if isinstance(value, float) and value.is_integer():
        return str(value), str(int(value))
    return (str(value),)


def _kind(value: Any) -> str:
    match value:
        case dict():
            return f"an object of {len(value)}"
        case list():
            return f"a list of {len(value)}"
        case _:
            return "a plain value"


def show(steps: tuple[Step, ...]) -> str:
    """Write steps as a path."""
    text = ""
    for step in steps:
        match step:
            case str() if _PLAIN.fullmatch(step):
                text += f".{step}" if text else step
            case str():
                text += f'["{step}"]'
            case int():
                text += f"[{step}]"
            case key, wanted:
                text += f"[{key}={wanted}]"
    return text


def leaves(document: Any, steps: tuple[Step, ...] = ()) -> Any:
    """Give the path of each plain value in a document, with the value."""
    match document:
        case dict():
            for name, value in document.items():
                yield from leaves(value, (*steps, name))
        case list():
            for place, value in enumerate(document):
                yield from leaves(value, (*steps, place))
        case _:
            yield show(steps), document
