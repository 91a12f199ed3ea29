"""Houses without their machines: a client that publishes as a house's bridge does, with an archive that answers as the real one."""

import json
import threading
import time
from typing import Any

import paho.mqtt.client as mqtt
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties

from bootstrap_lib.reading import format_time, parse_time


class StandInHouse:
    """What a house's bridge brings to the centre. `kept` is its record; what is not sent is still in it."""

    def __init__(self, port: int, name: str = "h1") -> None:
        self.name, self.stream, self.number = name, "ab12", 0
        self.kept: dict[tuple[str, int], Any] = {}
        self.asked: list[dict[str, Any]] = []
        self.drop_pages = 0
        self.silent = False
        self.lock = threading.Lock()
        self._client = mqtt.Client(mqtt.CallbackAPIVersion.VERSION2, protocol=mqtt.MQTTv5)
        self._client.on_connect = lambda client, *_: client.subscribe(f"{name}/home/service/archive/request/+", 1)
        self._client.on_message = self._answer
        self._client.max_inflight_messages_set(1000)
        self._client.reconnect_delay_set(1, 1)
        self._client.connect("127.0.0.1", port)
        self._client.loop_start()

    def say(
        self, topic: str, value: Any, moment: int, *, lost: bool = False, unit: str = "°C", previous: int | None = None
    ) -> None:
        """Take a reading into the record, and send it unless it is `lost` on the way."""
        with self.lock:
            self.number += 1
            number = self.number
            self.kept[topic, moment] = value
        if not lost:
            payload = {"value": value, "unit": unit, "time": format_time(moment)}
            self.raw(f"home/data/{topic}", json.dumps(payload), number=number, previous=previous, retain=True)

    def clear(self, topic: str, *, lost: bool = False) -> None:
        """Clear a topic."""
        self.number += 1
        if not lost:
            self.raw(f"home/data/{topic}", b"", number=self.number, retain=True)

    def raw(
        self, topic: str, payload: str | bytes, *, number: int = 0, previous: int | None = None, retain: bool = False
    ) -> None:
        """Send anything below the house's name."""
        properties = None
        if number:
            properties = Properties(PacketTypes.PUBLISH)
            before = number - 1 if previous is None else previous
            properties.UserProperty = ("seq", f"{self.stream}:{before}:{number}")
        self._client.publish(f"{self.name}/{topic}", payload, 1, retain, properties)

    def registry(self, topics: dict[str, Any], **more: Any) -> None:
        """Say what the topics are."""
        self.raw("home/service/registry", json.dumps({"digest": "1", "topics": topics} | more), retain=True)

    def _answer(self, _client: Any, _data: Any, message: mqtt.MQTTMessage) -> None:
        verb, asked = message.topic.rpartition("/")[2], json.loads(message.payload)
        self.asked.append(asked | {"verb": verb, "at": time.monotonic()})
        if self.silent:
            return
        since, until = parse_time(asked["from"]), parse_time(asked["to"])
        with self.lock:
            rows = sorted(
                (moment, topic, value) for (topic, moment), value in self.kept.items() if since <= moment < until
            )
        if verb == "counts":
            first = since // 3_600_000 * 3_600_000
            hours = list(range(first, until, 3_600_000))
            topics: dict[str, list[int]] = {}
            for moment, topic, _ in rows:
                topics.setdefault(topic, [0] * len(hours))[(moment - first) // 3_600_000] += 1
            data = {"hours": [format_time(hour) for hour in hours], "topics": topics}
            self.raw(
                "home/service/archive/response/counts", json.dumps({"status": "ok", "data": data, "id": asked["id"]})
            )
            return
        for begin in range(0, len(rows), 500):
            if self.drop_pages:
                self.drop_pages -= 1
                continue
            page = [
                {"topic": t, "value": v, "unit": "°C", "time": format_time(m)} for m, t, v in rows[begin : begin + 500]
            ]
            self.raw("home/service/archive/replay/central", json.dumps(page))
        after = min((moment for _, moment in list(self.kept) if moment >= until), default=None)
        end = {"end": True, "count": len(rows), "next": after and format_time(after), "id": asked["id"]}
        self.raw("home/service/archive/replay/central", json.dumps(end))

    def close(self) -> None:
        self._client.disconnect()
        self._client.loop_stop()
