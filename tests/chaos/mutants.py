"""Our own code with one promise broken, to show that the chaos run would notice: `python -m tests.chaos.mutants NAME run …`."""

import os
import select
import sys
import time
from collections.abc import Callable
from typing import Any, Final

from bootstrap_lib import cli, publisher, subscriber
from services.protocols import marks


def mark_before_commit() -> None:
    """The archive tells sources that readings are safe before it has committed them."""
    plain = subscriber.Subscriber._flush

    def flush(self: Any) -> None:
        self.on_flushed()
        time.sleep(0.5)
        plain(self)

    subscriber.Subscriber._flush = flush


def mark_past_a_gap() -> None:
    """The mark follows the newest reading, whatever is missing before it."""

    def take(self: Any, previous: int, number: int) -> bool:
        self.number = max(self.number, number)
        return True

    marks.Mark.take = take


def forget_what_was_sent() -> None:
    """A source keeps nothing that the broker has taken: a PUBACK is trusted."""
    plain = publisher.Publisher.on_published

    def on_published(self: Any, published: Any) -> None:
        plain(self, published)
        self.spool.confirm(self.spool.stream, self.spool.last)

    publisher.Publisher.on_published = on_published


MUTANTS: Final[dict[str, Callable[[], None]]] = {
    mutant.__name__: mutant for mutant in (mark_before_commit, mark_past_a_gap, forget_what_was_sent)
}

if __name__ == "__main__":
    if "FAKETIME_TIMESTAMP_FILE" in os.environ:  # libfaketime 0.9.10 makes Python's time.sleep fail with EINVAL
        time.sleep = lambda seconds: select.select([], [], [], seconds)
    if sys.argv[1] != "none":
        MUTANTS[sys.argv[1]]()
    sys.exit(cli.main(sys.argv[2:]))
