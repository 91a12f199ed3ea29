"""An account at Pushover by pushover-complete, which by itself has neither a timeout nor another address."""

import io
import time
from collections.abc import Mapping
from contextlib import suppress
from typing import Any, Final, Self

import msgspec
import requests
from pushover_complete import PushoverAPI
from urllib3.exceptions import NewConnectionError

from bootstrap_lib import reason, secrets
from services.notices.notice import EMERGENCY, shortened
from services.notices.notifier import Delivered, Outcome, Queued, Refused, Unanswered

ADDRESS: Final = "https://api.pushover.net/1/"
"""What pushover-complete calls, whatever it is told."""
CONNECT: Final = 5.0
"""Seconds that a connection may take."""
MESSAGE: Final = 1024
TITLE: Final = 250
URL: Final = 512
"""Characters that Pushover takes (pushover.net/api)."""
BLOCKED: Final = 3600.0
"""Seconds without a try once the quota is used up."""


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


class Account:
    """What one application says to one user or group. Every call may take long, and raises nothing."""

    def __init__(
        self, address: str, timeout: float, token: secrets.Secret, user: secrets.Secret, device: str | None
    ) -> None:
        """`timeout` in seconds; `device` names some of the user's devices, all without it."""
        self._token, self._user, self._device = token, user, device
        self._address, self._timeout = address, timeout
        self._api = PushoverAPI(token)
        self.renew()
        self._blocked = 0.0
        self.limits: Limits | None = None
        """The quota as it was told last."""

    def renew(self) -> None:
        """Leave the connection to a call that hangs in it."""
        self._session = Session(self._address, self._timeout)

    def _fresh(self) -> Session:
        self._session.answer = None
        return self._session

    def send(self, entry: Queued, picture: bytes | None, *, retry: float, expire: float) -> Outcome:
        """Send a message and judge the answer by its status, never by what the library raises. `retry`, `expire` in seconds."""
        if time.monotonic() < self._blocked:
            return Refused("the month's quota of Pushover is used up")
        notice, emergency = entry.notice, entry.notice.priority == EMERGENCY
        session = self._fresh()
        try:
            body = self._api._send_message(  # noqa: SLF001 (made for it: its documentation says "feel free to call directly")
                self._user,
                shortened(entry.text, MESSAGE),
                device=self._device,
                title=shortened(notice.title, TITLE) or None,
                url=notice.url if notice.url and len(notice.url) <= URL else None,
                image=io.BytesIO(picture) if picture else None,
                priority=notice.priority,
                retry=round(retry) if emergency else None,
                expire=round(expire) if emergency else None,
                timestamp=entry.time // 1000,
                sound=notice.sound,
                html=None,
                session=session,
            )
        except Exception as error:  # noqa: BLE001 (it raises TypeError and more: what counts is the answer)
            return self._judge(session, error)
        self.limits = session.limits or self.limits
        return Delivered(str(body.get("receipt", "")))

    def _judge(self, session: Session, error: Exception) -> Outcome:
        status = session.status
        said = reason(error).replace(self._token, "…").replace(self._user, "…")[:200]
        if status is None:
            return Unanswered(f"Pushover does not answer: {said}", lost=not session.never_sent(error))
        self.limits = session.limits or self.limits
        if status == 429:  # noqa: PLR2004 (HTTP: too many requests)
            self._blocked = time.monotonic() + BLOCKED
            return Refused("the month's quota of Pushover is used up")
        if 400 <= status < 500 or (status == 200 and said.startswith("200:")):  # noqa: PLR2004 (the library's own words)
            return Refused(f"Pushover refuses it: {said}")
        return Unanswered(f"Pushover is in trouble ({status})", lost=status == 200)  # noqa: PLR2004

    def look(self, receipt: str) -> dict[str, Any] | None:
        """Ask what became of an emergency; None where there is no answer."""
        session = self._fresh()
        try:
            return dict(self._api._generic_get("receipts/{}.json", receipt, session=session))  # noqa: SLF001 (as above)
        except Exception:  # noqa: BLE001 (as above)
            return {"expired": 1} if session.status and 400 <= session.status < 500 else None  # noqa: PLR2004

    def cancel(self, receipt: str) -> None:
        """Stop the ringing; where there is no answer, it ends by itself."""
        with suppress(Exception):
            self._api._generic_post("receipts/{}/cancel.json", receipt, session=self._fresh())  # noqa: SLF001 (as above)
