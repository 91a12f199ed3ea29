"""Moves round-robin files to a machine of another architecture: as XML in a tar, since the files are bound to theirs."""

import lzma
import re
import subprocess
import tarfile
import tempfile
import zlib
from collections.abc import Callable
from io import BytesIO
from pathlib import Path
from typing import BinaryIO, Final, Literal

from bootstrap_lib import quantities, state
from services.stores.roundrobin import path_of

LARGEST: Final = 200_000_000
"""Bytes of XML that one file of a dump may have: ten times what the largest has."""

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
    with state.replacing(file, 0o600) as beside, tarfile.open(fileobj=beside, mode=_mode(file.suffix)) as tar:
        for count, path in enumerate(found, 1):
            xml = to_xml(folder / path)
            entry = tarfile.TarInfo(str(path.with_suffix(".xml")))
            entry.size, entry.mtime = len(xml), int((folder / path).stat().st_mtime)
            tar.addfile(entry, BytesIO(xml))
            progress(count, len(found), str(path))
    return len(found)


def _mode(suffix: str) -> Literal["w:gz", "w:xz", "w"]:
    match suffix:
        case ".gz" | ".tgz":
            return "w:gz"
        case ".xz":
            return "w:xz"
        case _:
            return "w"


def load(folder: Path, dumped: BinaryIO, progress: Progress, begin: Callable[[], None]) -> int:
    """Make files from what `dump` wrote, replacing those that exist; returns how many. OSError says why not.

    All of them are made and looked at beside before the first is replaced, which `begin` is told.
    """
    try:
        with tarfile.open(fileobj=dumped) as tar, tempfile.TemporaryDirectory(dir=folder, prefix=".loading-") as beside:
            names = [_made(tar, entry, Path(beside)) for entry in tar]
            if not names:
                raise OSError(f"{dumped.name} is empty: no file was replaced")
            begin()
            for count, name in enumerate(names, 1):
                path = path_of(folder, name)
                path.parent.mkdir(parents=True, exist_ok=True)
                state.write(path, path_of(Path(beside), name).read_bytes())
                progress(count, len(names), name)
    except (tarfile.TarError, EOFError, zlib.error, lzma.LZMAError):
        raise OSError(
            f"{dumped.name} cannot be read: it is no whole tar file as `constellation dump` writes it"
        ) from None
    return len(names)


def _made(tar: tarfile.TarFile, entry: tarfile.TarInfo, beside: Path) -> str:
    """Make one file of a dump, and have rrdtool read it; returns its topic."""
    match, content = _ENTRY.fullmatch(entry.name), tar.extractfile(entry) if entry.isfile() else None
    if match is None or content is None:
        raise OSError(f"it is no dump of round-robin files: it holds {entry.name!r}")
    if entry.size > LARGEST:
        raise OSError(f"{entry.name} has {entry.size} bytes, more than any round-robin file")
    path = path_of(beside, match[1])
    from_xml(content.read(), path)
    _program("lastupdate", str(path))
    return match[1]


def to_xml(path: Path) -> bytes:
    """Return a file as XML, which machines of every architecture read. OSError says what is wrong."""
    return _program("dump", str(path))


def from_xml(xml: bytes, path: Path) -> None:
    """Make a file from XML. OSError says what is wrong."""
    path.parent.mkdir(parents=True, exist_ok=True)
    _program("restore", "--force-overwrite", "-", str(path), given=xml)


def _program(*arguments: str, given: bytes = b"") -> bytes:
    """Run rrdtool's program: its Python module offers no restore."""
    try:
        return subprocess.run(["rrdtool", *arguments], input=given, capture_output=True, check=True).stdout
    except FileNotFoundError:
        raise OSError("the program rrdtool is missing: apt install rrdtool") from None
    except subprocess.CalledProcessError as error:
        raise OSError(error.stderr.decode(errors="replace").strip() or f"rrdtool {arguments[0]} failed") from None
