"""Breaks a fleet while readings flow, and compares every node with every house's archive, number by number.

    python -m tests.fleet [--houses 4] [--breaks 20] [--seed 1] [--folder DIR] [--nodes 3]
    python -m tests.fleet --engine postgresql --failovers 1

Edges, the centre's broker, its store and nodes of the engine are killed with -9 and stopped for a while, alone and together; an edge
also while the centre is away, which takes what its bridge had queued. With --engine postgresql the nodes are a primary and its standbys,
of which one is promoted by hand for each of --failovers, as docs/fleet.md says. Exit code 0: every reading is in every node once.
"""

import argparse
import random
import shutil
import signal
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

from services.simulators.demo import say
from services.simulators.fleet import DemoFleet, verdict
from tests.fleet.standbys import StandbyFleet


class Breaking:
    """What happens to a fleet."""

    def __init__(self, fleet: DemoFleet, seed: int) -> None:
        self._fleet, self._random = fleet, random.Random(seed)
        self.done: Counter[str] = Counter()

    def _edge(self) -> str:
        return f"{self._random.choice(self._fleet.names)} broker"

    def edge(self) -> None:
        """An edge is killed, its queue with it."""
        self._fleet.send(self._edge())

    def edge_while_the_centre_is_away(self) -> None:
        """Readings are queued at the edges when some of these are killed."""
        name = "centre broker"
        self._fleet.send(name, signal.SIGSTOP)
        self._fleet.look_after(self._random.uniform(4, 8))
        for edge in {self._edge() for _ in range(2)}:
            self._fleet.send(edge)
        self._fleet.look_after(2)
        self._fleet.send(name, signal.SIGCONT)
        self._fleet.send(name)

    def centre(self) -> None:
        """The centre's broker is killed: it forgets what it had taken since its last save."""
        self._fleet.send("centre broker")

    def store(self) -> None:
        """The store is killed in whatever it does."""
        self._fleet.send("centre central")

    def store_and_centre(self) -> None:
        """Both at once."""
        self._fleet.send("centre central")
        self._fleet.send("centre broker")

    def node(self) -> None:
        """A node is killed, and comes back by itself."""
        self._fleet.cluster.send(self._random.randint(1, len(self._fleet.cluster.places)), signal.SIGKILL)

    def node_that_hangs(self) -> None:
        """A node is stopped for some seconds, and says nothing."""
        number = self._random.randint(1, len(self._fleet.cluster.places))
        self._fleet.cluster.send(number, signal.SIGSTOP)
        self._fleet.look_after(self._random.uniform(3, 9))
        self._fleet.cluster.send(number, signal.SIGCONT)

    def archive(self) -> None:
        """A house's archive is killed while it may be replaying."""
        self._fleet.send(f"{self._random.choice(self._fleet.names)} archive")

    def source(self) -> None:
        """A source is killed: its numbers go on, or a new run begins."""
        self._fleet.send(f"{self._random.choice(self._fleet.names)} rooms")

    def one(self) -> None:
        """Break something, and let it live for a moment."""
        deeds = (
            (self.edge, 3), (self.edge_while_the_centre_is_away, 3), (self.centre, 2), (self.store, 3),
            (self.store_and_centre, 1), (self.node, 3), (self.node_that_hangs, 1), (self.archive, 1), (self.source, 1),
        )  # fmt: skip
        deed = self._random.choices([deed for deed, _ in deeds], [weight for _, weight in deeds])[0]
        self.done[deed.__name__] += 1
        say(deed.__name__.replace("_", " "))
        deed()
        self._fleet.look_after(self._random.uniform(2, 6))


def main() -> int:
    """One run."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--houses", type=int, default=4)
    parser.add_argument("--breaks", type=int, default=20)
    parser.add_argument("--engine", choices=("mariadb", "postgresql"), default="mariadb")
    parser.add_argument("--failovers", type=int, default=0, help="by hand, spread among the breaks (postgresql)")
    parser.add_argument("--nodes", type=int, default=3, help="1 or 3")
    parser.add_argument("--seed", type=int, default=time.time_ns() % 10_000)
    parser.add_argument("--folder", type=Path)
    asked = parser.parse_args()
    folder = asked.folder or Path(tempfile.mkdtemp(prefix="fleet-"))
    if asked.failovers and asked.engine != "postgresql":
        parser.error("--failovers is for --engine postgresql: a cluster of MariaDB goes on by itself")
    fleet = (StandbyFleet if asked.engine == "postgresql" else DemoFleet)(folder, asked.houses, asked.nodes)
    breaking, good, line = Breaking(fleet, asked.seed), False, "it did not start"
    try:
        fleet.start()
        fleet.look_after(10)
        turns = [round(asked.breaks * turn / (asked.failovers + 1)) for turn in range(1, asked.failovers + 1)]
        for number in range(asked.breaks + 1):
            for _ in range(turns.count(number)):
                breaking.done["failover"] += 1
                fleet.fail_over()
            if number < asked.breaks:
                breaking.one()
        fleet.look_after(5)
        say("sources end; every node is compared with every archive")
        good, line = verdict(fleet, fleet.settle())
    finally:
        fleet.stop()
    print(f"seed {asked.seed}: {dict(breaking.done)}")
    print(line)
    if good and asked.folder is None:
        shutil.rmtree(folder)
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
