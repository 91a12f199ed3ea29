"""The picture: a round-robin file for each topic, from which graphs of hours or years are drawn in an instant."""

import contextlib
import logging
import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Annotated, Any, ClassVar, Final

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
    StartError,
    Subscriber,
    Topic,
    reason,
    state,
)
from services.stores.backfill import Filling, ReplayEntry
from services.stores.drawing import Drawing, Order
from services.stores.false_time import FalseTime, chosen
from services.stores.fresh import Fresh
from services.stores.roundrobin import (
    TIERS,
    Damaged,
    FileShape,
    Point,
    RoundRobinFile,
    disk_hindrance,
    means_of,
    number,
    path_of,
    rename,
)

log = logging.getLogger(__name__)

Write = Callable[[RoundRobinFile, list[Any]], int]
"""A way of a file to take points, or means; returns how many came late."""

UNCLEAN: Final = "unclean"
"""A file in the state folder: while it is there, files may lack what the archive has."""

REST: Final = 60.0
"""Seconds for which a file that cannot be used is left alone."""

ALONE: Final = 30.0
"""Seconds between two updates at most in a house that has no archive: what a power cut takes is gone there."""

UPDATED: Final = 0.68
"""Megabytes an hour that a file costs the device which is updated each half minute, and"""
SHARED: Final = 126.0
"""... seconds of readings that share their pages: what an update costs grows slowly with what it brings (docs/services/rrd.md)."""

SAVED: Final = 30.0
"""Seconds between two looks whether a state changed: its moment is written down before its file is."""

HELD: Final = 50_000
"""Readings kept in memory for files that are being filled; more than that are left to the archive, which is asked anew."""


