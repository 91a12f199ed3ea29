"""State folders, spoiled: the short version of `python -m tests.state_folders`, which takes every file and way."""

from pathlib import Path

import pytest

from tests.state_folders.run import Run
from tests.state_folders.table import rows

pytestmark = pytest.mark.long


@pytest.mark.slow
@pytest.mark.whole
def test_spoiled_files_are_said_and_stop_nobody() -> None:
    import tempfile

    with tempfile.TemporaryDirectory(prefix="state-") as folder:  # open to the user that services run as
        run = Run(Path(folder))
        try:
            run.begin()
            wanted = {
                "sequence": ("spool.sqlite",),
                "archive": ("archive.sqlite",),
            }
            found = [
                result
                for service, names in wanted.items()
                for result in run.cases([service], ["deleted", "folder"], names)
            ]
        finally:
            run.close()
    assert len(found) >= 8
    assert [str(result) for result in found if not result.good] == []
    assert sum(result.lost for result in found if result.running) == 0
    assert len(rows(found)) > 2
