"""Keeps the memory of each process small: what a library imports for a case that is none of ours stays out.

What is kept out is importable again afterwards, for whoever really needs it.
"""

import contextlib
import sys
from collections.abc import Iterator
from types import ModuleType


@contextlib.contextmanager
def without(name: str, stand_in: ModuleType | None = None) -> Iterator[None]:
    """Let imports within find an empty module under a name, or, without a stand-in, none at all."""
    if name in sys.modules:
        yield
        return
    sys.modules[name] = stand_in  # type: ignore[assignment]  # None is the documented way to say that there is none
    try:
        yield
    finally:
        del sys.modules[name]


with without("typing_extensions"):  # msgspec prefers it to typing where both have the same: 1.0 MB
    import msgspec as _msgspec  # noqa: F401

with (
    without("urllib.request", ModuleType("urllib.request")),  # paho's way to a proxy, beside PySocks only: 1.7 MB
    without(
        "dns"
    ),  # paho's way to brokers by SRV records, where the host has dnspython, with all that this imports: 8.3 MB
):
    import paho.mqtt.client as _paho  # noqa: F401
