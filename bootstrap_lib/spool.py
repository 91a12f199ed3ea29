"""Store and forward: every reading stays here until the archive has it on disk (docs/durability.md).

Two SQLite files. The *fresh* one lies in the runtime folder (tmpfs): it costs the SD card nothing and survives
any kill of the process. What the archive has not confirmed within two seconds moves to the *kept* one in the
state folder, in one synchronised transaction a second, where a power cut does not reach it.

A *stream* is a run of numbers, of which none comes twice: it lasts as long as both files and the machine's boot belong
together. After a power cut, beside a damaged file, with a state folder put back from an image or carried to another
machine, a new stream begins: what waits is sent with it, and no mark of the old one confirms anything. Each reading is sent
with the number of its predecessor that is still unconfirmed; whatever lies between is gone for a reason that was
counted, and the archive need not wait for it.
"""

import contextlib
import logging
import secrets
import sqlite3
import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, Final, NamedTuple

from bootstrap_lib.clock import boot_id
from bootstrap_lib.reading import Sequence
from bootstrap_lib.spool_file import LaterFormatError, SpoolFile

log = logging.getLogger(__name__)

AGE: Final = 1.4
"""Seconds without the archive's mark after which a reading goes to disk: a commit a second is quicker, and two seconds are promised."""

GROUP: Final = 1.0
"""Seconds of readings that go to disk together."""


class Row(NamedTuple):
    """A reading that waits: `head` as from `encode_head`, or None to clear the topic; `time` in milliseconds.

    With a `boot` (its boot id) the time is that boot's monotonic clock: the wall clock was not to be trusted.
    """

    number: int
    topic: str
    head: str | None
    time: int
    boot: str | None


class SpoolError(OSError):
    """Neither of the two folders takes a reading; the message says why."""


