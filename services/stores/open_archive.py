"""All that the archive has open: its database with the marks in it, and what works beside the loop."""

import logging
import time
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Final

import sqlalchemy as sql

from bootstrap_lib import Registry, format_time
from services.stores import backup, moves, record_url
from services.stores.backup import Beside
from services.stores.database import Database, RecordError, is_damage, sentence
from services.stores.marks import Ledger, Stream
from services.stores.mending import Mending
from services.stores.replay import Replays
from services.stores.schema import MOVING, SETTINGS
from services.stores.soundness import Soundness
from services.stores.upkeep import Upkeep
from services.stores.witness import Witness

log = logging.getLogger(__name__)

REMEMBERED: Final = 600.0
"""Seconds after which it is written down anew which file is the archive: a small file for the card."""


class OpenArchive:
    """The archive as long as it is open. Its methods may raise RecordError."""

    def __init__(self, url: str, folder: Path, registry: Registry, send: Callable[[str, bytes], int], now: int) -> None:
        """Open the database and take up the marks; `send` takes a store's page; `now` in ms."""
        self._url, self._folder, self._send = url, folder, send
        self._registry = registry
        self.mending = Mending(record_url.path_of(url, folder), folder)
        self._left_over = self.mending.owed
        """Files that a run before set aside, and did not read out of to the end."""
        self.database = Database(url, folder, lambda source: self.mending.owe(source, now))
        self.ledger = Ledger(self._known_marks())
        self.beside = Beside()
        self._soundness = Soundness(self.database.path)
        self.said: list[str] = []
        """What is to be told to people."""
        self.replays, self.upkeep = self._work(registry)
        self._say_what_is_there()
        if self.database.aside is not None:
            self.said.append(
                f"the archive was damaged: it is set aside as {self.database.aside.name}, a new one is begun, and what can be"
                " read is taken over"
            )
        self.mending.resume(self.renamed)
        self._witness, self._remember_at = Witness(folder), 0.0

    def recognise(self, now: int, *, again: bool) -> None:
        """Say if the file is not the one of before, and fill in what can be; `again`: the archive ran before, `now` in ms."""
        before = self._witness.before
        other = None if self.database.new else self._other_than_before()
        if self._left_over and ((self.database.new and again) or other):
            self.said.append(
                f"its file was set aside as {', '.join(self._left_over)} when the archive ended; a new one is begun, and what can be"
                " read is taken over"
            )
        elif self.database.new:
            if again:
                self.said.append(
                    f"its file is gone, or empty; a new archive is begun at {format_time(now)}, and filled from its backup"
                )
                self.mending.begin([], now, self.renamed)
        elif other:
            why, since = other
            self.said.append(f"{why}; what it lacks is filled from its backup")
            self.mending.begin([], now, self.renamed, (since, before.newest))
        self.remember_file()

    def _other_than_before(self) -> tuple[str, int] | None:
        try:
            return None if self.database.aside else self._witness.look(self.database.engine)
        except RecordError:  # a damaged page shows when it is needed
            return None

    def remember_file(self) -> None:
        """Write down which file this is, for the next start."""
        self._remember_at = time.monotonic() + REMEMBERED
        try:
            self._witness.write(self.database.engine)
        except RecordError as error:
            log.warning("%s", sentence("the archive cannot write down which file it has", error))

    def _known_marks(self) -> dict[Stream, int]:
        try:
            return self.database.marks()
        except RecordError:  # shows again with the first commit
            return {}

    def _work(self, registry: Registry) -> tuple[Replays, Upkeep]:
        moves = self.database.take_topics(registry.topics.values())
        self._registry = registry
        return Replays(self.database.engine, self._send), Upkeep(self.database, self._folder, registry.timezone, moves)

    def _say_what_is_there(self) -> None:
        self.said += self.database.poison
        with suppress(*RecordError), self.database.engine.connect() as connection:
            value = connection.scalar(sql.select(SETTINGS.c.value).where(SETTINGS.c.name == MOVING))
            if any(not one.ended for one in moves.read(str(value or "").encode())):
                self.said.append(
                    "the archive ended while it moved readings of a false time: give that order (`constellation rework --move`)"
                    " again, and it goes on where it was; any other order ends it first"
                )

    @property
    def renamed(self) -> Mapping[str, str]:
        """Topics' names by those that they had before."""
        return {old: topic.name for old, topic in self._registry.formerly.items()}

    def reload(self, registry: Registry) -> None:
        """Take over new topics and another time zone."""
        self.replays, self.upkeep = self._work(registry)

    def commit(self, now: int) -> Iterable[Stream]:
        """Make everything last that was stored; returns the streams whose mark may be said now. `now` in ms.

        A file that is no longer what it was is left: a new one takes what waits, and what can be read out of the old one.
        """
        if self.database.gone:
            self.begin_anew("its file was deleted, exchanged or emptied", now)
        marks = self.ledger.due()
        try:
            self._write(marks)
        except RecordError as error:
            if not is_damage(error) and not self.database.gone:
                raise
            self.begin_anew(sentence("its file is damaged", error), now)
            marks = self.ledger.due()
            self._write(marks)
        if time.monotonic() >= self._remember_at:
            self.remember_file()
        return self.ledger.committed(marks)

    def _write(self, marks: Mapping[Stream, int]) -> None:
        self.database.commit(marks, self.ledger.forgotten, self.ledger.begun)

    def begin_anew(self, why: str, now: int) -> None:
        """Begin a new database, and have rescued beside the loop what the old one still gives."""
        old = self.database
        sources = old.leave(lambda source: self.mending.owe(source, now))
        self.database = Database(self._url, self._folder)
        self.replays, self.upkeep = self._work(self._registry)
        self.database.inherit(old)
        self.ledger.begin_anew()
        self.mending.begin(sources, now, self.renamed)
        names = ", ".join(source.name for source in sources if source.parent == old.path.parent)
        aside = f"; it is set aside as {names}" if names else ""
        self.said.append(
            f"{why}{aside}; a new archive is begun at {format_time(now)}, and what can be read is taken over"
        )
        self.remember_file()

    def trouble(self, error: BaseException, now: int) -> None:
        """Begin anew where an error of the database says that the file is not what it was."""
        if is_damage(error) or self.database.gone:
            self.begin_anew(sentence("its file is damaged", error), now)

    def turn(self, now: int, raw: float, minutes: float, budget: int, *, certain: bool, group: int) -> str | None:
        """Do what is due with the time, as `Upkeep.turn`, and leave a file with a damaged page; returns what is in the way."""
        if not self.mending.working and (damage := self._soundness.damage()):
            self.begin_anew(f"its file is damaged: {damage}", now)
        self.upkeep.turn(now, raw, minutes, budget, certain=certain, group=group)
        return self.upkeep.trouble

    def back_up(self) -> int:
        """Copy the database into `backup.sqlite` of the state folder."""
        return backup.back_up(self.database.path, self._folder / "backup.sqlite")

    def restore(self) -> int:
        """Take in what only `backup.sqlite` has."""
        return backup.take_in(self.database.path, self._folder / "backup.sqlite", self.renamed)

    def news(self) -> list[str]:
        """Sentences that were not told yet."""
        said, self.said = self.said + self.mending.news(), []
        return said

    def close(self) -> None:
        """Close the database, once what works beside has ended."""
        self.beside.close()
        self._soundness.close()
        self.mending.close()
        if not self.database.gone:
            self.remember_file()
        self.database.close()
