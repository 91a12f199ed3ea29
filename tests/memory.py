"""The memory of each service under the worst input of each kind, beside what its unit allows.

    python -m tests.memory [--kinds long,topics] [--write]

A house of real services behind the shipped broker; each kind of input comes from a user that may send it. `--write` puts the table into
docs/durability.md. Exit code 1 where a service took more than its MemoryMax, ended, or no longer answers.
"""

import argparse
import contextlib
import json
import socket
import ssl
import struct
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final

sys.path.insert(0, str(Path(__file__).resolve().parent))

from bootstrap_lib import Client
from tests.hostile import packets
from tests.hostile.house import House

PAGE: Final = Path(__file__).resolve().parent.parent / "docs" / "durability.md"
BEGIN, END = "<!-- memory: written by python -m tests.memory --write -->", "<!-- end of memory -->"
MEGABYTE: Final = 1_000_000
AWAY: Final = "influx"
"""Its database is away in this house: what it cannot take fills its queue at the broker, which then drops requests for it."""
READING: Final = b'{"value":1,"unit":"","time":"2026-11-20T15:01:53.120Z"}'

Packet = tuple[str, bytes]
"""A user of the broker, and what it sends."""


def publish(topic: str, payload: bytes, number: int, *, retain: bool = False, user: bytes = b"") -> bytes:
    """PUBLISH at QoS 1 with a packet id."""
    given = [(0x26, packets.text(b"seq") + packets.text(user))] if user else []
    body = packets.text(topic.encode()) + struct.pack("!H", number % 65535 + 1) + packets.properties(given) + payload
    return packets.packet(0x32 | retain, body)


def long() -> Iterator[Packet]:
    """Messages of a megabyte on topics of measurements, retained."""
    for number in range(400):
        yield "bikes", publish(f"home/data/a/b/c_{number % 50}_count", b"[" * MEGABYTE, number, retain=True)


def nested() -> Iterator[Packet]:
    """JSON a hundred thousand deep, and numbers as long."""
    for number in range(300):
        yield (
            "bikes",
            publish("home/data/boiler/igniter/current", (b'{"value":' + (b"[", b"9")[number % 2] * 100_000), number),
        )


def topics() -> Iterator[Packet]:
    """Thirty thousand topics that nobody knows, and names of sixty thousand letters."""
    for number in range(30_000):
        yield "bikes", publish(f"home/data/x{number}/y/z_count", READING, number)
    for number in range(300):
        yield "bikes", publish(f"home/data/a/b/{number}{'z' * 60_000}", READING, number)


def streams() -> Iterator[Packet]:
    """Twenty thousand runs of numbers, each with a gap, and places in a sequence of sixty thousand letters."""
    for number in range(20_000):
        yield (
            "bikes",
            publish("home/data/street/bikes/stands_count", READING, number, user=f"s{number}:0:{number + 1}".encode()),
        )
    for number in range(300):
        yield "bikes", publish("home/data/street/bikes/stands_count", READING, number, user=b"9" * 60_000)


def services() -> Iterator[Packet]:
    """Heartbeats of ten thousand services that there are not, each of ten kilobytes."""
    for number in range(10_000):
        yield (
            "operator",
            publish(f"home/service/ghost_{number}/health", b'{"state":"running","x":"' + b"y" * 10_000 + b'"}', number),
        )
        yield "operator", publish(f"home/service/ghost_{number}/status", b"online", number)


def requests() -> Iterator[Packet]:
    """Requests of a megabyte to everybody, of verbs that there are and are not."""
    bodies = (
        b"[" + b"{}," * 330_000 + b"{}]",
        b'{"topics":["' + b'a","' * 240_000 + b'a"]}',
        b"9" * MEGABYTE,
        b'{"id":"' + b"x" * MEGABYTE + b'"}',
    )
    for number in range(40):
        for verb in ("meters", "replay", "graph", "ping"):
            yield "operator", publish(f"home/service/all/request/{verb}", bodies[number % 4], number)


