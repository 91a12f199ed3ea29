"""What tests ask for by name: a real broker, a client that hears everything, and a house of real services."""

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from harness import Broker, Ear, House
from voices import Voice


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
