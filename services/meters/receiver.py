"""What every receiver of wireless M-Bus is to the service, whatever hears the telegrams."""

from collections import Counter
from types import TracebackType
from typing import NamedTuple, Protocol, Self


class ReceiverError(OSError):
    """The receiver cannot be used; the text says what to look at."""


class ReceivedTelegram(NamedTuple):
    """A telegram without block CRCs; `signal` in dBm where the receiver measures it."""

    telegram: bytes
    signal: float | None


class Receiver(Protocol):
    """What hears telegrams, open inside `with`; it raises ReceiverError when it has to be opened again."""

    counters: Counter[str]
    """Bytes and lines that were no telegrams, pings and resets; whoever takes them away empties it."""

    def __enter__(self) -> Self: ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...

    @property
    def silence(self) -> float:
        """Seconds after which `receive` wants to be called although nothing can be read."""
        ...

    def fileno(self) -> int:
        """File that can be read when there may be telegrams."""
        ...

    def receive(self) -> list[ReceivedTelegram]:
        """Return what was heard, without waiting."""
        ...
