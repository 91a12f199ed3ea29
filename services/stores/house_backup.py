"""Makes the file of a whole house while it runs.

The order is what makes it one moment: first what services concluded, then what waits in spools, then databases, at last the
archive. A reading of before the beginning is in a spool or in the archive, whatever happens meanwhile; both is a repeat, as any.
"""

import hashlib
import io
import os
import re
import sqlite3
import stat
import tarfile
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import BinaryIO, Final

import msgspec

from bootstrap_lib import Registry, StartError, format_time, reason, state
from bootstrap_lib.version import VERSION
from services.stores import backup, elsewhere
from services.stores.house_file import (
    FORMAT,
    LARGEST_TEXT,
    MANIFEST,
    OWN_SECRETS,
    SEALED,
    SQLITE,
    Held,
    Manifest,
    Places,
    Secrets,
    may_hold,
)
from services.stores.house_secrets import gather, owner_names
from services.stores.sealed import seal

_PASSING: Final = re.compile(r".*-(?:wal|shm|journal)|lock|backup.*\.sqlite|\..*")
"""Files of the moment, and the archive's own copy of itself."""
_ASIDE: Final = re.compile(r".*\.damaged(?:-\d+)?")
_PICTURES: Final = "graphs"
_WIDE: Final = 8**11
"""Bytes from which on a size does not fit into ustar's digits."""
_LAST: Final = 3
"""Turn of an archive: a reading that comes meanwhile is in a spool that was taken, or in it."""
_TRIES: Final = 50

Progress = Callable[[float, str], None]
"""Told before each file: which part (0..1) is done, and its name."""


