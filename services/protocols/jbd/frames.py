"""Frames of JBD batteries: how they are made, found in fragments, and refused.

    request   DD A5 command length data checksum 77
    answer    DD command status length data checksum 77     checksum = -(status + length + data) modulo 65536

The battery's Bluetooth module is a transparent serial line: an answer arrives in notifications of any size, usually 20
bytes, answers can be glued together, and 77 is a data byte like any other. Only length and checksum make a frame.
"""

from __future__ import annotations

from typing import Final

from services.protocols import battery
from services.protocols.battery import BatteryRequest, Frame, GattChannel, Rejection

START: Final = 0xDD
END: Final = 0x77
READ: Final = 0xA5
WRITE: Final = 0x5A
OVERHEAD: Final = 7
"""Bytes of a frame besides its data."""

BASIC_INFO: Final = 0x03
CELL_VOLTAGES: Final = 0x04
HARDWARE_NAME: Final = 0x05
ERROR_COUNTERS: Final = 0xAA

STATUS: Final = {
    0x80: "the battery does not know this command",
    0x81: "the operation is not allowed (factory mode or password)",
    0x82: "the battery received a wrong checksum",
    0x83: "the password is wrong",
}
"""Statuses other than good (V11, page 3)."""


class ModuleReply(Frame, frozen=True):
    """A reply of the Bluetooth module itself (`FF AA command length data sum`), not of the battery behind it."""


def checksum(data: bytes) -> int:
    """Return the 16-bit checksum of status, length and data (an answer) or command, length and data (a request)."""
    return -sum(data) & 0xFFFF


def _framed(second: int, body: bytes) -> bytes:
    return bytes((START, second)) + body + battery.from_words((checksum(body),)) + bytes((END,))


def encode_request(command: int) -> bytes:
    """Return the frame that reads a register; nothing in this module writes."""
    return _framed(READ, bytes((command, 0)))


def encode_answer(command: int, data: bytes, status: int = 0) -> bytes:
    """Return the frame with which a battery answers; at most 255 bytes of data."""
    return _framed(command, bytes((status, len(data))) + data)


CHANNELS: Final = (
    GattChannel(*map(battery.bluetooth_uuid, (0xFF00, 0xFF01, 0xFF02))),
    GattChannel(*map(battery.bluetooth_uuid, (0xFFF0, 0xFFF1, 0xFFF2))),
    GattChannel(*(f"6e40000{digit}-b5a3-f393-e0a9-e50e24dcca9e" for digit in (1, 3, 2))),
)
"""The usual module, the DH04 boards, and dongles that speak the Nordic UART service."""

REQUESTS: Final = (
    BatteryRequest("basic info", encode_request(BASIC_INFO)),
    BatteryRequest("cell voltages", encode_request(CELL_VOLTAGES)),
    BatteryRequest("error counters", encode_request(ERROR_COUNTERS), optional=True),
    BatteryRequest("hardware name", encode_request(HARDWARE_NAME), optional=True, once=True),
)


def _module_reply(fragment: bytes) -> ModuleReply | None:
    if len(fragment) < 5 or len(fragment) != fragment[3] + 5 or sum(fragment[2:-1]) & 0xFF != fragment[-1]:  # noqa: PLR2004
        return None
    return ModuleReply(fragment[2], 0, fragment[4:-1])


class JbdAssembler(battery.FrameAssembler):
    """Finds frames by length and checksum; never holds more than one (262 bytes) between two calls.

    A beginning whose status no battery has does not make a good frame behind it wait.
    """

    START = START

    def feed(self, fragment: bytes) -> list[Frame | Rejection]:
        """Return the frames and rejections that the fragment completed; a reply of the module is a fragment alone."""
        if fragment[:2] == b"\xff\xaa" and (reply := _module_reply(fragment)):
            return [reply]
        return super().feed(fragment)

    def size(self, beginning: bytearray) -> int:
        """Return the bytes of a frame; any byte 0xDD may begin one."""
        return beginning[3] + OVERHEAD if len(beginning) > 3 else OVERHEAD  # noqa: PLR2004 - where the length stands

    def read(self, frame: bytes) -> Frame | str:
        """Verify end and checksum."""
        if frame[-1] != END:
            return f"A frame of {len(frame)} bytes ends with {frame[-1]:02X} instead of 77."
        said, right = int.from_bytes(frame[-3:-1], "big"), checksum(frame[2:-3])
        if said != right:
            return f"The checksum is {said:04X}, but {right:04X} would be right for these bytes."
        return Frame(frame[1], frame[2], frame[4:-3])

    def passed_over(self, beginning: bytearray) -> int:
        """Return where a whole frame begins behind an unfinished one that is none; 0 when it is worth to wait."""
        if len(beginning) < 4 or beginning[1] in (READ, WRITE) or beginning[2] in (0, *STATUS):  # noqa: PLR2004
            return 0
        start = beginning.find(START, 1)
        while 0 < start < len(beginning) - 3:
            frame = bytes(beginning[start : start + beginning[start + 3] + OVERHEAD])
            if len(frame) == frame[3] + OVERHEAD and isinstance(self.read(frame), Frame):
                return start
            start = beginning.find(START, start + 1)
        return 0


def assembler() -> JbdAssembler:
    """Return an assembler with an empty buffer."""
    return JbdAssembler()


def refusal(frame: Frame) -> str | None:
    """Say why a frame is no answer with data: an echoed request, or a status other than good; None when it is one."""
    if frame.command in (READ, WRITE):
        return (
            f"This is a request for 0x{frame.status:02X}, not an answer. A battery that echoes its requests wants to "
            "be paired once: run bluetoothctl, then 'pair' with its address and passkey."
        )
    if frame.status:
        meaning = STATUS.get(frame.status, "the protocol does not say what this means")
        return f"Status 0x{frame.status:02X} to command 0x{frame.command:02X}: {meaning}."
    return None
