"""Meters of a house that send telegrams: each shows what it is told, under the number and key that topics.yaml gives it."""

import time
from typing import Final, Literal

import msgspec

from bootstrap_lib import Registry, secrets
from services.protocols.wmbus import encode
from services.protocols.wmbus.encode import EncodedRecord, decimal, integer, record

Radio = Literal["C1", "T1", "S1"]


class Shown(msgspec.Struct, frozen=True):
    """What a meter shows: kWh and kW, or m³ and m³/h."""

    total: float = 0.0
    rate: float = 0.0


class Electricity:
    """A Kamstrup OmniPower: AES-CTR, one full frame and then seven compact ones."""

    kind = "electricity"
    radio: Radio = "C1"

    def __init__(self, number: str, key: bytes | None) -> None:
        self._sender = encode.address("KAM", number, 0x30, 0x02)
        self._key, self._count = key, int(time.time()) & 0xFF

    def telegram(self, shown: Shown) -> bytes:
        """Return the next telegram."""
        return self._next(encode.omnipower(shown.total, 0.0, shown.rate, 0.0))

    def _next(self, entries: list[EncodedRecord]) -> bytes:
        self._count += 1
        message = encode.compact(entries) if self._count % 8 else encode.full(entries)
        minutes = int(time.time() / 60) & 0x1FFFFFF
        return encode.extended(self._sender, message, minutes << 4, key=self._key, access=self._count & 0xFF)


class Heat(Electricity):
    """A Kamstrup Multical for heat."""

    kind = "heat"

    def __init__(self, number: str, key: bytes | None) -> None:
        super().__init__(number, key)
        self._sender = encode.address("KAM", number, 0x30, 0x04)

    def telegram(self, shown: Shown) -> bytes:
        """Return the next telegram; the water's temperatures follow from the heat that it brings."""
        flow, spread = 42.0 + 2.0 * shown.rate, 4.0 + shown.rate
        cubic_metres = 0.86 / spread
        return self._next(
            [
                record("0406", integer(round(shown.total), 4)),
                record("0414", integer(round(shown.total * cubic_metres / 1.6 * 100), 4)),
                record("0259", integer(round(flow * 100), 2)),
                record("025D", integer(round((flow - spread) * 100), 2)),
                record("022B", integer(min(32767, round(shown.rate * 1000)), 2)),
                record("023B", integer(round(shown.rate * cubic_metres * 1000), 2)),
            ]
        )


class Water:
    """A water meter of Sensus' kind: T1, security mode 5."""

    kind = "water"
    radio: Radio = "T1"

    def __init__(self, number: str, key: bytes | None) -> None:
        self._sender = encode.address("SEN", number, 0x68, 0x07)
        self._key, self._count = key, int(time.time()) & 0xFF

    def telegram(self, shown: Shown) -> bytes:
        """Return the next telegram."""
        self._count = self._count + 1 & 0xFF
        contents = encode.records(
            [
                record("0C13", decimal(round(shown.total * 1000), 4)),
                record("0A3B", decimal(round(shown.rate * 1000), 2)),
            ]
        )
        if self._key is None:
            return encode.telegram(self._sender, bytes((0x7A, self._count, 0, 0, 0)) + contents)
        return encode.chained(self._sender, contents, self._key, access=self._count)


SimulatedMeter = Electricity | Heat | Water
_SIGNS: Final[tuple[tuple[type[SimulatedMeter], tuple[str, ...]], ...]] = (
    (Electricity, ("import_", "export_")),
    (Heat, ("energy", "flow_temperature", "return_temperature", "power")),
)
"""Which kind a meter of topics.yaml is, by how the names of its values begin; any other is for water."""


def meters_of(registry: Registry) -> list[SimulatedMeter]:
    """Return the meters that topics.yaml names; SecretError where one's key is not there although topics.yaml names it."""
    names: dict[str, list[str]] = {}
    references: dict[str, str] = {}
    for topic in registry.topics.values():
        if registry.instances[topic.source].service == "wmbus":
            number = topic.options["meter"]
            number = f"{number:08d}" if isinstance(number, int) else number
            names.setdefault(number, []).append(topic.options.get("key") or topic.name.rpartition("/")[2])
            if reference := topic.options.get("secret"):
                references[number] = reference
    meters: list[SimulatedMeter] = []
    for number, known in names.items():
        kind = next((kind for kind, signs in _SIGNS if any(name.startswith(signs) for name in known)), Water)
        try:
            key = bytes.fromhex(secrets.resolve(references.get(number, f"secret:wmbus.{number}")))
        except secrets.MissingSecretError:
            if number in references:
                raise
            key = None
        meters.append(kind(number, key))
    return meters
