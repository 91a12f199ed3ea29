"""Metrics for Prometheus: every topic and service, as text and OpenMetrics on loopback (docs/services/exporter.md)."""

import logging
import time
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal

from msgspec import Meta, field

from bootstrap_lib import (
    InstanceOptions,
    Message,
    Needs,
    Problem,
    Reading,
    Registry,
    Sequence,
    StartError,
    Subscriber,
    Topic,
    nearest,
    reason,
)

if TYPE_CHECKING:
    from services.metrics.board import Board

log = logging.getLogger(__name__)


class Options(InstanceOptions, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Where it listens, and which names it gives."""

    listen: Annotated[str, Meta(description="Address that it listens on; 0.0.0.0 or :: for all.")] = "127.0.0.1"
    port: Annotated[int, Meta(ge=1, le=65535, description="Port that it listens on.")] = 9646
    compatibility: Annotated[
        dict[Literal["bms", "solarshed"], str],
        Meta(
            description="Names of the first exporters besides its own, `bms_…` and `solarshed_…`: whose measurements they are, an "
            "instance or a place/thing."
        ),
    ] = field(default_factory=dict)


class Exporter(Subscriber):
    """Metrics for Prometheus."""

    NEEDS: ClassVar = Needs(
        extra="exporter",
        libraries=("prometheus_client",),
        network="house",
        listens=("port", 9646),
        rights=("read {root}/alert/#",),
        simulator="services.simulators.staging:metrics",
    )

    options: Options
    BATCH, SESSION = 2000, 0

    @classmethod
    def check(cls, registry: Registry, name: str) -> list[Problem]:
        """Return what is wrong with the options, and whom they name."""
        problems = super().check(registry, name)
        if problems:
            return problems
        sources = {topic.source for topic in registry.topics.values()}
        things = {topic.rpartition("/")[0] for topic in registry.topics}
        for kind, whose in registry.options_of(name, Options).compatibility.items():
            if whose not in sources | things:
                place = registry.instances[name].section, name, "compatibility", kind
                hint = nearest(whose, sources | things) or ": name a source, or a place/thing"
                problems.append(registry.document.problem(place, f"nothing is measured by or at '{whose}'{hint}"))
        return problems

    def __init__(self, registry: Registry, name: str) -> None:
        """Prepare the instance; nothing is opened yet."""
        super().__init__(registry, name)
        self._opened: Board | None = None

    @property
    def board(self) -> "Board":
        """What a scrape reads."""
        if self._opened is None:
            raise RuntimeError("it has not begun")
        return self._opened

    def begin(self) -> None:
        """Listen; StartError where the address is taken."""
        super().begin()
        from prometheus_client import CollectorRegistry, start_http_server  # 8 MB that `check` does not need

        from services.metrics.board import Board

        options = self.options
        self._opened = Board(self.registry, options.compatibility, self.clock.now, time.monotonic)
        metrics = CollectorRegistry()
        metrics.register(self._opened)
        try:
            server, thread = start_http_server(options.port, options.listen, metrics)
        except OSError as error:
            raise StartError(f"it cannot listen on {options.listen}:{options.port}: {reason(error)}") from None
        self.opened.callback(thread.join, 5.0)
        self.opened.callback(server.server_close)
        self.opened.callback(server.shutdown)
        log.info("metrics are at http://%s:%d/metrics", options.listen, options.port)

    def on_reloaded(self, changed: bool) -> None:
        """Take over topics; where it listens takes a restart."""
        self.board.take(self.registry, self.options.compatibility)
        if changed:
            log.warning("the options of %s changed: restart it if it shall listen elsewhere", self.name)

    # -- what is heard ------------------------------------------------------------------------------------------

    def subscribe(self, session: bool) -> None:  # noqa: ARG002 (there never is one)
        """Ask for everything that stands at the broker."""
        root = self.registry.root
        self.board.ask()
        self.board.connected = True
        for pattern in (f"{root}/service/+/status", f"{root}/service/+/health", f"{root}/alert/+"):
            self.bus.subscribe(pattern, qos=1)

    def on_reading(self, reading: Reading, topic: Topic[Any]) -> None:  # noqa: ARG002 (the board knows it)
        """Show a reading."""
        self.board.read(reading)

    def on_cleared(self, name: str, sequence: Sequence | None) -> None:  # noqa: ARG002 (for stores)
        """Show it no more: nobody can measure it."""
        self.board.clear(name)

    def on_other(self, message: Message) -> None:
        """Take what services and alerts say."""
        _, kind, name, *what = message.topic.removeprefix(self.registry.root).split("/")
        if kind == "alert":
            self.board.alarm(name, message.payload)
        else:
            self.board.hear(name, what[0], message.payload)

    def on_tick(self) -> None:
        """Say whether there is a broker."""
        self.board.connected = self.bus.online

    def on_beat(self) -> None:
        """Tell health whether anybody scrapes."""
        self.health.extra["scrapes"] = self.board.scrapes
