"""Tell people that the unit of an instance failed; systemd calls it (OnFailure=), it does not start anything.

The message goes to the journal, and to home/notify/… for whoever brings messages to people. One an hour for each
instance, as it is tried again every ten minutes.
"""

import argparse
import contextlib
import logging
import os
import socket
import time
from pathlib import Path
from typing import Final

from bootstrap_lib import Client, Registry, StartError, as_json, format_time
from services.notices.notice import Notice

HOLD_OFF: Final = 3600.0
"""Seconds between two messages about one instance."""
PATIENCE: Final = 20.0
"""Seconds that the broker has to take the message."""

log = logging.getLogger(__name__)

LOGS = "failure"
"""Under what name its messages go to the journal."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Say what `failure` takes."""
    parser.add_argument("instance", help="the instance whose unit failed")


def main(arguments: argparse.Namespace) -> int:
    """Tell it; returns 0 once the broker has taken the message."""
    name = arguments.instance
    host = socket.gethostname()
    registry = Registry(Registry.locate(arguments.config))
    text = f"{name} on {host} fails again and again; it is tried once more in ten minutes (journalctl -u constellation@{name})"
    if name not in registry.instances:  # a unit of the house that is no instance
        text = f"{name} on {host} failed (journalctl -u constellation-{name})"
    log.critical("%s", text)
    told = Path(os.environ.get("STATE_DIRECTORY", "/var/lib/constellation/failure")) / name
    with contextlib.suppress(FileNotFoundError):
        if 0 <= time.time() - told.stat().st_mtime < HOLD_OFF:
            log.info("it was told less than an hour ago, so nobody is told again")
            return 0
    if not _publish(registry, name, text):
        log.error("nobody could be told: the broker did not take the message")
        return os.EX_TEMPFAIL
    told.parent.mkdir(parents=True, exist_ok=True)
    told.touch()
    return 0


def _publish(registry: Registry, name: str, text: str) -> bool:
    now = time.time_ns() // 1_000_000
    notice = Notice(text=text, title=f"{name} has failed", time=format_time(now), priority=1)
    try:
        with Client(registry, user="failure", patience=PATIENCE) as client:
            return client.deliver(f"notify/unit_failed_{name}_{now}", as_json(notice), PATIENCE)
    except StartError:
        return False
