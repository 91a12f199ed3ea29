"""The HTTP session below pushover-complete, which by itself has neither a timeout nor another address."""

from collections.abc import Mapping
from typing import Any, Final, Self

import msgspec
import requests
from urllib3.exceptions import NewConnectionError

ADDRESS: Final = "https://api.pushover.net/1/"
"""What pushover-complete calls, whatever it is told."""
CONNECT: Final = 5.0
"""Seconds that a connection may take."""


class Limits(msgspec.Struct, frozen=True):
    """The quota as Pushover tells it with every answer; `reset` in seconds since 1970."""

    limit: int
    remaining: int
    reset: int

    @classmethod
    def of(cls, headers: Mapping[str, str]) -> Self | None:
        """Read the headers X-Limit-App-…; None where they are missing or no numbers."""
        try:
            return cls(*(int(headers[f"X-Limit-App-{name}"]) for name in ("Limit", "Remaining", "Reset")))
        except (KeyError, ValueError):
            return None


class Session(requests.Session):
    """A session with an address and a timeout of ours, which keeps the last answer: only its status is to be trusted."""

    def __init__(self, address: str, timeout: float) -> None:
        super().__init__()
        self._address, self._timeout = address.rstrip("/") + "/", (min(CONNECT, timeout), timeout)
        self.answer: requests.Response | None = None

    def request(self, method: Any, url: Any, *args: Any, **options: Any) -> requests.Response:
        """Send a request; requests.RequestException where there is no answer."""
        options |= {"timeout": self._timeout, "allow_redirects": False}
        self.answer = super().request(method, str(url).replace(ADDRESS, self._address, 1), *args, **options)
        return self.answer

    @property
    def status(self) -> int | None:
        """HTTP status of the last answer, None where none came."""
        return None if self.answer is None else self.answer.status_code

    @property
    def limits(self) -> Limits | None:
        """The quota as the last answer told it."""
        return None if self.answer is None else Limits.of(self.answer.headers)

    @staticmethod
    def never_sent(error: Exception) -> bool:
        """Whether a request certainly did not reach the server: its name is unknown, or nobody took the connection."""
        if isinstance(error, requests.ConnectTimeout):
            return True
        cause = getattr(error.args[0], "reason", None) if error.args else None
        return isinstance(error, requests.ConnectionError) and isinstance(cause, NewConnectionError)
