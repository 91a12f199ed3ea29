"""A Renogy Rover behind a pseudo-terminal that speaks Modbus RTU, so that the real master reads a real serial port.

Run it by itself with `python -m services.simulators.renogy --link /tmp/renogy --state renogy.json`; the state is
`{"values": {"battery_voltage": 13.2}, "fault": "silence"}` and may change at any time.
"""

import argparse
import contextlib
import os
import select
import struct
import sys
import threading
import time
import tty
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import TracebackType
from typing import Literal, Self

import msgspec

from services.protocols import modbus, registers, renogy
from services.protocols.registers import Register, Value

Fault = Literal["silence", "wrong_crc", "exception", "truncated", "other_address"]
"""`exception` answers code 4 (device failure); `truncated` loses the end; `other_address` answers as a stranger."""

READ_REGISTERS = 3
REQUEST = struct.Struct(">BBHHH")
"""Address, function, first register, number, and the checksum's place."""
ILLEGAL_FUNCTION, ILLEGAL_ADDRESS, DEVICE_FAILURE = 1, 2, 4
QUIET = 0.02
"""Seconds of silence that end a request; the 3.5 characters of the standard are not kept by a pseudo-terminal."""

LOOK = 0.1
"""Seconds between two looks at the describing file."""

SHOWN: Mapping[str, Value] = {
    "system_voltage": 12,
    "rated_charging_current": 40,
    "rated_discharging_current": 20,
    "product_text": "controller",
    "model_text": "RNG-CTRL-RVR40",
    "software_text": "1.0.4",
    "hardware_text": "2.1.3",
    "serial_text": "1501FFFF",
    "battery_nominal_charge": 200,
    "system_setting_voltage": 255,
    "system_recognised_voltage": 12,
    "battery_text": "lithium",
    "battery_soc": 87,
    "battery_voltage": 13.2,
    "battery_charging_current": 4.31,
    "controller_temperature": 21,
    "battery_temperature": -3,
    "load_voltage": 13.2,
    "load_current": 0.42,
    "load_power": 5,
    "solar_voltage": 18.7,
    "solar_current": 3.2,
    "solar_power": 59,
    "generated_energy": 412.345,
    "charging_state": "mppt",
    "load_active": True,
}
"""What the controller shows before anyone says otherwise; fields that are not named are zero."""


def encode(register: Register, value: Value, words: dict[int, int]) -> None:
    """Put a value into the raw registers, without touching the fields that share them."""
    fields = range(register.address, register.address + register.length)
    match register.form:
        case registers.text:
            raw = str(value).encode().ljust(2 * register.length)
        case registers.hexadecimal:
            raw = bytes.fromhex(str(value))
        case registers.version:
            raw = bytes((0, *map(int, str(value).split("."))))
        case form:
            number = {word: code for code, word in register.states.items()}.get(str(value), value)
            raw = _number(register, form, float(number), [words.get(address, 0) for address in fields])
    for offset, address in enumerate(fields):
        words[address] = int.from_bytes(raw[2 * offset : 2 * offset + 2], "big")


def _number(register: Register, form: object, number: float, before: list[int]) -> bytes:
    whole = round(number / register.scale)
    old = registers.word(before)
    if register.bit is not None:
        mask = 1 << register.bit
        return (old | mask if whole else old & ~mask).to_bytes(2 * register.length, "big")
    signed = abs(whole) | (0x80 if whole < 0 else 0)
    match form:
        case registers.high_byte:
            whole = old & 0x00FF | whole << 8
        case registers.low_byte:
            whole = old & 0xFF00 | whole
        case registers.high_sign_and_magnitude:
            whole = old & 0x00FF | signed << 8
        case registers.low_sign_and_magnitude:
            whole = old & 0xFF00 | signed
    return whole.to_bytes(2 * register.length, "big")


