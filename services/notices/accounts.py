"""An account at Pushover by pushover-complete, which by itself has neither a timeout nor another address."""

import io
import re
import time
from collections.abc import Mapping
from contextlib import suppress
from typing import Any, Final, Self

import msgspec
import requests
from pushover_complete import PushoverAPI
from urllib3.exceptions import NewConnectionError

from bootstrap_lib import format_time, reason, secrets
from services.notices.notice import EMERGENCY, shortened
from services.notices.permit import WORDS
from services.notices.queued import Delivered, Outcome, Queued, Refused, Unanswered
from services.notices.wire import Wire

ADDRESS: Final = "https://api.pushover.net/1/"
"""What pushover-complete calls, whatever it is told."""
CONNECT: Final = 5.0
"""Seconds that a connection may take."""
MESSAGE: Final = 1024
TITLE: Final = 250
URL: Final = 512
"""Characters that Pushover takes (pushover.net/api)."""
ASKED_AGAIN: Final = 60.0
"""Seconds between two questions whether a quota that was used up is there again."""
LONGEST: Final = 65_536
"""Bytes of an answer that are read: a true one has some hundred. It is asked for unpacked, and not unpacked."""
MOST: Final = 1 << 53
RECEIPT: Final = re.compile(r"[A-Za-z0-9]{1,64}")


class Quota(msgspec.Struct, frozen=True):
    """The quota as Pushover tells it with every answer; `reset` in seconds since 1970."""

    limit: int
    remaining: int
    reset: int

    @classmethod
    def of(cls, headers: Mapping[str, str]) -> Self | None:
        """Read the headers X-Limit-App-…; None where they are missing or no numbers."""
        return cls.read({name.lower(): headers.get(f"X-Limit-App-{name}") for name in ("Limit", "Remaining", "Reset")})

    @classmethod
    def read(cls, told: Mapping[str, Any]) -> Self | None:
        """Read `limit`, `remaining` and `reset`; None where they are missing or no numbers that can be."""
        try:
            numbers = [int(told[name]) for name in ("limit", "remaining", "reset")]
        except (KeyError, ValueError, TypeError):
            return None
        return cls(*numbers) if all(0 <= number < MOST for number in numbers) else None