def notices() -> Iterator[Packet]:
    """Three thousand messages for people, of sixty kilobytes and of sixteen."""
    for number in range(3000):
        body = json.dumps({"text": "x" * (60_000, 30_000)[number % 2], "priority": -2}).encode()
        yield "operator", publish(f"home/notify/flood_{number}", body, number)


KINDS: Final[dict[str, Callable[[], Iterator[Packet]]]] = {
    one.__name__: one for one in (long, nested, topics, streams, services, requests, notices)
}


class Line:
    """A connection of a user that sends and does not listen."""

    def __init__(self, house: House, user: str) -> None:
        """Connect."""
        context = ssl.create_default_context(cafile=str(house.broker.settings["ca"]))
        self._line = context.wrap_socket(
            socket.create_connection(("localhost", house.port), 5), server_hostname="localhost"
        )
        password = (house.broker.credentials / f"mqtt.{user}").read_text().strip()
        self._line.sendall(packets.connect(user, password, f"heavy_{user}"))
        self._line.recv(4)
        self._line.setblocking(False)

    def send(self, what: bytes) -> None:
        """Send it all."""
        view = memoryview(what)
        while view:
            with contextlib.suppress(ssl.SSLWantReadError, ssl.SSLWantWriteError):
                while self._line.recv(65536):
                    pass
            try:
                view = view[self._line.send(view) :]
            except (ssl.SSLWantReadError, ssl.SSLWantWriteError):
                time.sleep(0.002)

    def close(self) -> None:
        """End it."""
        self._line.close()


def measure(house: House, kind: str) -> tuple[dict[str, float], list[str]]:
    """Megabytes that each service took at most under one kind of input, and what is wrong."""
    for service in house.services:
        Path(f"/proc/{service.process.pid}/clear_refs").write_text("5")  # the peak begins anew (proc(5))
        service.peak = 0.0
    lines: dict[str, Line] = {}
    wrong: list[str] = []
    for user, what in KINDS[kind]():
        if user not in lines:
            lines[user] = Line(house, user)
        try:
            lines[user].send(what)
        except OSError:  # the broker takes no more of this one
            lines.pop(user).close()
    for line in lines.values():
        line.close()
    with Client(house.registry) as client:
        for service in house.services:
            if service.name == AWAY:
                continue
            try:
                client.ask(service.name, "ping", timeout=90)
            except Exception as error:  # noqa: BLE001 (whatever it is, it is said)
                wrong.append(f"{service.name} after {kind}: {error}")
    wrong += house.look()
    wrong += [
        f"{one.name} took {one.peak:.0f} MB under {kind}, its unit allows {one.most:.0f}"
        for one in house.services
        if one.peak > one.most
    ]
    return {one.name: one.peak for one in house.services}, wrong


def table(found: dict[str, dict[str, float]], house: House) -> list[str]:
    """Lines of the table."""
    lines = [f"| service | {' | '.join(found)} | allowed |", f"|---|{'---|' * (len(found) + 1)}"]
    for service in house.services:
        megabytes = " | ".join(f"{kind[service.name]:.0f}" for kind in found.values())
        lines.append(f"| {service.name} | {megabytes} | {service.most:.0f} |")
    return lines


def run(kinds: list[str]) -> tuple[list[str], list[str]]:
    """Measure; returns the table and what is wrong."""
    with tempfile.TemporaryDirectory(prefix="memory-") as folder:
        house = House(Path(folder), 0)
        found, wrong = {}, []
        try:
            house.start()
            for kind in kinds:
                began = time.monotonic()
                found[kind], said = measure(house, kind)
                wrong += said
                print(
                    f"{kind}: {time.monotonic() - began:.0f} s, at most {max(found[kind].values()):.0f} MB", flush=True
                )
            return table(found, house), wrong
        finally:
            house.stop()


def main() -> int:
    """Measure, print and write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kinds", default=",".join(KINDS))
    parser.add_argument("--write", action="store_true")
    arguments = parser.parse_args()
    lines, wrong = run(arguments.kinds.split(","))
    print("\n".join((*lines, *wrong)))
    if arguments.write:
        before, _, rest = PAGE.read_text().partition(BEGIN)
        PAGE.write_text("\n".join([before + BEGIN, "", *lines, "", END + rest.partition(END)[2]]))
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
