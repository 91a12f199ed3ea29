"""Small state on disk that a power cut leaves whole: written beside, synchronised, renamed."""

import fcntl
import logging
import os
from pathlib import Path
from typing import IO, TypeVar

import msgspec

from bootstrap_lib.document import StartError

T = TypeVar("T")
log = logging.getLogger(__name__)


def load(path: Path, kind: type[T], default: T) -> T:
    """Read what `save` wrote; a damaged file is set aside and said, and the default is returned."""
    try:
        return msgspec.json.decode(path.read_bytes(), type=kind)
    except FileNotFoundError:
        return default
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        aside = path.with_name(path.name + ".damaged")
        path.replace(aside)
        log.error("%s was damaged (%s): it is set aside as %s, a new one is begun", path, error, aside.name)  # noqa: TRY400
        return default


def save(path: Path, value: object) -> None:
    """Write a value so that at any moment, also of a power cut, either the old or the new one is there whole."""
    path.parent.mkdir(parents=True, exist_ok=True)
    beside = path.with_name(path.name + ".new")
    with beside.open("wb") as file:
        file.write(msgspec.json.encode(value))
        file.flush()
        os.fsync(file.fileno())
    beside.replace(path)
    folder = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


def folder_of(name: str) -> Path:
    """Where an instance keeps its state: $STATE_DIRECTORY, or its folder below /var/lib/constellation."""
    return _folder("STATE_DIRECTORY", "/var/lib/constellation", name)


def runtime_folder_of(name: str) -> Path:
    """Where an instance keeps what need not outlast a power cut: $RUNTIME_DIRECTORY, or its folder below /run/constellation."""
    return _folder("RUNTIME_DIRECTORY", "/run/constellation", name)


def _folder(variable: str, default: str, name: str) -> Path:
    given = os.environ.get(variable)
    return Path(given.split(":")[0]) if given else Path(default) / name


def hold(folder: Path, name: str) -> IO[str]:
    """Take the lock of the instance `name`, whose state lies in a folder, until the file is closed; StartError while it runs."""
    lock = (folder / "lock").open("a")
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        lock.close()
        raise StartError(f"'{name}' runs already (it holds {folder}/lock): stop it first") from None
    return lock


class DeadLetters:
    """What could not be delivered or stored, with the reason, so that nothing vanishes without a word.

    JSON lines in a file of the state folder; at a megabyte it makes room by keeping one older file.
    """

    LIMIT = 1_000_000

    def __init__(self, path: Path) -> None:
        """Remember where; the file is made with the first letter."""
        self.path = path
        self.count = 0

    def add(self, topic: str, payload: bytes, reason: str) -> None:
        """Keep a message (its first 4 kB) with the reason."""
        self.count += 1
        line = msgspec.json.encode(
            {"topic": topic, "payload": payload[:4096].decode("utf-8", "replace"), "reason": reason}
        )
        try:
            if self.path.exists() and self.path.stat().st_size > self.LIMIT:
                self.path.replace(self.path.with_name(self.path.name + ".1"))
            with self.path.open("ab") as file:
                file.write(line + b"\n")
        except OSError as error:
            log.warning("a dead letter of %s could not be kept: %s", topic, error)
