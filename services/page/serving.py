"""A web server in a thread beside a service's loop: shipped files, doors, and what stands guard before both."""

import asyncio
import gzip
import hashlib
import socket
import threading
from collections.abc import Collection, Iterable
from ipaddress import ip_address
from pathlib import Path
from typing import Final

import uvicorn
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request as HttpRequest
from starlette.responses import Response
from starlette.routing import BaseRoute, Route
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from bootstrap_lib import StartError, reason
from services.page.answers import LARGEST, Refusal
from services.page.door import BASE

FILES: Final = Path(__file__).with_name("static")
FLEET_FILES: Final = Path(__file__).with_name("fleet")
KINDS: Final = {
    ".html": "text/html; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".json": "application/json",
    ".svg": "image/svg+xml",
    ".png": "image/png",
    ".webmanifest": "application/manifest+json",
    ".txt": "text/plain; charset=utf-8",
}
POLICY: Final = "default-src 'self'; base-uri 'none'; form-action 'self'; frame-ancestors 'none'; object-src 'none'"
HEADERS: Final = [
    (b"content-security-policy", POLICY.encode()),
    (b"x-content-type-options", b"nosniff"),
    (b"referrer-policy", b"same-origin"),
    (b"cross-origin-opener-policy", b"same-origin"),
    (b"cross-origin-resource-policy", b"same-origin"),
]

NO_DOOR: Final = Refusal(404, "there is no such door: /api/1/openapi.json describes those that there are")
NO_PAGE: Final = Refusal(404, "there is no such page")
NO_METHOD: Final = 405

SENT: Final = 65_536
"""Bytes that the kernel takes for a browser before it has them: what a dead one may hold, and how soon it is noticed."""


def listen_on(address: str, port: int) -> socket.socket:
    """A socket that a page listens on; StartError where that cannot be."""
    listener = socket.socket(socket.AF_INET6 if ":" in address else socket.AF_INET, socket.SOCK_STREAM)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, SENT)  # of each stream, too
        listener.bind((address, port))
        listener.listen(256)
    except OSError as error:
        raise StartError(f"the page cannot listen on {address}:{port}: {reason(error)}") from None
    return listener


class ShippedFile:
    """A file of the page, compressed once."""

    def __init__(self, path: Path) -> None:
        """Read it."""
        self.content = path.read_bytes()
        self.small = gzip.compress(self.content, 9, mtime=0)
        self.tag = f'"{hashlib.sha256(self.content).hexdigest()[:20]}"'
        self.kind = KINDS.get(path.suffix, "application/octet-stream")

    def answer(self, request: HttpRequest) -> Response:
        """The file, or that the browser has it."""
        headers = {"etag": self.tag, "cache-control": "no-cache", "vary": "Accept-Encoding"}
        if self.tag in request.headers.get("if-none-match", ""):
            return Response(status_code=304, headers=headers)
        if "gzip" in request.headers.get("accept-encoding", "") and len(self.small) < len(self.content):
            return Response(self.small, headers=headers | {"content-encoding": "gzip"}, media_type=self.kind)
        return Response(self.content, headers=headers, media_type=self.kind)


class Guard:
    """Stands before everything: names that are ours, sizes that can be, headers that protect."""

    def __init__(self, app: ASGIApp, names: Collection[str]) -> None:
        """`names` are those under which the page is reached, besides addresses (no site can make these its own)."""
        self._app, self._names = app, frozenset(names)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Let a request through, or refuse it."""
        if scope["type"] != "http":
            return

        begun = False

        async def protected(message: Message) -> None:
            nonlocal begun
            if message["type"] == "http.response.start":
                begun = True
                message["headers"] = [*message.get("headers", ()), *HEADERS]
            await send(message)

        headers = dict(scope["headers"])
        size = headers.get(b"content-length", b"0")
        refusal = None
        if not self._is_ours(headers.get(b"host", b"").decode("latin-1")):
            refusal = Refusal(
                421, "this page is not reached by that name: put it into names: below web: in topics.yaml"
            )
        elif not size.isdigit() or int(size) > LARGEST:
            refusal = Refusal(413, f"a body has at most {LARGEST} bytes")
        app = refusal.response() if refusal else self._app
        try:
            await app(scope, receive, protected)
        except asyncio.CancelledError:  # the service ends, and what was asked of the archive with it
            if not begun:
                await Refusal(503, "the page is being stopped: ask again in a moment").response()(
                    scope, receive, protected
                )

    def _is_ours(self, host: str) -> bool:
        name = host.rpartition(":")[0] if ":" in host and not host.endswith("]") else host
        try:
            ip_address(name.strip("[]"))
        except ValueError:
            return name.lower() in self._names
        return True


class WebServer:
    """Serves doors and files on a socket."""

    def __init__(self, routes: Iterable[BaseRoute], names: Collection[str], folder: Path) -> None:
        """`names` are those under which the page may be reached, `folder` holds its files."""
        self._files = {
            path.relative_to(folder).as_posix(): ShippedFile(path) for path in folder.rglob("*") if path.is_file()
        }
        app = Starlette(
            routes=[*routes, Route(f"{BASE}/{{rest:path}}", NO_DOOR.response()), Route("/{path:path}", self._file)],
            exception_handlers={404: _no_page, 405: _no_page},
        )
        own = {"localhost", socket.gethostname().lower(), f"{socket.gethostname().lower()}.local"}
        config = uvicorn.Config(
            Guard(app, own | {name.lower() for name in names}),
            loop="asyncio",
            http="h11",
            ws="none",
            lifespan="off",
            log_config=None,
            log_level="warning",
            access_log=False,
            server_header=False,
            proxy_headers=False,
            timeout_keep_alive=30,
            timeout_graceful_shutdown=1,
            h11_max_incomplete_event_size=32_768,
        )
        self._server = uvicorn.Server(config)
        self._thread: threading.Thread | None = None

    def begin(self) -> None:
        """Begin with what lives in the server's own loop."""

    def start(self, listener: socket.socket) -> None:
        """Serve from now on."""
        self._thread = threading.Thread(target=self._run, args=(listener,), name="page", daemon=True)
        self._thread.start()

    def _run(self, listener: socket.socket) -> None:
        async def serve() -> None:
            self.begin()
            await self._server.serve(sockets=[listener])

        asyncio.run(serve())

    @property
    def alive(self) -> bool:
        """Whether it serves."""
        return self._thread is not None and self._thread.is_alive()

    def stop(self) -> None:
        """Serve no more."""
        self._server.should_exit = self._server.force_exit = True
        if self._thread is not None:
            self._thread.join(3)

    async def _file(self, request: HttpRequest) -> Response:
        path = request.path_params["path"] or "index.html"
        found = self._files.get(path)
        return found.answer(request) if found else NO_PAGE.response()


async def _no_page(_request: HttpRequest, error: Exception) -> Response:
    """What no route takes (a path with a line break, a method): in our words, and as JSON."""
    if isinstance(error, HTTPException) and error.status_code == NO_METHOD:
        return Refusal(NO_METHOD, "a page takes GET", Allow="GET").response()
    return NO_PAGE.response()
