"""A dead man's switch: an address of somebody else that is asked while all is well, and raises its voice when it is not."""

import time
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from services.notices.wire import Wire

CONNECT: Final = 5.0
"""Seconds that a connection may take."""


class Switch:
    """One address, asked every so many seconds."""

    def __init__(self, address: str, every: float, timeout: float) -> None:
        """`every` and `timeout` in seconds; the address is a secret."""
        self._address, self._every, self._timeout = address, every, timeout
        self._asked_at = 0.0
        self._wire: Wire | None = None

    def due(self) -> bool:
        """Whether it is time; then it is for you to ask."""
        now = time.monotonic()
        if now - self._asked_at < self._every:
            return False
        self._asked_at = now
        return True

    def ask(self) -> str:
        """Ask, in a thread; the reason without the address where that fails, else nothing."""
        import requests  # 8 MB, only for those who have a switch

        from services.notices.wire import Wire

        limits = min(CONNECT, self._timeout), self._timeout
        self._wire = Wire()
        try:
            with requests.Session() as session:
                session.mount("https://", self._wire)
                session.mount("http://", self._wire)
                with session.get(self._address, timeout=limits, stream=True) as answer:  # what it says is not read
                    answer.raise_for_status()
        except requests.RequestException as error:
            return type(error).__name__
        return ""

    def renew(self) -> None:
        """End a question that hangs, from another thread: it was given up."""
        if self._wire:
            self._wire.cut()
