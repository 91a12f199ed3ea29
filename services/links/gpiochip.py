"""Lines of a GPIO chip by the kernel's character device, version 2: edges with time stamps and numbers, none unnoticed.

    linux/gpio.h (5.10 and later). Nothing but ioctl and read is needed.

An open request goes on counting while nobody reads, for a thousand events; systemd keeps it over a restart of the service
(file descriptor store, sd_notify(3)), so that edges of that time are read afterwards.
"""

import errno
import fcntl
import os
import socket
import struct
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import Final, Literal, NamedTuple

from bootstrap_lib import DeviceError, notify

LABELS: Final = ("pinctrl-bcm2835", "pinctrl-bcm2711", "pinctrl-rp1")
"""Chips with a Raspberry Pi's own pins: they are found by label, since their number differs between kernels."""

_CHIP_INFO: Final = 0x8044B401
_GET_LINE: Final = 0xC250B407
_INFO: Final = struct.Struct("32s32sI")
_REQUEST: Final = struct.Struct("=64I32s" + "QI20x" + "II8sQ" + "216x" + "II20xi")
_EVENT: Final = struct.Struct("=QIIII24x")
_INPUT, _BOTH_EDGES, _ACTIVE_LOW = 1 << 2, 1 << 4 | 1 << 5, 1 << 1
_BIAS: Final = {"up": 1 << 8, "down": 1 << 9, "none": 1 << 10}
_DEBOUNCE: Final = 3
"""Number of the attribute."""
EVENTS: Final = 1024
"""Events that the kernel keeps until they are read, the most that it allows."""
CLOSES: Final = 1
"""What an edge is when the line becomes active."""

Bias = Literal["up", "down", "none"]


class Edge(NamedTuple):
    """An edge of a line: monotonic time in s, whether the line closed, and its number on this line, from 1."""

    moment: float
    closed: bool
    number: int


class Line:
    """One input with both edges, debounced by the kernel; open until it is given up, since systemd keeps it too."""

    def __init__(self, handle: int) -> None:
        """`handle` is an open request, or the simulated kernel's pipe."""
        self.handle = handle
        os.set_blocking(handle, False)

    def fileno(self) -> int:
        """File descriptor, for a loop that waits for edges."""
        return self.handle

    def edges(self) -> Iterator[Edge]:
        """Give the edges that have come; OSError where the chip is gone."""
        while True:
            try:
                data = os.read(self.handle, 64 * _EVENT.size)
            except BlockingIOError:
                return
            for moment, kind, _, _, number in _EVENT.iter_unpack(data[: len(data) // _EVENT.size * _EVENT.size]):
                yield Edge(moment / 1e9, kind == CLOSES, number)
            if len(data) < 64 * _EVENT.size:
                return


def event(moment: float, closed: bool, pin: int, number: int) -> bytes:
    """Return an edge as the kernel writes it, for simulators."""
    return _EVENT.pack(round(moment * 1e9), CLOSES if closed else 2, pin, number, number)


def label_of(chip: str, pin: int, bias: Bias, debounce: float, name: str) -> str:
    """Name under which systemd keeps a request: all that the kernel was asked for, so that none is taken for another."""
    where = chip.partition(":")[2].rpartition("/")[2]
    return f"{name}_{pin}_{bias}_{round(debounce * 1000)}" + (f"_{where}" if where else "")


def open_line(chip: str, pin: int, bias: Bias, debounce: float, name: str) -> Line:
    """Open a line; a closed contact to ground is active where `bias` is up. DeviceError says why it cannot be."""
    kind, _, where = chip.partition(":")
    if kind == "sim":
        return _simulated(Path(where, str(pin)))
    label = label_of(chip, pin, bias, debounce, name)
    if (kept := stored(label)) is not None:
        return Line(kept)
    path = Path(where) if where else own_chip()
    flags = _INPUT | _BOTH_EDGES | _BIAS[bias] | (_ACTIVE_LOW if bias == "up" else 0)
    micro = struct.pack("=I4x", round(debounce * 1e6))
    request = bytearray(
        _REQUEST.pack(pin, *[0] * 63, name.encode()[:31], flags, 1, _DEBOUNCE, 0, micro, 1, 1, EVENTS, 0)
    )
    try:
        with path.open("rb", 0) as device:
            fcntl.ioctl(device, _GET_LINE, request)
    except OSError as error:
        raise DeviceError(f"GPIO {pin} of {path} {_trouble(error)}") from None
    handle = int(_REQUEST.unpack(request)[-1])
    store(handle, label)
    return Line(handle)


def _simulated(path: Path) -> Line:
    """Open a pipe as the kernel gives a line: to one at a time."""
    handle = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(handle)
        raise DeviceError(f"GPIO {path.name} of {path.parent} {_trouble(OSError(errno.EBUSY, ''))}") from None
    return Line(handle)


def own_chip() -> Path:
    """Find the chip with a Raspberry Pi's pins; DeviceError where there is none."""
    chips = sorted(Path("/dev").glob("gpiochip*"))
    for chip in chips:
        info = bytearray(_INFO.size)
        try:
            with chip.open("rb", 0) as device:
                fcntl.ioctl(device, _CHIP_INFO, info)
        except OSError:
            continue
        if _INFO.unpack(info)[1].rstrip(b"\0").decode("ascii", "replace") in LABELS:
            return chip
    if chips:
        return chips[0]
    raise DeviceError("there is no /dev/gpiochip…: this machine has no GPIO that the kernel knows")


def store(handle: int, name: str) -> None:
    """Ask systemd to keep an open request for the next start of the service; where there is none, nobody does."""
    address = os.environ.get("NOTIFY_SOCKET", "")
    if not address:
        return
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as notifier:
        notifier.connect("\0" + address[1:] if address.startswith("@") else address)
        socket.send_fds(notifier, [f"FDSTORE=1\nFDNAME={name}".encode()], [handle])


def stored(name: str) -> int | None:
    """File descriptor that systemd has kept under a name, or None (sd_listen_fds_with_names(3))."""
    names = _stored_names()
    return 3 + names.index(name) if name in names else None


def strays(prefix: str, wanted: Collection[str]) -> Iterator[tuple[int, str, Line]]:
    """Give what systemd has kept of an earlier configuration, by pin and label: the kernel gives such a line to nobody else."""
    for label in _stored_names():
        pin = label.removeprefix(f"{prefix}_").partition("_")[0]
        if label.startswith(f"{prefix}_") and pin.isdecimal() and label not in wanted:
            yield int(pin), label, Line(3 + _stored_names().index(label))


def give_up(line: Line, label: str) -> None:
    """Give a line back to the kernel; systemd forgets it too."""
    names = _stored_names()
    if label in names:
        os.environ["LISTEN_FDNAMES"] = ":".join("" if name == label else name for name in names)
    notify(FDSTOREREMOVE=1, FDNAME=label)
    os.close(line.handle)


def _stored_names() -> list[str]:
    if os.environ.get("LISTEN_PID") != str(os.getpid()):
        return []
    return os.environ.get("LISTEN_FDNAMES", "").split(":")


def _trouble(error: OSError) -> str:
    match error.errno:
        case errno.EBUSY:
            return "is in use by another program"
        case errno.EACCES:
            return "may not be used: the service's user needs the group gpio"
        case errno.EINVAL:
            return "cannot be set up so: is there such a pin, and is the kernel 5.10 or later?"
        case _:
            return f"cannot be used: {error.strerror}"
