"""Cut the power of a whole house at one instant, many times, and measure what is missing.

    python -m tests.power [--cuts 100] [--seed 1]

Broker, spools, archive, round-robin files and time-series database lie on one ext4 file system in a file. A cut is
EXT4_IOC_SHUTDOWN without a flush of the journal: every dirty page and the journal's tail are gone at once. The runtime
folders, tmpfs in life, are emptied. Then the file system is mounted again, which replays its journal, and everything starts in
a random order. What was taken more than two seconds before a cut must be in every store at the end. Needs root and loop.
"""

import argparse
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from tests.chaos.house import SOURCES, House
from tests.chaos.network import enter

PROMISED = 2.0
"""Seconds before a cut that may be missing."""


class Disk:
    """An ext4 file system in a file, whose power can be cut."""

    def __init__(self, folder: Path) -> None:
        """Make it and mount it."""
        self.image, self.folder = folder / "image", folder / "disk"
        with self.image.open("wb") as file:
            file.truncate(1 << 30)
        _run("mkfs.ext4", "-q", self.image)
        self.folder.mkdir()
        self.mount()

    def mount(self) -> None:
        """Mount it, replaying its journal."""
        _run("mount", "-o", "loop", self.image, self.folder)

    def cut(self) -> None:
        """Drop everything that is not on the platter."""
        _run("xfs_io", "-x", "-c", "shutdown", self.folder)

    def unmount(self) -> None:
        """Take it off."""
        _run("umount", self.folder)


def _run(*command: str | Path) -> None:
    subprocess.run(command, check=True, capture_output=True)


def hindrance() -> str | None:
    """Return why the power cannot be cut on this host, or None."""
    if os.geteuid() != 0:
        return "power cuts are not tested: that needs root"
    if missing := [tool for tool in ("mkfs.ext4", "mount", "xfs_io") if not shutil.which(tool)]:
        return f"power cuts are not tested: {', '.join(missing)} is missing (apt install xfsprogs e2fsprogs)"
    with tempfile.TemporaryDirectory() as folder:
        try:
            Disk(Path(folder)).unmount()
        except subprocess.CalledProcessError as error:
            return f"power cuts are not tested: this host mounts no loop device ({error.stderr.decode().strip()})"
    return None


class Cuts(House):
    """A house on one disk."""

    COMMIT = "1s"

    def __init__(self, folder: Path, runtime: Path, seed: int, mutant: str) -> None:
        """Lay it out; `runtime` is what a power cut empties."""
        self.disk = Disk(folder)
        self.runtime = runtime
        (self.disk.folder / "run").symlink_to(runtime)
        super().__init__(self.disk.folder, seed, mutant, device=folder / "device")
        os.sync()
        self.cuts: list[tuple[float, float]] = []
        """When the power was cut, and when nobody was left who asks the device (monotonic)."""

    def cut(self) -> None:
        """Everything stops at one instant; later it starts again in a random order."""
        for victim in self.victims.values():
            victim.send(signal.SIGSTOP)
        instant = time.monotonic()
        self.disk.cut()
        for victim in self.victims.values():
            victim.send(signal.SIGKILL)
        for victim in self.victims.values():
            if victim.process:
                victim.process.wait()
        self.cuts.append((instant, time.monotonic()))
        self.disk.unmount()
        for child in self.runtime.iterdir():
            shutil.rmtree(child)
        self.disk.mount()
        for victim in self.victims.values():
            victim.start_at = time.monotonic() + self.random.uniform(0.01, 1.5)

    def run(self, cuts: int) -> None:
        """Live and be cut."""
        for n in range(cuts):
            self.live(self.random.uniform(1.0, 9.0))
            self.cut()
            if sys.stderr.isatty():
                print(f"\r{n + 1} of {cuts} cuts", end="", file=sys.stderr)

    def missing(self, found: dict[str, set[int]]) -> int:
        """How many numbers are missing that were taken more than two seconds before the next cut."""
        return sum(before > PROMISED for before in self.before(found))

    def before(self, found: dict[str, set[int]]) -> list[float]:
        """For each missing number, how many seconds before the next cut it was taken."""
        return [
            next((max(0.0, cut - moment) for cut, gone in self.cuts if moment <= gone), float("inf"))
            for name in SOURCES
            for number, moment in self.device.taken[name].items()
            if number not in found[name]
        ]

    def report(self) -> bool:
        """Print what is missing; True if it is no more than promised."""
        good = self.judge()
        for store, found in (("archive", self.archived()), ("time series", self.stored())):
            before = sorted(self.before(found))
            longest = f"the oldest taken {before[-1]:.2f} s before a cut" if before else "none"
            print(f"  {store:24} {len(before):6} lost in {len(self.cuts)} cuts, {longest}")
        return good


def main() -> int:
    """Run, judge, say how to repeat it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cuts", type=int, default=100)
    parser.add_argument("--seed", type=int, default=random.randrange(10**6))
    parser.add_argument(
        "--mutant", default="none", help="run our own code with one promise broken (tests/chaos/mutants.py)"
    )
    parser.add_argument(
        "--patience", type=float, default=150, help="seconds that the stores have to fill up at the end"
    )
    arguments = parser.parse_args()
    os.environ["PATH"] += ":/usr/sbin:/sbin"
    if why := hindrance():
        print(why)
        return 0
    enter("tests.power")  # no other process takes our mounts over into a namespace of its own
    subprocess.run(["ip", "link", "set", "lo", "up"], check=True)
    print(f"power: {arguments.cuts} cuts, seed {arguments.seed}, mutant {arguments.mutant}", flush=True)
    began = time.monotonic()
    shm = Path("/dev/shm")
    with (
        tempfile.TemporaryDirectory(prefix="power-") as folder,
        tempfile.TemporaryDirectory(prefix="power-", dir=shm if shm.is_dir() else None) as runtime,
    ):
        house = Cuts(Path(folder), Path(runtime), arguments.seed, arguments.mutant)
        good = False
        try:
            house.run(arguments.cuts)
            house.rest(arguments.patience)
            good = house.report()
        finally:
            house.stop()
            if not good:
                kept = shutil.copytree(
                    house.disk.folder, Path(tempfile.mkdtemp(prefix="power-kept-")) / "disk", ignore=_ignore
                )
                print(f"logs and databases: {kept}; repeat with --seed {arguments.seed}")
            house.disk.unmount()
    verdict = "at most the last two seconds are missing" if good else "MORE THAN TWO SECONDS ARE MISSING, OR DOUBLE"
    print(f"{verdict} after {time.monotonic() - began:.0f} s")
    return 0 if good else 1


def _ignore(_folder: str, names: list[str]) -> set[str]:
    return {"run", "lost+found"}.intersection(names)


if __name__ == "__main__":
    sys.exit(main())
