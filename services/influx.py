"""Readings into a time-series database that speaks InfluxDB's line protocol, by influxdb-client (docs/services/influx.md)."""

import logging
import time
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, NamedTuple

from msgspec import Meta

from bootstrap_lib import (
    Away,
    Duration,
    InstanceOptions,
    Message,
    Needs,
    Reading,
    Registry,
    Request,
    RequestError,
    StartError,
    Subscriber,
    Topic,
    secrets,
)
from services.stores.false_time import FalseTime, chosen
from services.stores.line_protocol import RefusedLines, Writer
from services.stores.lost_tail import Lapse, LapseFilling

if TYPE_CHECKING:
    from services.stores.server import InfluxServer

log = logging.getLogger(__name__)

MOST = 5000
"""Readings in one request."""

LOOK = 60.0
"""Seconds between two looks whether the server is still the one that took the readings."""


PATIENCE = 1.0
"""Seconds for which the loop writes again what was taken out, until it does something else."""


class Options(InstanceOptions, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """The server."""

    url: Annotated[
        str, Meta(description="Where the server listens.", pattern="^https?://", examples=["http://localhost:8428"])
    ] = "http://localhost:8428"
    bucket: Annotated[str, Meta(description="InfluxDB only.")] = "home"
    org: Annotated[str, Meta(description="InfluxDB only.")] = "home"
    token: Annotated[str, Meta(description="InfluxDB only: `secret:NAME`.", pattern="^secret:")] | None = None
    timeout: Annotated[Duration, Meta(description="How long the server may take to answer.")] = Duration(10)
    flush: Annotated[
        Duration,
        Meta(description="How long readings are collected, unacknowledged: what the database writes to the card."),
    ] = Duration(60)


class OpenStore(NamedTuple):
    """The server, and what it may have lost."""

    server: "InfluxServer"
    lapse: Lapse


class Influx(Subscriber):
    """The time-series database."""

    NEEDS: ClassVar = Needs(
        extra="influx",
        libraries=("influxdb_client",),
        network="house",
        closes=("victoria-metrics.service", "url"),
        fills=True,
        simulator="services.simulators.staging:victoria",
    )

    options: Options
    BATCH = 1000

    def __init__(self, registry: Registry, name: str) -> None:
        """Prepare the instance; nothing is opened yet."""
        super().__init__(registry, name)
        self._writer = Writer(registry.root)
        self._filling = LapseFilling(self)
        self._entries: list[tuple[str, Reading]] = []
        self._opened: OpenStore | None = None
        self._behind: int | None = None
        self._look_at = 0.0
        self._complaint: str | None = None

    @property
    def _store(self) -> "OpenStore":
        if self._opened is None:
            raise RuntimeError("the store is not open")
        return self._opened

    def begin(self) -> None:
        """Prepare; the server may come later."""
        super().begin()
        from services.stores.server import InfluxServer  # 30 MB that `check` does not need

        options = self.options
        try:
            token = str(secrets.resolve(options.token)) if options.token else ""
        except secrets.SecretError as error:
            raise StartError(str(error)) from None
        server = InfluxServer(
            options.url,
            options.bucket,
            options.org,
            token,
            options.timeout,
            measurement=self.registry.root,
            folder=self.state_folder,
        )
        self._opened = OpenStore(server, Lapse(self.state_folder / "lapse.json", self.clock.now()))

    @property
    def flush_every(self) -> float:
        """Seconds for which readings are collected; the pages of a replay are not kept waiting."""
        return min(self.options.flush, 1.0) if self._filling.topics else self.options.flush

    def on_reading(self, reading: Reading, topic: Topic[Any]) -> None:
        """Keep a reading for the next request."""
        if topic.stored_by("influx"):
            self._entries.append((self._writer.line(reading, topic), reading))

    def flush(self) -> None:
        """Write what was collected; Away where the server does not take it."""
        while self._entries:
            entries = self._entries[:MOST]
            self._write(entries)
            del self._entries[:MOST]
            self._store.lapse.wrote(min(reading.time for _, reading in entries))

    def _write(self, entries: list[tuple[str, Reading]]) -> None:
        """Write; where the server refuses a line, halve until it is found, and put that one aside."""
        try:
            self._store.server.write([line for line, _ in entries])
        except RefusedLines as error:
            if len(entries) == 1:
                topic, payload = f"{self.registry.root}/data/{entries[0][1].topic}", entries[0][1].payload()
                self.bury(Message(topic, payload, False, 0, 0, None), f"the server refuses it: {error}")
                return
            middle = len(entries) // 2
            self._write(entries[:middle])
            self._write(entries[middle:])

    # -- what the server may have lost --------------------------------------------------------------------------

    def on_tick(self) -> None:
        """See whether the server lost anything, and have it filled."""
        now = time.monotonic()
        if now >= self._look_at or self.away:
            self._look_at = now + LOOK
            self._look()
        if self._store.lapse.missing is not None:
            topics = self.registry.topics.values()
            self._filling.fill(self._store.lapse.missing, [topic.name for topic in topics if topic.stored_by("influx")])
        self._filling.on_tick()

    def _look(self) -> None:
        life = self._store.server.look()
        if life is None:  # `flush` says so
            self._look_at = 0.0
            return
        if not self._store.lapse.alive(life.started, self.clock.now()):
            log.warning("%s was started anew: what it took last is written again", self._store.server.url)
            self._filling.forget()
            self._store.server.begin_again()
        complaint = life.complaint
        try:
            if not self._store.server.resume(PATIENCE):
                self._look_at = 0.0
        except Away as error:
            complaint = f"what was taken out to be corrected is not written again: {error}"
        if complaint and complaint != self._complaint:
            log.warning("%s", complaint)
            self.error(complaint)
        self._complaint = complaint

    def subscribe(self, session: bool) -> None:
        """Hear what the archive replays; a broker that does not know us may have dropped readings for us."""
        self._filling.subscribe()
        if not session:
            self._store.lapse.happened()
            self._filling.forget()

    def on_gap(self, since: int) -> None:
        """Have filled what the broker dropped for us."""
        self.health.counters["gaps"] += 1
        if self._filling.topics:  # else one that takes long would begin again with every gap, and never end
            self._behind = since if self._behind is None else min(since, self._behind)
            return
        self._store.lapse.happened(since)
        self._filling.forget()

    def on_other(self, message: Message) -> None:
        """Take a page of a replay."""
        try:
            found = self._filling.take(message)
        except ValueError as error:
            self.bury(message, str(error))
            return
        for name, moment, value in found:
            topic = self.registry.topics.get(name)
            if topic is not None and topic.improper(value) is None:
                self.on_reading(Reading(name, value, topic.unit, moment), topic)
        self.health.counters["filled"] += len(found)

    def on_flushed(self) -> None:
        """What was replayed is written: nothing is missing any more."""
        if self._store.lapse.missing is not None and self._filling.complete:
            self._store.lapse.filled()
            self._filling.forget()
            if self._behind is not None:
                self._store.lapse.happened(self._behind)
                self._behind = None

    def request_times(self, _request: Request, order: FalseTime) -> object:
        """Take a false time out of the series, and have filled what the archive has by now."""
        since, until, names = chosen(order, self.registry, "influx")
        if order.do == "lost":
            return [] if self._takes_out_topics() else sorted({name.rpartition("/")[0] for name in names})
        if order.do != "list":
            self._entries = [
                one for one in self._entries if one[1].topic not in names or not since <= one[1].time < until
            ]
            self._store.lapse.happened(max(0, min(since, since + order.by)))  # first: a kill may come in between
            self._filling.forget()
            try:
                self._store.server.take_out(names, since, until)
            except Away as error:
                raise RequestError(f"{error}; ask again when it is there") from None
        return {"series": len(names)}

    def _takes_out_topics(self) -> bool:
        try:
            return self._store.server.takes_out_topics()
        except Away as error:
            raise RequestError(f"{error}; ask again when it is there") from None

    def on_beat(self) -> None:
        """Tell health whether something is missing."""
        self.health.extra["filling"] = self._store.lapse.missing is not None

    def end(self) -> None:
        """Close the connection, and note a clean end where everything is written."""
        if self._opened is not None:
            if not self._entries:
                self._opened.lapse.close()
            self._opened.server.close()
