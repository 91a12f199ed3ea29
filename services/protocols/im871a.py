"""The serial protocol of the IMST iM871A radio dongle: messages to bytes, and back whatever noise is between them.

HCI of the WM-Bus Host Controller Interface Specification 1.6 (IMST): `A5 | flags and endpoint | message | length |
payload | [time stamp 4] | [RSSI 1] | CRC 2`, 57600 baud 8N1. No byte is escaped, so only length and CRC find a frame.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from enum import IntEnum
from typing import Final

START: Final = 0xA5
BAUD: Final = 57600
_HEADER: Final = 4
_TIME: Final = 0x20
_RSSI: Final = 0x40
_CRC: Final = 0x80
_RESERVED: Final = 0x10
LONGEST: Final = _HEADER + 255 + 4 + 1 + 2
"""Bytes of the longest frame, and the most that an `DongleAssembler` keeps."""


class Endpoint(IntEnum):
    """Parts of the dongle that messages are for."""

    MANAGEMENT = 1
    RADIO = 2
    RADIO_TEST = 3
    HARDWARE_TEST = 4


class Management(IntEnum):
    """Messages of the endpoint MANAGEMENT; each response is its request plus one."""

    PING = 0x01
    PING_RESPONSE = 0x02
    SET_CONFIGURATION = 0x03
    SET_CONFIGURATION_RESPONSE = 0x04
    GET_CONFIGURATION = 0x05
    GET_CONFIGURATION_RESPONSE = 0x06
    RESET = 0x07
    RESET_RESPONSE = 0x08
    DEVICE_INFORMATION = 0x0F
    DEVICE_INFORMATION_RESPONSE = 0x10


TELEGRAM: Final = 0x03
"""DongleMessage of the endpoint RADIO that carries a received telegram."""


class LinkMode(IntEnum):
    """Radio modes of the dongle."""

    S1 = 0x00
    S1_M = 0x01
    S2 = 0x02
    T1 = 0x03
    T2 = 0x04
    R2 = 0x05
    C1_A = 0x06
    C1_B = 0x07
    C2_A = 0x08
    C2_B = 0x09
    C1_T1 = 0x0A
    """Both at once; from firmware 0x14 on."""


@dataclass(frozen=True, slots=True)
class DongleMessage:
    """One message; `time` in ticks of the dongle's clock and `rssi` as sent, where the dongle attaches them."""

    endpoint: int
    id: int
    payload: bytes = b""
    time: int | None = None
    rssi: int | None = None

    @property
    def telegram(self) -> bytes | None:
        """The received telegram with its L, whose block CRCs the dongle checked; None for another message."""
        if self.endpoint != Endpoint.RADIO or self.id != TELEGRAM:
            return None
        return bytes((len(self.payload),)) + self.payload

    @property
    def signal(self) -> float | None:
        """Received signal in dBm: -100 + (RSSI - 45) / 2, as the dongle's characteristic has it; None without one."""
        return None if self.rssi is None else -100 + (self.rssi - 45) / 2


@dataclass(frozen=True, slots=True)
class DongleInformation:
    """What a dongle says about itself: its kind (0x33 is the iM871A), firmware, interface version, and number."""

    kind: int
    mode: int
    firmware: int
    interface: int
    number: int


_DEVICE_SIZE: Final = 8


def device(message: DongleMessage) -> DongleInformation | None:
    """Read a response about the device; None for another message."""
    wanted = (Endpoint.MANAGEMENT, Management.DEVICE_INFORMATION_RESPONSE)
    if (message.endpoint, message.id) != wanted or len(message.payload) < _DEVICE_SIZE:
        return None
    kind, mode, firmware, interface = message.payload[:4]
    return DongleInformation(kind, mode, firmware, interface, int.from_bytes(message.payload[4:8], "little"))


# --- requests ----------------------------------------------------------------------------------------------------

PING: Final = DongleMessage(Endpoint.MANAGEMENT, Management.PING)
RESET: Final = DongleMessage(Endpoint.MANAGEMENT, Management.RESET)
DEVICE_INFORMATION: Final = DongleMessage(Endpoint.MANAGEMENT, Management.DEVICE_INFORMATION)
GET_CONFIGURATION: Final = DongleMessage(Endpoint.MANAGEMENT, Management.GET_CONFIGURATION)

_VOLATILE: Final = 0
_SETS_LINK_MODE: Final = 0x02
_SETS_RSSI_AND_TIME: Final = 0x30


