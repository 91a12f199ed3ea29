"""How a house becomes one of the fleet: a token that is good once, a request signed, and the answer given again to who lost it.

The centre listens for it on a port of its own, by HTTPS, as long as `constellation fleet serve` runs.
"""

import contextlib
import hashlib
import logging
import secrets
import socket
import ssl
import sys
import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Annotated, Any, Final

import msgspec
from msgspec import Meta

from bootstrap_lib import StartError, as_json, state
from services.fleet import roster
from services.fleet.authority import Authority, alone

log = logging.getLogger(__name__)

DAY: Final = 86_400
LONGEST: Final = 20_000
"""Bytes of a request: one for a certificate has some five hundred."""
PATIENCE: Final = 10.0
"""Seconds that somebody may take to say what he wants, all of it."""
MOST: Final = 20
"""Who may be heard at a time and has not said what he wants: one more, and the one who took longest is heard no more."""


class Invitation(msgspec.Struct):
    """A token: for which house, until when (seconds since 1970), and what it was used for."""

    house: str
    until: float
    request: str = ""
    certificate: str = ""


class Enrolment(msgspec.Struct, frozen=True):
    """What a house gets, bounded: names of files and lines of its broker's configuration are made of it, by root."""

    name: Annotated[str, Meta(pattern=roster.WORD, max_length=60)]
    certificate: str
    authority: str
    address: Annotated[str, Meta(pattern=r"^[A-Za-z0-9._:-]{1,253}(?!\n)$")]
    port: Annotated[int, Meta(ge=1, le=65535)]


class Invitations:
    """Tokens that were given, by their hashes: the file alone lets nobody in."""

    def __init__(self, file: Path) -> None:
        """The file is root's alone."""
        self._file = file

    def _read(self) -> dict[str, Invitation]:
        known = state.load(self._file, dict[str, Invitation], {})
        return {key: one for key, one in known.items() if one.until > time.time()}

    def _write(self, known: dict[str, Invitation]) -> None:
        state.write(self._file, msgspec.json.encode(known), 0o600)

    def invite(self, house: str) -> str:
        """Make a token for a house, for a day; those before it are good no more."""
        secret = secrets.token_hex(16)
        with self._alone():
            known = {key: one for key, one in self._read().items() if one.house != house}
            self._write(known | {_hash(secret): Invitation(house, time.time() + DAY)})
        return secret

    def withdraw(self, house: str) -> None:
        """Make all tokens of a house good no more."""
        with self._alone():
            self._write({key: one for key, one in self._read().items() if one.house != house})

    def _alone(self) -> AbstractContextManager[None]:
        return alone(self._file.with_name("tokens.lock"))

    def redeem(self, secret: str, request: str, sign: Callable[[str, str], str]) -> tuple[str, str] | None:
        """House and certificate for a token and a request; None for a token that is none, or was used for another request."""
        with self._alone():  # two requests with one token at once are two, of which one is too many
            known = self._read()
            one = known.get(_hash(secret))
            if one is None or (one.request and one.request != _hash(request)):
                return None
            if not one.request:
                one.certificate, one.request = sign(one.house, request), _hash(request)
                self._write(known)
            return one.house, one.certificate


