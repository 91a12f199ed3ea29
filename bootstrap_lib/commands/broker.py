"""Set aside a database that the broker cannot use: damaged, of another version, a folder or a link in its place.

`doctor` says when that is needed. As `ExecStartPre=` of the broker's unit it keeps a broker from failing again and again. A broker that
begins anew loses no reading: sources keep theirs until the archive has them. A database that can be used is left alone.

    sudo constellation broker --start
"""

import argparse
import logging
import shutil
import subprocess
from pathlib import Path

from bootstrap_lib import broker_database, broker_unit, state
from bootstrap_lib.document import StartError, reason
from bootstrap_lib.installation import Installation

log = logging.getLogger(__name__)

LOGS = "broker"
"""Under what name its messages go to the journal."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Say what `broker` takes."""
    parser.add_argument(
        "--root", metavar="DIR", type=Path, default=Path("/"), help="look at a folder that stands for /"
    )
    parser.add_argument("--start", action="store_true", help="start the broker then, which needs root")


def main(arguments: argparse.Namespace) -> int:
    """Look, set aside, start; 1 where the broker does not start."""
    system = Installation(arguments.root)
    path = system.path(broker_database.DATABASE)
    why = broker_database.trouble(path) if path.parent.is_dir() else None
    if why is None:
        log.info("the broker's database %s can be used: it is left alone", path)
        return 0
    try:
        with state.as_owner_of(path.parent):
            aside = broker_database.set_aside(path)
    except OSError as error:
        raise StartError(f"{path} cannot be set aside: {reason(error)}") from None
    log.critical(
        "the broker's database is set aside as %s: %s; what it kept is published again, no reading is lost", aside, why
    )
    return 0 if not (arguments.start and system.live) or _start(broker_unit.UNIT) else 1


def _start(unit: str) -> bool:
    """Have systemd start it again; whether it runs then."""
    systemctl = shutil.which("systemctl")
    if systemctl is None:
        return False
    subprocess.run([systemctl, "reset-failed", unit], check=False, capture_output=True)
    return subprocess.run([systemctl, "start", unit], check=False).returncode == 0
