"""A bike sharing company's JSON web service, and everything that such a service does wrong on a bad day.

Run it by itself with `python -m services.simulators.web --port 8080`; the stands are at `/stands.json`.
"""

import argparse
import email.utils
import hashlib
import itertools
import json
import time
from collections.abc import Mapping
from typing import Any

from services.simulators.server import Handler, LocalServer

HALF_A_GIGABYTE = 512 * 1024 * 1024
PIECE = b" " * 65536
STANDS = {
    "stands": [
        {"id": "31705", "name": "Champeaux", "bikes": 7, "docks": 13, "open": True},
        {"id": "10042", "name": "Poissonnière", "bikes": 0, "docks": 22, "open": True},
    ]
}


class Web(LocalServer):
    """The service; `document` is what it says, and each change of it has a new ETag and time of change."""

    faults = (
        "endless",
        "huge",
        "drip",
        "hang",
        "redirect_to_file",
        "malformed",
        "latin_1",
        "list",
        "error",
        "missing",
        "gone",
    )

    def __init__(self, port: int = 0) -> None:
        super().__init__(WebRequest, port)
        self.requests = 0
        self.not_modified = 0
        self._document: Any = None
        self.raw, self.tag, self.changed = b"", "", ""
        self.document = STANDS

    @property
    def document(self) -> Any:
        """What the service says."""
        return self._document

    @document.setter
    def document(self, document: Any) -> None:
        self._document = document
        self.raw = json.dumps(document, ensure_ascii=False).encode()
        self.tag = f'"{hashlib.sha256(self.raw).hexdigest()[:16]}"'
        self.changed = email.utils.formatdate(time.time(), usegmt=True)

    def control(self, fields: Mapping[str, str]) -> dict[str, Any]:
        """Tell the counts too; `document` replaces what the service says."""
        if "document" in fields:
            self.document = json.loads(fields["document"])
        return super().control(fields) | {"requests": self.requests, "not_modified": self.not_modified}


class WebRequest(Handler):
    """A request for the stands, whatever its path."""

    server: Web

    def respond(self, path: str, query: Mapping[str, str], body: bytes) -> None:  # noqa: ARG002 - any path will do
        """Answer with the document, with 304 if the client has it, or with the fault."""
        server = self.server
        server.requests += 1
        match server.next_fault():
            case "endless":
                self._stream(None, PIECE, 0.0)
            case "huge":
                self._stream(HALF_A_GIGABYTE, PIECE, 0.0)
            case "drip":
                self._stream(None, b" ", 0.1)
            case "hang":
                server.ended.wait()
                self.hang_up()
            case "redirect_to_file":
                self.answer(302, b"", {"Location": "file:///etc/passwd"})
            case "malformed":
                self.answer(200, server.raw[:-3])
            case "latin_1":
                self.answer(200, server.raw.decode().encode("latin-1"))
            case "list":
                self.answer(200, [])
            case "error":
                self.answer(503, b"<html>down for maintenance</html>", {"Content-Type": "text/html"})
            case "missing":
                self.answer(404, {"error": "no such thing"})
            case "gone":
                self.hang_up()
            case _:
                self._document()

    def _document(self) -> None:
        server = self.server
        validators = {"ETag": server.tag, "Last-Modified": server.changed}
        asked = self.headers.get("If-None-Match")
        fresh = asked == server.tag if asked else self.headers.get("If-Modified-Since") == server.changed
        if fresh:
            server.not_modified += 1
            self.send_response(304)
            for name, value in validators.items():
                self.send_header(name, value)
            self.end_headers()
        else:
            self.answer(200, server.raw, validators)

    def _stream(self, length: int | None, piece: bytes, pause: float) -> None:
        """Send blanks, for ever if no length is given, until the client has enough."""
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        if length is None:
            self.send_header("Connection", "close")
        else:
            self.send_header("Content-Length", str(length))
        self.end_headers()
        for _ in itertools.count() if length is None else range(length // len(piece)):
            if self.server.ended.wait(pause):
                break
            self.wfile.write(piece)
            self.wfile.flush()
        self.hang_up()


def main(arguments: list[str] | None = None) -> None:
    """Serve until the process is ended; print the URL first."""
    parser = argparse.ArgumentParser(
        prog="python -m services.simulators.web",
        description=__doc__,
        epilog=f"Faults, by curl -d fault=NAME [-d count=N] URL/control: {', '.join(Web.faults)}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--port", type=int, default=0, help="port on 127.0.0.1 (default: a free one)")
    Web(parser.parse_args(arguments).port).run()


if __name__ == "__main__":
    main()
