"""What may be wrong with the broker's own database, so that it does not start or keeps nothing; and setting it aside.

A broker that begins anew loses no reading: sources keep theirs until the archive has them, and each process publishes again what stands.
"""

import errno
import os
import pwd
import shutil
import socket
import stat
import subprocess
import tempfile
import time
from pathlib import Path
from typing import Any, Final

from bootstrap_lib.document import plain, reason
from bootstrap_lib.owners import as_owner_of
from bootstrap_lib.plain_file import unfollowed

DATABASE: Final = Path("/var/lib/constellation-broker/mosquitto.db")
"""The house's own broker's; that of another mosquitto on this machine is not ours to move."""
MAGIC: Final = b"\x00\xb5\x00mosquitto db"
PATIENCE: Final = 20.0
"""Seconds that a broker may take to read a copy of its database."""
LARGEST: Final = 500_000_000
"""Bytes of a database that is tried."""
NOBODY: Final = 65534


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
        with as_owner_of(path.parent), open(path, "rb", opener=unfollowed) as file:
            head = file.read(len(MAGIC))
    except OSError as error:
        return f"it cannot be read: {reason(error)}"
    if head and head != MAGIC[: len(head)]:
        return "it is no database of mosquitto"
    program = mosquitto or shutil.which("mosquitto") or shutil.which("mosquitto", path="/usr/sbin")
    return _tried(path, program) if program and head else None


def _tried(path: Path, program: str) -> str | None:
    """Have a broker of our own read a copy; what it says where it ends over it.

    What it reads was written by the broker's user, so it runs as him, never as root.
    """
    user = _user_for(path)
    with tempfile.TemporaryDirectory(prefix="constellation-") as name:
        folder = Path(name)
        copy, config = folder / "mosquitto.db", folder / "mosquitto.conf"
        try:
            with as_owner_of(path.parent):
                file = open(path, "rb", opener=unfollowed)  # noqa: SIM115 (closed below)
            with file, copy.open("wb") as into:
                if os.fstat(file.fileno()).st_size > LARGEST:
                    return None
                shutil.copyfileobj(file, into)
        except OSError as error:
            return f"it cannot be read: {reason(error)}" if error.errno != errno.ENOSPC else None
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = probe.getsockname()[1]
        config.write_text(
            f"listener {port} 127.0.0.1\nallow_anonymous false\npersistence true\npersistence_location {folder}/\nlog_dest stderr\n"
        )
        me: dict[str, Any] = {}
        if user is not None:
            me = {"user": user[0], "group": user[1], "extra_groups": []}
            for place in (copy, config, folder):
                os.chown(place, *user)
        process = subprocess.Popen(
            [program, "-c", config],
            stderr=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            text=True,
            errors="replace",
            **me,
        )
        deadline = time.monotonic() + PATIENCE
        while process.poll() is None and time.monotonic() < deadline and not _answers(port):
            time.sleep(0.05)
        ended = process.poll() is not None
        process.kill()
        said = process.communicate()[1]
    if not ended or "database" not in said:
        return None
    lines = [plain(line.partition("Error: ")[2]) for line in said.splitlines() if "Error: " in line]
    return f"the broker does not read it: {' '.join(lines) or 'no reason given'}"


def _user_for(path: Path) -> tuple[int, int] | None:
    """User and group that root tries a database as: whose it is, or nobody where it is root's; None for who is not root."""
    if os.geteuid():
        return None
    owner = next((found.st_uid for found in (path.lstat(), path.parent.stat()) if found.st_uid), None)
    try:
        entry = pwd.getpwnam("nobody") if owner is None else pwd.getpwuid(owner)
    except KeyError:
        return owner or NOBODY, NOBODY
    return entry.pw_uid, entry.pw_gid


def _answers(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def set_aside(path: Path) -> Path:
    """Move it out of the way, for a person to look at; no link is followed. OSError."""
    aside = path.with_name(f"{path.name}.damaged-{time.time_ns() // 1_000_000}")
    os.rename(path, aside)  # noqa: PTH104 (a link itself is moved)
    return aside
