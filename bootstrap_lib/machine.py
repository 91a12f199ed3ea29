"""Which machine this is: a name with and without `.local` is the same one, and an address is whose interface has it."""

import re
import socket
from ipaddress import ip_address
from typing import Final

LOOPBACK: Final = frozenset({"localhost", "127.0.0.1", "::1"})


def is_this(name: str) -> bool:
    """Whether a name or address in topics.yaml means this machine."""
    if name.lower() in LOOPBACK:
        return True
    try:
        address = ip_address(name)
    except ValueError:
        return is_same(name, socket.gethostname())
    family = socket.AF_INET if address.version == 4 else socket.AF_INET6  # noqa: PLR2004 (of the internet protocol)
    with socket.socket(family, socket.SOCK_DGRAM) as probe:
        try:
            probe.bind((name, 0))  # only an address of this machine's own can be bound
        except OSError:
            return False
    return True


def is_same(one: str, other: str) -> bool:
    """Whether two names are the same machine's: `shed`, `Shed.local` and, where only one has a domain, `shed.lan`."""
    first, second = _plain(one), _plain(other)
    if "." in first and "." in second:
        return first == second
    return first.partition(".")[0] == second.partition(".")[0]


def _plain(name: str) -> str:
    return name.lower().rstrip(".").removesuffix(".local")


def word(name: str) -> str:
    """A machine's name as a word of a user's name: `hub-2.local` is hub_2."""
    return re.sub(r"[^a-z0-9]+", "_", _plain(name)).strip("_")
