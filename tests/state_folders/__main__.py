"""Spoil each file of each state folder in each way, while its service runs and while it is stopped.

    python -m tests.state_folders [--services sequence,archive] [--ways deleted,flipped] [--most 20] [--results FILE] [--write]

For each: the service says what it found, ends in no traceback and in no loop, works on, and nothing is lost but what is said. `--write`
puts the table into docs/durability.md. Run by root, the services run as nobody, so that a file can be made unreadable.
"""

import argparse
import json
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from tests.state_folders.run import SERVICES, Result, Run
from tests.state_folders.table import put_in
from tests.state_folders.ways import WAYS


def main() -> int:
    """Run, say what was found, and write the table if that was asked for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--services", default=",".join(SERVICES))
    parser.add_argument("--ways", default=",".join(WAYS))
    parser.add_argument("--most", type=int, default=0, help="end after so many cases")
    parser.add_argument(
        "--results", type=Path, help="JSON lines that are added to, and from which --write makes the table"
    )
    parser.add_argument("--write", action="store_true")
    arguments = parser.parse_args()
    results: list[Result] = []
    began = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="state-") as folder:
        run = Run(Path(folder))
        try:
            run.begin()
            for result in run.cases(arguments.services.split(","), arguments.ways.split(",")):
                results.append(result)
                print(result, flush=True)
                if arguments.results:
                    with arguments.results.open("a") as file:
                        file.write(json.dumps(result._asdict()) + "\n")
                if arguments.most and len(results) >= arguments.most:
                    break
        finally:
            run.close()
    bad = [result for result in results if not result.good]
    print(f"{len(results)} cases, {len(bad)} bad, after {time.monotonic() - began:.0f} s")
    for result in bad:
        print(f"  {result}")
    if arguments.write:
        known = results
        if arguments.results:
            known = [Result(**json.loads(line)) for line in arguments.results.read_text().splitlines()]
        put_in(known)
    return 1 if bad or not results else 0


if __name__ == "__main__":
    sys.exit(main())
