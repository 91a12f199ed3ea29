"""The first gateway's master: it lists meters and hears their values in topics and messages of its own (docs/services/wmbus.md)."""

import logging
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from typing import Any

import msgspec

from bootstrap_lib import Bus, Message, Request, RequestError, as_json
from services.meters import gateway
from services.meters.gateway import Listed, Rejected

log = logging.getLogger(__name__)


class Master:
    """The master of one gateway, spoken with over the service's connection."""

    def __init__(self, gateway_id: str | None) -> None:
        """Without `gateway_id` there is no master, and nothing is heard or said."""
        self._gateway = gateway_id
        self.command = self._topic("sensors", "set") if gateway_id else None
        """Topic on which it lists the meters."""

    def _topic(self, *words: str) -> str:
        return "/".join(("v2", str(self._gateway), *words))

    def listen(self, bus: Bus) -> None:
        """Hear its lists."""
        if self.command:
            bus.subscribe(self.command)

    @staticmethod
    def read(message: Message) -> list[Listed | Rejected]:
        """Read a list; RequestError where it is none."""
        if len(message.payload) > Request.LONGEST:
            raise RequestError(f"{len(message.payload)} bytes are too long for a list (at most {Request.LONGEST})")
        try:
            return list(gateway.read(msgspec.json.decode(message.payload, type=list[Any])))
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            raise RequestError(f"not a JSON list of meters: {error}") from None

    def answer(self, bus: Bus, entries: Iterable[Listed | Rejected]) -> None:
        """Tell the channels of each meter of a list; it has no message for what is wrong with one, so the log says it."""
        for entry in entries:
            if isinstance(entry, Rejected):
                log.warning("%s: %s is left out: %s", self.command, entry.id, entry.reason)
            else:
                bus.publish(self._topic(f"{entry.manufacturer}-{entry.id}", "config"), as_json(gateway.configuration()))

    def tell(self, bus: Bus, name: str, values: Mapping[str, Any], moment: int) -> None:
        """Tell the values of a telegram, by the names of their records, of the meter `name` at a time (ms)."""
        if self._gateway:
            timestamp = f"{datetime.fromtimestamp(moment // 1000, UTC):%Y-%m-%dT%H:%M:%SZ}"
            for message in gateway.measurements(values, timestamp):
                bus.publish(self._topic(name, "data"), as_json(message))
