"""Build the image of scripts/containers, run the house of its compose.yaml by Podman, kill each container, stop all.

    python -m tests.containers_run [--built]

Needs root, podman, buildah, crun, iptables and mmdebstrap, Debian's mirror and the registry of Python packages; no daemon and no registry of images:
what stands in for Debian's slim image is made by mmdebstrap. `--built` takes the image that is there. Containers, their
network and their mounts live in namespaces of this run and end with it; the image stays below ~/.cache/constellation.
"""

import argparse
import os
import subprocess
import sys
from pathlib import Path
from typing import Final

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from harness import PROJECT

from tests.containers_run.image import DEMO, IMAGE, build, cache, missing, prepare, size
from tests.containers_run.steps import run

SIZE: Final = 300e6
"""What is promised: bytes of the unpacked image."""
INSIDE: Final = "CONTAINERS_RUN_INSIDE"
"""Set where this runs in namespaces of its own already."""


def in_namespaces() -> int:
    """This command once more, where mounts, processes and network are its own and end with it."""
    # To Podman each run is the first after a boot, and nothing of its networks stays on this machine.
    memory = "".join(
        f"mkdir -p {folder}; mount -t tmpfs tmpfs {folder}; "
        for folder in ("/run", "/var/lib/cni", "/etc/cni/net.d", cache() / "run")
    )
    cgroups = "umount -R /sys/fs/cgroup; mount -t cgroup2 none /sys/fs/cgroup; "
    script = f'{memory}{cgroups}ip link set lo up; exec "$@"'
    fences = [
        "unshare",
        "--mount",
        "--propagation",
        "private",
        "--net",
        "--pid",
        "--fork",
        "--kill-child",
        "--mount-proc",
    ]
    command = [*fences, "--", "sh", "-c", script, "sh", sys.executable, "-m", "tests.containers_run"]
    return subprocess.run(command, cwd=PROJECT, env=os.environ | {INSIDE: "1"}).returncode


def main(words: list[str] | None = None) -> int:
    """Build, measure, run; the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--built", action="store_true", help="take the image that is there")
    arguments = parser.parse_args(words)
    if os.environ.get(INSIDE):
        run()
        return 0
    if os.geteuid() or missing():
        print(f"needs root, and by apt: {' '.join(missing())}", file=sys.stderr)
        return 77
    prepare()
    if not arguments.built:
        build("constellation", IMAGE)
        build("demo", DEMO)
    unpacked = size(IMAGE)
    print(f"the image: {unpacked / 1e6:.0f} MB unpacked; the demo's {size(DEMO) / 1e6:.0f} MB", flush=True)
    assert unpacked <= SIZE, f"more than {SIZE / 1e6:.0f} MB"
    return in_namespaces()


if __name__ == "__main__":
    sys.exit(main())