class ControllerState(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The describing file: values by name, and what goes wrong."""

    values: dict[str, Value] = {}
    fault: Fault | None = None


class Controller:
    """A charge controller on a pseudo-terminal: `with Controller() as controller`, then open `controller.port`."""

    def __init__(self, address: int = renogy.ADDRESS) -> None:
        self.address = address
        self.fault: Fault | None = None
        self.requests = 0
        self.words = {address: 0 for block in registers.blocks(renogy.REGISTERS) for address in _addresses(block)}
        self.show(SHOWN)
        self._master, self._slave = os.openpty()
        tty.setraw(self._slave)
        self.port = os.ttyname(self._slave)
        self._wake, self._stop = os.pipe()
        self._thread = threading.Thread(target=self._serve, name="renogy", daemon=True)

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

    def show(self, values: Mapping[str, Value]) -> None:
        """Set values by the names of the register table; KeyError names one that is not there."""
        table = {register.name: register for register in renogy.REGISTERS}
        for name, value in values.items():
            encode(table[name], value, self.words)

    def answer(self, request: bytes) -> bytes:
        """Return the answer to a request, or nothing where a slave stays silent."""
        if len(request) != REQUEST.size or modbus.sealed(request[:-2]) != request or request[0] != self.address:
            return b""
        self.requests += 1
        _, function, first, number, _ = REQUEST.unpack(request)
        wanted = range(first, first + number)
        if function != READ_REGISTERS:
            reply = bytes((function | 0x80, ILLEGAL_FUNCTION))
        elif self.fault == "exception":
            reply = bytes((function | 0x80, DEVICE_FAILURE))
        elif not 0 < number <= registers.LONGEST_READ or any(address not in self.words for address in wanted):
            reply = bytes((function | 0x80, ILLEGAL_ADDRESS))
        else:
            reply = bytes((function, 2 * number)) + b"".join(self.words[word].to_bytes(2, "big") for word in wanted)
        return self._spoilt(reply)

    def _spoilt(self, reply: bytes) -> bytes:
        address = self.address + 1 if self.fault == "other_address" else self.address
        frame = modbus.sealed(bytes((address,)) + reply)
        match self.fault:
            case "silence":
                return b""
            case "wrong_crc":
                return frame[:-1] + bytes((frame[-1] ^ 0xFF,))
            case "truncated":
                return frame[:-3]
            case _:
                return frame

    def _serve(self) -> None:
        request = b""
        while True:
            ready, _, _ = select.select([self._master, self._wake], [], [], QUIET if request else None)
            if self._wake in ready:
                return
            if ready:
                request += os.read(self._master, 256)
            if not ready or len(request) >= REQUEST.size:
                os.write(self._master, self.answer(request))
                request = b""


def _addresses(block: registers.Block) -> range:
    return range(block.address, block.address + block.length)


@contextlib.contextmanager
def _linked(port: str, link: Path | None) -> Iterator[str]:
    if link is None:
        yield port
        return
    link.unlink(missing_ok=True)
    link.symlink_to(port)
    try:
        yield str(link)
    finally:
        link.unlink(missing_ok=True)


def main(arguments: list[str] | None = None) -> None:
    """Serve until the process is ended; print the port first."""
    parser = argparse.ArgumentParser(prog="python -m services.simulators.renogy", description=__doc__)
    parser.add_argument("--link", type=Path, help="make this name point to the port")
    parser.add_argument("--state", type=Path, help="JSON file with values and a fault, read again when it changes")
    parser.add_argument("--address", type=int, default=renogy.ADDRESS, help="Modbus address (default %(default)s)")
    options = parser.parse_args(arguments)
    with Controller(options.address) as controller, _linked(controller.port, options.link) as name:
        sys.stdout.write(f"{name}\n")
        sys.stdout.flush()
        changed = 0
        while True:
            time.sleep(LOOK)
            if options.state and options.state.exists() and (now := options.state.stat().st_mtime_ns) != changed:
                changed = now
                try:
                    state = msgspec.json.decode(options.state.read_bytes(), type=ControllerState)
                    controller.show(state.values)
                    controller.fault = state.fault
                except (msgspec.DecodeError, KeyError) as error:
                    sys.stderr.write(f"{options.state} is not taken over, the old state goes on: {error}\n")


if __name__ == "__main__":
    with contextlib.suppress(KeyboardInterrupt):
        main()
