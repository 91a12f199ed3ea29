"""Puts a house back from its file, or only looks whether that could be done."""

import os
import shutil
import sqlite3
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, contextmanager
from functools import partial
from io import BytesIO
from pathlib import Path
from typing import BinaryIO, Final

import msgspec

from bootstrap_lib import StartError, reason, state
from services.stores import elsewhere
from services.stores.house_file import (
    MANIFEST,
    SEALED,
    SECRETS,
    SQLITE,
    TOPICS,
    Entry,
    Held,
    HouseFileError,
    Manifest,
    Places,
    SealedFile,
    Secrets,
    copy_out,
    entries,
    open_house,
    read_manifest,
)
from services.stores.house_secrets import owner_of
from services.stores.sealed import SealError, unseal

Progress = Callable[[float, str], None]

_ROOM: Final = 1.05
"""A disk is to have so much more than what is put onto it."""


class OpenHouse:
    """A house's file that was walked through; its contents are looked at when they are copied."""

    def __init__(self, path: Path, file: BinaryIO) -> None:
        """HouseFileError where it is none."""
        self.path, self._file = path, file
        self._entries = {entry.name: entry for entry in entries(file, path)}
        self.manifest: Manifest = read_manifest(file, path, self._entries)

    @property
    def size(self) -> int:
        """Bytes of all contents."""
        return sum(held.size for held in self.manifest.files)

    def copy(self, held: Held, into: BinaryIO) -> None:
        """Copy a content to a file; HouseFileError where it is not what was written."""
        copy_out(self._file, self._entries[held.name], held, into, self.path)

    def entry(self, name: str) -> Entry | None:
        """Where a content lies."""
        return self._entries.get(name)

    def elsewhere(self, places: Places) -> dict[str, Path]:
        """Where an archive outside of its state folder belongs, by name; StartError where that place is not there."""
        moved = [held for held in self.manifest.files if held.elsewhere]
        for held in moved:
            self._file.seek(self._entries[held.name].offset)
            if self._file.read(len(SQLITE)) != SQLITE:
                raise HouseFileError(f"{self.path}: {held.name} is no database")
        topics = BytesIO()
        for held in self.manifest.files if moved else ():
            if held.name == TOPICS:
                self.copy(held, topics)
        return elsewhere.targets(moved, topics.getvalue(), places)

    def secrets(self, passphrase: str) -> Secrets:
        """Open what is sealed; StartError for another passphrase."""
        entry = self._entries[SEALED]
        self._file.seek(entry.offset)
        try:
            found = msgspec.json.decode(unseal(self._file.read(entry.size), passphrase), type=Secrets)
        except (SealError, msgspec.DecodeError) as error:
            raise HouseFileError(f"{self.path}: {error}") from None
        if strange := [name for name in found if not SECRETS.fullmatch(name)]:
            raise HouseFileError(f"{self.path} would write {strange[0]!r:.100}: it is no backup of a house")
        return found


@contextmanager
def opened(path: Path) -> Iterator[OpenHouse]:
    """Open a house's file; StartError says why it is none, or not to be trusted."""
    with open_house(path) as file:
        yield OpenHouse(path, file)


# -- a look ---------------------------------------------------------------------------------------------------------


def check(house: OpenHouse, scratch: Path, passphrase: str | None, progress: Progress) -> list[str]:
    """Put everything into a folder of its own and compare; returns what was found, as lines. HouseFileError for what is not so.

    Of each file size and sum, of each database also whether its pages agree and how many rows its tables have.
    """
    _has_room(scratch, house.size, "to look at it: name another folder with --scratch")
    lines, done, rows = [], 0, 0
    with tempfile.TemporaryDirectory(dir=scratch, prefix="constellation-check-") as folder:
        for held in house.manifest.files:
            progress(done / max(1, house.size), held.name)
            copy = Path(folder) / "copy"
            with copy.open("wb") as into:
                house.copy(held, into)
            if held.rows is not None:
                rows += _compare(copy, held, house.path)
            copy.unlink()
            done += held.size
    lines.append(
        f"made {house.manifest.made} by version {house.manifest.version}, for {', '.join(house.manifest.instances)}"
    )
    lines.append(
        f"{len(house.manifest.files)} files and {done / 1e6:.1f} MB are what was written; {rows} rows in databases"
    )
    if house.entry(SEALED):
        opened_ = (
            f"{len(house.secrets(passphrase))} credentials open" if passphrase else "credentials are sealed: not opened"
        )
        lines.append(opened_)
    return lines + [f"left out: {sentence}" for sentence in house.manifest.left_out]


