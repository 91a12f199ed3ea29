"""What lies on disk, written so that a power cut leaves it whole, and read so that a damaged file stops nobody."""

import contextlib
import errno
import fcntl
import logging
import os
import stat
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO, BinaryIO, Literal, TypeVar

import msgspec

from bootstrap_lib import slots
from bootstrap_lib.document import StartError, reason
from bootstrap_lib.owners import as_owner_of as as_owner_of  # noqa: PLC0414 (one of its names)
from bootstrap_lib.owners import foreign as foreign  # noqa: PLC0414
from bootstrap_lib.plain_file import content_of
from bootstrap_lib.plain_file import unfollowed as unfollowed  # noqa: PLC0414 (one of its names)

T = TypeVar("T")
log = logging.getLogger(__name__)

LARGEST = 64_000_000
"""Bytes of the largest state file that is read."""


@contextlib.contextmanager
def replacing(path: Path, mode: int | None = None, owner: tuple[int, int] | None = None) -> Iterator[BinaryIO]:
    """File beside `path` that takes its place at a good end: at any moment, also of a power cut, the old or the new one is there whole.

    Made exclusively, no link is followed, synchronised with its folder. `mode` is set whatever the umask says; `owner` is user and
    group, which only root may give away. In a folder of somebody else's root does it with no more than its owner's rights.
    FileExistsError where a pipe or a device stands there: whoever names /dev/stdout means no file in its place.
    """
    beside = path.with_name(f".{path.name}.new")
    with as_owner_of(path.parent):
        if _is_device(path):
            raise FileExistsError(errno.EEXIST, "no plain file, but a pipe or a device", str(path))
        beside.unlink(missing_ok=True)  # of a run that was killed
        file = open(beside, "x+b", opener=unfollowed)  # noqa: SIM115 (closed below)
    try:
        with file:
            yield file
            file.flush()
            if owner is not None:
                os.fchown(file.fileno(), *owner)
            if mode is not None:
                os.fchmod(file.fileno(), mode)
            os.fsync(file.fileno())
        with as_owner_of(path.parent):
            beside.replace(path)
    except BaseException:
        with as_owner_of(path.parent):
            beside.unlink(missing_ok=True)
        raise
    folder = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


def write(path: Path, content: bytes, mode: int | None = None, owner: tuple[int, int] | None = None) -> None:
    """Write a file as `replacing` does."""
    with replacing(path, mode, owner) as file:
        file.write(content)


def read(path: Path) -> bytes:
    """Content of a plain file; OSError for a link, a folder, a pipe, or one too large to be ours."""
    return content_of(path, LARGEST)


def hindrance(path: Path) -> str | None:
    """Why a path cannot be a plain file of ours, or None: it is a link, a folder, a pipe, or may not be used by this user."""
    try:
        found = path.lstat()
    except FileNotFoundError:
        return None
    if stat.S_ISLNK(found.st_mode):
        return f"{path} is a link"
    if not stat.S_ISREG(found.st_mode):
        return f"{path} is no plain file"
    return None if os.access(path, os.R_OK | os.W_OK, effective_ids=True) else f"{path} may not be used by this user"


def _is_device(path: Path) -> bool:
    """Whether a pipe, a socket or a device stands there, or where a link leads."""
    return path.exists() and not (path.is_file() or path.is_dir())


def set_aside(path: Path) -> Path:
    """Move what cannot be used out of the way, for a person to look at; an older one that was moved before is replaced."""
    aside = path.with_name(path.name + ".damaged")
    if aside.is_dir() or (aside.exists() and path.is_dir()):
        aside = aside.with_name(f"{aside.name}-{time.time_ns()}")
    return path.replace(aside)


def load(path: Path, kind: type[T], default: T) -> T:
    """Read what `save` wrote; a file that cannot be used is set aside and said, and the default is returned."""
    try:
        return msgspec.json.decode(slots.newest(read(path), str(path)), type=kind)
    except FileNotFoundError:
        return default
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError, OSError) as error:
        why = error.strerror if isinstance(error, OSError) and error.strerror else error
        try:
            text = f"it is set aside as {set_aside(path).name}, a new one is begun"
        except OSError as hindrance:
            text = f"it cannot be set aside ({hindrance.strerror}), a new one is begun"
        log.error("%s was damaged (%s): %s", path, why, text)  # noqa: TRY400
        return default


def save(path: Path, value: object, *, often: bool = False) -> None:
    """Write a value as JSON, so that at any moment, also of a power cut, either the old or the new one is there whole.

    `often`: many times an hour, so in place, in one of two slots (see there): a tenth of the bytes on a card.
    """
    content = msgspec.json.encode(value)
    with as_owner_of(path.parent):
        if often and slots.write(path, content):
            return
        path.parent.mkdir(parents=True, exist_ok=True)
    content = slots.both(content) if often else content
    try:
        write(path, content)
    except (IsADirectoryError, FileExistsError):  # somebody's folder or pipe stands in its place
        with as_owner_of(path.parent):
            set_aside(path)
        write(path, content)


def folder_of(name: str) -> Path:
    """Where an instance keeps its state: $STATE_DIRECTORY, or its folder below /var/lib/constellation."""
    return _folder("STATE_DIRECTORY", "/var/lib/constellation", name)


def runtime_folder_of(name: str) -> Path:
    """Where an instance keeps what need not outlast a power cut: $RUNTIME_DIRECTORY, or its folder below /run/constellation."""
    return _folder("RUNTIME_DIRECTORY", "/run/constellation", name)


