"""Write what a store keeps into one file that a machine of another architecture can read.

Round-robin files are bound to the processor that made them; as XML in a tar (.tar, .tar.gz, .tar.xz) they move:

    constellation dump rrd house.tar.gz        on the old machine
    constellation load rrd house.tar.gz        on the new one, with the service stopped
"""

import argparse
import os
import sys
from pathlib import Path
from tarfile import TarError

from bootstrap_lib import catalog, reason


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Say what `dump` and `load` take."""
    parser.add_argument("store", help="the instance whose store it is, such as rrd")
    parser.add_argument("file", type=Path, help="the tar file")


def main(arguments: argparse.Namespace) -> int:
    """Dump, or do the verb that was called: both have the same form."""
    verb: str = arguments.verb
    service = catalog.make(arguments.config, arguments.store)
    work = getattr(service, f"{verb}_files", None)
    if work is None:
        print(f"constellation {verb}: '{arguments.store}' keeps nothing that moves by `{verb}`", file=sys.stderr)
        return os.EX_USAGE
    try:
        count = work(arguments.file, _progress)
    except (OSError, TarError) as error:
        print(f"constellation {verb}: {reason(error)}", file=sys.stderr)
        return os.EX_IOERR
    print(f"{verb}: {count} files")
    return 0


def _progress(done: int, of: int, name: str) -> None:
    if sys.stderr.isatty():
        print(f"\r\033[K{done}/{of} {name}", end="\n" if done == of else "", file=sys.stderr, flush=True)
