"""Our own code with one promise broken, to show that a test would notice: `python -m tests.chaos.mutants NAME --config … run …`."""

import os
import sqlite3
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

from bootstrap_lib import bus, cli, publisher, spool_file, subscriber
from services.stores import marks, schema


def mark_before_commit() -> None:
    """The archive tells sources that readings are safe before it has committed them."""
    from services.archive import Archive

    plain = Archive.flush

    def flush(self: Any) -> None:
        ledger = self._held.ledger
        ledger.stored |= ledger.due()
        for key in ledger.moved:
            self._publish_mark(key)
        time.sleep(0.5)
        plain(self)

    Archive.flush = flush


def acknowledge_before_commit() -> None:
    """A subscriber acknowledges what it has only in memory."""
    plain = subscriber.Subscriber.hold

    def hold(self: Any, message: Any) -> None:
        plain(self, message)
        self.bus.acknowledge([message])

    subscriber.Subscriber.hold = hold


def acknowledge_on_a_later_connection() -> None:
    """An acknowledgement is sent on whatever connection there is, where its number may be another message's."""

    def acknowledge(self: Any, messages: Any) -> None:
        self._client.acknowledge([message.mid for message in messages if message.mid])

    bus.Bus.acknowledge = acknowledge


def mark_past_a_gap() -> None:
    """The mark follows the newest reading, whatever is missing before it."""

    def take(self: Any, previous: int, number: int) -> bool:
        self.number = max(self.number, number)
        return True

    marks.SourceMark.take = take


def forget_what_was_sent() -> None:
    """A source keeps nothing that the broker has taken: a PUBACK is trusted."""
    plain = publisher.Publisher.on_published

    def on_published(self: Any, mid: int, refusal: str | None) -> None:
        plain(self, mid, refusal)
        self.spool.confirm(self.spool.stream, self.spool.last)

    publisher.Publisher.on_published = on_published


def clear_outside_the_queue() -> None:
    """A topic is cleared at once, past the readings of it that still wait."""

    def clear(self: Any, name: str) -> None:
        self._service.bus.publish(self.topic_of(name), b"", qos=1, retain=True)

    publisher.Publisher.clear = clear


def no_fsync() -> None:
    """Neither archive nor spool waits for the disk."""
    plain_durable, plain_prepare = schema._durable, spool_file._prepare

    def durable(connection: Any, record: Any) -> None:
        plain_durable(connection, record)
        connection.execute("PRAGMA synchronous=OFF")

    def prepare(path: Any, _synchronous: str) -> sqlite3.Connection:
        return plain_prepare(path, "OFF")

    schema._durable, spool_file._prepare = durable, prepare


def follow(file: Path) -> None:
    """Let the wall clock be off by the seconds that a file says, also while it is running.

    With libfaketime 0.9.10 each timed wait of one thread for another returns at once, so that two Python threads hand
    each other the lock at every step: the archive takes 400 readings a second with it, and 10,000 without.
    """
    plain, moment, offset, due = time.time_ns, time.monotonic, 0, 0.0

    def time_ns() -> int:
        nonlocal offset, due
        if (now := moment()) >= due:
            offset, due = int(file.read_text()) * 10**9, now + 0.5
        return plain() + offset

    time.time_ns, time.time = time_ns, lambda: time_ns() / 1e9


MUTANTS: Final[dict[str, Callable[[], None]]] = {
    mutant.__name__: mutant
    for mutant in (
        mark_before_commit,
        acknowledge_before_commit,
        acknowledge_on_a_later_connection,
        mark_past_a_gap,
        forget_what_was_sent,
        clear_outside_the_queue,
        no_fsync,
    )
}

if __name__ == "__main__":
    if file := os.environ.get("CHAOS_CLOCK"):
        follow(Path(file))
    if sys.argv[1] != "none":
        MUTANTS[sys.argv[1]]()
    sys.exit(cli.main(sys.argv[2:]))
