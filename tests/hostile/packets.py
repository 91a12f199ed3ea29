"""MQTT 5 packets byte by byte: a client library would refuse to send half of what somebody hostile sends."""

import struct
from collections.abc import Iterable

Property = tuple[int, bytes]


def number(value: int) -> bytes:
    """Variable byte integer."""
    found = bytearray()
    while True:
        value, low = divmod(value, 128)
        found.append(low | (128 if value else 0))
        if not value:
            return bytes(found)


def text(content: bytes) -> bytes:
    """Bytes behind their length; what is too long is cut."""
    content = content[:65535]
    return struct.pack("!H", len(content)) + content


def properties(given: Iterable[Property]) -> bytes:
    """Properties as they stand in a packet."""
    packed = b"".join(bytes((kind,)) + content for kind, content in given)
    return number(len(packed)) + packed


def packet(head: int, body: bytes) -> bytes:
    """A whole packet."""
    return bytes((head,)) + number(len(body)) + body


def connect(name: str, password: str, client: str, will: tuple[bytes, bytes, int, bool] | None = None) -> bytes:
    """CONNECT with a clean start; `will` is topic, payload, QoS and retain."""
    flags = 0b11000010
    body = text(client.encode())
    if will is not None:
        topic, payload, qos, retain = will
        flags |= 0b100 | qos << 3 | retain << 5
        body += properties(()) + text(topic) + text(payload)
    body += text(name.encode()) + text(password.encode())
    return packet(0x10, text(b"MQTT") + bytes((5, flags)) + struct.pack("!H", 30) + properties(()) + body)


def publish(
    topic: bytes, payload: bytes, given: Iterable[Property] = (), *, qos: int = 0, retain: bool = False
) -> bytes:
    """PUBLISH."""
    body = text(topic) + (struct.pack("!H", 7) if qos else b"") + properties(given) + payload
    return packet(0x30 | qos << 1 | retain, body)


def subscribe(patterns: Iterable[bytes], qos: int = 0) -> bytes:
    """SUBSCRIBE."""
    return packet(0x82, struct.pack("!H", 9) + properties(()) + b"".join(text(one) + bytes((qos,)) for one in patterns))