class PushoverSession(requests.Session):
    """A session with an address and a timeout of ours, which keeps the last answer: only its status is to be trusted."""

    def __init__(self, address: str, timeout: float) -> None:
        super().__init__()
        self._wire = Wire()
        self.mount("https://", self._wire)
        self.mount("http://", self._wire)
        self._address, self._timeout = address.rstrip("/") + "/", (min(CONNECT, timeout), timeout)
        self.answer: requests.Response | None = None

    def request(self, method: Any, url: Any, *args: Any, **options: Any) -> requests.Response:
        """Send a request; requests.RequestException where there is no answer."""
        options |= {"timeout": self._timeout, "allow_redirects": False, "stream": True}
        options["headers"] = {"Accept-Encoding": "identity"}
        answer = super().request(method, str(url).replace(ADDRESS, self._address, 1), *args, **options)
        body = answer.raw.read(LONGEST + 1, decode_content=False)
        if len(body) > LONGEST:
            answer.close()
            body = b""
        answer._content = body  # noqa: SLF001 (requests would read, and unpack, without end)
        self.answer = answer
        return answer

    def cut(self) -> None:
        """End a call that hangs, from another thread."""
        self._wire.cut()

    @property
    def status(self) -> int | None:
        """HTTP status of the last answer, None where none came."""
        return None if self.answer is None else self.answer.status_code

    @property
    def limits(self) -> Quota | None:
        """The quota as the last answer told it."""
        return None if self.answer is None else Quota.of(self.answer.headers)

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
        self._session = PushoverSession(address, timeout)
        self._used_up = False
        self._asked_at = 0.0
        self.limits: Quota | None = None
        """The quota as it was told last."""

    def renew(self) -> None:
        """End a call that hangs: it was given up, and would hold one of the two connections that Pushover allows."""
        self._session.cut()
        self._session = PushoverSession(self._address, self._timeout)

    def _fresh(self) -> PushoverSession:
        self._session.answer = None
        return self._session

    def send(self, entry: Queued, picture: bytes | None, *, retry: float, expire: float) -> Outcome:
        """Send a message and judge the answer by its status, never by what the library raises. `retry`, `expire` in seconds."""
        if self._used_up and (still := self._ask_quota()):
            return still
        notice, emergency = entry.notice, entry.notice.priority == EMERGENCY
        session = self._fresh()
        url = notice.url if notice.url and len(notice.url) <= URL else None
        below = f"\n{WORDS}: {entry.link}" if entry.link and url else ""
        try:
            body = self._api._send_message(  # noqa: SLF001 (made for it: its documentation says "feel free to call directly")
                self._user,
                shortened(entry.text, MESSAGE - len(below)) + below,
                device=self._device,
                title=shortened(notice.title, TITLE) or None,
                url=url or entry.link or None,
                url_title=WORDS if entry.link and not url else None,
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
        self.limits, self._used_up = session.limits or self.limits, False
        receipt = body.get("receipt") if isinstance(body, dict) else None
        return Delivered(receipt if isinstance(receipt, str) and RECEIPT.fullmatch(receipt) else "")

    def _ask_quota(self) -> Outcome | None:
        """Ask how much of the month is left, once a minute; None where there is something."""
        now = time.monotonic()
        if now - self._asked_at >= ASKED_AGAIN or not self._asked_at:
            self._asked_at = now
            session = self._fresh()
            try:
                told = self._api._generic_get("apps/limits.json", session=session)  # noqa: SLF001 (as above)
            except Exception as error:  # noqa: BLE001 (as above)
                if session.status is None:
                    return Unanswered(f"Pushover does not answer: {self._plain(error)}", lost=False)
                told = {}
            self.limits = Quota.read(told if isinstance(told, dict) else {}) or self.limits
            self._used_up = self.limits is None or self.limits.remaining <= 0
        if not self._used_up:
            return None
        until = (
            f", until {format_time(self.limits.reset * 1000)}" if self.limits and self.limits.reset < 1 << 32 else ""
        )
        return Refused(f"the month's quota of Pushover is used up{until}")

    def _plain(self, error: Exception) -> str:
        """What an error says, without secrets, on one line."""
        said = reason(error).replace(self._token, "…").replace(self._user, "…")
        return "".join(c if c.isprintable() else " " for c in said)[:200]

    def _judge(self, session: PushoverSession, error: Exception) -> Outcome:
        status = session.status
        said = self._plain(error)
        if status is None:
            return Unanswered(f"Pushover does not answer: {said}", lost=not session.never_sent(error))
        self.limits = session.limits or self.limits
        if status == 429:  # noqa: PLR2004 (HTTP: too many requests)
            self._used_up, self._asked_at = True, 0.0
            return self._ask_quota() or Unanswered("Pushover has had too much at once", lost=False)
        if 400 <= status < 500 or (status == 200 and said.startswith("200:")):  # noqa: PLR2004 (the library's own words)
            return Refused(f"Pushover refuses it: {said}")
        return Unanswered(f"Pushover is in trouble ({status})", lost=status == 200)  # noqa: PLR2004

    def look(self, receipt: str) -> dict[str, Any] | None:
        """Ask what became of an emergency; None where there is no answer."""
        session = self._fresh()
        try:
            return dict(self._api._generic_get("receipts/{}.json", receipt, session=session))  # noqa: SLF001 (as above)
        except Exception:  # noqa: BLE001 (as above)
            unknown = session.status is not None and 400 <= session.status < 500 and session.status != 429  # noqa: PLR2004
            return {"expired": 1} if unknown else None

    def cancel(self, receipt: str) -> bool:
        """Stop the ringing; whether that is confirmed: also where there is no such receipt any more."""
        session = self._fresh()
        with suppress(Exception):
            self._api._generic_post("receipts/{}/cancel.json", receipt, session=session)  # noqa: SLF001 (as above)
            return True
        return session.status is not None and 400 <= session.status < 500 and session.status != 429  # noqa: PLR2004
