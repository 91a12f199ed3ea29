"""Build the .deb for Debian 12 and 13, and live its life on a fresh one of each: install, run, upgrade, remove, purge.

    python -m tests.packages [12] [13] [--built]

Needs root, mmdebstrap and Debian's mirror; five minutes for each Debian the first time. `--built` takes the packages that are there.
The machines are containers with a real systemd and without a network, so that nothing comes from elsewhere than the package.
"""

import argparse
import os
import subprocess
import sys
import tempfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from containers import Lab
from harness import PROJECT

from tests.packages.life import Life
from tests.packages.root import SUITES, another_version, built, fresh


def live(number: int) -> list[str]:
    """Live a package's life; returns what was seen, AssertionError where it is not as promised."""
    package = built(number)
    root = fresh(number, package)
    with tempfile.TemporaryDirectory(prefix="packages-") as scratch:
        folder = Path(scratch)
        folder.chmod(0o755)
        following = another_version(package, folder)
        first = folder / package.name
        first.write_bytes(package.read_bytes())
        os.environ["CONTAINER_ROOT"] = str(root)
        try:
            lab = Lab(folder)
        finally:
            del os.environ["CONTAINER_ROOT"]
        try:
            life = Life(lab)
            life.install(first)
            life.begin()
            life.upgrade(following)
            life.remove()
            life.come_back(following)
            life.purge()
        finally:
            lab.close()
    return life.steps


def main() -> int:
    """Build, and live."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("debian", nargs="*", type=int, choices=[[], *SUITES], default=list(SUITES))
    parser.add_argument("--built", action="store_true", help="take the packages that are there")
    arguments = parser.parse_args()
    for number in arguments.debian:
        if not arguments.built:
            subprocess.run(["scripts/debian", str(number), "scripts/packages/deb"], cwd=PROJECT, check=True)
        print(f"Debian {number}: {built(number).name}, {built(number).stat().st_size / 1e6:.1f} MB", flush=True)
        live(number)
    return 0


if __name__ == "__main__":
    sys.exit(main())
