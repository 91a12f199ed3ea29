"""Who may change something: names with their passwords' hashes, as `constellation password web NAME` writes them.

A line is `name:scrypt$14$8$1$salt$key` (RFC 7914: N as a power of two, r, p; base64).
"""

import base64
import hashlib
import hmac
import re
import secrets
from typing import Final

NAME: Final = re.compile(r"[\w.@-]{1,40}")
"""What a person may be called."""

LEAST: Final = 10
"""Characters of a password."""

COST: Final = (14, 8, 1)
"""N (as a power of two), r and p: 16 MB and some 50 ms for each try (OWASP's password storage cheat sheet)."""

SECRET: Final = "web.people"  # noqa: S105 (its name, not itself)
"""File among the credentials."""


def secret_of(service: str) -> str:
    """File of those who log in to a service's page."""
    return f"{service}.people"


def hashed(password: str, salt: bytes | None = None, cost: tuple[int, int, int] = COST) -> str:
    """A password as it is kept."""
    salt = salt or secrets.token_bytes(16)
    power, size, lanes = cost
    key = hashlib.scrypt(
        password.encode(), salt=salt, n=1 << power, r=size, p=lanes, maxmem=1 << (power + 11), dklen=32
    )
    return f"scrypt${power}${size}${lanes}${base64.b64encode(salt).decode()}${base64.b64encode(key).decode()}"


NOBODY: Final = "scrypt$14$8$1$AAAAAAAAAAAAAAAAAAAAAA==$AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA="
"""Compared with where there is no such person, so that the time tells nothing."""


def matches(password: str, kept: str) -> bool:
    """Whether a password is the kept one."""
    try:
        kind, power, size, lanes, salt, _ = kept.split("$")
        again = hashed(password, base64.b64decode(salt), (int(power), int(size), int(lanes)))
    except ValueError:
        return False
    return kind == "scrypt" and hmac.compare_digest(again, kept)


def read(text: str) -> dict[str, str]:
    """People of a file: name and hash."""
    return dict(line.split(":", 1) for line in text.splitlines() if ":" in line)


def write(people: dict[str, str]) -> str:
    """Text of the file."""
    return "".join(f"{name}:{kept}\n" for name, kept in sorted(people.items()))
