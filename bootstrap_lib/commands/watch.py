"""Show all measurements live, as a table that renews itself; Ctrl-C ends it.

Without a terminal it prints what changes, a line each.
"""

import argparse
import shutil
import sys
import time
from typing import Any

from bootstrap_lib.client import Client
from bootstrap_lib.document import plain
from bootstrap_lib.duration import describe
from bootstrap_lib.location import find_registry
from bootstrap_lib.reading import ReadingError, parse_time
from bootstrap_lib.registry import Registry


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Say what `watch` takes."""
    parser.add_argument("pattern", nargs="?", default="#", help="topics below data/, as MQTT patterns (default: all)")
    parser.add_argument(
        "--for", dest="seconds", type=float, default=float("inf"), metavar="SECONDS", help="end after so long"
    )


def main(arguments: argparse.Namespace) -> int:
    """Listen and draw until stopped."""
    registry = Registry(find_registry(arguments.config))
    terminal = sys.stdout.isatty()
    values: dict[str, Any] = {}
    until = time.monotonic() + arguments.seconds
    with Client(registry) as client:
        client.subscribe(f"data/{arguments.pattern}")
        while time.monotonic() < until:
            for message in client.messages(min(1.0, until - time.monotonic())):
                name = message.topic.removeprefix(f"{registry.root}/data/")
                values[name] = Client.json(message.payload) if message.payload else None
                if not terminal:
                    print(_line(registry, name, values[name]), flush=True)
            if terminal:
                _draw(registry, values)
    return 0


def _draw(registry: Registry, values: dict[str, Any]) -> None:
    columns, rows = shutil.get_terminal_size()
    lines = [_line(registry, name, values[name])[:columns] for name in sorted(values)]
    if hidden := len(lines) - (rows - 1):
        lines = (
            [*lines[: rows - 2], f"… and {hidden + 1} more: constellation watch 'boiler/#' shows some of them"][:rows]
            if hidden > 0
            else lines
        )
    sys.stdout.write("\x1b[H\x1b[J" + "\n".join(lines) + "\n")
    sys.stdout.flush()


def _line(registry: Registry, name: str, body: Any) -> str:
    label = plain(registry.topics[name].label, 60) if name in registry.topics else "not in topics.yaml"
    if not isinstance(body, dict):
        return f"{plain(name, 80):44} {'-':>12}      cleared"
    try:
        age = describe(max(0.0, time.time() - parse_time(str(body.get("time"))) / 1000))
    except ReadingError:
        age = "?"
    value, unit = plain(body.get("value"), 24), plain(body.get("unit", ""), 8)
    return f"{plain(name, 80):44} {value:>12} {unit:5} {age:>8} ago  {label}"
