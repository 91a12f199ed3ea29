"""Modbus devices on a pseudo-terminal, or behind a TCP port, that answer as their tables say, well and badly.

Run it by itself with `python -m services.simulators.modbus --link /tmp/line --unit 1,renogy --state line.json`; the state
is `{"values": {"battery_voltage": 13.2}, "fault": "silence"}` of the first unit, and may change at any time.
"""

import argparse
import contextlib
import heapq
import importlib
import os
import random
import select
import socket
import struct
import sys
import threading
import time
import tty
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from types import TracebackType
from typing import Final, Literal, Self

import msgspec

from services.protocols import modbus, registers
from services.protocols.registers import Block, Register, Value
from services.simulators.registers import encode

Fault = Literal["silence", "wrong_crc", "exception", "truncated", "other_address", "echo", "late", "lossy", "stray"]
"""`exception` answers code 4 (device failure); `truncated` loses the end; `other_address` answers as a stranger; `echo`
sends each request back first; `late` answers after up to two seconds; `lossy` loses a byte in a hundred; `stray` has bytes
of noise before each answer."""

REQUEST: Final = struct.Struct(">BBHHH")
"""Address, function, first register, number, and the checksum's place."""
ILLEGAL_FUNCTION, ILLEGAL_ADDRESS, DEVICE_FAILURE = 1, 2, 4
QUIET: Final = 0.02
"""Seconds of silence that end a request; the 3.5 characters of the standard are not kept by a pseudo-terminal."""
LATEST: Final = 2.0
"""Seconds that a late answer takes at most."""
LOSSES: Final = 0.01
LOOK: Final = 0.1
"""Seconds between two looks at the describing file."""

USUAL: Final = {"V": 230.0, "A": 1.5, "W": 345.0, "Hz": 50.0, "kWh": 1234.5, "°C": 21.0, "%": 87.0, "Ah": 200.0}
"""What a unit shows that nobody told anything, by unit."""


class SimulatedUnit:
    """One device: its registers by function, and what is wrong with it."""

    def __init__(self, address: int, table: Iterable[Register], shown: Mapping[str, Value] | None = None) -> None:
        self.address = address
        self.table = {register.name: register for register in table}
        self.fault: Fault | None = None
        self.requests = 0
        self.chance = random.Random(address)
        self.free_at = 0.0
        """When it has answered all that it was asked."""
        self._words: dict[int, dict[int, int]] = {3: {}, 4: {}}
        for block in registers.blocks(self.table.values()):
            self._words[block.function].update(dict.fromkeys(_addresses(block), 0))
        self.show(
            {name: USUAL[one.unit] for name, one in self.table.items() if one.unit in USUAL} if shown is None else shown
        )

    @property
    def words(self) -> dict[int, int]:
        """Holding registers by address."""
        return self._words[modbus.HOLDING]

    @property
    def inputs(self) -> dict[int, int]:
        """Input registers by address."""
        return self._words[modbus.INPUT]

    def show(self, values: Mapping[str, Value]) -> None:
        """Set values by the names of the register table; KeyError names one that is not there."""
        for name, value in values.items():
            register = self.table[name]
            encode(register, value, self._words[register.function])

    def reply(self, question: bytes) -> bytes:
        """Return the answer to a question, from its function on."""
        self.requests += 1
        function, first, number = struct.unpack(">BHH", question)
        wanted = range(first, first + number)
        words = self._words.get(function)
        if words is None:
            return bytes((function | modbus.REFUSED, ILLEGAL_FUNCTION))
        if self.fault == "exception":
            return bytes((function | modbus.REFUSED, DEVICE_FAILURE))
        if not 0 < number <= registers.LONGEST_READ or any(address not in words for address in wanted):
            return bytes((function | modbus.REFUSED, ILLEGAL_ADDRESS))
        return bytes((function, 2 * number)) + b"".join(words[word].to_bytes(2, "big") for word in wanted)

    def frame(self, request: bytes) -> bytes:
        """Return the frame that answers a frame, as the fault has it; nothing where a unit stays silent."""
        address = self.address + 1 if self.fault == "other_address" else self.address
        frame = modbus.sealed(bytes((address,)) + self.reply(request[1:-2]))
        match self.fault:
            case "silence":
                return b""
            case "wrong_crc":
                return frame[:-1] + bytes((frame[-1] ^ 0xFF,))
            case "truncated":
                return frame[:-3]
            case "echo":
                return request + frame
            case "stray":
                return b"\x00\xff\x03" + frame
            case "lossy":
                return bytes(byte for byte in frame if self.chance.random() >= LOSSES)
            case _:
                return frame

    @property
    def delay(self) -> float:
        """Seconds until it answers."""
        return self.chance.uniform(0, LATEST) if self.fault == "late" else 0.0


