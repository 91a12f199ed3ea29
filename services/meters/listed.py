"""Meters that are listed over MQTT: kept in the machine's file beside topics.yaml, with topics that make themselves."""

import itertools
import logging
import math
import time
from collections.abc import Callable, Collection, Sequence
from pathlib import Path
from typing import Any, Final, Literal

from bootstrap_lib import DocumentError, Instance, Problem, Registry, RequestError, secrets
from services.meters import topics
from services.meters.meter_list import ListedMeter, RejectedMeter
from services.protocols.wmbus import Telegram

log = logging.getLogger(__name__)

REFUSED: Final = 60.0
"""Seconds after which new topics are written at the earliest where those before were refused, or were there already."""
LEARN_EVERY: Final = 0.5
"""Seconds for which new topics are gathered: each addition to the machine's file makes all services read it."""
REST: Final = 4.0
"""How many times as long as an addition took the service does something else before the next one."""


ListMode = Literal["replace", "add", "remove"]
"""What a request does with the list."""


class MeterList:
    """The list of one service: what is written of it, and when the service is to read that."""

    def __init__(self, folder: Path, reload: Callable[[], Sequence[Problem]]) -> None:
        """`folder` is for the meters' keys; `reload` takes over what was written, and says what is wrong with it."""
        self.secrets = folder
        self._reload = reload
        self._new: dict[str, dict[str, Any]] = {}
        self._due = math.inf
        self._rested = -math.inf

    def take_over(
        self, registry: Registry, instance: Instance, entries: Sequence[ListedMeter | RejectedMeter], mode: ListMode
    ) -> None:
        """Replace the list, add to it or remove of it, and use it; RequestError if it has no good meter, or is refused. OSError."""
        meters = [entry for entry in entries if isinstance(entry, ListedMeter)]
        wrong = [f"{entry.id}: {entry.reason}" for entry in entries if isinstance(entry, RejectedMeter)]
        if wrong and not meters:
            raise RequestError("; ".join(wrong))
        try:
            self._write(registry, instance, meters, mode)
        except DocumentError as error:
            raise RequestError(str(error)) from None
        if problems := self._reload():
            raise RequestError("; ".join(map(str, problems)))

    def _write(self, registry: Registry, instance: Instance, meters: Sequence[ListedMeter], mode: ListMode) -> None:
        removed = {meter.id for meter in meters} if mode == "remove" else set()
        kept = [meter for meter in meters if meter.id not in removed]
        secrets.keep(self.secrets, {f"wmbus.{meter.id}": meter.key for meter in kept if meter.key})
        listed: dict[str, Any] = {}

        def edit(content: dict[str, Any]) -> None:
            section = content.setdefault(instance.section, {})
            options = section[instance.name] = section.get(instance.name) or {}
            before = options.get("meters", {}) if mode != "replace" else {}
            if strange := sorted(removed - before.keys()):
                raise RequestError(f"not listed over MQTT, so it cannot be removed: {', '.join(strange)}")
            listed.update({number: meter for number, meter in before.items() if number not in removed})
            listed.update({meter.id: {"name": meter.manufacturer} for meter in kept})
            options["meters"] = listed
            things = {topics.thing_of(number, meter["name"]) for number, meter in listed.items()}
            content["topics"] = {
                name: line
                for name, line in content.get("topics", {}).items()
                if line.get("from") != instance.name or name.rpartition("/")[0] in things
            }

        registry.edit_lists(edit)
        things = {topics.thing_of(number, meter["name"]) for number, meter in listed.items()}
        self._new = {name: line for name, line in self._new.items() if name.rpartition("/")[0] in things}
        without = {meter.id for meter in kept if not meter.key}
        for file in self.secrets.glob("wmbus.*"):
            if (number := file.name.removeprefix("wmbus.")) not in listed or number in without:
                file.unlink()

    @property
    def silence(self) -> float:
        """Seconds until `write_new` has something to write."""
        return max(0.01, self._due - time.monotonic())

    def learn(self, registry: Registry, instance: Instance, number: str, name: str, telegram: Telegram) -> bool:
        """Gather topics for what a listed meter says and has no topic for; `write_new` writes them. True if there are any."""
        made = topics.lines(telegram.records, instance, number, name)
        made = {topic: line for topic, line in made.items() if topic not in registry.topics and topic not in self._new}
        if not made:
            return False
        place = f"{topics.thing_of(number, name)}/"
        there = sum(topic.startswith(place) for topic in itertools.chain(registry.topics, self._new))
        made = dict(itertools.islice(made.items(), max(0, topics.MOST_RECORDS - there)))
        if made and not self._new:
            self._due = max(time.monotonic() + LEARN_EVERY, self._rested)
        self._new |= made
        return bool(made)

    def write_new(self, registry: Registry) -> Collection[str]:
        """Write the topics that were gathered, when it is time, take them over, and return them. OSError, DocumentError."""
        began = time.monotonic()
        if began < self._due:
            return ()
        new, self._new, self._due = self._new, {}, math.inf
        rest = REFUSED
        try:
            # where nothing is new, what is written was refused, and would be again and again
            if registry.edit_lists(lambda content: content.setdefault("topics", {}).update(new)):
                log.info("%d new topics below %s", len(new), topics.PLACE)
                self._reload()
                rest = 0.0
        finally:
            now = time.monotonic()
            self._rested = now + max(rest, REST * (now - began))
        return new
