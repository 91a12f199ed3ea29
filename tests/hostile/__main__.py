"""Have every user of the broker send random and crafted messages, while readings flow and alerts ring.

    python -m tests.hostile --minutes 10 [--seed 7] [--rate 300]

Shipped configuration of the broker, with TLS, passwords and rights; real services. At the end: no service has restarted, none has
taken more memory than its unit allows, no reading of the guarded source is lost, double or invented, each alert has reached the phone.
What a user may do by right is not done: nobody who may asks for `stop` in earnest, and nobody writes on the guarded topics.
"""

import argparse
import random
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from tests.hostile.house import SENSORS, House


def run(seconds: float, seed: int, rate: float, patience: float = 120.0) -> list[str]:
    """One run; returns what is wrong, and prints its figures."""
    with tempfile.TemporaryDirectory(prefix="hostile-") as folder:
        house = House(Path(folder), seed)
        wrong: list[str] = []
        try:
            house.start()
            house.attack(rate)
            began, heats = time.monotonic(), 0
            while (passed := time.monotonic() - began) < seconds and not wrong:
                if passed >= heats * seconds / (len(SENSORS) + 1):
                    heats += 1
                    if heats > 1:
                        house.heat()
                wrong = house.look()
                time.sleep(0.5)
            done = house.end_attack()
            wrong = wrong or house.judge(patience)
            what = ", ".join(f"{count} {name}" for name, count in sorted(done.items()))
            print(
                f"seed {seed}, {passed:.0f} s: {what}; {len(house.device_taken)} readings, {len(house.told())} of {len(house.hot)} alerts told"
            )
            print("\n".join(house.report()), flush=True)
            if wrong:
                print(house.logs())
        finally:
            house.stop()
    return wrong


def main() -> int:
    """Run, and say what is wrong."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=10.0)
    parser.add_argument("--seed", type=int, default=random.randrange(10**6))
    parser.add_argument("--rate", type=float, default=300.0, help="messages a second, of all users together")
    arguments = parser.parse_args()
    wrong = run(60 * arguments.minutes, arguments.seed, arguments.rate)
    for sentence in wrong:
        print(f"WRONG: {sentence}")
    print("all is well" if not wrong else f"{len(wrong)} wrong")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
