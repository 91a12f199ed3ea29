"""What a scrape reads: the house as the broker has it, in families of Prometheus' metrics.

A value stands here as long as it is alive. What was cleared, is older than its `stale`, or comes from a source that is paused is
not in the next scrape, and not again before a new reading. It never looks at a socket or a file.
"""

import re
import threading
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Final

import msgspec
from prometheus_client.core import Metric
from prometheus_client.registry import Collector

from bootstrap_lib import Reading, Registry, Subscriber
from services.metrics import first_exporters
from services.metrics.families import Families, Standing
from services.metrics.names import PREFIX, STATES, MetricName, metric_of

SPOOL: Final = {
    "waiting": "Readings that wait in a source for the archive's mark.",
    "dead": "Readings that the broker refused.",
}

COUNTER: Final = re.compile(r"[a-z]+(_[a-z]+)*")
MOST_COUNTERS: Final = 100
"""Names of counters that services may bring."""


class Beat(msgspec.Struct):
    """What an instance said of itself, and when it did (monotonic seconds)."""

    status: str = ""
    heard: float = 0.0
    health: Mapping[str, Any] = {}

    def is_alive(self, now: float) -> bool:
        """Whether it is online, and its health no older than three beats."""
        return (
            self.status == "online"
            and bool(self.health)
            and now - self.heard <= Subscriber.BEATS * number(self.health, "beat")
        )


class Board(Collector):
    """Everything that a scrape shows; written by the loop, read by the server's threads."""

    def __init__(
        self,
        registry: Registry,
        compatibility: Mapping[first_exporters.Predecessor, str],
        clock: Callable[[], int],
        monotonic: Callable[[], float],
    ) -> None:
        """`clock` tells wall time in ms, `monotonic` seconds that never step; `compatibility` as in the options."""
        self._lock = threading.Lock()
        self._registry, self._compatibility = registry, dict(compatibility)
        self._clock, self._monotonic = clock, monotonic
        self._metrics: dict[str, MetricName] = {}
        self._labels: dict[str, dict[str, str]] = {}
        self._standing: dict[str, Standing] = {}
        self._newest: dict[str, int] = {}
        """Time (ms) of the newest reading of each topic, also of one that was cleared."""
        self._beats: dict[str, Beat] = {}
        self._alerts: dict[str, dict[str, Any]] = {}
        self.connected = False
        self.scrapes = 0
        self.take(registry, compatibility)

    def take(self, registry: Registry, compatibility: Mapping[first_exporters.Predecessor, str]) -> None:
        """Take over topics.yaml; what it no longer has is forgotten."""
        with self._lock:
            self._registry, self._compatibility = registry, dict(compatibility)
            self._metrics = {name: found for name, topic in registry.topics.items() if (found := metric_of(topic))}
            self._labels = {
                name: dict(zip(("place", "thing", "name"), name.split("/"), strict=True)) for name in self._metrics
            }
            self._standing = {name: one for name, one in self._standing.items() if name in self._metrics}
            self._beats = {name: self._beats.get(name, Beat()) for name in registry.instances}

    # -- what is heard ------------------------------------------------------------------------------------------

    def ask(self) -> None:
        """Believe nothing any more until the broker has said it again."""
        with self._lock:
            self._standing.clear()
            self._newest.clear()
            self._alerts.clear()
            self._beats = {name: Beat() for name in self._beats}

    def read(self, reading: Reading) -> None:
        """Take a reading; one that is not newer than what stands or stood there is a repeat, and changes nothing."""
        with self._lock:
            name = reading.topic
            newest = self._newest.get(name, 0)
            if name in self._metrics and (reading.time > newest or (reading.time == newest and name in self._standing)):
                self._newest[name] = reading.time
                self._standing[name] = Standing(reading.value, reading.time, self._monotonic())

    def clear(self, name: str) -> None:
        """Nobody can measure a topic any more."""
        with self._lock:
            self._standing.pop(name, None)

    def hear(self, name: str, what: str, payload: bytes) -> None:
        """Take a service's status or health; ValueError where it is neither."""
        with self._lock:
            beat = self._beats.get(name)
            if beat is not None and what == "status":
                beat.status = payload[:20].decode("utf-8", "replace")
            elif beat is not None:
                beat.health = msgspec.json.decode(payload, type=dict[str, Any]) if payload else {}
                beat.heard = self._monotonic()

    def alarm(self, name: str, payload: bytes) -> None:
        """Take what an alert says of itself; nothing where it is no more."""
        with self._lock:
            self._alerts.pop(name, None)
            if payload:
                self._alerts[name] = msgspec.json.decode(payload, type=dict[str, Any])

    # -- what is shown ------------------------------------------------------------------------------------------

    def alive(self) -> dict[str, Standing]:
        """What stands on each topic that is alive now."""
        with self._lock:
            return self._alive()

    def _alive(self) -> dict[str, Standing]:
        now, monotonic = self._clock(), self._monotonic()
        return {
            name: one
            for name, one in self._standing.items()
            for topic in (self._registry.topics[name],)
            if now - one.time <= topic.stale * 1000
            and monotonic - one.arrived <= topic.stale
            and self._beats[topic.source].health.get("state") != "paused"
        }

    def collect(self) -> Iterator[Metric]:
        """Families of one scrape, by name."""
        self.scrapes += 1
        with self._lock:
            beats = {
                name: msgspec.structs.replace(beat, health=beat.health if beat.is_alive(self._monotonic()) else {})
                for name, beat in self._beats.items()
            }
            alerts, alive = dict(self._alerts), self._alive()
            registry, metrics, all_labels = self._registry, self._metrics, self._labels  # a reload makes others
            compatibility = self._compatibility
        families = Families()
        for name, one in alive.items():
            metric, labels = metrics[name], all_labels[name]
            if isinstance(one.value, str):
                for word in registry.topics[name].states:
                    families.add(metric.name, metric.help, labels | {"state": word}, word == one.value)
            else:
                families.add(metric.name, metric.help, labels, one.value * metric.factor, metric.kind)
        for kind, whose in compatibility.items():
            first_exporters.add(families, kind, whose, registry, alive)
        families.add(
            f"{PREFIX}_broker_connected", "Whether the exporter is connected to the broker.", {}, self.connected
        )
        for name, beat in beats.items():
            _add_service(families, name, registry.instances[name].service, beat)
        for name, alert in alerts.items():
            labels = {"alert": name, "rule": str(alert.get("rule", name))}
            text = "Whether an alert of the house fires."
            families.add(f"{PREFIX}_alert_firing", text, labels, alert.get("state") == "firing")
            text = "Whether somebody takes care of an alert."
            families.add(f"{PREFIX}_alert_acknowledged", text, labels, alert.get("acknowledged") is True)
        return iter(sorted(families.found.values(), key=lambda family: family.name))


