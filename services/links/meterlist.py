"""Meters that were listed over MQTT, in the machine's file beside topics.yaml, and the topics that are made for them."""

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, Final

from bootstrap_lib import machine
from bootstrap_lib.quantities import QUANTITIES, quantity_of
from bootstrap_lib.registry import WORD, Instance
from bootstrap_lib.secrets import keep
from services.protocols.gateway import Listed, thing
from services.protocols.wmbus import Record

PLACE: Final = "meters"
"""First word of the topics that are made."""
STALE: Final = "15m"
"""Silence after which those topics are cleared, where their source says nothing else."""
MOST_RECORDS: Final = 64
"""Topics that are made for one meter."""
FACTORS: Final = {("kW", "W"): 1000, ("m³", "l"): 1000, ("m³/h", "l/h"): 1000, ("h", "s"): 3600, ("d", "h"): 24}
"""From a record's unit to that of a topic, where they differ."""


def write(registry: Path, instance: Instance, secrets: Path, meters: Sequence[Listed], *, add: bool) -> None:
    """Replace the list, or `add` to it, and keep the keys in the folder `secrets`. DocumentError, OSError."""
    for meter in meters:
        if meter.key:
            keep(secrets, f"wmbus.{meter.id}", meter.key)
        else:
            (secrets / f"wmbus.{meter.id}").unlink(missing_ok=True)
    listed: dict[str, Any] = {}

    def edit(content: dict[str, Any]) -> None:
        section = content.setdefault(instance.section, {})
        options = section[instance.name] = section.get(instance.name) or {}
        listed.update(options.get("meters", {}) if add else {})
        listed.update({meter.id: {"name": meter.manufacturer} for meter in meters})
        options["meters"] = listed
        things = {f"{PLACE}/{thing(number, meter['name'])}" for number, meter in listed.items()}
        content["topics"] = {
            name: line
            for name, line in content.get("topics", {}).items()
            if line.get("from") != instance.name or name.rpartition("/")[0] in things
        }

    machine.change(registry, edit)
    for path in secrets.glob("wmbus.*"):
        if path.name.removeprefix("wmbus.") not in listed:
            path.unlink()


def lines(records: Iterable[Record], instance: Instance, number: str, name: str) -> dict[str, dict[str, Any]]:
    """Return a line of topics for each number that a meter says, by the name of its topic."""
    place = f"{PLACE}/{thing(number, name)}"
    made: dict[str, dict[str, Any]] = {}
    for record in records:
        row = QUANTITIES.get(record.quantity)
        if row is None or not WORD.fullmatch(record.name) or not isinstance(record.value, (int, float)):
            continue
        line = made[f"{place}/{record.name}"] = {"from": instance.name, "meter": number}
        if quantity_of(record.name) is not row:
            line["quantity"] = record.quantity
        if record.unit != row.unit and (record.unit, row.unit) not in FACTORS:
            line["unit"] = record.unit
        if "stale" not in instance.raw:
            line["stale"] = STALE
        if len(made) == MOST_RECORDS:
            break
    return made


def add_topics(registry: Path, made: dict[str, dict[str, Any]]) -> None:
    """Write lines of topics into the machine's file. DocumentError, OSError."""
    machine.change(registry, lambda content: content.setdefault("topics", {}).update(made))
