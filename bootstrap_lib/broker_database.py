"""What may be wrong with the broker's own database, so that it does not start or keeps nothing; and setting it aside.

A broker that begins anew loses no reading: sources keep theirs until the archive has them, and each process publishes again what stands.
"""

import os
import shutil
import socket
import stat
import subprocess
import tempfile
import time
from pathlib import Path
from typing import Final

from bootstrap_lib.document import reason

DATABASE: Final = Path("/var/lib/constellation-broker/mosquitto.db")
"""The house's own broker's; that of another mosquitto on this machine is not ours to move."""
MAGIC: Final = b"\x00\xb5\x00mosquitto db"
PATIENCE: Final = 20.0
"""Seconds that a broker may take to read a copy of its database."""


def trouble(path: Path, mosquitto: str | None = None) -> str | None:
    """Say why a broker cannot use its database, None where it can or there is none; `mosquitto` is the program, tried on a copy."""
    try:
        found = path.lstat()
    except FileNotFoundError:
        return None
    except OSError as error:
        return f"it cannot be looked at: {reason(error)}"
    if not stat.S_ISREG(found.st_mode):
        return "it is a link" if stat.S_ISLNK(found.st_mode) else "a folder or something else stands in its place"
    owner = path.parent.stat().st_uid
    if owner not in (0, found.st_uid):
        return "it belongs to another user than its folder, so the broker may not read it"
    try:
        with path.open("rb") as file:
            head = file.read(len(MAGIC))
    except OSError as error:
        return f"it cannot be read: {reason(error)}"
    if head and head != MAGIC[: len(head)]:
        return "it is no database of mosquitto"
    program = mosquitto or shutil.which("mosquitto") or shutil.which("mosquitto", path="/usr/sbin")
    return _tried(path, program) if program and head else None


def _tried(path: Path, program: str) -> str | None:
    """Have a broker of our own read a copy; what it says where it ends over it."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        copy = folder / "mosquitto.db"
        try:
            shutil.copyfile(path, copy, follow_symlinks=False)
        except OSError as error:
            return f"it cannot be read: {reason(error)}"
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = probe.getsockname()[1]
        config = folder / "mosquitto.conf"
        me = "user root\n" if os.geteuid() == 0 else ""
        config.write_text(
            f"listener {port} 127.0.0.1\nallow_anonymous false\npersistence true\npersistence_location {folder}/\n{me}log_dest stderr\n"
        )
        process = subprocess.Popen(
            [program, "-c", config], stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True
        )
        deadline = time.monotonic() + PATIENCE
        while process.poll() is None and time.monotonic() < deadline and not _answers(port):
            time.sleep(0.05)
        ended = process.poll() is not None
        process.kill()
        said = process.communicate()[1]
    if not ended or "database" not in said:
        return None
    lines = [line.partition("Error: ")[2] for line in said.splitlines() if "Error: " in line]
    return f"the broker does not read it: {' '.join(lines) or 'no reason given'}"


def _answers(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def set_aside(path: Path) -> Path:
    """Move it out of the way, for a person to look at; no link is followed. OSError."""
    aside = path.with_name(f"{path.name}.damaged-{time.time_ns() // 1_000_000}")
    os.rename(path, aside)  # noqa: PTH104 (a link itself is moved)
    return aside
