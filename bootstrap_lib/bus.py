"""The MQTT client of every process: MQTT 5, TLS, will, sessions, reconnection, and honest acknowledgements.

paho's network thread does nothing but hand events to the main loop's inbox; no callback of ours can fail or
block it.
"""

import contextlib
import logging
import random
import socket
import ssl
import struct
import sys
import threading
from collections.abc import Callable, Iterable, Iterator
from typing import Any, Final

import paho.mqtt.client as mqtt
from paho.mqtt.enums import CallbackAPIVersion
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties
from paho.mqtt.subscribeoptions import SubscribeOptions

from bootstrap_lib import secrets
from bootstrap_lib.document import reason as reason_of
from bootstrap_lib.entries import Broker
from bootstrap_lib.events import Connected, Disconnected, Event, Message, Published
from bootstrap_lib.paho_client import PahoClient

log = logging.getLogger(__name__)

WILL_DELAY: Final = 10
"""Seconds between a lost connection and `offline`: a restart does not ring alarms."""


SEQUENCE: Final = 100
"""Letters of the longest place in a sequence: two numbers of 64 bits and the name of a stream."""

LARGEST: Final = 2_000_000
"""Bytes of the largest packet that the broker may send us: a page of a replay, a graph and a list of meters are below."""


class _UserProperty:
    """The one property of a reading, packed at once: paho's general way takes as long as the rest of publishing."""

    LONGEST: Final = 127

    def __init__(self, name: str, value: str) -> None:
        key, text = name.encode(), value.encode()
        self.packed = b"\x26" + struct.pack("!H", len(key)) + key + struct.pack("!H", len(text)) + text

    def pack(self) -> bytes:
        return bytes((len(self.packed),)) + self.packed


