"""Meters that are listed over MQTT: kept in the machine's file beside topics.yaml, with topics that make themselves."""

import itertools
import logging
import math
import time
from collections.abc import Sequence
from typing import Any, Final

from bootstrap_lib import DocumentError, RequestError, Source, reason, secrets
from bootstrap_lib import machine_file as machine
from services.meters import topics
from services.meters.gateway import Listed, Rejected
from services.protocols.wmbus import Telegram

log = logging.getLogger(__name__)

LEARN_EVERY: Final = 5.0
"""Seconds between two additions to the machine's file: each makes all services read it."""


class MeterList:
    """The list of one service, its keys in a folder of its own."""

    def __init__(self, service: Source) -> None:
        """`service` is the one that hears the meters."""
        self._service = service
        self._learned_at = -math.inf
        self.secrets = service.state_folder / "secrets"
        """Folder of the keys."""

    def take_over(self, entries: Sequence[Listed | Rejected], *, add: bool) -> None:
        """Replace the list, or `add` to it, and use it; RequestError if it has no good meter, or is refused. OSError."""
        meters = [entry for entry in entries if isinstance(entry, Listed)]
        wrong = [f"{entry.id}: {entry.reason}" for entry in entries if isinstance(entry, Rejected)]
        if wrong and not meters:
            raise RequestError("; ".join(wrong))
        try:
            self._write(meters, add=add)
        except DocumentError as error:
            raise RequestError(str(error)) from None
        if problems := self._service.reload():
            raise RequestError("; ".join(map(str, problems)))

    def _write(self, meters: Sequence[Listed], *, add: bool) -> None:
        instance = self._service.registry.instances[self._service.name]
        secrets.keep(self.secrets, {f"wmbus.{meter.id}": meter.key for meter in meters if meter.key})
        for meter in meters:
            if not meter.key:
                (self.secrets / f"wmbus.{meter.id}").unlink(missing_ok=True)
        listed: dict[str, Any] = {}

        def edit(content: dict[str, Any]) -> None:
            section = content.setdefault(instance.section, {})
            options = section[instance.name] = section.get(instance.name) or {}
            listed.update(options.get("meters", {}) if add else {})
            listed.update({meter.id: {"name": meter.manufacturer} for meter in meters})
            options["meters"] = listed
            things = {topics.thing_of(number, meter["name"]) for number, meter in listed.items()}
            content["topics"] = {
                name: line
                for name, line in content.get("topics", {}).items()
                if line.get("from") != instance.name or name.rpartition("/")[0] in things
            }

        machine.change(self._service.registry.path, edit)
        for path in self.secrets.glob("wmbus.*"):
            if path.name.removeprefix("wmbus.") not in listed:
                path.unlink()

    def learn(self, number: str, name: str, telegram: Telegram) -> None:
        """Write topics for the records of a listed meter that have none, and take them over."""
        registry, now = self._service.registry, time.monotonic()
        made = topics.lines(telegram.records, registry.instances[self._service.name], number, name)
        made = {topic: line for topic, line in made.items() if topic not in registry.topics}
        if not made or now - self._learned_at < LEARN_EVERY:
            return
        self._learned_at = now
        place = f"{topics.thing_of(number, name)}/"
        room = topics.MOST_RECORDS - sum(topic.startswith(place) for topic in registry.topics)
        made = dict(itertools.islice(made.items(), max(0, room)))
        if not made:
            return
        try:
            news = machine.change(registry.path, lambda content: content.setdefault("topics", {}).update(made))
        except (OSError, DocumentError) as error:
            self._service.error(f"topics of meter {number} cannot be written beside topics.yaml: {reason(error)}")
            return
        if news:  # else topics.yaml is wrong in another place, and would be refused again and again
            log.info("meter %s has %d new topics below %s", number, len(made), topics.PLACE)
            self._service.reload()
