"""Passwords, keys and tokens: from systemd's credentials or a file that only its owner reads.

topics.yaml holds references (`secret:mqtt.onewire`), never the secret itself; nor does a command line, a log
or a topic.
"""

import os
import re
import stat
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final

FOLDER: Final = Path("/etc/constellation/credentials")
_CONTROL: Final = re.compile(r"[\x00-\x1f\x7f]")
REFERENCE: Final = "secret:"
"""What a text begins with that names a secret."""


class SecretError(ValueError):
    """A secret that is not there or not safe; the message names the file, never the content."""


class MissingSecretError(SecretError):
    """A secret that is in none of the folders."""


class Secret(str):
    """A text that is not printed by accident."""

    __slots__ = ()

    def __repr__(self) -> str:
        """Hide it."""
        return "Secret(…)"


def texts_of(value: Any) -> Iterator[str]:
    """All texts of an entry of topics.yaml, however deep, its keys too: any may name a secret."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, Mapping):
        for key, inner in value.items():
            yield str(key)
            yield from texts_of(inner)
    elif isinstance(value, (list, tuple)):
        for inner in value:
            yield from texts_of(inner)


def folders() -> list[Path]:
    """Where secrets are looked for, in order."""
    named = (os.environ.get("CREDENTIALS_DIRECTORY"), os.environ.get("CONSTELLATION_CREDENTIALS"))
    return [*(Path(folder) for folder in named if folder), FOLDER]


def is_there(name: str) -> bool:
    """Whether a secret lies in one of the folders, as far as this user may look into them."""
    return any(os.access(folder / name, os.F_OK) for folder in folders())


def resolve(reference: str, *own: Path, lines: bool = False) -> Secret:
    """Resolve `secret:NAME`, first in folders of the service's `own`; SecretError says which file is missing or too open.

    It is one line unless `lines`: what libraries say of a header or a URL with a line's end in it would show the secret.
    """
    name = reference.removeprefix("secret:")
    if not name or "/" in name or name.startswith("."):
        raise SecretError(f"'{reference}' names no secret: write secret:NAME")
    closed: list[str] = []
    for folder in (*own, *folders()):
        path = folder / name
        try:
            mode = path.stat().st_mode
            text = path.read_text("utf-8").strip()
        except FileNotFoundError:
            continue
        except (OSError, UnicodeDecodeError) as error:
            if not os.access(folder, os.X_OK):  # a folder that is closed to this user has nothing for it
                closed.append(str(folder))
                continue
            raise SecretError(f"secret '{name}' cannot be read from {path}: {error}") from None
        if mode & (stat.S_IRWXG | stat.S_IRWXO) and folder != Path(os.environ.get("CREDENTIALS_DIRECTORY", "")):
            raise SecretError(f"{path} can be read by others: chmod 600 {path}")
        if not text:
            raise SecretError(f"{path} is empty: write the secret into it")
        if not lines and _CONTROL.search(text):
            raise SecretError(
                f"{path} has several lines, or control characters: write the secret into it and nothing else"
            )
        return Secret(text)
    where = " or ".join(str(folder) for folder in folders())
    but = f" ({' and '.join(closed)} may not be entered by this user)" if closed else ""
    raise MissingSecretError(f"secret '{name}' is not there: put it into a file {name} (mode 0600) in {where}{but}")


def keep(folder: Path, texts: Mapping[str, str]) -> None:
    """Write secrets that were given to a service into a folder of its own, each whole and readable by nobody else. OSError."""
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    for name, text in texts.items():
        beside = _beside(folder, name)
        beside.unlink(missing_ok=True)
        with os.fdopen(os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w", encoding="utf-8") as file:
            file.write(text + "\n")
    os.sync()  # once for all: each of a thousand files by itself would hold up the service for half a minute
    for name in texts:
        _beside(folder, name).replace(folder / name)


def _beside(folder: Path, name: str) -> Path:
    return folder / f".{name}.new"
