"""An iM871A dongle on a pseudo-terminal and meters around it, so that the real service reads a real serial port.

Run by itself: `python -m services.simulators.im871a --config topics.yaml --link /tmp/im871a meters.json`. The meters are
those that topics.yaml names, with their keys from the same secrets; what they show stands in meters.json as
services/simulators/house.py writes it. `--faults FILE` holds `{"fault": "noise"}` and may change at any time.
"""

import argparse
import contextlib
import os
import random
import select
import signal
import sys
import threading
import time
import tty
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Literal, Self

import msgspec

from bootstrap_lib import Registry
from services.protocols import im871a
from services.protocols.im871a import DongleMessage, Endpoint, LinkMode, Management
from services.simulators.meters import Radio, Shown, meters_of

Fault = Literal["noise", "wrong_crc", "silence", "deaf", "unplug"]
"""`noise`: bytes between the frames; `wrong_crc`: of each telegram; `silence`: no answers, no telegrams; `deaf`: answers,
but no telegrams until it is reset; `unplug`: the port is gone until the fault is."""

HEARS: Final[Mapping[int, tuple[Radio, ...]]] = {
    LinkMode.S1: ("S1",),
    LinkMode.T1: ("T1",),
    LinkMode.C1_A: ("C1",),
    LinkMode.C1_B: ("C1",),
    LinkMode.C1_T1: ("C1", "T1"),
}
"""What the dongle hears in which mode; nothing in those that are not here."""

DEVICE: Final = bytes.fromhex("330014 01F13A0000")
"""Kind, mode, firmware 0x14, interface version, and number."""
_FIRST: Final = {
    0x01: ("device", 1),
    0x02: ("mode", 1),
    0x04: ("control", 1),
    0x08: ("manufacturer", 2),
    0x10: ("id", 4),
    0x20: ("version", 1),
    0x40: ("type", 1),
    0x80: ("channel", 1),
}
_SECOND: Final = dict(
    zip((1 << n for n in range(8)), ("power", "rate", "window", "saving", "rssi", "time", "led", "clock"), strict=True)
)
POWER_ON: Final = {"mode": int(LinkMode.S2), "rssi": 0, "time": 0}
TICKS: Final = 32768
"""Of the dongle's clock in a second."""
LOOK: Final = 0.05
"""Seconds between two looks at the files."""


class SimulatedDongle:
    """A dongle: `with SimulatedDongle(link) as dongle`, open `link` as its port, and let it `hear` telegrams."""

    def __init__(self, link: Path, seed: int = 871) -> None:
        self.link = link
        self.fault: Fault | None = None
        self.settings: dict[str, int] = {}
        self.resets = 0
        self._random = random.Random(seed)
        self._lock = threading.Lock()
        self._ports: tuple[int, int] | None = None
        self._stop, self._stopped = os.pipe()
        self._assembler = im871a.DongleAssembler()
        self._thread = threading.Thread(target=self._serve, name="im871a", daemon=True)

    def __enter__(self) -> Self:
        self.plug()
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        os.close(self._stopped)
        self._thread.join()
        self.unplug()
        os.close(self._stop)

    def plug(self) -> None:
        """Plug it in: a new port under the same name, and no memory of its settings."""
        with self._lock:
            if self._ports is None:
                self._ports = master, slave = os.openpty()
                tty.setraw(slave)
                os.set_blocking(master, False)
                self.settings = dict(POWER_ON)
                self._assembler = im871a.DongleAssembler()
                beside = self.link.with_name(f".{self.link.name}.new")
                beside.unlink(missing_ok=True)
                beside.symlink_to(os.ttyname(slave))
                beside.replace(self.link)

    def unplug(self) -> None:
        """Pull it out: the port is gone, for those who have it open too."""
        with self._lock:
            if self._ports is not None:
                self.link.unlink(missing_ok=True)
                for file in self._ports:
                    os.close(file)
                self._ports = None

    def hear(self, telegram: bytes, radio: Radio = "C1", rssi: int = 0x4C) -> bool:
        """Pass on a telegram (with L, without block CRCs) as far as mode and fault allow; True if it was passed on whole."""
        if radio not in HEARS.get(self.settings["mode"], ()) or self.fault in ("silence", "deaf", "unplug"):
            return False
        ticks = int(time.monotonic() * TICKS) & 0xFFFFFFFF if self.settings["time"] else None
        strength = rssi if self.settings["rssi"] else None
        frame = im871a.encode(DongleMessage(Endpoint.RADIO, im871a.TELEGRAM, telegram[1:], ticks, strength))
        if self.fault == "wrong_crc":
            frame = frame[:-1] + bytes((frame[-1] ^ 0x55,))
        if self.fault == "noise":
            frame = self._noise() + frame
        return self._write(frame) and self.fault != "wrong_crc"

    def _noise(self) -> bytes:
        """Bytes as a bad line makes them, start bytes and beginnings of frames among them, but none that hides a frame."""
        noise = self._random.randbytes(self._random.randrange(12)) + b"\xa5\xa5\x82\xa5"
        return noise + bytes((im871a.START, 0x80 | Endpoint.RADIO, im871a.TELEGRAM, 3)) + b"\x00"

    def _write(self, data: bytes) -> bool:
        with self._lock:
            if self._ports is None:
                return False
            try:
                return os.write(self._ports[0], data) == len(data)
            except BlockingIOError:
                return False  # nobody reads: the dongle's buffer is full

    def _serve(self) -> None:
        while True:
            ports = self._ports
            watched = [self._stop, *(ports[:1] if ports else ())]
            try:
                ready, _, _ = select.select(watched, [], [], LOOK)
            except OSError:  # unplugged this very moment
                continue
            if self._stop in ready:
                return
            with self._lock:
                try:
                    data = os.read(ports[0], 4096) if ready and ports and ports is self._ports else b""
                except OSError:
                    continue
            for message in self._assembler.feed(data):
                answer = self._answer(message)
                if answer is not None and self.fault != "silence":
                    self._write(im871a.encode(answer))

    def _answer(self, message: DongleMessage) -> DongleMessage | None:
        if message.endpoint != Endpoint.MANAGEMENT:
            return None
        payload = b""
        match message.id:
            case Management.PING:
                pass
            case Management.DEVICE_INFORMATION:
                payload = DEVICE
            case Management.SET_CONFIGURATION:
                self.settings |= _settings(message.payload[1:])
            case Management.GET_CONFIGURATION:
                payload = self._configuration()
            case Management.RESET:
                self.settings = dict(POWER_ON)
                self.resets += 1
                self.fault = None if self.fault == "deaf" else self.fault
            case _:
                return None
        return DongleMessage(Endpoint.MANAGEMENT, message.id + 1, payload)

    def _configuration(self) -> bytes:
        settings = self.settings
        first = b"".join(settings.get(name, 0).to_bytes(size, "little") for name, size in _FIRST.values())
        second = bytes(settings.get(name, 0) for name in _SECOND.values())
        return b"\xff" + first + b"\xff" + second + b"\0"


