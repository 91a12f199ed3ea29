"""Run histories, as many as you like: `python -m tests.oracle --histories 1000000`."""

import argparse
import sys
import time

from tests.oracle.judge import Broken, History
from tests.oracle.mutants import MUTANTS, mutated


def found_at(seeds: range) -> tuple[int, str] | None:
    """The first history that breaks a rule, and which."""
    for seed in seeds:
        try:
            History(seed).live()
        except Broken as broken:
            return seed, str(broken)
    return None


def main() -> int:
    """Return 1 where a rule does not hold, or a mutant lives."""
    parser = argparse.ArgumentParser(prog="python -m tests.oracle", description=__doc__)
    parser.add_argument("--histories", type=int, default=1000)
    parser.add_argument("--from", dest="first", type=int, default=0, help="the first seed")
    parser.add_argument("--mutants", action="store_true", help="break one rule of the engine at a time")
    given = parser.parse_args()
    seeds, began = range(given.first, given.first + given.histories), time.monotonic()
    if given.mutants:
        alive = 0
        for name in MUTANTS:
            with mutated(name):
                found = found_at(seeds)
            alive += found is None
            print(f"{name}: {'LIVES' if found is None else f'found in history {found[0]}: {found[1]}'}", flush=True)
        return int(alive > 0)
    found = found_at(seeds)
    print(f"{given.histories} histories in {time.monotonic() - began:.0f} s: {found or 'every rule held'}")
    return int(found is not None)


if __name__ == "__main__":
    sys.exit(main())
