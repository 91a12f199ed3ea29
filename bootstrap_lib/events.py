"""What a connection to the broker tells the loop: it is there, it is gone, a message came, a message was taken."""

from typing import NamedTuple


class Connected(NamedTuple):
    """The broker accepted us; `session` tells whether it still knew our session."""

    session: bool


class Disconnected(NamedTuple):
    """The connection is gone."""

    reason: str


class Message(NamedTuple):
    """A message from the broker, with the connection that brought it (see `Bus.acknowledge`).

    `sequence` is the user property `seq` of a reading; `response_topic` and `correlation` are what an MQTT 5 client
    wants of an answer. paho's own properties are not kept: they weigh 6 kB, and a batch waits to be acknowledged.
    """

    topic: str
    payload: bytes
    retained: bool
    mid: int
    connection: int
    sequence: str | None = None
    response_topic: str | None = None
    correlation: bytes | None = None

    @property
    def weight(self) -> int:
        """Bytes that it takes, more or less."""
        sequence, asked, correlation = self.sequence or "", self.response_topic or "", self.correlation or b""
        return len(self.topic) + len(self.payload) + len(sequence) + len(asked) + len(correlation)

    @property
    def receipt(self) -> "Message":
        """What is needed of it to acknowledge it: a batch of long messages would weigh more than a service may."""
        return Message("", b"", self.retained, self.mid, self.connection)


class Published(NamedTuple):
    """The broker's answer to a QoS 1 message: `refusal` says why it did not take it, or None."""

    mid: int
    refusal: str | None


Event = Connected | Disconnected | Message | Published
