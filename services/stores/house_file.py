"""The file of a whole house: a plain tar of known names, at its end a manifest with the size and SHA-256 of each.

It is read by a walk of our own over its headers: nothing but plain files of names that a house has gets past it, however the file
was made. People unpack it with any tar.
"""

import hashlib
import os
import re
import stat
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Final, NamedTuple

import msgspec

from bootstrap_lib import StartError, quantities, state

FORMAT: Final = 2
"""Of the whole file; a newer one is refused. Since 2 a content may come back elsewhere; a file without such a one says 1."""

MANIFEST: Final = "manifest.json"
SEALED: Final = "credentials.sealed"
TOPICS: Final = "config/topics.yaml"
MACHINE: Final = "config/topics.machine.yaml"

_WORD: Final = quantities.WORD.pattern
_PLAIN: Final = r"[A-Za-z0-9_][A-Za-z0-9_.@+-]*"
_NAMES: Final = re.compile(
    rf"{MANIFEST}|{SEALED}|config/(?:topics\.yaml|topics\.machine\.yaml|ca\.crt|fleet\.json|services/[a-z][a-z0-9_]*\.py)"
    rf"|state/{_WORD}(?:/{_PLAIN}){{1,6}}"
)
OWN_SECRETS: Final = "secrets"
"""Folder in the state of an instance that was given keys over MQTT (`secrets.keep` of the base)."""
SECRETS: Final = re.compile(
    rf"etc/(?:constellation/credentials/{_PLAIN}|(?:mosquitto/constellation|mosquitto/fleet|constellation/fleet)(?:/{_PLAIN}){{1,3}})"
    rf"|var/lib/constellation/{_WORD}/{OWN_SECRETS}/{_PLAIN}"
)
"""Paths of what is sealed; they too never leave their folders."""

SQLITE: Final = b"SQLite format 3\0"
"""How a database begins."""

BLOCK: Final = 512
MOST_FILES: Final = 100_000
LARGEST_TEXT: Final = 32_000_000
"""Bytes of a manifest, and of all credentials together."""
PIECE: Final = 1 << 20
"""Bytes that are copied at once."""


class HouseFileError(StartError):
    """A file that is no whole backup of a house; the message says why."""


class Held(msgspec.Struct, kw_only=True, omit_defaults=True):
    """One file of the house; `rows` counts those of each table of a database, `user` and `group` are names.

    `elsewhere` is an archive that lay where topics.yaml says, outside of its state folder.
    """

    name: str
    size: int
    sha256: str
    mode: int = 0o600
    user: str = ""
    group: str = ""
    rows: dict[str, int] | None = None
    elsewhere: bool = False


class Manifest(msgspec.Struct, kw_only=True):
    """What a file holds, and what not: `left_out` are sentences for people."""

    format: int
    version: str
    made: str
    instances: list[str]
    files: list[Held]
    left_out: list[str]


class SealedFile(msgspec.Struct):
    """A secret file under its passphrase."""

    mode: int
    content: bytes
    user: str = ""
    group: str = ""


Secrets = dict[str, SealedFile]
"""By path below the root."""


@dataclass(frozen=True)
class Places:
    """Where a house lies on a machine, below a root that need not be /."""

    config: Path
    root: Path

    @property
    def states(self) -> Path:
        """State folders of the instances."""
        return self.root / "var/lib/constellation"

    @property
    def runtime(self) -> Path:
        """Their runtime folders."""
        return self.root / "run/constellation"

    @property
    def services(self) -> Path:
        """Services of one's own."""
        return self.root / "etc/constellation/services"

    def of(self, name: str) -> Path:
        """Where a file of the house belongs."""
        kind, _, rest = name.partition("/")
        if kind == "state":
            return self.states / rest
        if rest.startswith("services/"):
            return self.services / rest.partition("/")[2]
        return self.config if name == TOPICS else self.config.parent / rest


class Entry(NamedTuple):
    """A plain file in a tar: its content begins at `offset`."""

    name: str
    offset: int
    size: int