class SimulatedLine:
    """Units on one pseudo-terminal: `with SimulatedLine(units) as line`, then open `line.port`."""

    def __init__(self, *units: SimulatedUnit) -> None:
        self.units = {unit.address: unit for unit in units}
        self._master, self._slave = os.openpty()
        tty.setraw(self._slave)
        self.port = os.ttyname(self._slave)
        self._wake, self._stop = os.pipe()
        self._due: list[tuple[float, bytes]] = []
        self._thread = threading.Thread(target=self._serve, name="line", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        os.close(self._stop)
        self._thread.join()
        for descriptor in (self._wake, self._master, self._slave):
            os.close(descriptor)

    def answer(self, request: bytes) -> bytes:
        """Return the answer to a request, or nothing where all units stay silent."""
        unit = self.units.get(request[0]) if request else None
        if len(request) != REQUEST.size or modbus.sealed(request[:-2]) != request or unit is None:
            return b""
        return unit.frame(request)

    def _serve(self) -> None:
        request = b""
        while True:
            now = time.monotonic()
            while self._due and self._due[0][0] <= now:
                os.write(self._master, heapq.heappop(self._due)[1])
            left = max(0.0, self._due[0][0] - now) if self._due else None
            ready, _, _ = select.select([self._master, self._wake], [], [], QUIET if request else left)
            if self._wake in ready:
                return
            if self._master in ready:
                request += os.read(self._master, 256)
            if request and (not ready or len(request) >= REQUEST.size):
                reply = self.answer(request)
                unit = self.units.get(request[0])
                if unit:  # one after the other, as a device with one processor
                    unit.free_at = max(unit.free_at, time.monotonic()) + unit.delay
                    heapq.heappush(self._due, (unit.free_at, reply))
                request = b""


class SimulatedGateway:
    """The same units behind a port of loopback, by Modbus TCP: `with SimulatedGateway(units) as gateway`."""

    def __init__(self, *units: SimulatedUnit) -> None:
        self.units = {unit.address: unit for unit in units}
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = f"127.0.0.1:{self._listener.getsockname()[1]}"

    def __enter__(self) -> Self:
        threading.Thread(target=self._serve, name="gateway", daemon=True).start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()

    def _serve(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                connection, _ = self._listener.accept()
                threading.Thread(target=self._talk, args=(connection,), daemon=True).start()

    def _talk(self, connection: socket.socket) -> None:
        size = modbus.HEADER.size
        with connection, contextlib.suppress(OSError):
            while len(request := connection.recv(size + 5, socket.MSG_WAITALL)) == size + 5:
                number, _, _, address = modbus.HEADER.unpack_from(request)
                unit = self.units.get(address)
                if unit is None or unit.fault == "silence":
                    continue
                body = unit.reply(request[size:])
                if unit.fault == "late":  # the answer to another request, which somebody else made
                    connection.sendall(
                        modbus.HEADER.pack(number ^ 0xFF, 0, len(body) + 1, address) + body[:-1] + b"\x7f"
                    )
                connection.sendall(modbus.HEADER.pack(number, 0, len(body) + 1, address) + body)


class LineState(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The describing file: values by name, and what goes wrong."""

    values: dict[str, Value] = {}
    fault: Fault | None = None


def _addresses(block: Block) -> range:
    return range(block.address, block.address + block.length)


@contextlib.contextmanager
def linked(port: str, link: Path | None) -> Iterator[str]:
    """Let a name point to a port for a while."""
    if link is None:
        yield port
        return
    link.unlink(missing_ok=True)
    link.symlink_to(port)
    try:
        yield str(link)
    finally:
        link.unlink(missing_ok=True)


def make_unit(text: str) -> SimulatedUnit:
    """Make a unit of `ADDRESS,MAKE`."""
    address, _, make = text.partition(",")
    table = importlib.import_module(f"services.protocols.makes.{make or 'renogy'}")
    known = importlib.import_module("services.simulators.renogy")
    return (
        known.Rover(int(address))
        if table.__name__.endswith(".renogy")
        else SimulatedUnit(int(address), table.REGISTERS)
    )


def main(arguments: list[str] | None = None) -> None:
    """Serve until the process is ended; print the port first."""
    parser = argparse.ArgumentParser(prog="python -m services.simulators.modbus", description=__doc__)
    parser.add_argument("--link", type=Path, help="make this name point to the port")
    parser.add_argument("--state", type=Path, help="JSON file with values and a fault, read again when it changes")
    parser.add_argument(
        "--unit", action="append", default=[], metavar="ADDRESS,MAKE", help="a device (default 1,renogy)"
    )
    options = parser.parse_args(arguments)
    units = [make_unit(text) for text in options.unit or ["1,renogy"]]
    with SimulatedLine(*units) as line, linked(line.port, options.link) as name:
        sys.stdout.write(f"{name}\n")
        sys.stdout.flush()
        changed = 0
        while True:
            time.sleep(LOOK)
            if options.state and options.state.exists() and (now := options.state.stat().st_mtime_ns) != changed:
                changed = now
                try:
                    state = msgspec.json.decode(options.state.read_bytes(), type=LineState)
                    units[0].show(state.values)
                    units[0].fault = state.fault
                except (msgspec.DecodeError, KeyError) as error:
                    sys.stderr.write(f"{options.state} is not taken over, the old state goes on: {error}\n")


if __name__ == "__main__":
    with contextlib.suppress(KeyboardInterrupt):
        main()
