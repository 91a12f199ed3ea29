"""Write what the archive holds as CSV: minutes, or raw readings, days or months.

    constellation export --topic 'boiler/#' --from 2026-11-01 --to 2026-12-01 > november.csv

    constellation export --all house.zip        the data passport: everything, as CSV by topic and year, with a description

Topics may have the wildcards + and #. A date is the local day's beginning; a time has an offset or Z; what stands at
`--to` is not included. Works while the archive runs.
"""

import argparse
import csv
import sys
import time
from datetime import date
from pathlib import Path
from typing import TYPE_CHECKING

from paho.mqtt.client import topic_matches_sub

from bootstrap_lib import ReadingError, Registry, StartError, parse_time
from services.commands.backup import clear, show

if TYPE_CHECKING:
    from zoneinfo import ZoneInfo

    import sqlalchemy as sql


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Say what `export` takes."""
    parser.add_argument(
        "--topic", action="append", metavar="TOPIC", help="below home/data/, may be given several times (default: all)"
    )
    parser.add_argument(
        "--from", dest="since", metavar="TIME", help="2026-11-20 or 2026-11-20T15:01:53Z (default: all there is)"
    )
    parser.add_argument("--to", dest="until", metavar="TIME", help="default: now")
    parser.add_argument("--archive", metavar="INSTANCE", help="which one, where there are several")
    parser.add_argument(
        "--all", metavar="FILE", type=Path, help="write everything into a zip, in its finest resolution"
    )
    chosen = parser.add_mutually_exclusive_group()
    for table in ("raw", "minutes", "days", "months"):
        chosen.add_argument(f"--{table}", action="store_const", dest="table", const=table, default="minutes")


def main(arguments: argparse.Namespace) -> int:
    """Write CSV to the standard output, and progress to a terminal."""
    from services.stores.archive_file import open_archive

    registry = Registry(Registry.locate(arguments.config).resolve())
    try:
        since = _moment(arguments.since, registry.timezone) if arguments.since else 0
        until = _moment(arguments.until, registry.timezone) if arguments.until else time.time_ns() // 1_000_000
    except ReadingError as error:
        raise StartError(str(error)) from None
    with open_archive(registry, arguments.archive) as engine:
        return _export(engine, registry, since, until, arguments)


def _export(engine: "sql.Engine", registry: Registry, since: int, until: int, arguments: argparse.Namespace) -> int:
    from services.stores import export

    patterns = arguments.topic or ["#"]
    names = [name for name in export.topics(engine) if any(topic_matches_sub(pattern, name) for pattern in patterns)]
    if arguments.topic and not names:
        raise StartError(
            f"the archive has nothing of {' or '.join(arguments.topic)}: topics are named as in topics.yaml"
        )
    if arguments.all:
        return _passport(engine, registry, names, arguments)
    writer = csv.writer(sys.stdout, lineterminator="\n")
    writer.writerow(export.header(arguments.table))
    count = 0
    for part, rows in export.rows(engine, arguments.table, names, since, until, registry.timezone):
        writer.writerows(rows)
        count += len(rows)
        _show(f"\r{part:4.0%}  {count} rows")
    _show(f"\r100%  {count} rows\n")
    return 0


def _passport(engine: "sql.Engine", registry: Registry, names: list[str], arguments: argparse.Namespace) -> int:
    from services.stores import passport

    if arguments.since or arguments.until:
        raise StartError("--all writes what there is: leave out --from and --to")
    if not names:
        raise StartError("the archive holds nothing yet")
    rows = passport.write(engine, registry, names, arguments.all, show)
    clear()
    said = ", ".join(f"{count} {'raw readings' if kind == 'raw' else kind}" for kind, count in sorted(rows.items()))
    print(f"{arguments.all}: {len(names)} topics, {said}; {arguments.all.stat().st_size / 1e6:.1f} MB")
    return 0


def _moment(text: str, zone: "ZoneInfo") -> int:
    from services.stores.days import midnight

    try:
        return midnight(date.fromisoformat(text), zone)
    except ValueError:
        return parse_time(text)


def _show(text: str) -> None:
    if sys.stderr.isatty():
        print(text, end="", file=sys.stderr, flush=True)
