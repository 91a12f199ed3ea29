"""What the shipped house writes to the card: sectors that reach a device, with the journal of its file system.

    python -m tests.bench.card [SECONDS] [--settle 120] [--together]

Runs the demo house as root with an ext4 on a loop device for the state of each instance (`--together`: one for all, as on a card), and
counts what /sys/block says. /proc/PID/io misses the journal: of small synchronised writes that is the larger part. A house is young
in its first hour: its files still grow. What flash makes of it inside is in no figure.
"""

import argparse
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from bootstrap_lib import Registry
from services.simulators.demo import DemoHouse
from tests.bench.processes import live, written

PROJECT = Path(__file__).resolve().parent.parent.parent
SECTOR = 512
SIZE = "600M"
"""Of each file system: smaller ones have blocks of 1 KB, which no card has."""


def _run(*command: str) -> str:
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()


@contextmanager
def card(folder: Path, image: Path) -> Iterator[str]:
    """Mount a file system of its own on a folder; gives the name of its device."""
    _run("truncate", "-s", SIZE, str(image))
    _run("mkfs.ext4", "-q", "-b", "4096", "-E", "lazy_itable_init=0,lazy_journal_init=0", str(image))
    device = _run("losetup", "-f", "--show", str(image))
    try:
        folder.mkdir(parents=True, exist_ok=True)
        _run("mount", device, str(folder))
        (folder / "lost+found").rmdir()
        try:
            yield device.removeprefix("/dev/")
        finally:
            subprocess.run(["umount", "--lazy", str(folder)], check=False)
    finally:
        subprocess.run(["losetup", "-d", device], check=False)
        image.unlink()


def megabytes(device: str, folder: Path) -> float:
    """MB that were written to a device so far, and all that waits for it first."""
    _run("sync", "-f", str(folder))
    return int(Path(f"/sys/block/{device}/stat").read_text().split()[6]) * SECTOR / 1e6


def main() -> int:
    """Run the house and print a table; 1 where it writes more than 80 MB an hour."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("seconds", nargs="?", type=float, default=3600.0)
    parser.add_argument("--settle", type=float, default=120.0, help="seconds before it is measured")
    parser.add_argument("--together", action="store_true")
    given = parser.parse_args()
    os.environ["PATH"] += ":/usr/sbin"
    names = sorted(Registry(PROJECT / "topics.yaml").instances)
    with tempfile.TemporaryDirectory() as folder, ExitStack() as stack:
        demo = DemoHouse(PROJECT / "topics.yaml", Path(folder) / "demo")
        state = demo.folder / "state"
        parts = {"all": state} if given.together else {name: state / name for name in ("victoria", *names)}
        devices = {name: stack.enter_context(card(path, Path(folder) / f"{name}.img")) for name, path in parts.items()}
        stack.callback(demo.stop)
        demo.start()
        live(demo, given.settle)
        children = {child.name: child for child in demo.supervisor.children}
        before = {name: megabytes(device, parts[name]) for name, device in devices.items()}
        processes = {name: written(child.process.pid) for name, child in children.items()}
        began = time.monotonic()
        live(demo, given.seconds)
        hours = (time.monotonic() - began) / 3600
        total = 0.0
        print(f"{'part':16} {'device MB/h':>11} {'/proc/PID/io':>13}")
        for name, device in sorted(devices.items()):
            rate = (megabytes(device, parts[name]) - before[name]) / hours
            total += rate
            child = "victoria-metrics" if name == "victoria" else name
            said = (written(children[child].process.pid) - processes[child]) / hours / 1e6 if child in children else 0.0
            if rate >= 0.05:
                print(f"{name:16} {rate:11.1f} {said:13.1f}")
        print(f"{'sum':16} {total:11.1f}", flush=True)
    return int(total > 80)


if __name__ == "__main__":
    sys.exit(main())
