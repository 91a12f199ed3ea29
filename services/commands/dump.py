"""Write a report of this house for whoever is to find a fault in it: what it is and how it is, without secrets, people and addresses.

    sudo constellation dump                    a new file constellation-report-….txt of mode 0600, in this folder
    sudo constellation dump report.txt         the same, called so

Versions, topics.yaml, what check and doctor find, health as the broker has it, names and sizes of state files, the end of each
journal. Only harmless words of topics.yaml stay in it; its end says what is in it and what was taken out. Read it before you send it.

With a store and a tar file (.tar, .tar.gz, .tar.xz) it moves round-robin files, which are bound to the processor that made them:

    constellation dump rrd house.tar.gz        on the old machine
    constellation load rrd house.tar.gz        on the new one, with the service stopped
"""

import argparse
import os
import sys
import time
from pathlib import Path
from tarfile import TarError

from bootstrap_lib import Registry, StartError, catalog, reason


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Say what `dump` takes."""
    parser.add_argument(
        "what",
        nargs="*",
        metavar="FILE | STORE FILE",
        help="the report's file; or a store, such as rrd, and the tar file",
    )
    parser.add_argument(
        "--root", metavar="DIR", type=Path, default=Path("/"), help="for a report: look at a folder that stands for /"
    )


def main(arguments: argparse.Namespace) -> int:
    """Report, or dump a store."""
    match arguments.what:
        case [store, file]:
            return move(arguments, store, Path(file))
        case []:
            return _report(arguments, Path(time.strftime("constellation-report-%Y%m%dT%H%M%SZ.txt", time.gmtime())))
        case [file] if file not in catalog.names():
            return _report(arguments, Path(file))
        case _:
            raise StartError("say nothing or a new file for a report, or a store and a tar file: dump rrd house.tar.gz")


def _report(arguments: argparse.Namespace, target: Path) -> int:
    from services.commands.backup import config_of
    from services.reporting import report

    config = Path(Registry.locate(config_of(arguments))).absolute()
    for line in report.write(report.ReportedHouse(config, arguments.root.absolute()), target):
        print(line)
    print(f"{target} is the report")
    return 0


def move(arguments: argparse.Namespace, store: str, file: Path) -> int:
    """Dump, or do the verb that was called: `load` has the same form."""
    verb: str = arguments.verb
    service = catalog.make(arguments.config, store)
    work = getattr(service, f"{verb}_files", None)
    if work is None:
        print(f"constellation {verb}: '{store}' keeps nothing that moves by `{verb}`", file=sys.stderr)
        return os.EX_USAGE
    try:
        count = work(file, _progress)
    except (OSError, TarError) as error:
        print(f"constellation {verb}: {reason(error)}", file=sys.stderr)
        return os.EX_IOERR
    print(f"{verb}: {count} files")
    return 0


def _progress(done: int, of: int, name: str) -> None:
    if sys.stderr.isatty():
        print(f"\r\033[K{done}/{of} {name}", end="\n" if done == of else "", file=sys.stderr, flush=True)
