"""What links in messages permit here: each is used once, also over restarts, and ends by itself (docs/services/web.md)."""

import contextlib
import hashlib
import threading
from pathlib import Path
from typing import Any, Final

import msgspec

from bootstrap_lib import ReadingError, parse_time, state
from services.notices import permit
from services.notices.permit import Permit
from services.page.answers import Refusal

MOST: Final = 2000
"""Used links that are remembered: the one that would end first goes first, and whatever ends before it is over by then."""


class UsedPermits(msgspec.Struct):
    """Links that were used, by the hashes of what they permit, with when each ends (ms); what ends up to `floor` is over."""

    until: dict[str, int] = msgspec.field(default_factory=dict)
    floor: int = 0


class Permits:
    """Judges links. May be asked from any thread."""

    def __init__(self, folder: Path, key: str) -> None:
        """`key` is the house's; without one no link is believed. What was used is kept in `folder`."""
        self._key, self._file = key, folder / "links.json"
        self._used = state.load(self._file, UsedPermits, UsedPermits())
        self._lock = threading.Lock()

    def read(self, token: str, now: int) -> Permit:
        """What a link permits still; Refusal 403 or 410 says why nothing."""
        try:
            found = permit.read(token, self._key)
        except ValueError:
            raise Refusal(403, "this link was not made by this house", "forged") from None
        with self._lock:
            if _name(found) in self._used.until:
                raise Refusal(410, "this link was used already: each is good for one act", "used")
            if found.until <= max(now, self._used.floor):
                raise Refusal(410, "this link has ended: it is good for a day", "expired")
        return found

    def claim(self, found: Permit, now: int) -> None:
        """Use a link, before it acts: whoever comes second is refused. Refusal 410; 503 where it cannot be kept."""
        name = _name(found)
        with self._lock:
            used = self._used.until
            if name in used:
                raise Refusal(410, "this link was used already: each is good for one act", "used")
            before = self._used
            self._used = UsedPermits({one: until for one, until in used.items() if until > now}, before.floor)
            self._used.until[name] = found.until
            while len(self._used.until) > MOST:
                first = min(self._used.until, key=self._used.until.__getitem__)
                self._used.floor = max(self._used.floor, self._used.until.pop(first))
            try:
                state.save(self._file, self._used)
            except OSError as error:
                self._used = before
                raise Refusal(503, f"that it was used cannot be kept: {error}", "disk") from None

    def release(self, found: Permit) -> None:
        """Give a link back whose act was refused."""
        with self._lock:
            self._used.until.pop(_name(found), None)
            with contextlib.suppress(OSError):  # then it is used once this process ends
                state.save(self._file, self._used)


def standing(alerts: dict[str, dict[str, Any]], found: Permit) -> list[tuple[str, str, dict[str, Any]]]:
    """How the alerts of a link stand: name, `firing`, `over` or `again` (over, and begun anew), and what is shown of each."""
    said = []
    for name, begun in found.alerts:
        document = alerts.get(name, {})
        fires = document.get("state") == "firing"
        word = "over" if not fires else "firing" if _since(document) == begun else "again"
        said.append((name, word, document if word == "firing" else {}))
    return said


def _since(document: dict[str, Any]) -> int | None:
    try:
        return parse_time(str(document.get("since", "")))
    except ReadingError:
        return None


def _name(found: Permit) -> str:
    return hashlib.sha256(msgspec.json.encode(found)).hexdigest()