def _folder(variable: str, default: str, name: str) -> Path:
    given = os.environ.get(variable)
    return Path(given.split(":")[0]) if given else Path(default) / name


def make(folder: Path) -> None:
    """Make a folder of an instance; StartError says what to do where it cannot be."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise StartError(
            f"{folder} cannot be made ({reason(error)}): create it for this user, or set STATE_DIRECTORY and RUNTIME_DIRECTORY"
        ) from None


def hold(folder: Path, name: str) -> IO[bytes]:
    """Take the lock of the instance `name`, whose state lies in a folder, until the file is closed; StartError while it runs."""
    path = folder / "lock"
    with as_owner_of(folder):
        if hindrance(path):
            set_aside(path)
        lock = open(path, "ab", opener=unfollowed)  # noqa: SIM115 (closed by whoever holds it)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        lock.close()
        raise StartError(f"'{name}' runs already (it holds {folder}/lock): stop it first") from None
    return lock


class Letter(msgspec.Struct):
    """A dead letter: a message that could not be delivered or stored, and why; `time` (ms) is when that was found."""

    topic: str
    payload: str
    reason: str
    time: int = 0


class Dead(msgspec.Struct, forbid_unknown_fields=True):
    """Payload of `request/dead`: {"do":"send"} deals again with what was mended, {"do":"drop"} forgets all letters."""

    do: Literal["send", "drop"]


_letter = msgspec.json.Decoder(Letter)


class _Unchanged(Exception): ...


class DeadLetters:
    """What could not be delivered or stored, with the reason, so that nothing vanishes without a word.

    JSON lines in a file of the state folder. Nothing in it is ever overwritten: when it is full, `add` says that it did not keep the
    message, and whoever waits for it to be dealt with waits on.
    """

    LIMIT = 64_000_000
    """Bytes; a third of what a spool may take."""

    OTHERS = 4
    """What nobody would send again if it were not kept may take a part of the room only: one in so many."""

    LONGEST = 4096
    """Bytes of a payload that are kept: no reading is longer."""

    def __init__(self, path: Path, limit: int = LIMIT) -> None:
        """Remember where; the file is made with the first letter."""
        self.path, self.limit = path, limit
        self.count = 0
        """Letters that came in this run."""
        self.trouble: str | None = None
        """Why the last one was not kept, or None."""
        self._unsynchronised = False

    def add(self, topic: str, payload: bytes, reason: str, *, waits: bool = True) -> bool:
        """Keep a message (its first 4 kB) with the reason; False where it is not kept.

        `waits`: somebody keeps it until it is dealt with.
        """
        text = payload[: self.LONGEST].decode("utf-8", "replace")
        line = msgspec.json.encode(Letter(topic, text, reason, time.time_ns() // 1_000_000)) + b"\n"
        limit = self.limit if waits else self.limit // self.OTHERS
        before = self.trouble
        try:
            with open(self.path, "ab", opener=unfollowed) as file:
                size = os.fstat(file.fileno()).st_size
                if size + len(line) > limit:
                    self.trouble = (
                        f"the dead letters are full ({size // 1000} kB in {self.path}): what is refused waits at its source;"
                        " see `constellation dead`"
                    )
                else:
                    self._append(file, size, line)
                    self.trouble = None
        except OSError as error:
            self.trouble = f"a dead letter of {topic} cannot be kept: {error.strerror or error}"
            if error.errno is not None and self.path.is_dir():
                with contextlib.suppress(OSError):
                    set_aside(self.path)
        if self.trouble and self.trouble.partition("(")[0] != (before or "").partition("(")[0]:
            log.error("%s", self.trouble)
        self.count += self.trouble is None
        return self.trouble is None

    def _append(self, file: BinaryIO, size: int, line: bytes) -> None:
        try:
            file.write(line)
            file.flush()
        except OSError:
            with contextlib.suppress(OSError):  # half a line would spoil the next one
                os.ftruncate(file.fileno(), size)
            raise
        self._unsynchronised = True

    def synchronise(self) -> None:
        """Make what was added outlast a power cut; OSError."""
        if self._unsynchronised:
            with open(self.path, "rb", opener=unfollowed) as file:
                os.fsync(file.fileno())
            self._unsynchronised = False

    def letters(self) -> Iterator[Letter]:
        """All of them, oldest first; lines that are none are left out. OSError."""
        older = self.path.with_name(self.path.name + ".1")  # of versions that overwrote it
        for path in (older, self.path):
            try:
                with open(path, "rb", opener=unfollowed) as file:
                    for line in file:
                        with contextlib.suppress(msgspec.DecodeError, UnicodeDecodeError, RecursionError):
                            yield _letter.decode(line)
            except FileNotFoundError:
                continue

    def sort_out(self, dealt_with: Callable[[Letter], bool], lasting: Callable[[], None]) -> tuple[int, int]:
        """Take out all that `dealt_with` accepts, once `lasting` has made that last; returns how many went, and how many stay. OSError."""
        taken = left = 0
        with contextlib.suppress(_Unchanged), replacing(self.path) as file:  # it may be larger than our memory
            for letter in self.letters():
                if dealt_with(letter):
                    taken += 1
                else:
                    left += 1
                    file.write(msgspec.json.encode(letter) + b"\n")
            if not taken:
                raise _Unchanged
            lasting()
        if taken:
            self.path.with_name(self.path.name + ".1").unlink(missing_ok=True)
            self.trouble = None
        return taken, left
