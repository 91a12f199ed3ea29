"""What takes long to set up is tried once: if that failed, all that ask for it later are told at once."""

from collections.abc import Iterator
from contextlib import contextmanager

import pytest

_failed: dict[str, str] = {}


@contextmanager
def tried_once(what: str) -> Iterator[None]:
    """Hold the body of a fixture: pytest forgets that it failed when a test is run again, and would wait as long again."""
    if what in _failed:
        pytest.fail(f"{what} failed before, it is not tried again: {_failed[what]}", pytrace=False)
    try:
        yield
    except pytest.skip.Exception:
        raise
    except BaseException as error:
        _failed[what] = str(error).strip().partition("\n")[0] or type(error).__name__
        raise
