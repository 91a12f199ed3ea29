"""What one client can do to the shipped broker: fill it, and open connections that say nothing; the others are served on."""

import contextlib
import os
import resource
import socket
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from harness import wait_for
from test_broker import Shipped, close

from bootstrap_lib.installation import shipped

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shipped]:
    broker = Shipped(tmp_path_factory.mktemp("limits"))
    broker.start()
    yield broker
    broker.stop()


def limit(name: str) -> int:
    return int(shipped("mosquitto/constellation.conf").split(f"\n{name} ")[1].split()[0])


def is_served(broker: Shipped) -> None:
    """A source's reading reaches the archive."""
    archive, source, got = broker.client("archive"), broker.client("onewire_shed"), threading.Event()
    archive.on_message = lambda *_: got.set()
    archive.on_subscribe = lambda *_: source.publish("home/data/boiler/water/temperature", b"1", 1)
    archive.subscribe("home/data/boiler/#", 1)
    assert got.wait(10)
    close(archive, source)


def memory(broker: Shipped) -> int:
    """Bytes that the broker has in memory."""
    return int(Path(f"/proc/{broker.process.pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def test_who_fills_the_broker_is_thrown_out_and_the_others_are_served(broker: Shipped) -> None:
    flood, over = broker.client("onewire"), threading.Event()
    flood.on_disconnect = lambda *_: over.set()
    for number in range(limit("memory_limit") // 1_000_000 + 20):
        if not over.is_set():
            with contextlib.suppress(ValueError, RuntimeError):
                flood.publish(f"home/data/a/b/x{number}", bytes(1_000_000), 1, retain=True).wait_for_publish(5)
    assert over.is_set()
    flood.loop_stop()
    assert "out of memory" in broker.log()
    assert memory(broker) < limit("memory_limit") + 60_000_000
    is_served(broker)


def test_connections_that_say_nothing_are_bounded_and_disturb_nobody_who_is_there(broker: Shipped) -> None:
    most, hard = limit("max_connections"), resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    soft = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    resource.setrlimit(resource.RLIMIT_NOFILE, (most + 500, hard))
    archive, source, got = broker.client("archive"), broker.client("onewire_shed"), []
    archive.on_message = lambda _c, _d, message: got.append(message.payload)
    archive.subscribe("home/data/boiler/#", 1)
    try:
        with contextlib.ExitStack() as stack:
            for _ in range(most + 100):
                stack.enter_context(socket.create_connection(("127.0.0.1", broker.port)))
            opened = Path(f"/proc/{broker.process.pid}/fd")
            wait_for(lambda: len(list(opened.iterdir())) >= most, what="as many as it takes")
            assert len(list(opened.iterdir())) < most + 50
            source.publish("home/data/boiler/water/temperature", b"amid them", 1)
            wait_for(lambda: b"amid them" in got, what="a reading amid them")
        wait_for(lambda: len(list(opened.iterdir())) < most // 2, what="their end")
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
        close(archive, source)
    is_served(broker)
