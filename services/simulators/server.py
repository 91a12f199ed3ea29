"""A local HTTP server that tests and the demo start and stop, with faults that a request can switch on."""

import contextlib
import json
import sys
import threading
from collections.abc import Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Any, Self
from urllib.parse import parse_qsl, urlsplit

CONTROL = "/control"
DELAY = 10.0


class LocalServer(ThreadingHTTPServer):
    """A server on 127.0.0.1 with one fault at a time: `with SomeServer() as server`, then ask `server.url`.

    The fault is set by `fail`, or by HTTP: `curl -d fault=hang -d count=2 URL/control` breaks the next two requests,
    without a count all of them until `-d fault=`.
    """

    daemon_threads = True
    block_on_close = False
    faults: tuple[str, ...] = ()

    def __init__(self, handler: type["Handler"], port: int = 0) -> None:
        super().__init__(("127.0.0.1", port), handler)
        self.fault = ""
        self.count: int | None = None
        self.delay = DELAY
        self.ended = threading.Event()
        self.lock = threading.RLock()

    @property
    def url(self) -> str:
        """Where it listens."""
        return f"http://127.0.0.1:{self.server_port}"

    def __enter__(self) -> Self:
        threading.Thread(target=self.serve_forever, args=(0.05,), daemon=True).start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.ended.set()
        self.shutdown()
        self.server_close()

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Keep quiet about clients that go away in the middle; that is what half of the faults are for."""
        if not isinstance(sys.exception(), OSError):
            super().handle_error(request, client_address)

    def fail(self, fault: str, count: int | None = None, delay: float = DELAY) -> None:
        """Switch a fault on for `count` requests (None: until it is switched off with ""); `delay` in s."""
        if fault and fault not in self.faults:
            raise ValueError(f'There is no fault "{fault}"; there are {", ".join(self.faults)}.')
        with self.lock:
            self.fault, self.count, self.delay = fault, count, delay

    def next_fault(self) -> str:
        """Return the fault that this request meets."""
        with self.lock:
            if self.count is not None:
                self.count -= 1
                if self.count < 0:
                    self.fault, self.count = "", None
            return self.fault

    def control(self, fields: Mapping[str, str]) -> dict[str, Any]:
        """Do what a request to the control URL asks, and say how things stand; ValueError if it cannot be done."""
        if "fault" in fields:
            count = int(fields["count"]) if "count" in fields else None
            self.fail(fields["fault"], count, float(fields.get("delay", DELAY)))
        return {"fault": self.fault, "count": self.count, "faults": self.faults}

    def run(self) -> None:
        """Say where it listens and serve until the process is ended."""
        with contextlib.suppress(KeyboardInterrupt), self:
            sys.stdout.write(f"{self.url}\n")
            sys.stdout.flush()
            self.ended.wait()


class Handler(BaseHTTPRequestHandler):
    """A connection; a subclass answers in `respond`, the control URL is answered here."""

    protocol_version = "HTTP/1.1"
    server: LocalServer
    close_connection: bool
    wbufsize = -1  # header and body leave together

    def do_GET(self) -> None:
        """Answer a GET."""
        self.do_POST()

    def do_POST(self) -> None:
        """Answer a POST."""
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        url = urlsplit(self.path)
        if url.path == CONTROL:
            try:
                self.answer(200, self.server.control(dict(parse_qsl(url.query) or parse_form(body))))
            except ValueError as error:
                self.answer(400, {"error": str(error)})
        else:
            self.respond(url.path, dict(parse_qsl(url.query)), body)

    def respond(self, path: str, query: Mapping[str, str], body: bytes) -> None:
        """Answer a request."""
        raise NotImplementedError

    def answer(self, status: int, content: object, headers: Mapping[str, str] | None = None) -> None:
        """Send JSON, or bytes as they are."""
        raw = content if isinstance(content, bytes) else json.dumps(content, ensure_ascii=False).encode()
        self.send_response(status)
        for name, value in {"Content-Type": "application/json", **(headers or {})}.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(raw)))
        self.end_headers()
        self.wfile.write(raw)

    def hang_up(self) -> None:
        """Close the connection without an answer."""
        self.close_connection = True

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - http.server's name
        """Print nothing: what came in is kept by those who need it."""


def parse_form(body: bytes) -> dict[str, str]:
    """Return the fields of a form; what is not UTF-8 is replaced."""
    return dict(parse_qsl(body.decode("utf-8", "replace"), keep_blank_values=True))
