"""A lab that failed once fails all at once."""

import pytest
from once import tried_once


def set_up(what: str, error: BaseException) -> None:
    with tried_once(what):
        raise error


def test_what_failed_once_is_not_tried_again_and_says_why() -> None:
    with pytest.raises(OSError, match="no bus"):
        set_up("a lab of this test", OSError("no bus\nand more"))
    with pytest.raises(pytest.fail.Exception, match=r"a lab of this test failed before.*: no bus$"):
        set_up("a lab of this test", AssertionError("this line was reached"))


def test_what_cannot_be_had_here_is_skipped_each_time() -> None:
    for _ in range(2):
        with pytest.raises(pytest.skip.Exception):
            set_up("a lab that is not here", pytest.skip.Exception("no container"))
