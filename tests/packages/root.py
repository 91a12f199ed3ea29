"""A fresh Debian with a systemd, and what a package needs there at hand, so that a machine without a network can install it."""

import os
import shutil
import subprocess
from pathlib import Path
from typing import Final

SUITES: Final = {12: "bookworm", 13: "trixie"}
MIRROR: Final = "http://deb.debian.org"


def roots() -> Path:
    """Where roots lie: as scripts/debian has it."""
    cache = Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "constellation"
    return Path(os.environ.get("CONSTELLATION_ROOTS", cache))


def built(number: int) -> Path:
    """The package that `scripts/debian NUMBER scripts/packages/deb` made last."""
    found = sorted((roots() / f"debian{number}" / "srv/constellation/dist").glob(f"*~deb{number}_*.deb"))
    if not found:
        raise FileNotFoundError(f"no package for Debian {number}: run scripts/debian {number} scripts/packages/deb")
    return found[-1]


def bare(number: int) -> Path:
    """A minimal Debian with a systemd, made once."""
    root = roots() / f"fresh{number}"
    if not root.exists():
        beside = root.with_name(f"{root.name}.new")
        shutil.rmtree(beside, ignore_errors=True)
        sources = [
            f"deb {MIRROR}/debian {SUITES[number]} main",
            f"deb {MIRROR}/debian-security {SUITES[number]}-security main",
        ]
        made = ["mmdebstrap", "--quiet", "--variant=minbase", "--include=systemd-sysv,dbus,iproute2", SUITES[number]]
        subprocess.run([*made, beside, *sources], check=True)
        beside.rename(root)
    shutil.copy("/etc/resolv.conf", root / "etc/resolv.conf")
    (root / "etc/hosts").write_text("127.0.0.1 localhost\n")  # as Debian's installer does
    return root


def fresh(number: int, package: Path) -> Path:
    """The same, which has downloaded what the package depends on, and installed nothing of it."""
    root = bare(number)
    shutil.copy(package, root / "root" / package.name)
    for command in ("apt-get update -qq", f"apt-get install -qq --download-only -y /root/{package.name}"):
        environment = {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "DEBIAN_FRONTEND": "noninteractive", "LANG": "C.UTF-8"}
        subprocess.run(["chroot", root, *command.split()], check=True, env=environment, stdout=subprocess.DEVNULL)
    (root / "root" / package.name).unlink()
    return root


def another_version(package: Path, folder: Path) -> Path:
    """The same package as its next revision, with a sign of it in the code."""
    tree = folder / "next"
    subprocess.run(["dpkg-deb", "-R", package, tree], check=True)
    control = tree / "DEBIAN/control"
    control.write_text(control.read_text().replace("-1~deb", "-2~deb"))
    (version,) = tree.glob("usr/lib/constellation/lib/python3*/site-packages/bootstrap_lib/version.py")
    version.write_text(version.read_text().replace('VERSION = "', 'VERSION = "1.'))
    made = folder / package.name.replace("-1~deb", "-2~deb")
    subprocess.run(
        ["dpkg-deb", "-Zgzip", "-z1", "--root-owner-group", "-b", tree, made], check=True, capture_output=True
    )
    shutil.rmtree(tree)
    return made