def _settings(payload: bytes) -> dict[str, int]:
    """Read what a message sets: a byte of flags and their fields, twice."""
    found: dict[str, int] = {}
    at = 0
    for table in (_FIRST, {flag: (name, 1) for flag, name in _SECOND.items()}):
        if at >= len(payload):
            break
        flags = payload[at]
        at += 1
        for flag, (name, size) in table.items():
            if flags & flag:
                found[name] = int.from_bytes(payload[at : at + size], "little")
                at += size
    return found


# --- the program -------------------------------------------------------------------------------------------------


class _File:
    """A JSON file that somebody else writes; what it last said, when it says nothing new or nothing that can be read."""

    def __init__(self, path: Path | None, kind: Any, first: Any) -> None:
        self._path, self._kind, self.content, self._changed = path, kind, first, 0

    def look(self) -> Any:
        if self._path is not None:
            with contextlib.suppress(OSError, msgspec.DecodeError):
                changed = self._path.stat().st_mtime_ns
                if changed != self._changed:
                    self.content = msgspec.json.decode(self._path.read_bytes(), type=self._kind)
                    self._changed = changed
        return self.content


class FaultFile(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The file of faults."""

    fault: Fault | None = None


def main(arguments: list[str] | None = None) -> None:
    """Send telegrams until SIGTERM; print the port first."""
    parser = argparse.ArgumentParser(prog="python -m services.simulators.im871a", description=__doc__)
    parser.add_argument("--config", type=Path, required=True, help="topics.yaml that names the meters")
    parser.add_argument("--link", type=Path, required=True, help="name of the port")
    parser.add_argument("--every", type=float, default=2.0, help="seconds between two telegrams of a meter (default 2)")
    parser.add_argument("--faults", type=Path, help='JSON file {"fault": …}, read again when it changes')
    parser.add_argument("values", type=Path, help="JSON file with what the meters show")
    options = parser.parse_args(arguments)
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    meters = meters_of(Registry(options.config))
    values = _File(options.values, dict[str, Shown], {})
    faults = _File(options.faults, FaultFile, FaultFile())
    state = faults.content
    with SimulatedDongle(options.link) as dongle:
        sys.stdout.write(f"{options.link}\n")
        sys.stdout.flush()
        due = [time.monotonic() + number * options.every / max(1, len(meters)) for number in range(len(meters))]
        while True:
            if faults.look() is not state:
                state = faults.content
                dongle.fault = state.fault
                (dongle.unplug if state.fault == "unplug" else dongle.plug)()
            now = time.monotonic()
            for number, meter in enumerate(meters):
                if now >= due[number]:
                    due[number] += options.every
                    if shown := values.look().get(meter.kind):
                        dongle.hear(meter.telegram(shown), meter.radio)
            time.sleep(LOOK)


if __name__ == "__main__":
    with contextlib.suppress(KeyboardInterrupt):
        main()
