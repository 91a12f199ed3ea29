"""The first gateway's dialect: its master lists meters, and hears of them in topics and messages of its own (docs/services/wmbus.md)."""

import logging
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, Final, NamedTuple

import msgspec

from bootstrap_lib import Request, RequestError, as_json
from services.meters import meter_list
from services.meters.meter_list import ListedMeter, RejectedMeter
from services.protocols.wmbus import DataRecord

log = logging.getLogger(__name__)

STOP: Final = "STOP"
"""Topic by which the master ended the first gateway, whatever it says."""
Publish = Callable[[str, bytes], object]
"""Sends a payload to a topic, not retained, at QoS 0."""


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
Channels = tuple[GatewayChannel, ...]
_KINDS: Final = {
    "energy": ("accumulated-power", 1),
    "power": ("power", 1000),
    "volume": ("accumulated-volume", 1),
    "flow": ("flow", 1),
    "temperature": ("temperature", 1),
    "units": ("accumulated-units", 1),
}
"""Kind of a channel, and factor to its unit, by the quantity of other meters' records."""


def _channels_of(records: Sequence[DataRecord]) -> Channels:
    """Return the channels of the meter that sent these records: those of the first gateway, or one for each present number."""
    if {record.name for record in records} & {channel.record for channel in CHANNELS}:
        return CHANNELS
    return tuple(
        GatewayChannel(record.name, *_kind(record))
        for record in records
        if record.quantity in _KINDS and _is_present(record)
    )


def _kind(record: DataRecord) -> tuple[str, str, int]:
    data_type, factor = _KINDS[record.quantity]
    return data_type, record.name.replace("_", " ").capitalize(), factor


def _is_present(record: DataRecord) -> bool:
    """Whether a record is of now: no storage, tariff or part of the meter."""
    now = record.function == "instantaneous" and not (record.storage or record.tariff or record.subunit)
    return now and isinstance(record.value, int | float)


def _configuration(channels: Channels) -> dict[str, Any]:
    """Return the message that announces a meter's channels."""
    return {
        "Channels": [
            {"ChannelNumber": number, "DataType": channel.data_type, "ChannelName": channel.name}
            for number, channel in enumerate(channels, 1)
        ]
    }


def _measurements(channels: Channels, values: Mapping[str, Any], timestamp: str) -> Iterator[dict[str, Any]]:
    """Yield a message for each channel that a telegram has a value for; `timestamp` as 2020-11-17T10:08:00Z."""
    for number, channel in enumerate(channels, 1):
        value = values.get(channel.record)
        if isinstance(value, (int, float)):
            yield {
                "channelNumber": number,
                "aggregateType": "Raw",
                "dataType": channel.data_type,
                "value": round(value * channel.factor, 3),
                "timestamp": timestamp,
            }


class FirstGateway:
    """What the first gateway was to its master, spoken over the service's connection."""

    def __init__(self, gateway_id: str | None, *, obeys: bool = False) -> None:
        """Without `gateway_id` there is no master, and nothing is heard or said; `obeys` the master's STOP."""
        self.speaks_as = gateway_id, obeys
        self.command = self._topic("sensors", "set") if gateway_id else None
        """Topic on which the master lists the meters."""
        self.topics = (self.command, STOP) if self.command else ()
        """Topics on which the master commands."""
        self._channels: dict[str, Channels] = {}

    def _topic(self, *words: str) -> str:
        return "/".join(("v2", str(self.speaks_as[0]), *words))

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
                name = f"{entry.manufacturer}-{entry.id}"
                self._announce(publish, name, self._channels.get(name, CHANNELS))

    def _announce(self, publish: Publish, name: str, channels: Channels) -> None:
        self._channels[name] = channels
        publish(self._topic(name, "config"), as_json(_configuration(channels)))

    def tell(self, publish: Publish, name: str, records: Sequence[DataRecord], moment: int) -> None:
        """Tell the values of a telegram of the meter `name` at a time (ms), and its channels where it has others than were said."""
        if self.command is None:
            return
        channels = _channels_of(records)
        known = self._channels.get(name, CHANNELS)
        if any(channel not in known for channel in channels):  # a meter may say less in some of its telegrams
            self._announce(publish, name, channels)
        channels = self._channels.get(name, CHANNELS)
        timestamp = f"{datetime.fromtimestamp(moment // 1000, UTC):%Y-%m-%dT%H:%M:%SZ}"
        for message in _measurements(channels, {record.name: record.value for record in records}, timestamp):
            publish(self._topic(name, "data"), as_json(message))

    def stop(self, publish: Publish) -> bool:
        """Answer the master's STOP; True if it is to be obeyed."""
        obeys = self.speaks_as[1]
        sentence = "stopping" if obeys else "running: STOP is not obeyed here (compatibility: {stop: obey})"
        publish(self._topic("status"), as_json({"status": sentence}))
        return obeys
