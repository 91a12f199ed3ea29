"""Two networks of the run's own, joined by one cable that can be cut, slowed and made lossy; gone with its processes."""

import os
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Final

HERE: Final = "10.98.0.2"
"""Where broker and stores are; the sources are on the other side of the cable."""

MARK: Final = "CONSTELLATION_CHAOS_NAMESPACE"

FAULTS: Final[dict[str, Sequence[str]]] = {
    "cut": ("ip link set near down",),
    "slow": ("tc qdisc add dev near root tbf rate 256kbit burst 4kb latency 400ms",),
    "lossy": (
        "nft add table inet chaos",
        "nft add chain inet chaos input { type filter hook input priority 0 ; }",
        "nft add rule inet chaos input iifname near numgen random mod 100 < 30 drop",
    ),
    "reset": (
        "nft add table inet chaos",
        "nft add chain inet chaos input { type filter hook input priority 0 ; }",
        "nft add rule inet chaos input iifname near tcp dport != 0 reject with tcp reset",
    ),
}
"""What can happen to the cable. The kernel's netem is not everywhere; a narrow token bucket delays too."""

HEAL: Final = ("ip link set near up", "tc qdisc del dev near root", "nft delete table inet chaos")


def enter(program: str = "tests.chaos") -> str | None:
    """Run a program of ours again in a network and mounts of its own; returns why not, where that cannot be."""
    if os.environ.get(MARK):
        return None
    if os.geteuid() != 0:
        return "the network is not cut and no disk is filled: that needs root"
    if missing := [tool for tool in ("unshare", "nsenter", "ip", "tc", "nft", "mount") if not shutil.which(tool)]:
        return f"the network is not cut and no disk is filled: {', '.join(missing)} is missing"
    if subprocess.run(["unshare", "--net", "--mount", "true"], capture_output=True).returncode:
        return "the network is not cut and no disk is filled: this host gives no namespaces"
    os.environ[MARK] = "1"
    command = [
        "unshare",
        "--net",
        "--mount",
        "--kill-child",
        "--fork",
        sys.executable,
        "-m",
        program,
        *sys.argv[1:],
    ]
    return os.execvp(command[0], command)


class Cable:
    """The far side is a namespace that a sleeping process holds."""

    def __init__(self) -> None:
        """Lay the cable."""
        self._far = subprocess.Popen(["unshare", "--net", "sleep", "infinity"])
        while Path(f"/proc/{self._far.pid}/ns/net").readlink() == Path("/proc/self/ns/net").readlink():
            pass
        self.command = ["nsenter", f"--net=/proc/{self._far.pid}/ns/net"]
        """Put in front of a command that is to run on the far side."""
        self._run("ip link set lo up", f"ip link add near type veth peer name far netns {self._far.pid}")
        self._run(f"ip addr add {HERE}/24 dev near", "ip link set near up")
        for step in ("ip link set lo up", "ip addr add 10.98.0.1/24 dev far", "ip link set far up"):
            subprocess.run([*self.command, *step.split()], check=True)

    @staticmethod
    def _run(*steps: str, check: bool = True) -> None:
        for step in steps:
            subprocess.run(step.split(), check=check, capture_output=not check)

    def heal(self) -> None:
        """Make the cable a good one."""
        self._run(*HEAL, check=False)

    def spoil(self, fault: str) -> None:
        """Let one of FAULTS happen."""
        self.heal()
        self._run(*FAULTS[fault])

    def close(self) -> None:
        """Take it away."""
        self._far.kill()
        self._far.wait()


class Disk:
    """A small disk of its own for a folder, which can be filled to the last byte."""

    def __init__(self, folder: Path, megabytes: int) -> None:
        """Mount it."""
        folder.mkdir(parents=True)
        subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={megabytes}m", "chaos", folder], check=True)
        self._ballast = folder / "ballast"

    def fill(self) -> None:
        """Take all the room that is left."""
        with self._ballast.open("ab", buffering=0) as file:
            for size in (1 << 20, 4096):
                try:
                    while file.write(bytes(size)) == size:
                        pass
                except OSError:
                    pass

    def empty(self) -> None:
        """Give it back."""
        self._ballast.unlink(missing_ok=True)