def _hash(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


class EnrolmentServer(ThreadingHTTPServer):
    """The port at which houses come in for their certificates."""

    daemon_threads = True
    request_queue_size = 64

    def __init__(
        self, address: tuple[str, int], authority: Authority, folder: Path, port: int, revoked: Callable[[str], bool]
    ) -> None:
        """`folder` keeps the tokens, `port` is the one of the centre's broker, `revoked` tells of houses that are out."""
        super().__init__(address, _Handler)
        self.authority, self.port, self.revoked = authority, port, revoked
        self.invitations = Invitations(folder / "tokens.json")
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(authority.folder / "centre.crt", authority.folder / "centre.key")
        context.load_verify_locations(authority.certificate)
        context.verify_mode = ssl.CERT_OPTIONAL
        self._context = context
        self._unheard: dict[ssl.SSLSocket, float] = {}
        """Who has not said what he wants, the one who came first at the front, with the time (monotonic) that he has for it."""

    def process_request(self, request: Any, client_address: Any) -> None:
        """Hear somebody in a thread of his own, and make room for him: strangers who say nothing keep no house out."""
        request.settimeout(PATIENCE)
        wrapped = self._context.wrap_socket(request, server_side=True, do_handshake_on_connect=False)
        for slow in list(self._unheard)[: max(0, len(self._unheard) - MOST + 1)]:
            self._cut(slow)
        self._unheard[wrapped] = time.monotonic() + PATIENCE
        super().process_request(wrapped, client_address)

    def service_actions(self) -> None:
        """End those who took too long: a time-out of the socket's is one of each read."""
        now = time.monotonic()
        for slow in [one for one, due in list(self._unheard.items()) if due <= now]:
            self._cut(slow)

    def _cut(self, connection: ssl.SSLSocket) -> None:
        self.heard(connection)
        with contextlib.suppress(OSError):
            socket.socket.shutdown(connection, socket.SHUT_RDWR)  # beneath TLS, which another thread is reading

    def heard(self, connection: Any) -> None:
        """Note that somebody said all: however long the answer takes, he is not cut off."""
        self._unheard.pop(connection, None)

    def finish_request(self, request: Any, client_address: Any) -> None:
        """Speak TLS in the request's own thread: who says nothing holds up nobody."""
        try:
            request.do_handshake()
            super().finish_request(request, client_address)
        except OSError:
            return
        finally:
            self.heard(request)

    def handle_error(self, request: Any, client_address: Any) -> None:  # noqa: ARG002 (as the library calls it)
        """Say in a line what a request came to grief by."""
        log.warning("%s is not answered: %s", client_address[0], sys.exc_info()[1])


class _Handler(BaseHTTPRequestHandler):
    server: EnrolmentServer

    def log_message(self, format: str, *arguments: Any) -> None:  # noqa: A002 (as the library calls it)
        """A token is no line of a log."""

    def do_GET(self) -> None:
        """Hand out the authority's certificate: who has a token knows its fingerprint."""
        if self.path == "/ca":
            self._answer(200, self.server.authority.certificate.read_bytes())
        else:
            self._answer(404, b"")

    def do_POST(self) -> None:
        """Enrol with a token, or renew with the certificate that is there."""
        try:
            length = int(self.headers.get("Content-Length") or "-1")
            if not 0 <= length <= LONGEST:
                self._answer(413, b"")
                return
            said = self.rfile.read(length)
            self.server.heard(self.connection)
            asked = msgspec.json.decode(said, type=dict[str, str])
            found = self._found(asked)
        except (ValueError, msgspec.DecodeError, StartError):
            found = None
        if found is None:
            self._answer(403, as_json({"error": "no token of this centre, or one that was used or is too old"}))
            return
        name, certificate = found
        authority = self.server.authority
        given = Enrolment(name, certificate, authority.certificate.read_text(), authority.address, self.server.port)
        self._answer(200, as_json(given))

    def _found(self, asked: dict[str, str]) -> tuple[str, str] | None:
        authority, request = self.server.authority, asked.get("request", "")
        if self.path == "/enrol":
            return self.server.invitations.redeem(asked.get("token", ""), request, authority.sign)
        peer = self.connection.getpeercert() if isinstance(self.connection, ssl.SSLSocket) else None
        subject = dict(part[0] for part in (peer or {}).get("subject", ()))  # type: ignore[misc]
        name = str(subject.get("commonName", ""))
        if self.path != "/renew" or not name or self.server.revoked(name):
            return None
        certificate = authority.renew(name, str((peer or {}).get("serialNumber")), request)
        return (name, certificate) if certificate else None

    def _answer(self, code: int, body: bytes) -> None:
        self.send_response(code)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)
