"""Show what time each service believes, and why; have them believe the system's clock.

A machine without a clock of its own guesses until it is synchronised. A person who sees that the system's clock is right (`date`)
may say so; what was stored with a false time is put right by `constellation rework`.

    constellation clock
    constellation clock --trust
    constellation clock --trust onewire archive
"""

import argparse
import time

from bootstrap_lib import clock
from bootstrap_lib.client import Client
from bootstrap_lib.document import StartError, plain
from bootstrap_lib.location import find_registry
from bootstrap_lib.reading import format_time
from bootstrap_lib.registry import Registry


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Say what `clock` takes."""
    parser.add_argument("instance", nargs="*", help="only these")
    parser.add_argument(
        "--trust", action="store_true", help="trust the system's clock of each service's machine from now on"
    )


def main(arguments: argparse.Namespace) -> int:
    """Ask all that run; 1 where one guesses, waits or does not answer."""
    registry = Registry(find_registry(arguments.config))
    if unknown := [name for name in arguments.instance if name not in registry.instances]:
        raise StartError(registry.no_instance(unknown[0]))
    synchronised = "synchronised" if clock.is_synchronised() else "not synchronised"
    print(f"{'this machine':16} {format_time(time.time_ns() // 1_000_000)}  {synchronised}")
    unsure = 0
    with Client(registry) as client:
        for name in arguments.instance or registry.instances:
            try:
                said = client.ask(name, "clock", {"do": "trust"} if arguments.trust else {}, 10.0)
                ahead = f", {said['ahead']:+.0f} s from its machine's" if abs(said["ahead"]) >= 1 else ""
                line = f"{plain(said['time'], 30)}  {plain(said['state'], 20)}{ahead}: {plain(said['why'])}"
                unsure += said["state"] in ("waiting", "estimated")
            except (StartError, KeyError, TypeError) as error:
                unsure += 1
                line = (
                    plain(str(error)) if isinstance(error, StartError) else f"{name} answers nothing that can be read"
                )
            print(f"{name:16} {line}")
    if unsure and not arguments.trust:
        print("if the system's clock is right: constellation clock --trust")
    return 1 if unsure else 0
