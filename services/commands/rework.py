"""Compute phases of the past anew from what the archive holds, and correct what it says there.

For readings that came late, and after the rules were changed. The service `phase` does it; alerts are not sent, and
what is shown now stays. Only as far back as the archive keeps raw readings.

    constellation rework --from 2026-11-18 --to 2026-11-19

Readings of a false time (see `constellation clock`) are listed, moved or dropped in all stores; one source's, or all:

    constellation rework --list --from 2031-01-01 --to 2031-02-01 --source onewire
    constellation rework --move=-1826d --from 2031-01-01 --to 2031-02-01 --source onewire
    constellation rework --drop --from 2031-01-01 --to 2031-02-01 --source onewire

InfluxDB deletes by thing, and is filled again from raw readings. Where another topic of the thing has none any more
in that time, or is in topics.yaml no more, nothing is changed, and that is said.
"""

import argparse
import sys
from datetime import date, datetime, time
from typing import Any
from zoneinfo import ZoneInfo

from bootstrap_lib import Client, Duration, ReadingError, Registry, StartError, format_time, parse_time

PATIENCE = 3600.0
"""Seconds after which a rework is not waited for any more."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Say what `rework` takes."""
    parser.add_argument(
        "--from", dest="since", metavar="TIME", required=True, help="2026-11-20 or 2026-11-20T15:01:53Z"
    )
    parser.add_argument("--to", dest="until", metavar="TIME", help="what stands there is not included (default: now)")
    what = parser.add_mutually_exclusive_group()
    what.add_argument("--list", dest="do", action="store_const", const="list", help="what the archive has of that time")
    what.add_argument("--drop", dest="do", action="store_const", const="drop", help="forget it for good, in all stores")
    what.add_argument(
        "--move", metavar="DURATION", help="give it another time, in all stores: --move=-1h, --move=1826d"
    )
    parser.add_argument("--again", action="store_true", help="with --move: also what was moved so within a day")
    parser.add_argument("--source", metavar="NAME", help="only what a source measured, with --list, --drop and --move")
    parser.add_argument("--boiler", metavar="NAME", help="an entry of phases: (default: all)")


def main(arguments: argparse.Namespace) -> int:
    """Ask for it, show how far it is, and print what was corrected."""
    registry = Registry(Registry.locate(arguments.config))
    if arguments.do or arguments.move:
        return _false_time(registry, arguments)
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


def _false_time(registry: Registry, arguments: argparse.Namespace) -> int:
    """Have all stores list, move or drop what has a false time: the archive first, for the others are filled from it."""
    archives = registry.find("archive")
    if not archives:
        raise StartError("topics.yaml names no archive: the other stores are filled from it")
    order: dict[str, Any] = {"do": arguments.do or "move"}
    try:
        order["from"] = _moment(arguments.since, registry.timezone)
        order["to"] = _moment(arguments.until, registry.timezone) if arguments.until else format_time(LAST)
        if arguments.move:
            order["again"] = arguments.again
            text = arguments.move.lstrip("+-")
            order["by"] = round(Duration.parse(text) * 1000) * (-1 if arguments.move.startswith("-") else 1)
    except ValueError as error:
        raise StartError(str(error)) from None
    if arguments.source:
        order["source"] = arguments.source
    with Client(registry) as client:
        if order["do"] != "list":
            for instance in registry.find("influx"):
                _refuse_losses(client, archives[0].name, instance.name, order)
        done = client.ask(archives[0].name, "times", order, PATIENCE)
        if order["do"] == "list":
            for topic, count, first, last in done:
                print(f"{topic:40} {count:8} readings, {first} to {last}")
            print("" if done else "nothing of that time", end="" if done else "\n")
            return 0
        print(f"{archives[0].name}: {done['readings']} readings {'moved' if arguments.move else 'dropped'}")
        if arguments.move and not done["readings"] and not arguments.again:
            left = sum(row[1] for row in client.ask(archives[0].name, "times", order | {"do": "list"}, PATIENCE))
            print(f"  {left} readings lie there. What was moved so within a day stays: --again moves what came since")
        away = list[str]()
        for instance in (*registry.find("rrd"), *registry.find("influx")):
            try:
                found = client.ask(instance.name, "times", order, PATIENCE)
                print(f"{instance.name}: {', '.join(f'{n} {what}' for what, n in found.items())} are filled anew")
            except StartError as error:
                away.append(f"{error}. Give the same order again then: nothing is moved twice")
    if away:
        raise StartError("; ".join(away))
    return 0


def _refuse_losses(client: Client, archive: str, store: str, order: dict[str, Any]) -> None:
    """Refuse the whole order, before anything is changed, where a store would delete besides what the archive cannot fill again."""
    things = client.ask(store, "times", order | {"do": "lost"}, PATIENCE)
    if lost := client.ask(archive, "times", order | {"do": "lost", "things": things}, PATIENCE):
        raise StartError(
            f"nothing was changed: the server of {store} deletes by thing, and of {', '.join(lost)} the archive has no raw"
            " readings of that time to fill it with, or topics.yaml has the topic no more or in another unit. Name a shorter"
            " time, or delete the false readings there by hand"
        )


LAST = 7_258_118_399_000
"""Milliseconds: the end of the times that an archive knows."""


def _moment(text: str, zone: ZoneInfo) -> str:
    try:
        midnight = datetime.combine(date.fromisoformat(text), time(), zone)
    except ValueError:
        return format_time(parse_time(text))
    return format_time(parse_time(midnight.isoformat()))


def _show(progress: Any) -> None:
    if sys.stderr.isatty():
        print(f"\r{progress['share']:4.0%}  {progress['readings']} readings", end="", file=sys.stderr, flush=True)


def _clear() -> None:
    if sys.stderr.isatty():
        print(file=sys.stderr)