def _compare(copy: Path, held: Held, path: Path) -> int:
    try:
        with closing(sqlite3.connect(f"{copy.absolute().as_uri()}?mode=ro", uri=True)) as database:
            if (found := database.execute("PRAGMA quick_check(1)").fetchone()[0]) != "ok":
                raise HouseFileError(f"{path} is damaged in {held.name}: {found}")
            told = held.rows or {}
            rows = {table: database.execute(f'SELECT count(*) FROM "{_word(table)}"').fetchone()[0] for table in told}
    except sqlite3.Error as error:
        raise HouseFileError(f"{path} is damaged in {held.name}: {error}") from None
    if rows != told:
        raise HouseFileError(f"{path} has not the rows in {held.name} that were written")
    return sum(rows.values())


def _word(table: str) -> str:
    return table.replace('"', '""')


def _has_room(folder: Path, size: int, why: str) -> None:
    there = next(place for place in (folder, *folder.parents) if place.exists())
    free = shutil.disk_usage(there).free
    if size * _ROOM > free:
        raise StartError(f"{there} has {free / 1e6:.0f} MB, and {size / 1e6:.0f} MB are needed {why}")


# -- putting back -----------------------------------------------------------------------------------------------------


def put_back(
    house: OpenHouse, places: Places, passphrase: str | None, progress: Progress, *, replace: bool
) -> list[str]:
    """Put everything where it belongs; returns what was done, as lines. StartError where a house lives there already.

    With `replace` that is set aside first. All contents are compared before the first file is written.
    """
    secrets = house.secrets(passphrase) if house.entry(SEALED) and passphrase is not None else {}
    moved = house.elsewhere(places)
    sizes = {held.name: held.size for held in house.manifest.files}
    _has_room(places.states, house.size - sum(sizes[name] for name in moved), "to restore it")
    for name, path in moved.items():
        _has_room(path.parent, sizes[name], "for the archive")
    with Path(os.devnull).open("wb") as nowhere:
        for held in house.manifest.files:
            progress(0.0, held.name)
            house.copy(held, nowhere)
    lines = []
    with ExitStack() as holding:
        for instance in house.manifest.instances:
            folder = places.states / instance
            if folder.is_dir():
                holding.enter_context(state.hold(folder, instance))
        lines += _make_way(house, places, secrets, moved, replace=replace)
        done = 0
        for held in house.manifest.files:
            progress(done / max(1, house.size), held.name)
            if held.name in moved:
                lines.append(elsewhere.put(moved[held.name], held, partial(house.copy, held)))
            elif held.name != SEALED:
                _write(house, held, places)
            done += held.size
        for name, secret in secrets.items():
            _write_secret(places, name, secret)
    count = len(house.manifest.files) - bool(house.entry(SEALED))
    lines.append(f"{count} files and {len(secrets)} credentials are back, as of {house.manifest.made}")
    if house.entry(SEALED) and passphrase is None:
        lines.append("credentials stay sealed: restore again with the passphrase, or units --install makes new ones")
    return lines + [f"was left out: {sentence}" for sentence in house.manifest.left_out]