class Bus:
    """One connection to the broker under the instance's name. Events go to `post`, from the network thread."""

    def __init__(
        self,
        broker: Broker,
        name: str,
        post: Callable[[Event], None],
        *,
        will: str | None = None,
        session_expiry: int = 3600,
        receive_maximum: int = 1000,
        client_id: str | None = None,
        exact: bool = False,
    ) -> None:
        """Prepare a client; `will` is the topic on which the broker says `offline` for us.

        `exact`: the client id bears no mark of the password, to take over somebody else's connection.
        """
        self._exact = exact
        self.broker, self.name = broker, name
        self._post = post
        self._lock = threading.Lock()
        self._connection = 0
        self._trouble: str | None = None
        self._session_expiry, self._receive_maximum = session_expiry, receive_maximum
        self.online = False
        self._latest: mqtt.MQTTMessageInfo | None = None
        self._client = client = PahoClient(
            CallbackAPIVersion.VERSION2, client_id=client_id or name, protocol=mqtt.MQTTv5, manual_ack=True
        )
        client.suppress_exceptions = True
        client.reconnect_delay_set(random.randint(1, 2), random.randint(20, 40))  # noqa: S311 (jitter)
        client.max_queued_messages_set(0)
        client.on_pre_connect = self._on_pre_connect
        client.on_connect = self._on_connect
        client.on_connect_fail = self._on_connect_fail
        client.on_disconnect = self._on_disconnect
        client.on_message = self._on_message
        client.on_publish = self._on_publish
        if will:
            client.will_set(
                will,
                b"offline",
                1,
                retain=True,
                properties=properties(PacketTypes.WILLMESSAGE, WillDelayInterval=WILL_DELAY),
            )

    def start(self) -> None:
        """Connect in the background, now or whenever the broker is there. SecretError, OSError for wrong credentials files."""
        broker, client = self.broker, self._client
        if broker.password:
            password = secrets.resolve(self._named(broker.password))
            client.username_pw_set(self._named(broker.user), password)
            if not self._exact:
                client.bind_to(password)
        if broker.ca:
            try:
                context = ssl.create_default_context(cafile=broker.ca)
                if broker.certificate:
                    context.load_cert_chain(
                        self._named(str(broker.certificate)), self._named(str(broker.key or broker.certificate))
                    )
            except OSError as error:
                raise OSError(
                    f"TLS: {broker.ca} or the client certificate cannot be used: {reason_of(error)}"
                ) from None
            client.tls_set_context(context)
        self._connect()

    def _connect(self) -> None:
        broker, client = self.broker, self._client
        connect = properties(
            PacketTypes.CONNECT,
            SessionExpiryInterval=self._session_expiry,
            ReceiveMaximum=self._receive_maximum,
            MaximumPacketSize=LARGEST,
        )
        client.connect_async(broker.host, self.port, int(broker.keepalive), clean_start=False, properties=connect)
        client.loop_start()

    def revive(self) -> None:
        """Begin anew if an error ended paho's network thread: the loop would turn on, deaf and dumb, and nobody would notice."""
        if getattr(self._client, "_thread", None) is None:
            log.error("the network thread ended, which it never should; it is begun again")
            self._on_disconnect(self._client, None, None, "the network thread ended", None)
            self._connect()

    @property
    def port(self) -> int:
        """The broker's port: as configured, or the usual one with or without TLS."""
        return self.broker.reached_at

    def _named(self, text: str) -> str:
        return text.replace("{instance}", self.name)

    def stop(self, timeout: float = 3.0) -> None:
        """Say goodbye: what is queued is sent, the session stays, the will is not spoken."""
        if self.online and self._latest is not None:
            with contextlib.suppress(RuntimeError, ValueError):
                self._latest.wait_for_publish(timeout / 2)
        self._client.disconnect()
        thread = getattr(self._client, "_thread", None)
        if thread is not None and thread is not threading.current_thread():
            thread.join(timeout)

    def publish(
        self,
        topic: str,
        payload: bytes,
        *,
        qos: int = 0,
        retain: bool = False,
        expiry: int | None = None,
        user: tuple[str, str] | None = None,
        correlation: bytes | None = None,
    ) -> int:
        """Send a message and return its id, which comes back in `Published` for QoS 1."""
        extra: Any = None
        if user is not None and expiry is None and correlation is None:
            extra = _UserProperty(*user)
        if extra is None or len(extra.packed) > _UserProperty.LONGEST:
            wanted = {"MessageExpiryInterval": expiry, "UserProperty": user, "CorrelationData": correlation}
            given = {name: value for name, value in wanted.items() if value is not None}
            extra = properties(PacketTypes.PUBLISH, **given) if given else None
        info = self._client.publish(topic, payload, qos, retain, extra)
        if qos:
            self._latest = info
        return info.mid

    @contextlib.contextmanager
    def together(self) -> Iterator[None]:
        """Send what is published within, at QoS 1, in one write."""
        self._client.hold()
        try:
            yield
        finally:
            self._client.release()

    def subscribe(self, pattern: str, qos: int = 0, *, only_new: bool = False, as_published: bool = False) -> None:
        """Subscribe; `only_new` leaves out retained messages of a subscription that exists, `as_published` keeps their mark."""
        options = SubscribeOptions(qos=qos, retainHandling=1 if only_new else 0, retainAsPublished=as_published)
        self._client.subscribe(pattern, options=options)

    def unsubscribe(self, pattern: str) -> None:
        """Take a subscription back."""
        self._client.unsubscribe(pattern)

    def acknowledge(self, messages: Iterable[Message]) -> None:
        """Tell the broker that QoS 1 messages are dealt with, but for those of a connection that is gone: it sends them again."""
        with self._lock:
            self._client.acknowledge([m.mid for m in messages if m.mid and m.connection == self._connection])

    # -- paho's callbacks, in the network thread -------------------------------------------------------------

    def _on_pre_connect(self, _client: mqtt.Client, _data: Any) -> None:
        with self._lock:
            self._connection += 1

    def _on_connect(
        self, _client: mqtt.Client, _data: Any, flags: mqtt.ConnectFlags, code: Any, _properties: Any
    ) -> None:
        if code.is_failure:
            self._complain(f"the broker refuses us: {str(code).lower()}; check user and password of '{self.name}'")
            return
        if self._trouble:
            log.info("connected to the broker at %s:%d", self.broker.host, self.port)
        self._trouble = None
        self.online = True
        self._post(Connected(flags.session_present))

    def _on_connect_fail(self, _client: mqtt.Client, _data: Any) -> None:
        error = sys.exc_info()[1]
        said = _explain(error) if error else "no answer"
        self._complain(f"no connection to the broker at {self.broker.host}:{self.port}: {said}; trying on")

    def _on_disconnect(self, _client: mqtt.Client, _data: Any, _flags: Any, code: Any, _properties: Any) -> None:
        self._on_pre_connect(_client, _data)
        was, self.online = self.online, False
        if was:
            said = str(code).lower().replace("unspecified error", "the connection was lost")  # paho's word for it
            if getattr(code, "is_failure", False):
                self._complain(f"the broker at {self.broker.host}:{self.port} is gone: {said}; trying on")
            self._post(Disconnected(said))

    def _complain(self, sentence: str) -> None:
        if sentence != self._trouble:
            self._trouble = sentence
            log.warning("%s", sentence)

    def _on_message(self, _client: mqtt.Client, _data: Any, message: mqtt.MQTTMessage) -> None:
        mid = message.mid if message.qos else 0
        given = vars(message.properties) if message.properties is not None else {}
        sequence = None
        for name, value in given.get("UserProperty", ()):
            if name == "seq" and len(value) <= SEQUENCE:
                sequence = value
        answer = given.get("ResponseTopic"), given.get("CorrelationData")
        payload = bytes(message.payload)
        self._post(Message(message.topic, payload, message.retain, mid, self._connection, sequence, *answer))

    def _on_publish(self, _client: mqtt.Client, _data: Any, mid: int, code: Any, _properties: Any) -> None:
        self._post(Published(mid, str(code).lower() if code.is_failure else None))

    @property
    def trouble(self) -> str | None:
        """Why there is no connection, in a sentence, or None."""
        return self._trouble


def properties(kind: int, **given: Any) -> Properties:
    """MQTT 5 properties of a packet by their names."""
    made = Properties(kind)  # type: ignore[no-untyped-call]
    for name, value in given.items():
        setattr(made, name, value)
    return made


def _explain(error: BaseException) -> str:
    if isinstance(error, ssl.SSLCertVerificationError):
        return f"its certificate is not trusted ({error.verify_message})"
    if isinstance(error, ssl.SSLError):
        return f"TLS failed ({error.reason or error})"
    if isinstance(error, socket.gaierror):
        return "its name is not known"
    return reason_of(error)
