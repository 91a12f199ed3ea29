"""Run a house of an earlier version with a backlog, and let this version take over its folders.

    python -m tests.upgrade [--from 3b17a0f] [--kill] [--keep FILE]

Broker and services are real. While the broker is dead the earlier version fills its spools; then its services end (with --kill by
kill -9), and this version's go on with the same state, runtime and settings. At the end every number that was taken is in the
archive once, every row from before is as it was, and people hear of the end of what they had been told of, once.
`--keep` only lives the life before, and packs its folders for tests/test_upgrade.py.
"""

import argparse
import signal
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from harness import PROJECT, wait_for

from tests.upgrade.house import PATIENCE, SERVICES, Upgraded, checkout, keep


def main() -> int:
    """Run, and say what came of it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--from", dest="commit", default="3b17a0f", help="commit or tag of the earlier version")
    parser.add_argument("--kill", action="store_true", help="end the earlier version by kill -9")
    parser.add_argument("--keep", type=Path, help="pack the folders of the earlier version into this file, and end")
    arguments = parser.parse_args()
    began = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="upgrade-") as scratch:
        folder = Path(scratch)
        code = checkout(arguments.commit, folder / "code")
        upgraded = Upgraded(folder)
        try:
            upgraded.live(code)
            before, picture, backlog = upgraded.rows(), upgraded.graph(), upgraded.waiting("sequence")
            if arguments.keep:
                upgraded.end(*SERVICES)
                keep(upgraded, arguments.keep)
                print(f"{arguments.keep}: {arguments.keep.stat().st_size} bytes")
                return 0
            upgraded.end(*SERVICES, number=signal.SIGKILL if arguments.kill else signal.SIGTERM)
            owed = upgraded.taken()
            upgraded.broker.start()
            upgraded.run(PROJECT)
            wait_for(lambda: owed <= set(upgraded.numbers()), PATIENCE, "the backlog in the archive")
            wait_for(lambda: "Over: Boiler hot" in upgraded.told(), PATIENCE, "the end of an alert")
            upgraded.turn(
                dict.fromkeys(("boiler/water/temperature", "boiler/flue/temperature", "hall/room/temperature"), 20.0)
            )
            wait_for(lambda: "Over: Room cold" in upgraded.told(), PATIENCE, "the end of the other alert")
            upgraded.end("sequence")  # what it has is sent, or waits
            wait_for(lambda: upgraded.taken() <= set(upgraded.numbers()), PATIENCE, "what was measured meanwhile")
            found, rows = upgraded.numbers(), upgraded.rows()
        finally:
            upgraded.close()
        lost, double = upgraded.taken() - set(found), [number for number, times in found.items() if times > 1]
        after = upgraded.graph()
        changed = set(map(tuple, before)) - set(map(tuple, rows))
        wrong = {second for second, value in picture.items() if abs(after.get(second, -1.0) - value) > 0.01}
        told = upgraded.told()
        complaints = upgraded.complaints()
        print(
            f"from {arguments.commit}, {time.monotonic() - began:.0f} s: {len(before)} rows before, {backlog} readings in the backlog of"
        )
        print(
            f"one source; {len(upgraded.taken())} numbers taken: {len(lost)} lost, {len(double)} double; {len(changed)} rows changed,"
        )
        print(
            f"{len(wrong)} of {len(picture)} points of the picture changed; told: {told}; set aside: {complaints or 'nothing'}"
        )
        good = sorted(told) == ["Boiler hot", "Over: Boiler hot", "Over: Room cold", "Room cold"]
        return 0 if good and not (lost or double or changed or wrong or complaints) else 1


if __name__ == "__main__":
    sys.exit(main())
