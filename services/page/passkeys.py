"""Passkeys of the page's people: the keys that are kept, the questions that are open, and who is let in by an answer.

A passkey belongs to the password under which it was made, and ends with it. What is kept of it is public; only who changes
the file could let somebody in.
"""

import hashlib
import secrets
import threading
from ipaddress import ip_address
from pathlib import Path
from typing import Final

import msgspec

from bootstrap_lib import state
from services.page.gate import Gate

MOST: Final = 20
"""Passkeys of a person."""
OPEN: Final = 200
"""Questions that are open at a time; the oldest goes first."""
OPEN_EACH: Final = 10
"""The same of one address: it pushes out its own first."""
LASTS: Final = 300_000
"""Milliseconds for which a question may be answered."""


def hindrance(scheme: str, host: str) -> str | None:
    """Why browsers make no passkeys for a page that is reached so (W3C Web Authentication, 5.1.2); None where they do."""
    if scheme != "https" and host != "localhost":
        return "passkeys need TLS, or localhost"
    try:
        ip_address(host)
    except ValueError:
        return None
    return "passkeys belong to a name: open the page by its name, not by an address"


class Passkey(msgspec.Struct, frozen=True, kw_only=True):
    """A key of somebody's. Times in ms, everything binary in base64url; `host` is the name under which the page was reached."""

    person: str
    name: str
    host: str
    key: str
    count: int
    made: int
    handle: str
    """What the person is called in the authenticator: the same in all of that person's, and it says nothing."""
    password: str
    """Digest of the password's hash under which it was made."""
    used: int = 0


class Challenge(msgspec.Struct, frozen=True):
    """A question that is open: for the address that asked for it, until when (ms), and what is to be signed."""

    address: str
    until: int
    text: str
    handle: str = ""


class UnknownPasskey(LookupError):
    """There is no such passkey (any more)."""


class CountedBack(RuntimeError):
    """A passkey has signed less often than it had before: there are two of it."""


class Challenges:
    """Questions that are open, each by what its answer must come with; answered once, and forgotten at a restart."""

    def __init__(self) -> None:
        self._open: dict[str, Challenge] = {}
        self._lock = threading.Lock()

    def ask(self, whose: str, address: str, now: int, handle: str = "") -> Challenge:
        """Begin a question of whoever holds the secret `whose`; an earlier one of the same is over."""
        found = Challenge(address, now + LASTS, secrets.token_urlsafe(32), handle)
        with self._lock:
            self._open.pop(_key(whose), None)
            self._open[_key(whose)] = found
            of_address = [key for key, one in self._open.items() if one.address == address]
            for key in of_address[:-OPEN_EACH]:
                del self._open[key]
            while len(self._open) > OPEN:
                del self._open[next(iter(self._open))]
        return found

    def take(self, whose: str, now: int) -> Challenge | None:
        """The question that somebody answers now: nobody does a second time. None where there is none, or it is over."""
        with self._lock:
            found = self._open.pop(_key(whose), None)
        return found if found is not None and now < found.until else None


class Passkeys:
    """Keeps them, and lets in who has one. May be asked from any thread."""

    def __init__(self, folder: Path, gate: Gate) -> None:
        """They are kept in `folder`; `gate` says who there is, and begins sessions."""
        self.gate = gate
        self.registering, self.logging_in = Challenges(), Challenges()
        self._file = folder / "passkeys.json"
        self._kept = state.load(self._file, dict[str, Passkey], {})
        self._lock = threading.Lock()

    @staticmethod
    def handle() -> str:
        """A new name that says nothing: of a person in an authenticator, or of who is about to log in."""
        return secrets.token_urlsafe(32)

    def of(self, person: str) -> dict[str, Passkey]:
        """Somebody's passkeys, by their ids."""
        with self._lock:
            return {key: one for key, one in self._kept.items() if one.person == person and self._holds(one)}

    def find(self, identity: str, host: str) -> Passkey:
        """The passkey of an id that was made for a host; UnknownPasskey."""
        with self._lock:
            found = self._kept.get(identity)
            if found is None or found.host != host or not self._holds(found):
                raise UnknownPasskey
            return found

    def _holds(self, one: Passkey) -> bool:
        return one.password == self.gate.digest(one.person)

    def add(self, identity: str, passkey: Passkey) -> bool:
        """Keep a new one; False where it is kept already, or its person has too many. OSError."""
        with self._lock:
            kept = {key: one for key, one in self._kept.items() if self._holds(one)}  # others' passwords are over
            count = sum(one.person == passkey.person for one in kept.values())
            if identity in kept or count >= MOST or not self._holds(passkey):
                return False
            self._save(kept | {identity: passkey})
            return True

    def remove(self, identity: str, person: str) -> Passkey:
        """Forget one, and end the sessions that began by it; UnknownPasskey. OSError."""
        with self._lock:
            found = self._kept.get(identity)
            if found is None or found.person != person:
                raise UnknownPasskey
            self.gate.end_by(identity)  # first: as long as the passkey is there, it can be tried again
            self._save({key: one for key, one in self._kept.items() if key != identity})
        return found

    def log_in(self, identity: str, count: int, address: str, now: int) -> str:
        """Cookie of a session by a passkey whose answer was verified; UnknownPasskey, CountedBack. OSError."""
        with self._lock:
            found = self._kept.get(identity)
            if found is None or not self._holds(found):
                raise UnknownPasskey
            if (count or found.count) and count <= found.count:  # W3C Web Authentication, 6.1.1; who counts not says 0
                raise CountedBack
            self._save(self._kept | {identity: msgspec.structs.replace(found, count=count, used=now)})
            return self.gate.let_in(found.person, address, now, identity)

    def _save(self, kept: dict[str, Passkey]) -> None:
        state.write(self._file, msgspec.json.encode(kept), 0o600)
        self._kept = kept


def _key(secret: str) -> str:
    return hashlib.sha256(secret.encode()).hexdigest()
