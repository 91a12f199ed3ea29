"""A source's voice without its loop: readings at chosen times and places in their sequence, by a plain client."""

import sqlite3
import time
from contextlib import closing
from pathlib import Path
from typing import Any

import paho.mqtt.client as mqtt
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties

from bootstrap_lib.reading import Reading, encode


def now() -> int:
    """Milliseconds since 1970, as readings are stamped."""
    return time.time_ns() // 1_000_000


class Voice:
    """Publishes as a source does: QoS 1, retained, with the user property `seq`."""

    def __init__(self, port: int, stream: str = "ab12") -> None:
        self.stream = stream
        self._client = mqtt.Client(mqtt.CallbackAPIVersion.VERSION2, protocol=mqtt.MQTTv5)
        self._client.reconnect_delay_set(1, 1)
        self._client.max_inflight_messages_set(1000)
        self._client.connect("127.0.0.1", port)
        self._client.loop_start()

    def say(
        self,
        topic: str,
        value: Any,
        moment: int,
        number: int | None = None,
        previous: int | None = None,
        *,
        unit: str = "°C",
    ) -> mqtt.MQTTMessageInfo:
        """Publish a reading; its predecessor is the number before, unless it says another."""
        return self.raw(topic, encode(Reading(topic, value, unit, moment)), number, previous)

    def raw(
        self, topic: str, payload: bytes, number: int | None = None, previous: int | None = None
    ) -> mqtt.MQTTMessageInfo:
        """Publish any payload."""
        properties = None
        if number is not None:
            properties = Properties(PacketTypes.PUBLISH)
            before = number - 1 if previous is None else previous
            properties.UserProperty = ("seq", f"{self.stream}:{before}:{number}")
        return self._client.publish(f"home/data/{topic}", payload, 1, retain=True, properties=properties)

    def close(self) -> None:
        """End the connection."""
        self._client.disconnect()
        self._client.loop_stop()


def ask_database(path: Path, query: str) -> list[tuple[Any, ...]]:
    """Rows of a database in use; none while it is not there yet."""
    if not path.exists():
        return []
    with closing(sqlite3.connect(path, timeout=5)) as database:
        try:
            return database.execute(query).fetchall()
        except sqlite3.OperationalError:
            return []
