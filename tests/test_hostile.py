"""Every user of the broker is hostile for a moment: the short version of `python -m tests.hostile`."""

import pytest

from tests.hostile.__main__ import run


@pytest.mark.slow
@pytest.mark.long
@pytest.mark.filterwarnings(
    "ignore::pytest.PytestUnraisableExceptionWarning"
)  # sockets of clients that the broker threw out
def test_no_message_of_any_user_stops_a_service_or_costs_a_reading_or_an_alert() -> None:
    assert run(seconds=12, seed=2026, rate=300) == []
