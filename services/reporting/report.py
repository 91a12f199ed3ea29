"""One text file that says how a house is, for whoever is to find a fault in it; each part is bounded, and goes through the redaction.

What it cannot find out it says in that part's place: a report is asked for where something does not work.
"""

import importlib.metadata
import os
import platform
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import msgspec
import yaml

from bootstrap_lib import Client, DocumentError, Registry, StartError, catalog, quantities, reason, secrets, state
from bootstrap_lib.version import VERSION
from services.reporting.redaction import Redaction

LARGEST: Final = 20_000
"""Letters of a part; of a journal the last ones, of all else the first."""
READ: Final = 400_000
"""Letters that are looked through for a part."""
JOURNAL: Final = 100
"""Lines of each service's journal."""
MOST_FILES: Final = 100
"""State files that are named of an instance."""
_COMMON: Final = ("constellation", "raspberrypi", "debian", "home", "house")
"""Names of machines that tell nothing, and stand everywhere."""
MOST_INSTANCES: Final = 100
PATIENCE: Final = 60.0
"""Seconds that a command may take."""


@dataclass(frozen=True)
class ReportedHouse:
    """What is reported: a configuration, and a folder that stands for /."""

    config: Path
    root: Path

    @property
    def states(self) -> Path:
        """State folders of the instances."""
        return self.root / "var/lib/constellation"


@dataclass(frozen=True)
class Chapter:
    """A part of the report, redacted."""

    title: str
    text: str


