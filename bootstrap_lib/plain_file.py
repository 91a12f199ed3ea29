"""Reads a file that is a plain one of bounded size: others may put a link, a pipe that is waited for, or no end in its place."""

import os
import stat
from pathlib import Path


def unfollowed(name: str, flags: int) -> int:
    """Open a file, but not through a link, and without waiting for a pipe: an opener for `open`."""
    return unwaited(name, flags | os.O_NOFOLLOW)


def unwaited(name: str, flags: int) -> int:
    """Open a file, also through a link, without waiting for a pipe: an opener for `open`."""
    return os.open(name, flags | os.O_NONBLOCK | os.O_CLOEXEC, 0o666)


def content_of(path: Path, most: int, *, follow: bool = False) -> bytes:
    """Content of a plain file; OSError for a folder, a pipe, more than `most` bytes, or (where we do not `follow` it) a link."""
    with open(path, "rb", opener=unwaited if follow else unfollowed) as file:
        if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
            raise OSError(f"{path} is no plain file")
        content = file.read(most + 1)
    if len(content) > most:
        raise OSError(f"{path} is longer than {most:,} bytes")
    return content