def configuration(mode: LinkMode, *, rssi: bool = True, time: bool = False) -> DongleMessage:
    """Return the message that sets the radio mode and what is attached to telegrams, until the dongle loses power."""
    payload = bytes((_VOLATILE, _SETS_LINK_MODE, mode, _SETS_RSSI_AND_TIME, rssi, time))
    return DongleMessage(Endpoint.MANAGEMENT, Management.SET_CONFIGURATION, payload)


# --- frames ------------------------------------------------------------------------------------------------------


def _remainder(register: int) -> int:
    for _ in range(8):
        register = register >> 1 ^ 0x8408 if register & 1 else register >> 1
    return register


_TABLE: Final = tuple(map(_remainder, range(256)))


def crc(data: bytes | bytearray) -> int:
    """Return the CRC-16/X-25 of `data`, as it ends each frame, low byte first."""
    register = 0xFFFF
    for byte in data:
        register = register >> 8 ^ _TABLE[(register ^ byte) & 0xFF]
    return register ^ 0xFFFF


def encode(message: DongleMessage) -> bytes:
    """Return the frame of a message, with its CRC; ValueError for more than 255 bytes of payload."""
    flags = _CRC | (_TIME if message.time is not None else 0) | (_RSSI if message.rssi is not None else 0)
    frame = bytes((flags | message.endpoint, message.id, len(message.payload))) + message.payload
    if message.time is not None:
        frame += message.time.to_bytes(4, "little")
    if message.rssi is not None:
        frame += bytes((message.rssi,))
    return bytes((START,)) + frame + crc(frame).to_bytes(2, "little")


class DongleAssembler:
    """Finds frames in what a serial port delivers, in any pieces, and with noise between them.

    A start byte is only a candidate. Where its header is impossible or its CRC does not match, one byte is dropped and
    the search goes on at the next, so that noise never takes a good frame with it. A frame inside a longer one that is
    still arriving is not looked for: a telegram could carry one made up by anybody. Call `pause` when nothing came for
    a tenth of a second: then what is there of a frame will not be completed.
    """

    def __init__(self) -> None:
        self._buffer = bytearray()
        self.dropped = 0
        """Bytes that belonged to no frame."""

    @property
    def incomplete(self) -> bool:
        """Whether the beginning of a frame waits for its rest."""
        return bool(self._buffer)

    def feed(self, data: bytes) -> list[DongleMessage]:
        """Return the messages that `data` completes."""
        messages: list[DongleMessage] = []
        for at in range(0, len(data), LONGEST):
            self._buffer += data[at : at + LONGEST]
            messages += self._messages()
        return messages

    def pause(self) -> list[DongleMessage]:
        """Return what is left once an incomplete frame is given up, because the line has been silent."""
        messages: list[DongleMessage] = []
        while self._buffer:
            self._drop(1)
            messages += self._messages()
        return messages

    def _drop(self, count: int) -> None:
        del self._buffer[:count]
        self.dropped += count

    def _messages(self) -> Iterator[DongleMessage]:
        """Take complete frames off the front until one is incomplete."""
        buffer = self._buffer
        while buffer:
            if buffer[0] != START:
                next_start = buffer.find(START)
                self._drop(next_start if next_start >= 0 else len(buffer))
                continue
            size = _size(buffer)
            if size is None:
                self._drop(1)
            elif len(buffer) < size:
                return
            elif crc(buffer[1 : size - 2]) == int.from_bytes(buffer[size - 2 : size], "little"):
                frame = bytes(buffer[:size])
                del buffer[:size]
                yield _message(frame)
            else:
                self._drop(1)


def _size(buffer: bytearray) -> int | None:
    """Bytes of the frame at the front, as far as its header tells; None where this can be none from a dongle."""
    if len(buffer) > 1:
        flags, endpoint = buffer[1] & 0xF0, buffer[1] & 0x0F
        if not flags & _CRC or flags & _RESERVED or not Endpoint.MANAGEMENT <= endpoint <= Endpoint.HARDWARE_TEST:
            return None
    if len(buffer) < _HEADER:
        return _HEADER
    return _HEADER + buffer[3] + (4 if buffer[1] & _TIME else 0) + (1 if buffer[1] & _RSSI else 0) + 2


def _message(frame: bytes) -> DongleMessage:
    flags, end = frame[1], _HEADER + frame[3]
    time = rssi = None
    payload = frame[_HEADER:end]
    if flags & _TIME:
        time = int.from_bytes(frame[end : end + 4], "little")
        end += 4
    if flags & _RSSI:
        rssi = frame[end]
    return DongleMessage(flags & 0x0F, frame[2], payload, time, rssi)
