"""A small disk of a test's own that can be filled to the last byte, in mounts that end with the process holding them."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from harness import PROJECT

from tests.chaos.network import Disk

ENTER = ["--user", "--map-root-user"]


class SmallDisk(Disk):
    """A tmpfs that only those see whose command stands behind `prefix`; we reach it through `outside`."""

    def __init__(self, folder: Path, kilobytes: int) -> None:
        """Mount it, as root or in a user namespace; skips the test on a host that gives neither."""
        folder.mkdir(parents=True)
        mount = f"mount -t tmpfs -o size={kilobytes}k small {folder} && echo ready && exec sleep infinity"
        for user in ([], ENTER):
            self._holder = subprocess.Popen(
                ["unshare", *user, "--mount", "sh", "-c", mount], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
            )
            if self._holder.stdout.readline():
                break
            self.close()
        else:
            pytest.skip("this host gives neither root nor user namespaces: no small disk can be mounted")
        nsenter = shutil.which("nsenter")
        enter = ["--user", "--preserve-credentials"] if user else []
        self.prefix = (nsenter, f"--target={self._holder.pid}", *enter, "--mount", f"--wd={PROJECT}")
        self.outside = Path(f"/proc/{self._holder.pid}/root{folder}")
        self._ballast = self.outside / "ballast"

    def run(self, code: str, *arguments: object) -> "subprocess.CompletedProcess[str]":
        """Run a program of Python's where the disk is seen."""
        command = [*self.prefix, sys.executable, "-W", "error", "-c", code, *map(str, arguments)]
        return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)

    def close(self) -> None:
        """Let it vanish."""
        self._holder.kill()
        self._holder.wait()
        self._holder.stdout.close()


def copy(folder: Path, target: Path) -> Path:
    """A database's files, copied to where SQLite finds them by name."""
    target.mkdir()
    for file in folder.glob("*.sqlite*"):
        shutil.copy(file, target)
    return target