def _make_way(
    house: OpenHouse, places: Places, secrets: Secrets, moved: dict[str, Path], *, replace: bool
) -> list[str]:
    """Refuse to overwrite what lives, or set it aside; returns what was set aside."""
    there = [path for held in house.manifest.files if _lives(path := places.of(held.name), house, held)]
    folders = [places.states / name for name in house.manifest.instances]
    there += [file for folder in folders for file in _state_of(folder)]
    there += [
        path
        for name, one in secrets.items()
        if (path := places.root / name).exists() and state.read(path) != one.content
    ]
    there += [path for path in moved.values() if elsewhere.lies_at(path)]
    there = [path for path in dict.fromkeys(there) if path.name != MANIFEST]
    if not there:
        return []
    if not replace:
        raise StartError(
            f"a house lives here already ({there[0]}{f' and {len(there) - 1} files more' if there[1:] else ''}): nothing was changed;"
            " --replace sets it aside first, and `constellation restore` of an archive's file adds to it"
        )
    aside = places.root / f"var/lib/constellation/before-{time.time_ns() // 1_000_000}"
    _prepare(aside / "x", 0o700, "")
    for folder in folders:
        if folder.is_dir():
            folder.rename(aside / folder.name)
    lines = [line for path in moved.values() for line in elsewhere.make_way(path)]
    for path in there:
        if path.is_file():
            state.write(_beside(aside, path, places.root), state.read(path), 0o600)
    return [f"what was here is in {aside}", *lines]


def _beside(aside: Path, path: Path, root: Path) -> Path:
    """Where a file is set aside: by its whole path, as several may have one name."""
    target = aside / path.relative_to(root if path.is_relative_to(root) else path.anchor)
    for folder in reversed([above for above in target.parents if above.is_relative_to(aside)]):
        folder.mkdir(mode=0o700, exist_ok=True)
    return target


def _lives(path: Path, house: OpenHouse, held: Held) -> bool:
    """Whether another file of the configuration lies where one belongs; state is looked at by folders."""
    if held.name == SEALED or held.name.startswith("state/") or not path.exists():
        return False
    with tempfile.TemporaryFile() as copy:
        house.copy(held, copy)
        copy.seek(0)
        return copy.read() != state.read(path)


def _state_of(folder: Path) -> list[Path]:
    """Files of an instance that ran; a lock alone is none."""
    return [path for path in folder.rglob("*") if path.name != "lock" and not path.is_dir()] if folder.is_dir() else []


def _write(house: OpenHouse, held: Held, places: Places) -> None:
    path = places.of(held.name)
    if held.name.startswith("state/"):
        instance = places.states / held.name.split("/")[1]
        _prepare(instance / "x", 0o700, held.user)
        with state.as_owner_of(instance):
            path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    else:
        _prepare(path, 0o755, "")
    mode = held.mode & 0o777
    if held.name != TOPICS and not held.name.startswith("state/"):
        mode &= 0o755
    try:
        with state.replacing(path, mode) as into:
            house.copy(held, into)
    except OSError as error:
        raise StartError(f"{path} cannot be written: {reason(error)}") from None


def _write_secret(places: Places, name: str, secret: SealedFile) -> None:
    path = places.root / name
    if path.is_relative_to(places.states):
        instance = places.states / path.relative_to(places.states).parts[0]
        _prepare(instance / "x", 0o700, secret.user)
        with state.as_owner_of(instance):
            path.parent.mkdir(mode=0o700, exist_ok=True)
        state.write(path, secret.content, 0o600)
    else:
        _prepare(path, 0o700, "")
        state.write(path, secret.content, secret.mode & 0o777, owner_of(secret.user))


def _prepare(path: Path, mode: int, user: str) -> None:
    """Make the folder of a file, for its user where this machine knows him; systemd gives it to him else."""
    folder = path.parent
    if not folder.exists():
        folder.parent.mkdir(parents=True, exist_ok=True)
        folder.mkdir(mode=mode)
        if (owner := owner_of(user)) is not None:
            os.chown(folder, *owner, follow_symlinks=False)
