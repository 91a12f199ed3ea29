"""Break everything at random while a known sequence is measured; then count.

    python -m tests.chaos [--kills 200] [--seed 1] [--mutant NAME]

Real processes, a real broker that comes back with an old memory or with none when it is killed, real databases, a
cable that is cut, disks that get full, clocks that jump. At the end every number that was taken must be in the archive and
in the time-series database exactly once, and in the mean of each second of the round-robin files. The seed repeats the
plan of a failure, not its timing.
"""

import argparse
import os
import random
import shutil
import sys
import tempfile
import time
from pathlib import Path

from tests.chaos.house import House
from tests.chaos.network import enter


def main() -> int:
    """Run, judge, say how to repeat it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=200)
    parser.add_argument("--seed", type=int, default=random.randrange(10**6))
    parser.add_argument(
        "--mutant", default="none", help="run our own code with one promise broken (tests/chaos/mutants.py)"
    )
    parser.add_argument("--keep", action="store_true", help="leave the folder there")
    parser.add_argument(
        "--patience", type=float, default=150, help="seconds that the stores have to fill up at the end"
    )
    arguments = parser.parse_args()
    os.environ["PATH"] += ":/usr/sbin:/sbin"
    hindered = enter()
    folder = Path(tempfile.mkdtemp(prefix="chaos-"))
    print(f"chaos: {arguments.kills} kills, seed {arguments.seed}, mutant {arguments.mutant}, in {folder}", flush=True)
    if hindered:
        print(hindered)
    began = time.monotonic()
    house = House(folder, arguments.seed, arguments.mutant, namespaces=not hindered)
    good = False
    try:
        house.run(arguments.kills)
        house.rest(arguments.patience)
        good = house.judge()
    finally:
        house.stop()
        print(f"{'nothing lost, nothing double' if good else 'LOST OR DOUBLE'} after {time.monotonic() - began:.0f} s")
        if good and not arguments.keep:
            shutil.rmtree(folder, ignore_errors=True)
        else:
            print(f"logs and databases: {folder}; repeat with --seed {arguments.seed}")
            for name in house.disks:  # these go with our namespace
                shutil.copytree(folder / "state" / name, folder / "disks" / name)
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
