"""What tests ask for by name: a real broker, a client that hears everything, and a house of real services; and how a run goes.

Tests marked `long` begin first, so that no worker waits for one at the end, and are not measured for coverage, which doubles
what they cost; nor are the processes that tests start.

A test that needs a second try is a fault in it or in the product. Only tests marked `slow` get one, each that took it
is named at the end, and more than three of them fail the run.
"""

import os
import shutil
import sys
from collections.abc import Generator, Iterator
from pathlib import Path
from typing import Any, Final

import pytest
from harness import Broker, Ear, House
from voices import Voice

collect_ignore: Final = ["test_families.py"] if sys.version_info < (3, 12) else []
"""What is about a library that is there for a later Python only: Debian 13 runs it."""
MOST_AGAIN: Final = 3
"""Tests of one run that may need a second try."""


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Begin with the long ones, and give tests marked `slow` a second try, which a busy machine may need."""
    items.sort(key=lambda item: item.get_closest_marker("long") is None)
    if not config.getoption("--whole"):
        left = [item for item in items if item.get_closest_marker("whole")]
        items[:] = [item for item in items if item not in left]
        config.hook.pytest_deselected(items=left)
    for item in items if config.pluginmanager.hasplugin("rerunfailures") else ():
        if item.get_closest_marker("slow"):
            item.add_marker(pytest.mark.flaky(reruns=1, reruns_delay=1))


def pytest_addoption(parser: pytest.Parser) -> None:
    """Offer what takes minutes by itself."""
    parser.addoption("--whole", action="store_true", help="run what takes minutes by itself, too (marked whole)")


def pytest_configure(config: pytest.Config) -> None:
    """Measure coverage of what tests run themselves: of the processes that they start it would double the cost."""
    if hasattr(config, "workerinput"):
        _leave_children_unmeasured()


def _leave_children_unmeasured() -> None:
    for name in [name for name in os.environ if name.startswith("COVERAGE_")]:
        del os.environ[name]


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_runtest_protocol(item: pytest.Item) -> Generator[None, object, object]:
    """Measure no coverage of tests marked `long`."""
    measurement = sys.modules["coverage"].Coverage.current() if "coverage" in sys.modules else None
    if measurement is None or item.get_closest_marker("long") is None:
        return (yield)
    measurement.stop()
    try:
        return (yield)
    finally:
        measurement.start()  # which asks for its children, too
        _leave_children_unmeasured()


def _tried_again(config: pytest.Config) -> list[str]:
    """Tests that needed a second try, as the process that reports knows them; with xdist its workers have none."""
    reporter = config.pluginmanager.get_plugin("terminalreporter")
    return sorted({report.nodeid for report in reporter.stats.get("rerun", ())}) if reporter else []


@pytest.hookimpl(trylast=True)
def pytest_sessionfinish(session: pytest.Session) -> None:
    """Fail a run in which too many tests needed a second try."""
    if not hasattr(session.config, "workerinput") and len(_tried_again(session.config)) > MOST_AGAIN:
        session.exitstatus = session.exitstatus or pytest.ExitCode.TESTS_FAILED


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    """Name each test that needed a second try."""
    if again := _tried_again(config):
        terminalreporter.section(f"{len(again)} needed a second try; a run with more than {MOST_AGAIN} fails")
        for name in again:
            terminalreporter.line(f"SECOND TRY {name}")


@pytest.fixture
def broker(tmp_path: Path) -> Iterator[Broker]:
    """A mosquitto that runs."""
    assert shutil.which("mosquitto"), "mosquitto is missing: run scripts/test, which installs it"
    broker = Broker(tmp_path / "broker").start()
    yield broker
    if broker.process and broker.process.poll() is None:
        broker.stop()


@pytest.fixture
def ear(broker: Broker) -> Iterator[Ear]:
    """A client that hears everything below `home`."""
    ear = Ear(broker.port)
    yield ear
    ear.close()


@pytest.fixture
def voice(broker: Broker) -> Iterator[Voice]:
    """A source's voice without its loop."""
    voice = Voice(broker.port)
    yield voice
    voice.close()


@pytest.fixture
def house(tmp_path: Path, broker: Broker) -> Iterator[House]:
    """Services to be started by name; a traceback in any log fails the test."""
    house = House(tmp_path / "house", broker.port)
    yield house
    house.close()


@pytest.fixture(scope="session")
def chromium() -> Iterator[Any]:
    """A browser."""
    sync = pytest.importorskip("playwright.sync_api", reason="pip install playwright")
    program = shutil.which("chromium")
    assert program, "chromium is missing: run scripts/test, which installs it"
    with sync.sync_playwright() as player:
        browser = player.chromium.launch(
            executable_path=program, args=["--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage"]
        )
        yield browser
        browser.close()