class Options(InstanceOptions, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Where the files are, and how fine."""

    folder: Annotated[str, Meta(description="Where the files are: `<folder>/<place>/<thing>/<name>.rrd`.")] = (
        "{state}/rrd"
    )
    flush: Annotated[
        Duration,
        Meta(description="How often readings are written: what the card has to bear. Without an archive 30 s at most."),
    ] = Duration(900)
    finest: Annotated[
        Duration, Meta(description="Finest grid, for topics that come more often than once a minute.")
    ] = Duration(60)


class RoundRobin(Subscriber):
    """The picture of all readings."""

    NEEDS: ClassVar = Needs(
        extra="rrd",
        libraries=("rrdtool",),
        packages=("python3-rrdtool",),
        fills=True,
    )

    options: Options

    @classmethod
    def cost(cls, registry: Registry, name: str) -> Iterator[str]:
        """Say what its updates write to the card."""
        files = sum(topic.stored_by(name) for topic in registry.topics.values())
        flush = float(Duration.parse(registry.instances[name].raw.get("flush", "15m")))
        if not registry.find("archive"):
            flush = min(flush, ALONE)
        share = min(1.0, SHARED / (flush + SHARED - ALONE))
        yield f"about {files * 24 * UPDATED * share:,.0f} MB a day at one update in {flush:g} s"

    def __init__(self, registry: Registry, name: str) -> None:
        """Prepare the instance; nothing is opened yet."""
        super().__init__(registry, name)
        self._files: dict[str, RoundRobinFile] = {}
        self._points: dict[str, list[Point]] = {}
        self._waiting = 0
        self._saved_at = 0.0
        self._unusable: dict[str, float] = {}
        self._complained: set[str] = set()
        self._drawing = Drawing(self.state_folder / "graphs")
        self._opened: Fresh | None = None
        self._unclean = self.state_folder / UNCLEAN
        self._owing = False
        self._filling = Filling(self, TIERS, self._draw)

    def begin(self) -> None:
        """Find out whether the last run ended cleanly: if not, what it had written may be lost."""
        super().begin()
        self._opened = Fresh(self.folder)
        self._owing = self._unclean.exists()
        note = "the service runs, or did not end as it should: its files are filled from the archive"
        try:
            state.save(self._unclean, note)
        except OSError as error:
            raise StartError(f"{self._unclean} cannot be written: {reason(error)}") from None

    @property
    def _fresh(self) -> Fresh:
        if self._opened is None:
            raise RuntimeError("the picture is not open")
        return self._opened

    @property
    def folder(self) -> Path:
        """Where the files are."""
        return Path(self.options.folder.replace("{state}", str(self.state_folder)))

    @property
    def flush_every(self) -> float:
        """Seconds between two rounds of updates; the pages of a replay are not kept waiting."""
        if self._filling.topics:
            return min(self.options.flush, 0.2)
        return self.options.flush if self.early else min(self.options.flush, ALONE)

    @property
    def early(self) -> bool:
        """Messages are acknowledged on receipt where an archive fills what an unclean end takes."""
        return bool(self.registry.find("archive"))

    def hold(self, message: Message) -> None:
        """Acknowledge a message with the next round, or at once where an archive has what is not written yet."""
        if message.mid and self.early and not self.away:
            self.bus.acknowledge([message])
            self.health.counters["stored"] += 1
            message = message._replace(mid=0)
        super().hold(message)

    def on_reading(self, reading: Reading, topic: Topic[Any]) -> None:
        """Keep a reading for the next round."""
        if topic.stored_by("rrd"):
            self._points.setdefault(topic.name, []).append((reading.time, number(reading.value, topic)))
            self._waiting += 1
            self._fresh.add(topic, reading.time, number(reading.value, topic))

    def flush(self) -> None:
        """Update each file with all that came for it; Away where the disk cannot take it."""
        if (filling := self._filling.topics) and sum(map(len, self._points.values())) > HELD:
            for name in self._points.keys() & filling:
                del self._points[name]
            self._fill()
        for name in self._points.keys() - (self._points.keys() if self.lacking else self._filling.topics):
            self.health.counters["late"] += self._write(name, self._points[name])
            if name not in self._filling.topics:
                del self._points[name]
        self._waiting = sum(map(len, self._points.values()))
        self._save_changes()

    def _save_changes(self) -> None:
        self._saved_at = time.monotonic()
        with contextlib.suppress(OSError):  # the bands of a picture: the files say when the disk is full
            self._fresh.save()

    def _write(self, name: str, points: list[Any], write: Write = RoundRobinFile.write) -> int:
        """Add points to a topic's file and return how many came late; one that is damaged has to be filled before.

        A file that cannot be used costs its own topic: the archive has what it does not take. Away where the disk takes nothing.
        """
        if (topic := self.registry.topics.get(name)) is None or self._rests(topic):
            return 0
        try:
            try:
                return write(self._file(topic), points)
            except Damaged as error:
                self._rebuild(topic, str(error))
            return 0 if name in self._filling.topics else write(self._file(topic), points)
        except (OSError, Damaged) as error:
            if hindrance := disk_hindrance(self.folder):
                raise Away(f"the round-robin files take no readings: {hindrance}") from None
            self._give_rest(topic, reason(error))
            return 0

    def _rests(self, topic: Topic[Any]) -> bool:
        """Whether a topic's file could not be used a moment ago; when that is over, what it did not take is asked for."""
        if topic.name not in self._unusable:
            return False
        if time.monotonic() < self._unusable[topic.name]:
            return True
        del self._unusable[topic.name]
        self._filling.ask({topic.name: self._last(topic)})
        return topic.name in self._filling.topics

    def _give_rest(self, topic: Topic[Any], sentence: str) -> None:
        self._files.pop(topic.name, None)
        self._unusable[topic.name] = time.monotonic() + REST
        self.health.counters["unusable"] += 1
        text = f"the file of {topic.name} cannot be used: {sentence}; the others go on, and it is tried again"
        if topic.name not in self._complained:
            log.error("%s", text)
        self._complained.add(topic.name)
        self.error(text, topic.name)

    def _file(self, topic: Topic[Any]) -> RoundRobinFile:
        if topic.name not in self._files or not self._files[topic.name].whole:
            path = path_of(self.folder, topic.name)
            for old in topic.was:
                rename(self.folder, old, topic.name)
            file = RoundRobinFile(path, FileShape.of(topic, self.options.finest))
            if file.last is not None and self.clock.ahead(file.last):
                raise Damaged(f"{file.path} has an update of the future, and would take none until then")
            if topic.name in self._files:
                raise Damaged(f"{path} was deleted or exchanged while it was in use")
            self._files[topic.name] = file
        return self._files[topic.name]

    def _rebuild(self, topic: Topic[Any], sentence: str) -> None:
        self._files.pop(topic.name, None)
        path = path_of(self.folder, topic.name)
        aside = f"it is set aside as {state.set_aside(path).name}" if os.path.lexists(path) else "it is gone"
        self.health.counters["damaged"] += 1
        self.error(sentence, topic.name)
        log.error("%s: %s, a new one is filled from the archive", sentence, aside)
        self._filling.ask({topic.name: 0})

    # -- filling from the archive -------------------------------------------------------------------------------

    def subscribe(self, session: bool) -> None:
        """Have all files filled if the broker forgot what waited for us, or the last run may have lost what it wrote."""
        self._filling.subscribe()
        if not session or self._owing:
            self._owing = False
            self._fill()

    def on_gap(self, since: int) -> None:  # noqa: ARG002 (each file knows its own last update)
        """Have filled what the broker dropped for us."""
        self.health.counters["gaps"] += 1
        self._fill()

    def _fill(self) -> None:
        self._filling.ask(
            {topic.name: self._last(topic) for topic in self.registry.topics.values() if topic.stored_by("rrd")}
        )

    def _last(self, topic: Topic[Any]) -> int:
        try:
            return self._file(topic).last or 0
        except (Damaged, OSError):
            return 0  # said when a reading is to be written

    def on_other(self, message: Message) -> None:
        """Take a page of what the archive replays."""
        points: dict[str, list[Point]] = {}
        try:
            for name, moment, value in self._filling.take(message):
                topic = self.registry.topics.get(name)
                if topic is not None and topic.improper(value) is None and not self.clock.ahead(moment):
                    points.setdefault(name, []).append((moment, number(value, topic)))
        except ValueError as error:
            self.bury(message, str(error))
        for name, found in points.items():
            self._add(name, found)

    def _draw(self, name: str, entries: list[ReplayEntry]) -> None:
        """Take means of the time of which the archive has no raw readings any more."""
        topic = self.registry.topics.get(name)
        if topic is None:
            return
        self._add(name, means_of(topic, entries), RoundRobinFile.write_means)

    def _add(self, name: str, found: list[Any], write: Write = RoundRobinFile.write) -> None:
        try:
            self.health.counters["filled"] += len(found) - self._write(name, found, write)
        except Away as error:
            self._filling.give_up(str(error))

    def on_tick(self) -> None:
        """Ask the archive for what is missing; write what is too much to keep."""
        self._filling.on_tick()
        if time.monotonic() >= self._saved_at + SAVED:
            self._save_changes()
        if self._waiting > HELD // 2 and not self._filling.topics:
            with contextlib.suppress(Away):  # said when it is due
                self.flush()

    def on_beat(self) -> None:
        """Tell health how many files wait for the archive."""
        self.health.extra["filling"] = len(self._filling.topics)

    def on_reloaded(self, changed: bool) -> None:  # noqa: ARG002 (a topic's range is no option of ours)
        """Look at all files again: a changed range or interval is carried into them."""
        self._files.clear()
        for topic in self.registry.topics.values():
            if topic.stored_by("rrd"):
                for old in topic.was:
                    if old not in self.registry.topics and (points := self._points.pop(old, None)):
                        self._points[topic.name] = points + self._points.get(topic.name, [])
                self._last(topic)

    def end(self) -> None:
        """Say on disk that the end was clean, once all that was written is on it too."""
        if self.stopping and not self._points and not self._filling.topics:
            os.sync()
            self._unclean.unlink(missing_ok=True)

    # -- pictures, and moving to another architecture -----------------------------------------------------------

    def request_times(self, _request: Request, order: FalseTime) -> dict[str, int]:
        """Make files anew from what the archive has, after readings of a false time were moved or dropped there."""
        _, _, names = chosen(order, self.registry, "rrd")
        if order.do in ("move", "drop"):
            for name in names:
                self._points.pop(name, None)
                self._rebuild(self.registry.topics[name], f"{name} had readings of a false time")
        return {"files": len(names)}

    def request_graph(self, request: Request, order: Order) -> object:
        """Draw a graph into a PNG file; `inline` asks for the picture itself as base64 too."""
        names = {name.removeprefix(f"{self.registry.root}/data/") for name in order.topics}
        with contextlib.suppress(Away):  # what there is, is drawn
            for name in (self._points.keys() & names) - self._filling.topics:
                self.health.counters["late"] += self._write(name, self._points.pop(name))
        self._drawing.begin(request, order, self.registry, self.folder, self._fresh)
        return Request.LATER

    def dump_files(self, file: Path, progress: Callable[[int, int, str], None]) -> int:
        """Write all files into a tar of XML; returns how many. OSError says what is wrong."""
        from services.stores import rrd_dump as moving

        return moving.dump(self.folder, file, progress)

    def load_files(self, file: Path, progress: Callable[[int, int, str], None]) -> int:
        """Make files again from what `dump_files` wrote; those that exist are replaced. OSError says what is wrong.

        What came since the dump is filled from the archive at the next start. Run by root, it works with the rights of the owner of
        the state folder. StartError while the service runs.
        """
        from services.stores import rrd_dump as moving

        self.state_folder.mkdir(parents=True, exist_ok=True)
        with (
            file.open("rb") as dumped,
            state.as_owner_of(self.state_folder),
            state.hold(self.state_folder, self.name),
        ):
            self.folder.mkdir(parents=True, exist_ok=True)
            note = "files were loaded: what is newer than they are is filled from the archive"
            return moving.load(self.folder, dumped, progress, lambda: state.save(self._unclean, note))
