"""The first gateway's dialect: its master lists meters, and hears of them in topics and messages of its own (docs/services/wmbus.md)."""

import logging
from collections.abc import Callable, Iterable, Iterator, Mapping
from datetime import UTC, datetime
from typing import Any, Final, NamedTuple

import msgspec

from bootstrap_lib import Request, RequestError, as_json
from services.meters import meter_list
from services.meters.meter_list import ListedMeter, RejectedMeter

log = logging.getLogger(__name__)

Publish = Callable[[str, bytes], object]
"""Sends a payload to a topic, not retained, at QoS 0."""


class FirstGateway:
    """What the first gateway was to its master, spoken over the service's connection."""

    def __init__(self, gateway_id: str | None) -> None:
        """Without `gateway_id` there is no master, and nothing is heard or said."""
        self._gateway = gateway_id
        self.command = self._topic("sensors", "set") if gateway_id else None
        """Topic on which the master lists the meters."""

    def _topic(self, *words: str) -> str:
        return "/".join(("v2", str(self._gateway), *words))

    @staticmethod
    def read(payload: bytes) -> list[ListedMeter | RejectedMeter]:
        """Read a list; RequestError where it is none."""
        if len(payload) > Request.LONGEST:
            raise RequestError(f"{len(payload)} bytes are too long for a list (at most {Request.LONGEST})")
        try:
            return list(meter_list.read(msgspec.json.decode(payload, type=list[Any])))
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            raise RequestError(f"not a JSON list of meters: {error}") from None

    def answer(self, publish: Publish, entries: Iterable[ListedMeter | RejectedMeter]) -> None:
        """Tell the channels of each meter of a list; there is no message for what is wrong with one, so the log says it."""
        for entry in entries:
            if isinstance(entry, RejectedMeter):
                log.warning("%s: %s is left out: %s", self.command, entry.id, entry.reason)
            else:
                publish(self._topic(f"{entry.manufacturer}-{entry.id}", "config"), as_json(_configuration()))

    def tell(self, publish: Publish, name: str, values: Mapping[str, Any], moment: int) -> None:
        """Tell the values of a telegram, by the names of their records, of the meter `name` at a time (ms)."""
        if self._gateway:
            timestamp = f"{datetime.fromtimestamp(moment // 1000, UTC):%Y-%m-%dT%H:%M:%SZ}"
            for message in _measurements(values, timestamp):
                publish(self._topic(name, "data"), as_json(message))


# -- its messages ---------------------------------------------------------------------------------------------------


class GatewayChannel(NamedTuple):
    """One channel of a meter: the record it shows, its kind and name, and the factor to its unit (kWh, W)."""

    record: str
    data_type: str
    name: str
    factor: int


CHANNELS: Final = (
    GatewayChannel("import_energy", "accumulated-power", "A+ / Active positive energy", 1),
    GatewayChannel("export_energy", "accumulated-power", "A- / Active negative energy", 1),
    GatewayChannel("import_power", "power", "P+ / Active positive power", 1000),
    GatewayChannel("export_power", "power", "P- / Active negative power", 1000),
)
"""The four channels of an OmniPower, whose records are in kWh and kW."""


def _configuration() -> dict[str, Any]:
    """Return the message that announces a meter's channels."""
    return {
        "Channels": [
            {"ChannelNumber": number, "DataType": channel.data_type, "ChannelName": channel.name}
            for number, channel in enumerate(CHANNELS, 1)
        ]
    }


def _measurements(values: Mapping[str, Any], timestamp: str) -> Iterator[dict[str, Any]]:
    """Yield a message for each channel that a telegram has a value for; `timestamp` as 2020-11-17T10:08:00Z."""
    for number, channel in enumerate(CHANNELS, 1):
        value = values.get(channel.record)
        if isinstance(value, (int, float)):
            yield {
                "channelNumber": number,
                "aggregateType": "Raw",
                "dataType": channel.data_type,
                "value": round(value * channel.factor, 3),
                "timestamp": timestamp,
            }
