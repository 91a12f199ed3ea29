"""The image, built without a daemon and without a registry: what stands in for Debian's slim image is made by mmdebstrap."""

import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Final

from harness import PROJECT

SHIPPED: Final = PROJECT / "scripts" / "containers"
PROGRAMS: Final = ("podman", "buildah", "crun", "iptables", "mmdebstrap", "mosquitto_sub", "unshare")
BASE, IMAGE, DEMO = "localhost/debian:trixie-slim", "localhost/constellation", "localhost/constellation:demo"
COMPOSE: Final = "podman-compose==1.6.0"
EXCLUDED: Final = ("/usr/share/doc/*", "/usr/share/man/*", "/usr/share/info/*", "/usr/share/locale/*")
"""What Debian's slim image leaves out."""


def cache() -> Path:
    """Where images and their storage lie: beside the roots of scripts/debian."""
    below = Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "constellation"
    return Path(os.environ.get("CONSTELLATION_ROOTS", below)) / "containers"


def missing() -> list[str]:
    """Programs that this run needs and does not find."""
    return [name for name in PROGRAMS if shutil.which(name, path=f"{os.environ['PATH']}:/usr/sbin") is None]


def prepare() -> None:
    """Have Podman keep everything in the cache, without cgroups and without a daemon; install podman-compose there."""
    folder = cache()
    folder.mkdir(parents=True, exist_ok=True)
    storage = f'[storage]\ndriver="overlay"\ngraphroot="{folder}/store"\nrunroot="{folder}/run"\n'
    (folder / "storage.conf").write_text(storage)
    engine = '[engine]\ncgroup_manager="cgroupfs"\nevents_logger="file"\nruntime="crun"\n'
    (folder / "containers.conf").write_text(f'[containers]\ncgroups="disabled"\n{engine}')
    os.environ["CONTAINERS_STORAGE_CONF"] = str(folder / "storage.conf")
    os.environ["CONTAINERS_CONF"] = str(folder / "containers.conf")
    os.environ["PATH"] = f"{folder}/tools/bin:{os.environ['PATH']}:/usr/sbin"
    if not (folder / "tools/bin/podman-compose").exists():
        subprocess.run([sys.executable, "-m", "venv", folder / "tools"], check=True)
        subprocess.run([folder / "tools/bin/pip", "install", "-q", COMPOSE], check=True)


def build(target: str, tag: str) -> None:
    """Make the base, once, and the image of it."""
    base = cache() / "base.tar"
    if not base.exists():
        options = [f"--dpkgopt=path-exclude={pattern}" for pattern in EXCLUDED]
        # What this machine believes, holds in the build too.
        options.append(
            '--customize-hook=cat /etc/ssl/certs/ca-certificates.crt >"$1/etc/ssl/certs/ca-certificates.crt"'
        )
        mirrors = [f"deb http://deb.debian.org/{'debian-security' if 'security' in suite else 'debian'} {suite} main"
                   for suite in ("trixie", "trixie-updates", "trixie-security")]  # fmt: skip
        command = ["mmdebstrap", "--quiet", "--variant=minbase", "--include=ca-certificates", *options, "trixie"]
        subprocess.run([*command, f"{base}.new.tar", *mirrors], check=True)
        Path(f"{base}.new.tar").rename(base)
    if subprocess.run(["podman", "image", "exists", BASE]).returncode:
        subprocess.run(["podman", "import", "-q", base, BASE], check=True, stdout=subprocess.DEVNULL)
    command = ["buildah", "bud", "-q", "--isolation", "chroot", "--network", "host", "--format", "docker", "--layers"]
    command += ["--build-arg", f"BASE={BASE}", "-f", str(SHIPPED / "Containerfile"), "-t", tag]
    subprocess.run([*command, "--target", target, str(PROJECT)], check=True)


def size(tag: str) -> int:
    """Bytes of the image's files, unpacked."""
    mounted = subprocess.run(
        ["podman", "image", "mount", tag], check=True, capture_output=True, text=True
    ).stdout.strip()
    try:
        said = subprocess.run(["du", "-sx", "--block-size=1", mounted], check=True, capture_output=True, text=True)
        return int(said.stdout.split()[0])
    finally:
        subprocess.run(["podman", "image", "umount", tag], check=True, stdout=subprocess.DEVNULL)
