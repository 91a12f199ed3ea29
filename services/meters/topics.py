"""Records of a meter as topics: the lines that listed meters get, and values in the units of their topics."""

from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Final

from bootstrap_lib import Failure, Instance, Topic, Value, quantities
from services.meters.meter_list import thing
from services.protocols.wmbus import INVALID, DataRecord, Telegram

PLACE: Final = "meters"
"""First word of the topics that are made."""
STALE: Final = "15m"
"""Silence after which those topics are cleared, where their source says nothing else."""
STATUS: Final = "status_text"
"""Last level of the topic that says how a meter feels."""
MOST_RECORDS: Final = 64
"""Topics that are made for one meter."""
FACTORS: Final = {("kW", "W"): 1000, ("m³", "l"): 1000, ("m³/h", "l/h"): 1000, ("h", "s"): 3600, ("d", "h"): 24} | {
    ("K", "°C"): 1  # of differences, which are all that meters say in K
}
"""From a record's unit to that of a topic, where they differ."""


def thing_of(number: str, name: str) -> str:
    """Place and thing below which a listed meter's topics stand."""
    return f"{PLACE}/{thing(number, name)}"


TEXTS: Final = frozenset(("date", "datetime", "text"))
"""Quantities of records that are shown as text."""


def lines(records: Iterable[DataRecord], instance: Instance, number: str, name: str) -> dict[str, dict[str, Any]]:
    """Return a line of topics for what a meter says, by the name of its topic: numbers, switches, dates and its status.

    What it says in a unit of which none of the house's can be made (months, °C/h) has none.
    """
    thing = thing_of(number, name)
    made: dict[str, dict[str, Any]] = {}
    for record in records:
        text = record.quantity in TEXTS and isinstance(record.value, str)
        row = quantities.QUANTITIES["text"] if text else quantities.QUANTITIES.get(record.quantity)
        known = text or (row is not None and row.kind != "text" and isinstance(record.value, int | float))
        if row is None or not known or not quantities.WORD.fullmatch(record.name):
            continue
        other = not text and record.unit != row.unit and (record.unit, row.unit) not in FACTORS
        if other and not quantities.fits(record.unit, row.unit):
            continue
        line = made[f"{thing}/{record.name}"] = {"from": instance.name, "meter": number}
        if quantities.quantity_of(record.name) is not row:
            line["quantity"] = "text" if text else record.quantity
        if other:
            line["unit"] = record.unit
    made[f"{thing}/{STATUS}"] = {"from": instance.name, "meter": number, "key": "status"}
    if "stale" not in instance.raw:
        for line in made.values():
            line["stale"] = STALE
    return made


def values_of(
    topics: Mapping[str, Iterable[Topic[Any]]], telegram: Telegram, signal: float | None
) -> Iterator[tuple[Topic[Any], Value | Failure]]:
    """Yield what a telegram says for topics by the names of records; `signal` in dBm where it was measured."""
    for record in telegram.records:
        yield from ((topic, _value(topic, record)) for topic in topics.get(record.name, ()))
        if record.value is None and record.name.startswith(INVALID):
            yield from _missed(topics, telegram, record.name.removeprefix(INVALID))
    yield from ((topic, ", ".join(telegram.status) or "ok") for topic in topics.get("status", ()))
    if signal is not None:
        yield from ((topic, signal) for topic in topics.get("signal", ()))


def _missed(
    topics: Mapping[str, Iterable[Topic[Any]]], telegram: Telegram, name: str
) -> Iterator[tuple[Topic[Any], Failure]]:
    """Say that a record reports an error, unless another one has its value."""
    if all(record.name != name for record in telegram.records):
        yield from ((topic, Failure(f"the meter reports an error instead of {name}")) for topic in topics.get(name, ()))


def _value(topic: Topic[Any], record: DataRecord) -> Value | Failure:
    """Value of a record in the unit of its topic, or why there is none."""
    value = record.value
    if value is None:
        return Failure(f"the meter has no value for {record.name} now")
    if topic.options.bit is not None and isinstance(value, int):
        return bool(value >> topic.options.bit & 1)
    if topic.kind == "text":
        return str(value)
    if topic.kind == "switch":
        return bool(value)
    if record.unit == topic.given == "K" != topic.unit:
        return Failure("a difference in K is one in °C, which nothing is taken from: leave the unit out")
    if record.unit == topic.given or isinstance(value, str):
        return value
    factor = FACTORS.get((record.unit, topic.given))
    if factor is None:
        return Failure(f"the meter says {record.name} in {record.unit or 'no unit'}: write unit: '{record.unit}'")
    return value * factor
