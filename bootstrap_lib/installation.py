"""Writes what an installation consists of, below a root that need not be /, and says each thing that it does.

Doing it twice changes nothing the second time; `dry_run` says what would be done and does none of it.
"""

import grp
import os
import shutil
import stat
import subprocess
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Final

from bootstrap_lib import state
from bootstrap_lib.document import StartError, reason

SHIPPED: Final = next(
    folder
    for folder in (Path(__file__).parent / "share" / "systemd", Path(__file__).parents[1] / "systemd")
    if folder.is_dir()
)
"""The folder of units and configuration files that the distribution brings."""

CREDENTIALS: Final = Path("/etc/constellation/credentials")
CLOSED_HOME: Final = Path("/root")
CLOSED_SINCE: Final = 257
"""Since this version of systemd a unit with ProtectHome=tmpfs has a /root that only root may enter, whatever is bound into it."""


def shipped(name: str) -> str:
    """Text of a file that the distribution brings; `name` is its path below `systemd/`."""
    return (SHIPPED / name).read_text("utf-8")


class InstallError(StartError):
    """The installation cannot go on; the message says why and what to do."""


class Installation:
    """One run over a machine's files. Paths are those of the installed system: /etc/… lies in ROOT/etc/…."""

    def __init__(self, root: Path = Path("/"), *, dry_run: bool = False, quiet: bool = False) -> None:
        """`root` is / or a folder that stands for it."""
        self.root, self.dry_run, self._quiet = root.absolute(), dry_run, quiet
        self.changed: set[Path] = set()
        """Paths that this run wrote, linked or removed."""
        self._before: dict[Path, tuple[bytes, int, tuple[int, int]] | None] = {}
        """What stood in the files that this run wrote, with mode and owner; None where there was none."""

    @property
    def live(self) -> bool:
        """Whether the root is that of the running system, so that its commands apply."""
        return self.root == Path("/")

    def path(self, path: str | Path) -> Path:
        """Where a path of the installed system really lies."""
        return self.root / str(path).lstrip("/")

    def say(self, sentence: str) -> None:
        """Print one thing that was done, or would be."""
        if not self._quiet:
            print(f"would have {sentence}" if self.dry_run else sentence)  # noqa: T201 (this is the command's answer)

    def write(self, path: str | Path, text: str, *, mode: int = 0o644, group: str | None = None) -> None:
        """Make a file say `text`, with its mode from the first byte on; a group is set where it exists and we may."""
        target = self.path(path)
        if self._is(target, text, mode, group):
            return
        if self.dry_run:
            self._note(path, f"written {target}")
            return
        self.refuse_foreign(target.parent)
        try:
            target.parent.mkdir(parents=True, exist_ok=True)
            self._keep(target)
            owner = (os.geteuid(), grp.getgrnam(group).gr_gid) if self.live and group else None
            state.write(target, text.encode(), mode, owner)
        except (OSError, LookupError) as error:
            raise InstallError(
                f"{target} cannot be written ({reason(error)}): run this as root, for example with sudo"
            ) from None
        self._note(path, f"written {target}")

    def refuse_foreign(self, path: Path) -> None:
        """InstallError where a path of the running system, or a folder above it, is a link or belongs to somebody who is not root."""
        if self.live and os.geteuid() == 0 and (why := state.foreign(path)):
            raise InstallError(why)

    def _is(self, target: Path, text: str, mode: int, group: str | None) -> bool:
        """Whether a file says that already, and to whom it shall; in a folder that only stands for / nobody has groups."""
        try:
            if target.is_symlink() or target.read_text("utf-8") != text:
                return False
            found = target.stat()
            return not self.live or (
                stat.S_IMODE(found.st_mode) == mode and (not group or found.st_gid == grp.getgrnam(group).gr_gid)
            )
        except (FileNotFoundError, KeyError):
            return False

    def _keep(self, target: Path) -> None:
        try:
            found = target.stat()
            kept = (state.read(target), found.st_mode & 0o7777, (found.st_uid, found.st_gid))
        except FileNotFoundError:
            self._before.setdefault(target, None)
        else:
            self._before.setdefault(target, kept)

    def take_back(self, folder: Path) -> None:
        """Put the files below a folder back as they were before this run."""
        for target, kept in self._before.items():
            if not target.is_relative_to(self.path(folder)):
                continue
            if kept is None:
                target.unlink(missing_ok=True)
            else:
                content, mode, owner = kept
                state.write(target, content, mode, owner if os.geteuid() == 0 else None)

    def folder(self, path: str | Path, mode: int = 0o755) -> None:
        """Make a folder that is not there yet."""
        target = self.path(path)
        if target.is_dir():
            return
        if not self.dry_run:
            try:
                target.mkdir(mode, parents=True)
            except OSError as error:
                raise InstallError(
                    f"{target} cannot be made ({reason(error)}): run this as root, for example with sudo"
                ) from None
        self._note(path, f"made {target}")

    def link(self, path: str | Path, destination: str | Path) -> None:
        """Make a symbolic link as `systemctl enable` does."""
        target = self.path(path)
        if target.is_symlink() and target.readlink() == Path(destination):
            return
        if not self.dry_run:
            try:
                target.parent.mkdir(parents=True, exist_ok=True)
                target.unlink(missing_ok=True)
                target.symlink_to(destination)
            except OSError as error:
                raise InstallError(
                    f"{target} cannot be made ({reason(error)}): run this as root, for example with sudo"
                ) from None
        self._note(path, f"enabled {Path(path).name}")

    def remove(self, path: str | Path, sentence: str) -> None:
        """Remove a file or a link, and the folder that it leaves empty if it is one of drop-ins."""
        target = self.path(path)
        if not self.dry_run:
            target.unlink()
            if target.parent.name.endswith(".d") and not any(target.parent.iterdir()):
                target.parent.rmdir()
        self._note(path, sentence)

    def run(self, *command: str) -> None:
        """Run a command of the live system; InstallError with what it said."""
        self.say(f"run {' '.join(command)}")
        if self.dry_run:
            return
        try:
            done = subprocess.run(command, capture_output=True, text=True, check=False)
        except FileNotFoundError:
            raise InstallError(f"{command[0]} is not installed: apt install it and run this again") from None
        if done.returncode:
            said = " ".join((done.stderr or done.stdout).split())
            raise InstallError(f"'{' '.join(command)}' failed: {said}")

    def files(self, pattern: str) -> Iterator[Path]:
        """Paths (of the installed system) that match a pattern below the root."""
        for found in sorted(self.root.glob(pattern.lstrip("/"))):
            yield Path("/") / found.relative_to(self.root)

    def _note(self, path: str | Path, sentence: str) -> None:
        self.changed.add(Path(path))
        self.say(sentence)


def systemd_version() -> int:
    """Return the version of this machine's systemd, 0 where there is none."""
    if shutil.which("systemctl") is None:
        return 0
    words = subprocess.run(["systemctl", "--version"], capture_output=True, text=True, check=False).stdout.split()
    return int(words[1]) if words[1:] and words[1].isdigit() else 0


def refuse_closed_home(folders: Iterable[Path], version: int) -> None:
    """InstallError if one of the folders that the units start from lies where this systemd lets their user see nothing."""
    closed = [folder for folder in folders if folder.is_relative_to(CLOSED_HOME)]
    if closed and version >= CLOSED_SINCE:
        raise InstallError(
            f"{closed[0]} lies below {CLOSED_HOME}, which systemd {version} closes to the user of the units: none would start. "
            "Install into /opt/constellation as the README says, and run /opt/constellation/bin/constellation units --install"
        )
