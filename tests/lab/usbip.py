"""Virtual USB devices for the kernel's own drivers, over vhci_hcd, which takes a device from any stream socket.

The protocol is USB/IP (the kernel's Documentation/usb/usbip_protocol.rst); descriptors and requests are those of
USB 1.1, chapter 9.
"""

import errno
import socket
import struct
import threading
from pathlib import Path

CONTROLLER = Path("/sys/devices/platform/vhci_hcd.0")
FULL_SPEED = 2
SUBMIT, UNLINK, SUBMITTED, UNLINKED = 1, 2, 3, 4
MESSAGE = struct.Struct(">IIIIIIiIII8s")
"""Command, sequence number, device, direction, endpoint; flags (or the one to unlink), length, and, at the end, setup."""
RETURN = struct.Struct(">IIIIIiIIII8x")
"""Command, sequence number, device, direction, endpoint; status, length, first frame, packets, errors."""
SETUP = struct.Struct("<BBHHH")
"""Type of a control request, request, value, index, length."""
NO_STANDARD = 0x60
"""Bits of the type that are 0 in a request of the standard."""
GET_STATUS, GET_DESCRIPTOR, GET_CONFIGURATION = 0, 6, 8
DEVICE, CONFIGURATION = 1, 2
VENDOR_CLASS = 0xFF


class Stall(Exception):
    """The device does not know what it is asked for."""


class Device:
    """A device with one interface of a class of its vendor; a subclass says which, and does what it is asked."""

    vendor: int
    product: int
    packet = 64
    """Bytes of a packet of the control endpoint."""
    settings = 1
    """Alternate settings of the interface, all with the same endpoints."""
    endpoints: tuple[tuple[int, int, int, int], ...] = ()
    """Address, type (2 bulk, 3 interrupt), packet size, interval."""

    def request(self, request: int, value: int, index: int, data: bytes, length: int) -> bytes:
        """Answer a vendor's control request, with `length` bytes at most; Stall where it is unknown."""
        raise Stall

    def take(self, endpoint: int, data: bytes) -> None:
        """Take what the host sends to an endpoint."""
        raise Stall

    def give(self, endpoint: int, length: int) -> bytes | None:
        """Give what an endpoint has for the host; None makes it wait."""
        raise Stall

    def control(self, setup: bytes, data: bytes) -> bytes:
        """Answer a control request."""
        kind, request, value, index, length = SETUP.unpack(setup)
        if kind & NO_STANDARD:
            return self.request(request, value, index, data, length)
        if request == GET_DESCRIPTOR:
            return self._descriptor(value >> 8)
        return {GET_STATUS: b"\0\0", GET_CONFIGURATION: b"\1"}.get(request, b"")  # all settings are the same to us

    def _descriptor(self, kind: int) -> bytes:
        if kind == DEVICE:
            names = (self.vendor, self.product, 0x0100, 0, 0, 0)
            return struct.pack("<BBHBBBBHHHBBBB", 18, DEVICE, 0x0110, 0, 0, 0, self.packet, *names, 1)
        if kind != CONFIGURATION:
            raise Stall
        ends = b"".join(struct.pack("<BBBBHB", 7, 5, *endpoint) for endpoint in self.endpoints)
        interface = b"".join(
            struct.pack("<9B", 9, 4, 0, setting, len(self.endpoints), VENDOR_CLASS, 0, 0, 0) + ends
            for setting in range(self.settings)
        )
        return struct.pack("<BBHBBBBB", 9, CONFIGURATION, 9 + len(interface), 1, 1, 0, 0x80, 50) + interface


class Port:
    """A port of the virtual controller, into which a device is plugged while the real driver looks on."""

    def __init__(self, number: int, device: Device) -> None:
        self.number, self.device = number, device
        self.plugged_in = False
        self._socket: socket.socket
        self._thread: threading.Thread
        self._received = bytearray()
        self._waiting: dict[int, tuple[int, int]] = {}
        """Transfers to the host that the device has nothing for yet: endpoint and length by sequence number."""

    def plug_in(self) -> None:
        """Attach the device; its driver finds it within a second."""
        self._socket, kernel = socket.socketpair()
        with kernel:
            (CONTROLLER / "attach").write_text(f"{self.number} {kernel.fileno()} {self.number + 1} {FULL_SPEED}")
        self._received.clear()
        self._waiting.clear()
        self._thread = threading.Thread(target=self._serve, name=f"USB port {self.number}", daemon=True)
        self._thread.start()
        self.plugged_in = True

    def pull_out(self) -> None:
        """Detach the device without a word to its driver."""
        (CONTROLLER / "detach").write_text(str(self.number))
        self.plugged_in = False
        self._thread.join(10)
        self._socket.close()

    def _serve(self) -> None:
        while piece := self._socket.recv(65536):
            self._received += piece
            while self._answer_one():
                pass

    def _answer_one(self) -> bool:
        """Do what the next whole message wants; False where there is none."""
        received = self._received
        if len(received) < MESSAGE.size:
            return False
        command, sequence, _, to_host, endpoint, flags, length, *_, setup = MESSAGE.unpack_from(received)
        sends = command == SUBMIT and not to_host
        if len(received) < (whole := MESSAGE.size + (length if sends else 0)):
            return False
        data = bytes(received[MESSAGE.size : whole])
        del received[:whole]
        if command == UNLINK:
            late = self._waiting.pop(flags, None) is None
            self._return(UNLINKED, sequence, 0 if late else -errno.ECONNRESET)
            return True
        try:
            if endpoint == 0:
                answer = self.device.control(setup, data)[:length]
                self._return(SUBMITTED, sequence, 0, b"" if sends else answer, length if sends else None)
            elif sends:
                self.device.take(endpoint, data)
                self._return(SUBMITTED, sequence, 0, b"", length)
            else:
                self._waiting[sequence] = endpoint, length
            self._serve_waiting()
        except Stall:
            self._waiting.pop(sequence, None)
            self._return(SUBMITTED, sequence, -errno.EPIPE)
        return True

    def _serve_waiting(self) -> None:
        for sequence, (endpoint, length) in list(self._waiting.items()):
            if (data := self.device.give(endpoint, length)) is not None:
                del self._waiting[sequence]
                self._return(SUBMITTED, sequence, 0, data)

    def _return(self, kind: int, sequence: int, status: int, data: bytes = b"", length: int | None = None) -> None:
        done = len(data) if length is None else length
        self._socket.sendall(RETURN.pack(kind, sequence, 0, 0, 0, status, done, 0, 0, 0) + data)