def open_house(path: Path) -> BinaryIO:
    """Open a file that root is to do as it says; StartError where others could have written it."""
    try:
        file = open(path, "rb", opener=state.unfollowed)  # noqa: SIM115 (closed by the caller)
    except FileNotFoundError:
        raise HouseFileError(f"{path} is not there: make one with `constellation backup`") from None
    found = os.fstat(file.fileno())
    trouble = None
    if not stat.S_ISREG(found.st_mode):
        trouble = f"{path} is no plain file"
    elif os.geteuid() == 0 and found.st_uid not in (0, int(os.environ.get("SUDO_UID", "0"))):
        trouble = f"{path} belongs to another user, and root does as it says: sudo chown root {path}"
    elif os.geteuid() == 0 and found.st_mode & 0o022:
        trouble = f"{path} can be written by others, and root does as it says: chmod 600 {path}"
    if trouble:
        file.close()
        raise HouseFileError(trouble)
    return file


def entries(file: BinaryIO, path: Path) -> Iterator[Entry]:
    """Walk over the headers (POSIX.1-1988, ustar) of a file; HouseFileError for all that a house's file does not have."""
    end, offset, seen = os.fstat(file.fileno()).st_size, 0, set[str]()
    while True:
        file.seek(offset)
        header = file.read(BLOCK)
        if len(header) < BLOCK:
            raise HouseFileError(f"{path} is cut short, or no tar file: nothing of it was used")
        if not any(header):
            return
        name, size = _header(header, path)
        if name in seen or len(seen) >= MOST_FILES:
            raise HouseFileError(f"{path} is no backup of a house: it holds {name!r:.100} twice, or too many files")
        if offset + BLOCK + size > end:
            raise HouseFileError(f"{path} is cut short in {name}: nothing of it was used")
        seen.add(name)
        yield Entry(name, offset + BLOCK, size)
        offset += BLOCK + size + -size % BLOCK


def _header(header: bytes, path: Path) -> tuple[str, int]:
    """Name and size of an entry."""
    try:
        told = int(header[148:156].strip(b"\0 ") or b"x", 8)
        if told != sum(header[:148]) + 8 * ord(" ") + sum(header[156:]) or header[257:262] != b"ustar":
            raise ValueError
        name, prefix = (part.partition(b"\0")[0].decode("ascii") for part in (header[:100], header[345:500]))
        digits = header[124:136]  # beyond 8 GiB a number of bits, as GNU writes it
        size = int.from_bytes(digits) & ~(0x80 << 88) if digits[0] & 0x80 else int(digits.strip(b"\0 ") or b"0", 8)
    except ValueError:
        raise HouseFileError(
            f"{path} is no whole backup of a house: a header in it is damaged, or of another kind"
        ) from None
    name = f"{prefix}/{name}" if prefix else name
    if header[156:157] not in (b"0", b"\0") or not _NAMES.fullmatch(name):
        raise HouseFileError(f"{path} is no backup of a house: it holds {name!r:.100}")
    return name, size


def may_hold(name: str) -> bool:
    """Whether a house's file takes a file of this name."""
    return _NAMES.fullmatch(name) is not None


def read_manifest(file: BinaryIO, path: Path, found: dict[str, Entry]) -> Manifest:
    """Read what the file says of itself, which must be what is in it."""
    entry = found.get(MANIFEST)
    if entry is None or entry.size > LARGEST_TEXT:
        raise HouseFileError(f"{path} has no manifest: it is no whole backup of a house")
    file.seek(entry.offset)
    content = file.read(entry.size)
    try:
        form = msgspec.json.decode(content, type=_Form).format
        if form > FORMAT:
            raise HouseFileError(
                f"{path} has format {form}, this version knows {FORMAT}: install the version that wrote it, or a newer one"
            )
        manifest = msgspec.json.decode(content, type=Manifest)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise HouseFileError(f"{path} has a damaged manifest ({error}): nothing of it was used") from None
    told = {held.name: held.size for held in manifest.files}
    there = {entry.name: entry.size for entry in found.values() if entry.name != MANIFEST}
    if told != there or len(told) != len(manifest.files):
        strange = min(told.items() ^ there.items())[0]
        raise HouseFileError(f"{path} does not hold what its manifest says: {strange}; nothing of it was used")
    return manifest


class _Form(msgspec.Struct):
    format: int


def copy_out(file: BinaryIO, entry: Entry, held: Held, into: BinaryIO, path: Path) -> None:
    """Copy a content to a file; HouseFileError where it is not the one that was written."""
    digest, left = hashlib.sha256(), entry.size
    file.seek(entry.offset)
    while left and (piece := file.read(min(PIECE, left))):
        digest.update(piece)
        into.write(piece)
        left -= len(piece)
    if left or digest.hexdigest() != held.sha256:
        raise HouseFileError(f"{path} is damaged in {held.name}: nothing of it was used")