class Spool:
    """The unconfirmed readings of one source, in order. Used from one thread only."""

    def __init__(self, runtime: Path, state: Path, limit: int = 200_000_000) -> None:
        """Open both files, `limit` bytes at most on disk; a damaged one is set aside, said, and started anew."""
        self.limit = limit
        self.dropped = 0
        self.trouble: str | None = None
        self._confirmed = 0
        self._kept = _open(state / "spool.sqlite", "FULL")
        self._fresh = _open(runtime / "spool.sqlite", "OFF")
        self._files = self._kept, self._fresh
        used = "SELECT max(seq) FROM sqlite_sequence"  # survives the deletion of what is confirmed
        numbers = "SELECT max(number) FROM tail"  # of a damaged file that is all that is left
        self._next = max(file.first(query) or 0 for file in self._files for query in (used, numbers)) + 1
        known, boot = {file.recall("stream") for file in self._files}, boot_id()
        same = len(known) == 1 and None not in known and self._fresh.recall("boot") == boot
        self.stream = str(known.pop()) if same else secrets.token_hex(4)
        self._boot = boot
        try:
            for file in self._files:
                self._sign(file)
        except sqlite3.Error as error:
            raise SpoolError(f"the spool cannot be written: {error}") from None
        self._last = max(file.first(numbers) or 0 for file in self._files)

    def _sign(self, file: SpoolFile) -> None:
        """Write into a file which stream it is part of."""
        if (file.recall("stream"), file.recall("boot")) != (self.stream, self._boot):
            file.remember(self._next - 1, stream=self.stream, boot=self._boot)

    def _look(self, file: SpoolFile) -> None:
        """See whether a file is still the one that it was; sqlite3.Error where it cannot be replaced now."""
        if file.look():
            file.remember(self._next - 1, stream=self.stream, boot=self._boot)

    def append(self, topic: str, head: str | None, moment: int, boot: str | None = None) -> tuple[Row, Sequence]:
        """Take a reading (or, without a head, a clearing) and give it its number; SpoolError where no folder takes it."""
        return self.append_all([(topic, head, moment, boot)])[0]

    def append_all(self, readings: Iterable[tuple[str, str | None, int, str | None]]) -> list[tuple[Row, Sequence]]:
        """Take several readings in one step: all of them are kept, or SpoolError says that none is."""
        rows = [Row(number, *reading) for number, reading in enumerate(readings, self._next)]
        if not rows:
            return []
        since = time.monotonic()
        self._add([(*row, since) for row in rows])
        previous = (self._last, *(row.number for row in rows))
        self._last = rows[-1].number
        self._next = self._last + 1
        return [(row, Sequence(self.stream, before, row.number)) for before, row in zip(previous, rows, strict=False)]

    def _add(self, rows: list[tuple[Any, ...]]) -> None:
        try:
            self._look(self._fresh)
            self._fresh.add(rows)
        except (sqlite3.Error, OSError):  # tmpfs is full: the disk takes it
            try:
                self._kept.add(rows)
            except sqlite3.Error as error:
                raise SpoolError(f"no room to keep a reading, it is lost: {error}") from None

    def after(self, number: int, count: int) -> list[tuple[Row, Sequence]]:
        """Return up to `count` of the readings behind a number, oldest first, each with its place in the sequence."""
        query = "SELECT number, topic, head, time, boot FROM tail WHERE number > ? ORDER BY number LIMIT ?"
        rows = {row[0]: Row(*row) for file in self._files for row in file.ask(query, (number, count))}
        previous, found = self._before(number + 1), []
        for key in sorted(rows)[:count]:
            found.append((rows[key], Sequence(self.stream, previous, key)))
            previous = key
        return found

    def _before(self, number: int) -> int:
        query = "SELECT max(number) FROM tail WHERE number < ?"
        return max(file.first(query, (number,)) or 0 for file in self._files)

    def confirm(self, stream: str, number: int) -> None:
        """Forget all readings up to a number: the archive has them on disk. A number that was never given begins a new stream."""
        if stream != self.stream:
            return
        if number >= self._next:
            self._begin_stream(f"a mark of {number} for our numbers, of which {self._next - 1} is the last")
            return
        self._confirmed = 0
        for file in self._files:
            try:
                self._forget(file, number)
            except (sqlite3.Error, OSError) as error:
                self._confirmed = number  # what stays is sent again, which is normal, and deleted by `settle`
                self.trouble = f"what is confirmed cannot be deleted from the spool: {error}"
        self._find_last(number)

    def _forget(self, file: SpoolFile, number: int) -> None:
        """Delete what is confirmed; a disk so full that nothing can be deleted on it loses a file that holds nothing else."""
        try:
            file.delete("number <= ?", number)
        except sqlite3.Error:
            if file.ask("SELECT 1 FROM tail WHERE number > ? LIMIT 1", (number,)):
                raise
            self._begin_anew(file)

    def _begin_stream(self, why: str) -> None:
        """Number anew from now on: somebody else has sent numbers of our stream."""
        self.stream = secrets.token_hex(4)
        log.error("%s: these are not ours alone; a new run of numbers is begun, and what waits is sent again", why)
        with contextlib.suppress(sqlite3.Error):  # files that do not agree begin another one at the next start
            for file in self._files:
                self._sign(file)

    def drop(self, number: int) -> None:
        """Forget one reading that will never be delivered; those behind it need not wait for it."""
        for file in self._files:
            with contextlib.suppress(sqlite3.Error):  # a full disk: it is sent, and dropped, again
                file.delete("number = ?", number)
        self._find_last(number)
        self.dropped += 1

    def _find_last(self, number: int) -> None:
        if number >= self._last:
            self._last = self._before(self._last + 1)

    def _begin_anew(self, file: SpoolFile) -> None:
        file.begin_anew()
        with contextlib.suppress(
            sqlite3.Error
        ):  # a file that does not say its stream begins another one at the next start
            self._sign(file)

    def settle(self, age: float = AGE) -> None:
        """Once a reading has waited for `age` seconds, move it to the disk in one transaction with all those up to a second younger.

        A full disk is said, and tried again.
        """
        try:
            for file in self._files:
                self._look(file)
            if rows := self._due(age):
                with self._kept.transaction():
                    self._kept.add(rows)
                    self._bound()
                self._release([row[:1] for row in rows])
            if self._confirmed:
                self.confirm(self.stream, self._confirmed)
            if not self._confirmed:
                self.trouble = None
        except (sqlite3.Error, OSError) as error:
            self.trouble = f"the spool cannot be written to disk: {error}"

    def _due(self, age: float) -> list[tuple[Any, ...]]:
        now = time.monotonic()
        future = now + 60  # of another boot
        waits = "FROM tail WHERE since <= ? OR since > ? LIMIT"
        if not self._fresh.ask(f"SELECT 1 {waits} 1", (now - age, future)):
            return []
        return self._fresh.ask(f"SELECT * {waits} 50000", (now - age + GROUP, future))

    def _release(self, numbers: list[tuple[Any, ...]]) -> None:
        """Delete from the tmpfs what is on disk; one so full that nothing can be deleted in it is emptied as a whole."""
        try:
            with self._fresh.transaction():
                self._fresh.each("DELETE FROM tail WHERE number = ?", numbers)
        except sqlite3.Error:
            rows = self._fresh.ask("SELECT * FROM tail")
            with self._kept.transaction():
                self._kept.add(rows)
            self._begin_anew(self._fresh)

    def _bound(self) -> None:
        if self._kept.used > self.limit:
            count = self._kept.first("SELECT count(*) FROM tail") // 50 + 1
            self._kept.do(
                "DELETE FROM tail WHERE number IN (SELECT number FROM tail ORDER BY number LIMIT ?)", (count,)
            )
            self.dropped += count

    def rename(self, old: str, new: str) -> int:
        """Give readings that wait under one topic to another; returns how many. A disk that does not take it leaves them."""
        waits = 0
        for file in self._files:
            found = int(file.first("SELECT count(*) FROM tail WHERE topic = ? AND head IS NOT NULL", (old,)) or 0)
            with contextlib.suppress(sqlite3.Error):  # the archive knows the old name too
                file.do("UPDATE tail SET topic = ? WHERE topic = ? AND head IS NOT NULL", (new, old))
                waits += found
        return waits

    def correct(self, boot: str, offset: int) -> None:
        """Turn monotonic times of a boot into wall times, `offset` milliseconds later; what a full disk keeps stays `uncertain`."""
        for file in self._files:
            try:
                file.do("UPDATE tail SET time = time + ?, boot = NULL WHERE boot = ?", (offset, boot))
            except sqlite3.Error as error:
                self.trouble = f"times in the spool cannot be corrected: {error}"

    def uncertain(self) -> Iterator[tuple[str, int, int]]:
        """Boots of which readings still have monotonic times, each with its first and last such time."""
        spans: dict[str, tuple[int, int]] = {}
        for file in self._files:
            query = "SELECT boot, min(time), max(time) FROM tail WHERE boot IS NOT NULL GROUP BY boot"
            for boot, first, last in file.ask(query):
                low, high = spans.get(boot, (first, last))
                spans[boot] = (min(low, first), max(high, last))
        for boot, (low, high) in spans.items():
            yield boot, low, high

    def count(self) -> int:
        """How many readings wait."""
        return sum(file.first("SELECT count(*) FROM tail") or 0 for file in self._files)

    @property
    def last(self) -> int:
        """Number of the newest reading that still waits, or 0."""
        return self._last

    def close(self) -> None:
        """Close both files; what waits is there again at the next start."""
        for file in self._files:
            file.close()


def _open(path: Path, synchronous: str) -> SpoolFile:
    try:
        return SpoolFile(path, synchronous)
    except LaterFormatError as error:
        raise SpoolError(str(error)) from None
    except (sqlite3.Error, OSError) as error:  # a full disk, a folder that is not ours: no damage
        raise SpoolError(
            f"{path} cannot be opened ({error}): check that its disk has room and its folder belongs to this user"
        ) from None
