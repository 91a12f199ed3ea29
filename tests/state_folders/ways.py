"""What a card, a person or a program does to a file."""

import os
import shutil
from pathlib import Path

WAYS = ("deleted", "emptied", "cut", "flipped", "folder", "link", "older", "unreadable")


def spoil(path: Path, how: str, older: Path) -> None:
    """Do it; `older` is a copy of the file from before."""
    owner = path.stat()
    match how:
        case "deleted":
            path.unlink()
        case "emptied":
            os.truncate(path, 0)
        case "cut":
            os.truncate(path, path.stat().st_size // 2)
        case "flipped":
            content = bytearray(path.read_bytes())
            for place in range(len(content) // 3, len(content), max(1, len(content) // 50)):
                content[place] ^= 0x5A
            with path.open("r+b") as file:  # in place: the file stays the same one
                file.write(content)
        case "folder":
            path.unlink()
            path.mkdir()
        case "link":
            path.unlink()
            path.symlink_to("/etc/hostname")
        case "older":
            beside = path.with_name(path.name + "~")
            shutil.copy(older, beside)
            os.chown(beside, owner.st_uid, owner.st_gid)
            beside.replace(path)
        case "unreadable":
            path.chmod(0)
    if path.exists() and not path.is_symlink():
        os.chown(path, owner.st_uid, owner.st_gid)
