"""Records of a meter as topics: the lines that listed meters get, and values in the units of their topics."""

from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Final

from bootstrap_lib import Failure, Instance, Topic, Value, quantities
from services.meters.gateway import thing
from services.protocols.wmbus import Record, Telegram

PLACE: Final = "meters"
"""First word of the topics that are made."""
STALE: Final = "15m"
"""Silence after which those topics are cleared, where their source says nothing else."""
MOST_RECORDS: Final = 64
"""Topics that are made for one meter."""
FACTORS: Final = {("kW", "W"): 1000, ("m³", "l"): 1000, ("m³/h", "l/h"): 1000, ("h", "s"): 3600, ("d", "h"): 24}
"""From a record's unit to that of a topic, where they differ."""


def thing_of(number: str, name: str) -> str:
    """Place and thing below which a listed meter's topics stand."""
    return f"{PLACE}/{thing(number, name)}"


def lines(records: Iterable[Record], instance: Instance, number: str, name: str) -> dict[str, dict[str, Any]]:
    """Return a line of topics for each number that a meter says, by the name of its topic."""
    made: dict[str, dict[str, Any]] = {}
    for record in records:
        row = quantities.QUANTITIES.get(record.quantity)
        if row is None or not quantities.WORD.fullmatch(record.name) or not isinstance(record.value, (int, float)):
            continue
        line = made[f"{thing_of(number, name)}/{record.name}"] = {"from": instance.name, "meter": number}
        if quantities.quantity_of(record.name) is not row:
            line["quantity"] = record.quantity
        if record.unit != row.unit and (record.unit, row.unit) not in FACTORS:
            line["unit"] = record.unit
        if "stale" not in instance.raw:
            line["stale"] = STALE
    return made


def values_of(
    topics: Mapping[str, Iterable[Topic[Any]]], telegram: Telegram, signal: float | None
) -> Iterator[tuple[Topic[Any], Value | Failure]]:
    """Yield what a telegram says for topics by the names of records; `signal` in dBm where it was measured."""
    for record in telegram.records:
        yield from ((topic, _value(topic, record)) for topic in topics.get(record.name, ()))
    yield from ((topic, ", ".join(telegram.status) or "ok") for topic in topics.get("status", ()))
    if signal is not None:
        yield from ((topic, signal) for topic in topics.get("signal", ()))


def _value(topic: Topic[Any], record: Record) -> Value | Failure:
    """Value of a record in the unit of its topic, or why there is none."""
    value = record.value
    if value is None:
        return Failure(f"the meter has no value for {record.name} now")
    if topic.kind == "text":
        return str(value)
    if topic.kind == "switch":
        return bool(value)
    if record.unit == topic.given or isinstance(value, str):
        return value
    factor = FACTORS.get((record.unit, topic.given))
    if factor is None:
        return Failure(f"the meter says {record.name} in {record.unit or 'no unit'}: write unit: '{record.unit}'")
    return value * factor
