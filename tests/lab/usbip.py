"""Virtual USB devices for the kernel's own drivers, over vhci_hcd, which takes a device from any stream socket.

The protocol is USB/IP (Documentation/usb/usbip_protocol.rst), descriptors and requests are those of USB 1.1, chapter 9.
"""

import selectors
import socket
import struct
import threading
import time
from pathlib import Path

CONTROLLER = Path("/sys/devices/platform/vhci_hcd.0")
FULL_SPEED = 2
SUBMIT, UNLINK, SUBMITTED, UNLINKED = 1, 2, 3, 4
HEADER = struct.Struct(">5I")  # command, sequence number, device, direction (1: to the host), endpoint
TRANSFER = struct.Struct(">IiIII8s")  # flags, length, first frame, packets, interval, setup
RETURNED = struct.Struct(">5IiiIII8x")  # the header, status, length, first frame, packets, errors
SETUP = struct.Struct("<BBHHH")  # type of request, request, value, index, length
EPIPE, ECONNRESET = 32, 104

TO_HOST, STANDARD = 0x80, 0x60  # bits of the type of a request: its direction, and zeros for a standard one
GET_STATUS, GET_DESCRIPTOR, GET_CONFIGURATION, GET_INTERFACE = 0, 6, 8, 10
DEVICE, CONFIGURATION, STRING = 1, 2, 3
VENDOR_CLASS = 0xFF


class Stall(Exception):
    """The device does not know the request."""


class Device:
    """A device with one interface of the vendor's own class; a subclass names it and answers its requests."""

    vendor: int
    product: int
    control_packet = 64
    settings = 1
    """Alternate settings of the interface, all with the same endpoints."""
    endpoints: tuple[tuple[int, int, int, int], ...] = ()
    """Address, type (2 bulk, 3 interrupt), packet size, interval."""

    def request(self, request: int, value: int, index: int, data: bytes, length: int) -> bytes:
        """Answer a vendor's control request; `length` bytes are wanted at most. Stall where it is unknown."""
        raise Stall

    def take(self, endpoint: int, data: bytes) -> None:
        """Take what was sent to a bulk endpoint."""
        raise Stall

    def give(self, endpoint: int, length: int) -> bytes | None:
        """Give what an endpoint has for the host; None while it has nothing."""
        raise Stall

    def descriptor(self, kind: int, number: int) -> bytes:
        """A descriptor as the host asks for it."""
        if kind == DEVICE:
            head = struct.pack("<BBHBBBB", 18, DEVICE, 0x0110, 0, 0, 0, self.control_packet)
            return head + struct.pack("<HHHBBBB", self.vendor, self.product, 0x0200, 0, 0, 0, 1)
        if kind != CONFIGURATION or number:
            raise Stall
        interfaces = b"".join(
            struct.pack("<9B", 9, 4, 0, setting, len(self.endpoints), VENDOR_CLASS, 0, 0, 0)
            + b"".join(struct.pack("<BBBBHB", 7, 5, *endpoint) for endpoint in self.endpoints)
            for setting in range(self.settings)
        )
        return struct.pack("<BBHBBBBB", 9, CONFIGURATION, 9 + len(interfaces), 1, 1, 0, 0x80, 50) + interfaces

    def control(self, setup: bytes, data: bytes) -> bytes:
        """Answer a control request."""
        kind, request, value, index, length = SETUP.unpack(setup)
        if kind & STANDARD:
            return self.request(request, value, index, data, length)[:length]
        match request:
            case 6:
                return self.descriptor(value >> 8, value & 0xFF)[:length]
            case 0:  # GET_STATUS
                return b"\0\0"
            case 8:  # GET_CONFIGURATION
                return b"\1"
            case _:  # the settings make no difference here
                return b""


class Port:
    """A port of the virtual controller: a device is plugged in and out while its driver looks on."""

    def __init__(self, number: int, device: Device) -> None:
        self.number, self.device = number, device
        self._socket: socket.socket | None = None
        self._thread: threading.Thread | None = None

    def plug_in(self) -> None:
        """Attach the device; its driver finds it within a second."""
        kernel, self._socket = socket.socketpair()
        with kernel:
            line = f"{self.number} {kernel.fileno()} {self.number + 1} {FULL_SPEED}"
            (CONTROLLER / "attach").write_text(line)
        self._thread = threading.Thread(target=self._serve, args=(self._socket,), daemon=True)
        self._thread.start()

    def pull_out(self) -> None:
        """Detach the device without a word, and wait until the port is free."""
        (CONTROLLER / "detach").write_text(str(self.number))
        self._thread.join(10)
        self._socket.close()

    def _serve(self, kernel: socket.socket) -> None:
        """Answer the host until it hangs up."""
        received = bytearray()
        waiting: dict[int, tuple[int, int]] = {}  # by sequence number: the endpoint and length of a transfer to the host
        while piece := kernel.recv(65536):
            received += piece
            while len(received) >= HEADER.size + TRANSFER.size:
                command, sequence, _, to_host, endpoint = HEADER.unpack_from(received)
                _, length, _, _, _, setup = TRANSFER.unpack_from(received, HEADER.size)
                whole = HEADER.size + TRANSFER.size + (length if command == SUBMIT and not to_host else 0)
                if len(received) < whole:
                    break
                data = bytes(received[HEADER.size + TRANSFER.size : whole])
                del received[:whole]
                if command == UNLINK:
                    (victim,) = struct.unpack(">I", ...)
                    continue
