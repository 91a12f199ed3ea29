"""What `constellation fleet engine init|status|bootstrap` does on a machine that is a node of the engine."""

import argparse
import re
import secrets
from collections.abc import Callable
from pathlib import Path
from typing import Final

from bootstrap_lib import StartError
from services.fleet import cluster, quorum
from services.fleet.dialect import Access
from services.fleet.root_tree import below, write

PASSWORD: Final = Path("/etc/constellation/credentials/fleet.engine")
NODE: Final = Path("/etc/mysql/mariadb.conf.d/90-constellation-fleet.cnf")
GRASTATE: Final = Path("/var/lib/mysql/grastate.dat")


def engine(arguments: argparse.Namespace, say: Callable[[str], None]) -> int:
    """Prepare a node, ask all of them, or begin a cluster; returns the exit code. `say` shows a line to who asked."""
    nodes = _places(arguments)
    file = below(arguments.root, NODE)
    if arguments.do == "init":
        number = arguments.node or cluster.own_number(nodes)
        text = cluster.configuration(number, [cluster.Place(node) for node in nodes], "fleet", near=not arguments.far)
        _password(arguments, say)
        write(file, text)
        say(f"written {file}: node {number} of {len(nodes)}. On the first node, once for the cluster:")
        say("  sudo systemctl stop mariadb && sudo constellation fleet engine bootstrap")
        say("then on the others, one after the other: sudo systemctl restart mariadb")
        return 0
    access = Access("fleet", "store", _password(arguments, say))
    states = [quorum.ask(node, access) for node in nodes]
    if arguments.do == "status":
        for one in states:
            say(str(one))
        told = quorum.advice(states)
        say(f"do: {told}" if told else "all is well")
        return 1 if told else 0
    grastate = Path(arguments.root, *GRASTATE.parts[1:])  # in a folder that is MariaDB's, not root's
    quorum.bootstrap(states, access, grastate, alone=arguments.alone)
    say("the cluster begins here; look at it: sudo constellation fleet engine status")
    return 0


def _places(arguments: argparse.Namespace) -> list[str]:
    if arguments.nodes:
        return [node.strip() for node in str(arguments.nodes).split(",") if node.strip()]
    written = below(arguments.root, NODE)
    found = re.search(r"gcomm://(\S+)", written.read_text()) if written.exists() else None
    if found is None:
        raise StartError("which nodes? --nodes 10.0.0.1,10.0.0.2,10.0.0.3")
    return [node.rpartition(":")[0] for node in found[1].split(",")]


def _password(arguments: argparse.Namespace, say: Callable[[str], None]) -> str:
    file = below(arguments.root, PASSWORD)
    if not file.exists():
        write(file, secrets.token_urlsafe(24) + "\n", 0o600)
        say(f"made a password for the stores in {file}: every machine of the centre needs the same one")
    return file.read_text().strip()
