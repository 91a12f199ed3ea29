"""Moves round-robin files to a machine of another architecture: as XML in a tar, since the files are bound to theirs."""

import re
import subprocess
import tarfile
from collections.abc import Callable
from io import BytesIO
from pathlib import Path
from typing import Final

from bootstrap_lib import quantities
from services.stores.roundrobin import path_of

Progress = Callable[[int, int, str], None]
"""Told after each file: how many are done, of how many, and its name."""

_ENTRY: Final = re.compile(rf"({quantities.WORD.pattern}/{quantities.WORD.pattern}/{quantities.WORD.pattern})\.xml")


def dump(folder: Path, file: Path, progress: Progress) -> int:
    """Write all files of a folder into a tar, packed as its name ends (.gz, .xz); returns how many. OSError says why not."""
    found = sorted(path.relative_to(folder) for path in folder.glob("*/*/*.rrd"))
    if not found:
        raise OSError(
            f"{folder} holds no round-robin files: does the service run under this name, and on this machine?"
        )
    beside = file.with_name(file.name + ".new")
    try:
        with _pack(beside, file.suffix) as tar:
            for count, path in enumerate(found, 1):
                xml = to_xml(folder / path)
                entry = tarfile.TarInfo(str(path.with_suffix(".xml")))
                entry.size, entry.mtime = len(xml), int((folder / path).stat().st_mtime)
                tar.addfile(entry, BytesIO(xml))
                progress(count, len(found), str(path))
        beside.replace(file)
    finally:
        beside.unlink(missing_ok=True)
    return len(found)


def _pack(path: Path, suffix: str) -> tarfile.TarFile:
    match suffix:
        case ".gz" | ".tgz":
            return tarfile.open(path, "w:gz")
        case ".xz":
            return tarfile.open(path, "w:xz")
        case _:
            return tarfile.open(path, "w")


def load(folder: Path, file: Path, progress: Progress) -> int:
    """Make files from what `dump` wrote, replacing those that exist; returns how many. OSError says why not."""
    try:
        with tarfile.open(file) as tar:
            entries = tar.getmembers()
            for count, entry in enumerate(entries, 1):
                match, content = _ENTRY.fullmatch(entry.name), tar.extractfile(entry)
                if match is None or content is None:
                    raise OSError(f"{file} is no dump of round-robin files: it holds {entry.name!r}")
                from_xml(content.read(), path_of(folder, match[1]))
                progress(count, len(entries), match[1])
    except (tarfile.TarError, EOFError):
        raise OSError(f"{file} cannot be read: it is no whole tar file as `constellation dump` writes it") from None
    return len(entries)


def to_xml(path: Path) -> bytes:
    """Return a file as XML, which machines of every architecture read. OSError says what is wrong."""
    return _program("dump", str(path))


def from_xml(xml: bytes, path: Path) -> None:
    """Make a file from XML; an existing one is replaced as a whole, at the end. OSError says what is wrong."""
    path.parent.mkdir(parents=True, exist_ok=True)
    beside = path.with_name(path.name + ".new")
    try:
        _program("restore", "--force-overwrite", "-", str(beside), given=xml)
        beside.replace(path)
    finally:
        beside.unlink(missing_ok=True)


def _program(*arguments: str, given: bytes = b"") -> bytes:
    """Run rrdtool's program: its Python module offers no restore."""
    try:
        return subprocess.run(["rrdtool", *arguments], input=given, capture_output=True, check=True).stdout
    except FileNotFoundError:
        raise OSError("the program rrdtool is missing: apt install rrdtool") from None
    except subprocess.CalledProcessError as error:
        raise OSError(error.stderr.decode(errors="replace").strip() or f"rrdtool {arguments[0]} failed") from None