LARGEST: Final = 2**63
"""What a number is below: JSON has longer ones, and no float is as large."""


def number(content: object, *path: str) -> float:
    """Return a number inside of JSON, 0 where there is none."""
    for step in path:
        content = content.get(step) if isinstance(content, Mapping) else None
    return float(content) if isinstance(content, int | float) and abs(content) < LARGEST else 0.0


def _add_service(families: Families, name: str, service: str, beat: Beat) -> None:
    health, label = beat.health, {"service": name}
    families.add(f"{PREFIX}_service_up", "Whether a service is online and beats.", label, bool(health))
    if not health:
        return
    info = label | {"runs": service} | {key: str(health.get(key, ""))[:100] for key in ("version", "host")}
    families.add(f"{PREFIX}_service_info", "What runs as a service, and where.", info, 1)
    for word in STATES:
        labels = label | {"state": word}
        families.add(
            f"{PREFIX}_service_state", "1 for the state that a service is in.", labels, health.get("state") == word
        )
    stale = health.get("stale")
    silent = len(stale) if isinstance(stale, list) else 0
    families.add(f"{PREFIX}_service_stale_topics", "Topics of a service that are silent.", label, silent)
    for what, text in SPOOL.items():
        families.add(f"{PREFIX}_service_spool_{what}", text, label, number(health, "spool", what))
    families.add(f"{PREFIX}_service_starts", "Starts of a service.", label, number(health, "start"), "counter")
    lost = number(health, "spool", "dropped") + number(health, "counters", "lost")
    families.add(f"{PREFIX}_lost_readings", "Readings that are lost for good: it must stay 0.", label, lost, "counter")
    counters = health.get("counters")
    for counter, value in sorted(counters.items())[:MOST_COUNTERS] if isinstance(counters, Mapping) else ():
        if COUNTER.fullmatch(counter) and counter not in ("starts", "lost") and isinstance(value, int | float):
            text = f"What a service counts as `{counter}`, since it was started."
            families.add(f"{PREFIX}_service_{counter}", text, label, number(value), "counter")
