"""Bring a history that another program kept into the archive: Home Assistant, round-robin files, CSV, InfluxDB, the first boiler system.

    constellation import home-assistant_v2.db                                              what is in it; nothing is written
    constellation import home-assistant_v2.db --map sensor.boiler=boiler/water/temperature  how that would look
    constellation import home-assistant_v2.db --map sensor.boiler=boiler/water/temperature --write

What it is, is seen by its content. A series is taken where --map says its topic, or where it is called as one; others are listed, with a
proposal by unit and name. Units are converted, values outside of a topic's range are refused. What the archive has already stays as
it is, so doing it twice changes nothing. Works while the archive runs.
"""
# ruff: noqa: N999 (the verb is called that)

import argparse
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING

from bootstrap_lib import Registry, StartError, state
from services.commands.backup import SCRATCH, clear, show

if TYPE_CHECKING:
    from collections.abc import Iterator

    from services.histories.conversion import Conversion
    from services.histories.plan import Picture
    from services.histories.scratch import Foreign, Old, Scratch


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Say what `import` takes."""
    parser.add_argument("file", type=Path, help="a database, a file, or a folder of round-robin files")
    parser.add_argument(
        "--map", action="append", default=[], metavar="NAME=TOPIC", help="which series becomes which topic"
    )
    parser.add_argument(
        "--unit", action="append", default=[], metavar="NAME=UNIT", help="unit of a series whose file says none"
    )
    parser.add_argument("--write", action="store_true", help="do it, instead of showing what would be done")
    parser.add_argument("--archive", metavar="INSTANCE", help="which one, where there are several")
    parser.add_argument("--scratch", metavar="DIR", type=Path, default=SCRATCH, help="where it is put into order")


def main(arguments: argparse.Namespace) -> int:
    """Read, show, and write if that was asked for."""
    from services.histories import opening, plan
    from services.histories.scratch import Scratch

    registry = Registry(Registry.locate(arguments.config).resolve())
    maps, units = dict(map(_pair, arguments.map)), dict(map(_pair, arguments.unit))
    now = time.time_ns() // 1_000_000
    with (
        tempfile.TemporaryDirectory(dir=arguments.scratch, prefix="constellation-import-") as folder,
        Scratch(Path(folder) / "scratch.sqlite") as scratch,
    ):
        show(0.0, f"reading {arguments.file}")
        kind = opening.read(arguments.file, scratch, registry.timezone)
        found = list(plan.mapped(registry, scratch.found(), maps, units))
        ways = [(one, plan.conversion(registry, one, topic, now)) for one, topic in found if topic is not None]
        clear()
        print(f"{arguments.file}: {kind}, {len(found)} series, {sum(one.size for one, _ in found)} rows")
        for one, topic in found:
            if topic is None:
                print(plan.left_out(registry, one))
        for text in plan.problems(scratch):
            print(text)
        if not ways:
            raise StartError("no series is taken: say which becomes which topic with --map NAME=TOPIC")
        return _write(registry, arguments, scratch, ways) if arguments.write else _show(scratch, ways)


def _pair(text: str) -> tuple[str, str]:
    name, equals, value = text.rpartition("=")
    if not equals or not name or not value:
        raise StartError(f"'{text}' is not of the form NAME=TOPIC")
    return name, value


def _rows(scratch: "Scratch", ways: "list[tuple[Foreign, Conversion]]", place: int) -> "Iterator[Old]":
    """Rows of a series, with the bar going on meanwhile."""
    whole = sum(one.size for one, _ in ways)
    done = sum(one.size for one, _ in ways[:place])
    for count, row in enumerate(scratch.rows(ways[place][0].id)):
        if count % 5000 == 0:
            show((done + count) / whole, ways[place][0].name)
        yield row


def _show(scratch: "Scratch", ways: "list[tuple[Foreign, Conversion]]") -> int:
    from services.histories import plan

    for place, (one, way) in enumerate(ways):
        picture = plan.Picture(one)
        for _ in picture.watch(way.rows(_rows(scratch, ways, place))):
            pass
        _say(one, way, picture)
    print("nothing was written: --write does it")
    return 0


def _say(one: "Foreign", way: "Conversion", picture: "Picture") -> None:
    from services.histories import plan

    clear()
    print(*plan.lines(one, way, picture), sep="\n")


def _write(
    registry: Registry,
    arguments: argparse.Namespace,
    scratch: "Scratch",
    ways: "list[tuple[Foreign, Conversion]]",
) -> int:
    import sqlite3
    from contextlib import closing

    from services.histories import plan
    from services.histories.taking import Taking
    from services.stores.archive_file import path_of_archive
    from services.stores.backup import open_beside

    path = path_of_archive(registry, arguments.archive)
    try:
        with state.as_owner_of(path.parent), closing(open_beside(path, "rw")) as database:
            taking = Taking(database)
            taking.reach_back(min(one.first for one, _ in ways))
            for place, (one, way) in enumerate(ways):
                picture, new, there = plan.Picture(one), [0, 0], 0
                for taken in taking.take(way.topic, picture.watch(way.rows(_rows(scratch, ways, place)))):
                    new[0] += taken.minutes
                    new[1] += taken.hours
                    there += taken.there
                _say(one, way, picture)
                print(f"  written: {new[0]} minutes and {new[1]} hours; {there} were there already")
    except sqlite3.Error as error:
        raise StartError(
            f"{path} does not take it: {error}; what came in stays, and the same again goes on from there"
        ) from None
    return 0
