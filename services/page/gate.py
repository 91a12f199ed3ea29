"""Who looks, and who may change: loopback, sessions after a login, a proxy that is trusted.

Looking is free on the machine itself, and elsewhere where topics.yaml says `look: anyone`; changing always needs a person.
"""

import contextlib
import hashlib
import hmac
import logging
import secrets
import threading
from collections.abc import Mapping, Sequence
from ipaddress import IPv4Network, IPv6Network, ip_address, ip_network
from pathlib import Path
from typing import Final

from msgspec import Struct

from bootstrap_lib import state
from services.page import people

log = logging.getLogger(__name__)

COOKIE: Final = "constellation"
IDLE: Final = 7 * 86_400_000
"""Milliseconds without a request after which a session ends."""
LONGEST: Final = 30 * 86_400_000
"""Milliseconds after which it ends whatever happens."""
MOST: Final = 200
"""Sessions at a time; the one unused for longest goes first."""
FREE: Final = 5
"""Wrong passwords before one has to wait."""
LONGEST_WAIT: Final = 900_000
"""Milliseconds that one has to wait at most."""
REMEMBERED: Final = 1000
"""Addresses and names of which failures are remembered."""
SEEN_EVERY: Final = 3_600_000
"""Milliseconds between two notes on disk that a session is used."""


class Login(Struct):
    """Somebody who logged in. Times in ms."""

    name: str
    began: int
    seen: int
    password: str = ""
    """Digest of the hash by which it was let in: another password ends it."""
    passkey: str = ""
    """Id of the passkey by which it was let in: to remove that one ends it. Empty where it was by password."""


class Failures(Struct):
    """Wrong passwords of an address or a name, and until when no more are heard (ms)."""

    count: int = 0
    until: int = 0


class Caller(Struct, frozen=True):
    """Who asks: the address behind any trusted proxy, the person if one is known, and whether TLS protects the way."""

    address: str
    name: str | None
    local: bool
    secure: bool


class Wait(RuntimeError):
    """Too many wrong passwords; `seconds` says how long none is heard."""

    def __init__(self, seconds: int) -> None:
        super().__init__(f"too many wrong passwords: try again in {seconds} s")
        self.seconds = seconds


