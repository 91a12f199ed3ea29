"""What the tests in the guest ask for: the laboratory, with all three services running."""

from collections.abc import Iterator

import pytest

from tests.lab.laboratory import Laboratory


@pytest.fixture(scope="session")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Laboratory]:
    """One laboratory for all tests: what recovers must do so in the same process."""
    lab = Laboratory(tmp_path_factory.mktemp("lab"))
    try:
        lab.start()
        yield lab
    finally:
        lab.close()
