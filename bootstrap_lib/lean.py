"""Keeps the memory of each process small: what a library imports for a case that is none of ours stays out."""

import contextlib
import sys
from collections.abc import Iterator
from types import ModuleType


@contextlib.contextmanager
def without_proxies() -> Iterator[None]:
    """Import paho without `urllib.request`, which it uses only to find a proxy, and only beside PySocks.

    It would bring http.client, email and tempfile: 1.7 MB in each process. Who needs the real module later gets it.
    """
    name = "urllib.request"
    if name in sys.modules:
        yield
        return
    sys.modules[name] = ModuleType(name)
    try:
        yield
    finally:
        del sys.modules[name]