def make(
    places: Places,
    registry: Registry,
    target: Path,
    passphrase: str | None,
    progress: Progress,
    *,
    judge: Callable[[Manifest], None] = lambda _: None,
) -> Manifest:
    """Write the whole house into a file, which takes its place when it is whole and `judge` lets it. StartError says why not."""
    here = [name for name, instance in registry.instances.items() if instance.here]
    left = [f"{name} runs on {one.host}: back up there" for name, one in registry.instances.items() if not one.here]
    left += elsewhere.pictures(registry, places)
    records = elsewhere.records(registry, places, left)
    moved = {record.name for record in records.values() if record.is_elsewhere}
    manifest = Manifest(
        format=FORMAT if moved else 1,
        version=VERSION,
        made=format_time(time.time_ns() // 1_000_000),
        instances=here,
        files=[],
        left_out=left,
    )
    try:
        with (
            state.replacing(target, backup.SECRET) as file,
            tempfile.TemporaryDirectory(dir=backup.scratch_for(target), prefix=".house-") as beside,
        ):
            writing = _Writing(file, manifest, Path(beside))
            todo = list(_files(places, here, left, records))
            whole = sum(size for _, _, size in todo) or 1
            done = 0
            for name, path, size in todo:
                progress(done / whole, name)
                writing.add(name, path, places)
                done += size
            _add_secrets(writing, gather(places, here), passphrase)
            for held in manifest.files:
                held.elsewhere = held.name in moved
            judge(manifest)
            writing.finish()
    except sqlite3.Error as error:
        raise StartError(f"{target} cannot be written: {error}") from None
    except OSError as error:
        raise StartError(f"{target} cannot be written: {reason(error)}") from None
    return manifest


def _files(
    places: Places, instances: list[str], left: list[str], records: dict[str, elsewhere.Record]
) -> Iterator[tuple[str, Path, int]]:
    """Name in the file, path and size of all that is taken, in the order that makes it one moment."""
    config = [("config/topics.yaml", places.config)]
    config += [
        (f"config/{name}", places.config.parent / name) for name in ("topics.machine.yaml", "ca.crt", "fleet.json")
    ]
    config += [(f"config/services/{path.name}", path) for path in sorted(places.services.glob("[a-z]*.py"))]
    for name, path in config:
        if path.is_file() and may_hold(name):
            yield name, path, path.stat().st_size
    found: list[tuple[int, str, Path, int]] = []
    for instance in instances:
        folder = places.states / instance
        if folder.is_symlink() and not folder.is_dir():
            raise StartError(f"{folder} is a link that leads to nothing: mount its disk")
        if (record := records.get(instance)) is not None:
            if not _is_database(record.path):
                raise StartError(f"{record.path}, the archive of {instance}, is no plain SQLite database")
            found.append((_LAST, record.name, record.path, record.path.stat().st_size))
        for path in sorted(_plain_files(folder, left)):
            name = f"state/{path.relative_to(places.states)}"
            if record is not None and name == record.name:
                if path != record.path:
                    left.append(f"{path}: the archive is {record.path}")
            elif _ASIDE.fullmatch(path.name):
                left.append(f"{path}: it was set aside as damaged")
            elif not may_hold(name):
                left.append(f"{path}: no file of a service is called that")
            else:
                found.append((_turn(path), name, path, path.stat().st_size))
    yield from ((name, path, size) for _, name, path, size in sorted(found))


def _plain_files(folder: Path, left: list[str]) -> Iterator[Path]:
    for place, folders, names in os.walk(folder, onerror=_must_be_seen):
        folders[:] = [name for name in folders if not name.startswith(".") and name not in (_PICTURES, OWN_SECRETS)]
        paths = [Path(place) / name for name in (*folders, *names)]
        left += [f"{path}: it is a link, and none is followed" for path in paths if path.is_symlink()]
        for name in names:
            path = Path(place) / name
            if not path.is_symlink() and not _PASSING.fullmatch(name) and stat.S_ISREG(path.lstat().st_mode):
                yield path


def _must_be_seen(error: OSError) -> None:
    """A folder that this user may not look into would be missing without a word; one of an instance that never ran is none."""
    if not isinstance(error, FileNotFoundError):
        raise error


def _turn(path: Path) -> int:
    """What comes first, what last."""
    if path.name == "spool.sqlite":
        return 1
    if path.name.startswith("dead_letters"):
        return 2  # what is refused meanwhile is in a spool that was taken, or here
    if not _is_database(path):
        return 0
    return 2


def _is_database(path: Path) -> bool:
    try:
        with state.as_owner_of(path.parent), open(path, "rb", opener=state.unfollowed) as file:
            return file.read(len(SQLITE)) == SQLITE
    except OSError:
        return False


class _Writing:
    """The tar that is being written."""

    def __init__(self, file: BinaryIO, manifest: Manifest, beside: Path) -> None:
        self.manifest, self._beside = manifest, beside
        self._tar = tarfile.open(fileobj=file, mode="w", format=tarfile.USTAR_FORMAT)  # noqa: SIM115 (closed by `finish`)

    def add(self, name: str, path: Path, places: Places) -> None:
        """Take a file as it is at one moment: a database by SQLite's backup, all else whole."""
        try:
            if _is_database(path):
                self._add_database(name, path, places)
                return
            with state.as_owner_of(path.parent):
                file = open(path, "rb", opener=state.unfollowed)  # noqa: SIM115 (closed below)
        except FileNotFoundError:
            return  # it went meanwhile
        with file:
            owner = os.fstat(file.fileno())
            if owner.st_size <= state.LARGEST:
                self.put(name, io.BytesIO(_settled(file) if path.suffix == ".rrd" else file.read()), owner)
            else:
                self.put(name, file, owner)

    def _add_database(self, name: str, path: Path, places: Places) -> None:
        copy, tail = self._beside / "copy.sqlite", self._beside / "tail.sqlite"
        if (
            spool := path.name == "spool.sqlite"
        ):  # first what lies in memory: meanwhile it moves to the disk, never back
            fresh = places.runtime / path.relative_to(places.states)
            if fresh.is_file():
                backup.back_up(fresh, tail)
        backup.back_up(path, copy)
        if spool:
            _complete_spool(copy, tail)
        with closing(sqlite3.connect(copy)) as database:
            tables = [row[0] for row in database.execute("SELECT name FROM sqlite_master WHERE type = 'table'")]
            rows = {table: database.execute(f'SELECT count(*) FROM "{table}"').fetchone()[0] for table in tables}
        with copy.open("rb") as file:
            self.put(name, file, path.stat(), rows)
        copy.unlink()

    def put(self, name: str, file: BinaryIO, owner: os.stat_result | None, rows: dict[str, int] | None = None) -> None:
        """Write a content, and note what it was."""
        entry = tarfile.TarInfo(name)
        entry.size = file.seek(0, os.SEEK_END)
        file.seek(0)
        entry.mode = stat.S_IMODE(owner.st_mode) if owner else backup.SECRET
        entry.mtime = int(owner.st_mtime if owner else time.time())
        self._tar.format = tarfile.GNU_FORMAT if entry.size >= _WIDE else tarfile.USTAR_FORMAT
        counted = _Counted(file, entry.size)
        self._tar.addfile(entry, counted)
        user, group = owner_names(owner) if owner else ("", "")
        held = Held(
            name=name,
            size=entry.size,
            sha256=counted.digest.hexdigest(),
            mode=entry.mode,
            rows=rows,
            user=user,
            group=group,
        )
        if name != MANIFEST:
            self.manifest.files.append(held)

    def finish(self) -> None:
        """Write what is in it, and end."""
        self.put(MANIFEST, io.BytesIO(msgspec.json.format(msgspec.json.encode(self.manifest))), None)
        self._tar.close()


class _Counted(io.RawIOBase):
    """A file of which so many bytes are read, and whose sum is known then; it may grow meanwhile."""

    def __init__(self, file: BinaryIO, size: int) -> None:
        super().__init__()
        self._file, self._left = file, size
        self.digest = hashlib.sha256()

    def read(self, size: int = -1) -> bytes:
        piece = self._file.read(min(self._left, size if size >= 0 else self._left))
        self._left -= len(piece)
        self.digest.update(piece)
        return piece


def _settled(file: BinaryIO) -> bytes:
    """Content of a round-robin file, which is written in place: read until it is twice the same."""
    before = None
    for _ in range(_TRIES):
        file.seek(0)
        content = file.read()
        if content == before:
            break
        before = content
        time.sleep(0.005)
    return content


def _complete_spool(copy: Path, tail: Path) -> None:
    """Add what waited in the runtime folder. Which stream it was is not said: where it comes back, a new one begins."""
    with closing(sqlite3.connect(copy, isolation_level=None)) as into:
        into.execute("PRAGMA journal_mode=DELETE")
        into.execute("DELETE FROM meta")
        if tail.is_file():
            into.execute("ATTACH ? AS fresh", (str(tail),))
            into.execute("INSERT OR IGNORE INTO tail SELECT * FROM fresh.tail")
            into.execute("DETACH fresh")
            tail.unlink()


def _add_secrets(writing: _Writing, found: Secrets, passphrase: str | None) -> None:
    if found and passphrase is None:
        writing.manifest.left_out += [f"/{name}: no passphrase was given" for name in found]
    elif found and passphrase is not None:
        content = msgspec.json.encode(found)
        if len(content) > LARGEST_TEXT:
            raise StartError(f"{len(content)} bytes of credentials are more than a house has")
        writing.put(SEALED, io.BytesIO(seal(content, passphrase)), None)
