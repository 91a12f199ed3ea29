"""List what could not be delivered or stored, and why; have what was mended dealt with again.

    constellation dead                     the dead letters of all services of this machine
    constellation dead archive --send      what its rules take by now is stored; the rest stays
    constellation dead archive --drop      forgotten for good

A letter is mended by what its reason names: the unit in topics.yaml, a line for the topic, the broker's rights.
"""

import argparse
import re
from collections.abc import Iterator
from typing import NamedTuple

from bootstrap_lib import state
from bootstrap_lib.client import Client
from bootstrap_lib.document import StartError, plain, reason
from bootstrap_lib.location import find_registry
from bootstrap_lib.reading import ReadingError, decode, excerpt, format_time
from bootstrap_lib.registry import Registry
from bootstrap_lib.state import DeadLetters, Letter

PATIENCE = 600.0
"""Seconds that a service may take for a disk full of letters."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Say what `dead` takes."""
    parser.add_argument("instance", nargs="?", help="whose letters (default: all of this machine)")
    what = parser.add_mutually_exclusive_group()
    what.add_argument("--send", dest="do", action="store_const", const="send", help="deal again with what was mended")
    what.add_argument("--drop", dest="do", action="store_const", const="drop", help="forget them all")


class _Kind(NamedTuple):
    instance: str
    topic: str
    reason: str


def main(arguments: argparse.Namespace) -> int:
    """List them, or ask the service."""
    registry = Registry(find_registry(arguments.config))
    if arguments.instance and arguments.instance not in registry.instances:
        raise StartError(registry.no_instance(arguments.instance))
    if arguments.do:
        if not arguments.instance:
            raise StartError("say whose letters: constellation dead INSTANCE --send")
        with Client(registry) as client:
            done = client.ask(arguments.instance, "dead", {"do": arguments.do}, PATIENCE)
        print(", ".join(f"{plain(count, 20)} {plain(word, 40)}" for word, count in done.items()))
        return 0
    names = [arguments.instance] if arguments.instance else [n for n, one in registry.instances.items() if one.here]
    found = [line for name in names for line in _lines(registry, name)]
    print("\n".join(found) or "no dead letters")
    return 0


def _lines(registry: Registry, name: str) -> Iterator[str]:
    """A line for each topic and reason, and one that says how to mend what can be taken by now."""
    kinds: dict[_Kind, tuple[int, int, int, Letter]] = {}
    mended = 0
    try:
        for letter in DeadLetters(state.folder_of(name) / "dead_letters.jsonl").letters():
            kind = _Kind(name, letter.topic, re.sub(r"\d+(\.\d+)?", "…", letter.reason))
            count, first, last, _ = kinds.get(kind, (0, letter.time, 0, letter))
            kinds[kind] = count + 1, min(first, letter.time), max(last, letter.time), letter
            mended += _is_mended(registry, letter)
    except OSError as error:
        yield f"{name}: its dead letters cannot be read: {reason(error)}"
    for kind, (count, first, last, letter) in kinds.items():
        span = "" if not last else f", {format_time(first)}" + (f" to {format_time(last)}" if last != first else "")
        shown = excerpt(letter.payload.encode())
        yield f"{name}: {count} x {excerpt(kind.topic.encode(), 120)[1:-1]}{span}: {excerpt(letter.reason.encode(), 200)[1:-1]} ({shown})"
    if mended:
        yield f"{name}: {mended} of them would be taken now: constellation dead {name} --send"


def _is_mended(registry: Registry, letter: Letter) -> bool:
    name = letter.topic.removeprefix(f"{registry.root}/data/")
    topic = registry.topics.get(name) or registry.formerly.get(name)
    if topic is None:
        return False
    try:
        reading = decode(name, letter.payload.encode())
    except (ReadingError, RecursionError):
        return False
    fits = topic.kind not in ("gauge", "counter") or reading.unit == topic.unit
    return fits and topic.improper(reading.value) is None
