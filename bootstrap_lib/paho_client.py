"""paho's client with shortcuts past its public calls, which is why its next major version is shut out (docs/decisions.md)."""

import hmac
import socket
import struct
import threading
from typing import Any

import paho.mqtt.client as mqtt
from paho.mqtt.enums import MQTTErrorCode
from paho.mqtt.packettypes import PacketTypes


def _pair() -> tuple[socket.socket, socket.socket]:
    """Two ends by which a thread wakes the network's: paho's own are a port of loopback, which a fenced unit may not bind."""
    ends = socket.socketpair()
    for end in ends:
        end.setblocking(False)
    return ends


mqtt._socketpair_compat = _pair  # noqa: SLF001 (see above)


class PahoClient(mqtt.Client):
    """A client that sends several packets as one piece: one by one each is a call of the system, at which threads take turns."""

    held: list[bytes] | None = None
    """Packets of one thread that go out as one piece, while there is to be one."""
    holder = 0

    def _create_socket_connection(self) -> socket.socket:
        """Connect without binding our own end first, as paho does even to no port: a fenced unit may bind none."""
        return socket.create_connection((self._host, self._port), timeout=self._connect_timeout)

    def bind_to(self, password: str) -> None:
        """Add to the client id what follows from the password: who does not know that cannot take the connection over."""
        mark = hmac.digest(password.encode(), self._client_id, "sha256")[:8].hex()
        self._client_id += f"-{mark}".encode()

    def hold(self) -> None:
        """Hold back what this thread publishes at QoS 1, until `release`."""
        self.held, self.holder = [], threading.get_ident()

    def release(self) -> None:
        """Send what was held back as one piece; where the connection broke meanwhile, the next one sends it anyhow."""
        held, self.held = self.held, None
        if held and self.is_connected():
            super()._packet_queue(PacketTypes.PUBLISH << 4, b"".join(held), 0, 1)

    def _packet_queue(self, command: int, packet: Any, mid: int, qos: int, info: Any = None) -> Any:
        if (
            self.held is None
            or qos != 1
            or command & 0xF0 != PacketTypes.PUBLISH << 4
            or threading.get_ident() != self.holder
        ):
            return super()._packet_queue(command, packet, mid, qos, info)
        self.held.append(bytes(packet))
        return MQTTErrorCode.MQTT_ERR_SUCCESS

    def acknowledge(self, mids: list[int]) -> None:
        """Send all acknowledgements at once: one by one each is a call of the system, at which the threads take turns."""
        if mids:
            packets = b"".join(struct.pack("!BBH", PacketTypes.PUBACK << 4, 2, mid) for mid in mids)
            self._packet_queue(PacketTypes.PUBACK << 4, packets, 0, 1)