class Gate:
    """Sessions and rights. May be asked from any thread."""

    def __init__(self, folder: Path, known: Mapping[str, str], *, anyone: bool, trust: Sequence[str]) -> None:
        """`known` are people with their hashes; sessions are kept in `folder`, by the hashes of their cookies."""
        self.people = dict(known)
        self.anyone = anyone
        self._trust: list[IPv4Network | IPv6Network] = [ip_network(one, strict=False) for one in trust]
        self._file = folder / "sessions.json"
        self._sessions = state.load(self._file, dict[str, Login], {})
        self._failures: tuple[dict[str, Failures], dict[str, Failures]] = {}, {}
        """Of addresses, and of names: many of the one push out none of the other."""
        self._lock = threading.Lock()
        self._trying = threading.Lock()

    def caller(
        self, peer: str, headers: Mapping[str, str], cookie: str | None, now: int, *, tls: bool, used: bool = True
    ) -> Caller:
        """Who sent a request from an address with these headers (names in small letters); `used`: it keeps a session from idling."""
        with contextlib.suppress(
            ValueError
        ):  # who is 10.0.0.2 to a socket that hears both is ::ffff:10.0.0.2 (RFC 4291, 2.5.5.2)
            peer = str(getattr(ip_address(peer), "ipv4_mapped", None) or peer)
        trusted = self._is_trusted(peer)
        forwarded = "x-forwarded-for" in headers or "forwarded" in headers or "x-real-ip" in headers
        address, name, secure = peer, None, tls
        if trusted:
            address = headers.get("x-forwarded-for", peer).rpartition(",")[2].strip() or peer
            name = headers.get("remote-user") or None
            secure = headers.get("x-forwarded-proto", "") == "https" or tls
        if name is None and cookie and (session := self.session(cookie, now, used=used)):
            name = session.name
        return Caller(address[:60], name, _is_loopback(peer) and not forwarded, secure)

    def may_look(self, caller: Caller) -> bool:
        """Whether someone may see the house."""
        return self.anyone or caller.local or caller.name is not None

    def _is_trusted(self, peer: str) -> bool:
        try:
            address = ip_address(peer)
        except ValueError:
            return False
        return any(address in network for network in self._trust)

    # -- sessions -----------------------------------------------------------------------------------------------

    def session(self, cookie: str, now: int, *, used: bool = True) -> Login | None:
        """Who is logged in by a cookie, and by what; None where nobody is, or no more."""
        key = _key(cookie)
        with self._lock:
            session = self._sessions.get(key)
            if session is None:
                return None
            changed = session.password != self.digest(session.name)  # or there is no such person any more
            over = now - session.began > LONGEST or now - session.seen > IDLE or changed
            if over:
                del self._sessions[key]
            elif used and now - session.seen > SEEN_EVERY:
                session.seen = now
            else:
                return session
            try:
                state.save(self._file, self._sessions)
            except OSError as error:
                log.warning(
                    "sessions are not kept over a restart: %s", error
                )  # once in SEEN_EVERY; who looks goes on looking
            return None if over else session

    def log_in(self, name: str, password: str, address: str, now: int) -> str | None:
        """Cookie of a new session; None for a wrong password; Wait where too many were wrong."""
        self.refuse_early(address, name, now)
        with self._trying:  # one at a time: each takes 16 MB, and what one found holds for those that waited behind it
            self.refuse_early(address, name, now)
            right = people.matches(password, self.people.get(name, people.NOBODY)) and name in self.people
            if not right:
                self.fail(address, name, now)
                return None
        return self.let_in(name, address, now)

    def let_in(self, name: str, address: str, now: int, passkey: str = "") -> str:
        """Cookie of a new session of somebody who has shown a password, or the passkey of that id. OSError."""
        cookie = secrets.token_urlsafe(32)
        with self._lock:
            for failures, key in self._failures_of(address, name):
                failures.pop(key, None)
            self._sessions[_key(cookie)] = Login(name, now, now, _key(self.people[name]), passkey)
            for old in sorted(self._sessions, key=lambda one: self._sessions[one].seen)[:-MOST]:
                del self._sessions[old]
            state.save(self._file, self._sessions)
        return cookie

    def digest(self, name: str) -> str | None:
        """What stands for somebody's password: whatever was given under it ends with it. None where there is no such person."""
        kept = self.people.get(name)
        return None if kept is None else _key(kept)

    def refuse_early(self, address: str, name: str | None, now: int) -> None:
        """Wait, where too much was wrong from this address or for this name."""
        with self._lock:
            found = [failures[key].until for failures, key in self._failures_of(address, name) if key in failures]
        if (until := max(found, default=0)) > now:
            raise Wait(max(1, (until - now) // 1000))

    def fail(self, address: str, name: str | None, now: int) -> None:
        """Count something wrong: a password, or what was given for a passkey."""
        with self._lock:
            for known, key in self._failures_of(address, name):
                failures = known.pop(key, Failures())
                failures.count += 1
                if failures.count >= FREE:
                    failures.until = now + min(LONGEST_WAIT, 1000 * 2 ** (failures.count - FREE))
                if len(known) >= REMEMBERED:  # who has to wait for longest stays
                    del known[min(known, key=lambda one: known[one].until)]
                known[key] = failures

    def _failures_of(self, address: str, name: str | None) -> list[tuple[dict[str, Failures], str]]:
        addresses, names = self._failures
        return [(addresses, _household(address)), *([(names, name[:40])] if name is not None else [])]

    def end_by(self, passkey: str) -> None:
        """End all sessions that began by a passkey; OSError where a restart would begin them again: then once more."""
        with self._lock:
            ended = [key for key, session in self._sessions.items() if session.passkey == passkey]
            for key in ended:
                del self._sessions[key]
            state.save(self._file, self._sessions)

    def log_out(self, cookie: str | None) -> None:
        """End a session; OSError where a restart would begin it again."""
        with self._lock:
            if cookie and self._sessions.pop(_key(cookie), None):
                state.save(self._file, self._sessions)

    @staticmethod
    def cookie(value: str, *, secure: bool) -> str:
        """Header that sets the cookie; an empty value takes it away."""
        age = LONGEST // 1000 if value else 0
        return f"{COOKIE}={value}; Path=/; Max-Age={age}; HttpOnly; SameSite=Strict{'; Secure' if secure else ''}"


def same_origin(origin: str | None, host: str, *, secure: bool) -> bool:
    """Whether a change comes from this very page (RFC 6454); one without an origin does not."""
    return origin is not None and hmac.compare_digest(
        origin.encode(), f"{'https' if secure else 'http'}://{host}".encode()
    )


def is_origin_of(origin: str | None, address: str | None) -> bool:
    """Whether a change comes from the page as people reach it by the address that topics.yaml says."""
    if not origin or not address:
        return False
    scheme, _, rest = address.partition("://")
    return hmac.compare_digest(origin.encode(), f"{scheme}://{rest.partition('/')[0]}".lower().encode())


def _household(address: str) -> str:
    """What counts as one address: of IPv6 the 64 bits of a network, for a machine has as many addresses there as it likes."""
    with contextlib.suppress(ValueError):
        if ip_address(address.partition("%")[0]).version == 6:  # noqa: PLR2004
            return str(ip_network(f"{address.partition('%')[0]}/64", strict=False))
    return address


def _key(secret: str) -> str:
    return hashlib.sha256(secret.encode()).hexdigest()


def _is_loopback(address: str) -> bool:
    try:
        return ip_address(address.partition("%")[0]).is_loopback
    except ValueError:
        return False
