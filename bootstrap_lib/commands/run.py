"""Run one instance of topics.yaml, in the foreground or as a daemon.

Under systemd this is what constellation@INSTANCE.service does. SIGTERM ends it, SIGHUP reloads topics.yaml.
"""

import argparse
import logging
from pathlib import Path

from bootstrap_lib import catalog, log
from bootstrap_lib.catalog import NoService
from bootstrap_lib.document import DocumentError, StartError
from bootstrap_lib.location import INSTALLED


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Say what `run` takes."""
    parser.add_argument("instance", help="a name below sources: or subscribers: in topics.yaml")
    parser.add_argument("--daemon", action="store_true", help="detach from the terminal (hosts without systemd)")
    parser.add_argument(
        "--pidfile", type=Path, help="where a daemon writes its process id (default: in its runtime folder)"
    )
    parser.add_argument("--verbose", action="store_true", help="log debug messages too")


def main(arguments: argparse.Namespace) -> int:
    """Run until stopped."""
    level = logging.DEBUG if arguments.verbose else logging.INFO
    service = catalog.make(arguments.config, arguments.instance, say=False)
    if not arguments.daemon:
        log.set_up(arguments.instance, level=level)
        if service.registry.path != INSTALLED:
            logging.getLogger(__name__).info("%s is used, not %s", service.registry.path, INSTALLED)
        return service.run()
    from bootstrap_lib.daemon import Daemon, refuse_under_systemd

    refuse_under_systemd()
    keep = log.set_up(arguments.instance, daemon=True, level=level)
    pidfile = (arguments.pidfile or service.runtime_folder / "pid").absolute()
    with Daemon(pidfile, service.state_folder, keep):
        try:
            return catalog.make(str(service.registry.path), arguments.instance, say=False).run()
        except (DocumentError, NoService, StartError) as error:  # nobody reads what it would print
            logging.getLogger(__name__).critical("%s", error)
            raise