def write(house: ReportedHouse, target: Path) -> list[str]:
    """Write a report into a new file of mode 0600; returns what it holds, as lines. StartError where the file is there."""
    try:
        with state.as_owner_of(target.absolute().parent):
            descriptor = os.open(target, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    except FileExistsError:
        raise StartError(f"{target} is there already: name another file") from None
    with os.fdopen(descriptor, "w", encoding="utf-8") as file:
        redaction = Redaction()
        parts = []
        for part in _parts(house, redaction):
            file.write(f"== {part.title} ==\n{part.text.rstrip()}\n\n")
            parts.append(f"{part.title}: {len(part.text)} letters")
        end = [*parts, "", *_end(redaction)]
        file.write("\n".join(["== What is in this file ==", *end, ""]))
    return end


def _end(redaction: Redaction) -> Iterator[str]:
    taken = ", ".join(f"{what} {count}" for what, count in sorted(redaction.counts.items()) if count)
    yield f"Taken out: {taken or 'nothing'}."
    yield "Not looked at: readings, and the contents of state files. Comments of topics.yaml are left out."
    if redaction.closed:
        yield f"These secrets could not be read, so they were not looked for; run this with sudo: {', '.join(redaction.closed[:10])}"
    yield "Names of topics and instances are in it: read it before you send it."


def _parts(house: ReportedHouse, redaction: Redaction) -> Iterator[Chapter]:
    for folder in (house.root / "etc/constellation/credentials", *secrets.folders()):
        redaction.hide_files(folder)
    for folder in sorted(house.states.glob("*/secrets")):
        redaction.hide_files(folder)
    if (name := socket.gethostname()) not in _COMMON:
        redaction.hide(name, "host")
    registry = None
    try:
        registry = Registry(house.config)
        redaction.hide(registry.broker.host, "host")
    except DocumentError:
        pass  # `check` says why
    files = [
        (name, _topics(house.config.with_name(name), redaction, registry))
        for name in (house.config.name, "topics.machine.yaml")
    ]  # first, because what is taken out of them is looked for in all else
    yield Chapter("Versions", redaction.text(_versions(), patterns=False))
    yield from (Chapter(name, text) for name, text in files if text)
    command = [sys.executable, "-m", "bootstrap_lib.cli", "--config", str(house.config)]
    yield _part("check", _said([*command, "check"]), redaction)
    yield _part("doctor", _said([*command, "doctor", "--root", str(house.root)]), redaction)
    health = "topics.yaml does not say where the broker is" if registry is None else _health(registry, redaction)
    yield _part("Status and health, as the broker has them", health, redaction)
    for name in sorted(_instances(house, registry))[:MOST_INSTANCES]:
        yield _part(f"State files of {name}", _files(house.states / name), redaction)
        yield _part(f"Journal of {name}", _journal(name), redaction, last=True)


def _instances(house: ReportedHouse, registry: Registry | None) -> set[str]:
    """Instances of this machine; where topics.yaml cannot be read, those that have run."""
    if registry is not None:
        return {name for name, one in registry.instances.items() if one.here}
    return {path.name for path in house.states.glob("*/") if quantities.WORD.fullmatch(path.name)}


def _part(title: str, text: str, redaction: Redaction, *, last: bool = False) -> Chapter:
    """Redact whole lines, then bound them: half a secret would not be known."""
    if len(text) > READ:
        text = text[-READ:].partition("\n")[2] if last else text[:READ].rpartition("\n")[0]
    text = redaction.text(text)
    if len(text) > LARGEST:
        text = "…" + text[-LARGEST:].partition("\n")[2] if last else text[:LARGEST].rpartition("\n")[0] + "\n…"
    return Chapter(redaction.text(title), text or "nothing")


def _topics(path: Path, redaction: Redaction, registry: Registry | None) -> str:
    """Return a configuration without what must not be told; empty where there is none."""
    words = {*catalog.names(), *quantities.QUANTITIES, *(row.unit for row in quantities.QUANTITIES.values())}
    if registry is not None:
        words |= {*registry.instances, *registry.topics}
    try:
        text = redaction.topics(state.read(path).decode("utf-8", "replace"), words)
    except FileNotFoundError:
        return ""
    except OSError as error:
        return f"it cannot be read: {reason(error)}"
    except (yaml.YAMLError, RecursionError, ValueError):
        return "it is no YAML: see check"
    return text if len(text) <= READ else text[:READ].rpartition("\n")[0] + "\n…"


def _versions() -> str:
    release = "unknown"
    with_os = Path("/etc/os-release")
    if with_os.is_file():
        lines = dict(line.split("=", 1) for line in with_os.read_text("utf-8", "replace").splitlines() if "=" in line)
        release = lines.get("PRETTY_NAME", "unknown").strip('"')
    model = Path("/proc/device-tree/model")
    found = sorted({f"{one.name} {one.version}" for one in importlib.metadata.distributions() if one.name})
    broker = shutil.which("mosquitto") or "/usr/sbin/mosquitto"
    lines_ = [
        f"constellation {VERSION}",
        f"python {platform.python_version()}",
        f"system {release}, Linux {platform.release()}, {platform.machine()}",
        f"machine {model.read_text('utf-8', 'replace').strip(chr(0))}" if model.is_file() else "machine unknown",
        f"broker {_said([broker, '-h']).partition(chr(10))[0]}",
        f"made {time.strftime('%Y-%m-%dT%H:%M:%SZ', time.gmtime())}",
        "libraries:",
        *(f"  {one}" for one in found[:300]),
    ]
    return "\n".join(lines_)


def _said(command: list[str]) -> str:
    """What a command says, or why it says nothing."""
    try:
        done = subprocess.run(
            command,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=PATIENCE,
            stdin=subprocess.DEVNULL,
            check=False,
        )
    except FileNotFoundError:
        return f"{Path(command[0]).name} is not here"
    except (OSError, subprocess.TimeoutExpired) as error:
        return f"{Path(command[0]).name} did not end: {type(error).__name__}"
    return done.stdout + done.stderr


def _health(registry: Registry, redaction: Redaction) -> str:
    try:
        with Client(registry) as client:
            found = client.retained("service/+/status") | client.retained("service/+/health")
    except (StartError, secrets.SecretError, OSError) as error:
        return f"the broker was not asked: {reason(error)}"
    lines = []
    for topic, payload in sorted(found.items()):
        beat = Client.json(payload)
        if isinstance(beat, dict) and isinstance(beat.get("host"), str):
            redaction.hide(beat["host"], "host")
        said = msgspec.json.format(msgspec.json.encode(beat)) if isinstance(beat, dict) else payload
        lines.append(f"{topic} {said.decode('utf-8', 'replace')}")
    return "\n".join(lines)


def _files(folder: Path) -> str:
    """Names and sizes of what an instance keeps; of keys that it was given only how many there are."""
    lines, more = [], 0
    for place, folders, names in os.walk(folder):
        folders.sort()
        if Path(place).name == "secrets":
            lines.append(f"secrets: {len(names)} files")
            folders.clear()
            continue
        for name in sorted(names):
            if len(lines) >= MOST_FILES:
                more += 1
                continue
            path = Path(place) / name
            lines.append(
                f"{path.lstat().st_size:>12} {path.relative_to(folder)}{' (a link)' if path.is_symlink() else ''}"
            )
    return "\n".join([*lines, *([f"and {more} more"] if more else [])])


def _journal(name: str) -> str:
    return _said(
        [
            "journalctl",
            "-u",
            f"constellation@{name}",
            "-n",
            str(JOURNAL),
            "-o",
            "short-iso",
            "--no-hostname",
            "--no-pager",
        ]
    )
