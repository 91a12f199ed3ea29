"""Compute phases of the past anew from what the archive holds, and correct what it says there.

For readings that came late, and after the rules were changed. The service `phase` does it; alerts are not sent, and
what is shown now stays. Only as far back as the archive keeps raw readings.

    constellation rework --from 2026-11-18 --to 2026-11-19
"""

import argparse
import sys
from datetime import date, datetime, time
from typing import Any
from zoneinfo import ZoneInfo

from bootstrap_lib import Client, ReadingError, Registry, StartError, format_time, parse_time

PATIENCE = 3600.0
"""Seconds after which a rework is not waited for any more."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Say what `rework` takes."""
    parser.add_argument(
        "--from", dest="since", metavar="TIME", required=True, help="2026-11-20 or 2026-11-20T15:01:53Z"
    )
    parser.add_argument("--to", dest="until", metavar="TIME", help="what stands there is not included (default: now)")
    parser.add_argument("--boiler", metavar="NAME", help="an entry of phases: (default: all)")


def main(arguments: argparse.Namespace) -> int:
    """Ask for it, show how far it is, and print what was corrected."""
    registry = Registry(Registry.locate(arguments.config))
    instances = registry.find("phase")
    if not instances:
        raise StartError("topics.yaml names no phase: add `phase: {stale: 15m}` below subscribers:")
    try:
        span = {"from": _moment(arguments.since, registry.timezone)}
        if arguments.until:
            span["to"] = _moment(arguments.until, registry.timezone)
    except ReadingError as error:
        raise StartError(str(error)) from None
    if arguments.boiler:
        span["boiler"] = arguments.boiler
    with Client(registry) as client:
        for instance in instances:
            done = client.ask(instance.name, "rework", span, PATIENCE, _show)
            _clear()
            print(f"{instance.name}: corrected {done['corrected']} readings, computed from {done['readings']}")
    return 0


def _moment(text: str, zone: ZoneInfo) -> str:
    try:
        midnight = datetime.combine(date.fromisoformat(text), time(), zone)
    except ValueError:
        return format_time(parse_time(text))
    return format_time(round(midnight.timestamp() * 1000))


def _show(progress: Any) -> None:
    if sys.stderr.isatty():
        print(f"\r{progress['share']:4.0%}  {progress['readings']} readings", end="", file=sys.stderr, flush=True)


def _clear() -> None:
    if sys.stderr.isatty():
        print(file=sys.stderr)
