"""One JSON document of a web service, asked for so that nothing the other side does can hang, fill or mislead us.

Python's own http.client: requests would cost 5 MB more, and limits neither the time nor the size of an answer.
"""

import codecs
import functools
import io
import socket
import ssl
import threading
import time
from collections.abc import Mapping
from contextlib import closing
from email.utils import parsedate_to_datetime
from http.client import (
    HTTPConnection,
    HTTPException,
    HTTPResponse,
    HTTPSConnection,
    IncompleteRead,
    InvalidURL,
    RemoteDisconnected,
    responses,
)
from queue import SimpleQueue
from typing import Any, NamedTuple, Self
from urllib.parse import SplitResult, urljoin, urlsplit

import msgspec

LONGEST = 4 * 1024 * 1024
"""Bytes of the longest answer that is read; the bike stands of a large city have half a megabyte."""
REDIRECTS = 5
MOVED = (301, 302, 303, 307, 308)
NOT_MODIFIED = 304
OK = 200
UNSENDABLE = "a header or the address has a character that may not stand there, such as a line's end within a secret"
MARKS = {codecs.BOM_UTF8: "utf-8", codecs.BOM_UTF16_LE: "utf-16-le", codecs.BOM_UTF16_BE: "utf-16-be"}
VALIDATORS = {"ETag": "If-None-Match", "Last-Modified": "If-Modified-Since"}
"""What an answer says of its version, and how the next request asks for a newer one (RFC 9110, section 13)."""


class WebError(OSError):
    """No document; the text says why. `wait` is the time in seconds for which the service wants to be left alone."""

    def __init__(self, sentence: str, wait: float = 0.0) -> None:
        super().__init__(sentence)
        self.wait = wait


class JsonDocument(NamedTuple):
    """What an answer says, whatever that is: text is a value like any other, not a URL to go on to."""

    content: Any


class _Moved(NamedTuple):
    url: str


class Page:
    """A URL that is asked again and again; `headers` go to its own host only, wherever it redirects to."""

    def __init__(self, url: str, headers: Mapping[str, str], timeout: float) -> None:
        self._url, self._headers, self._timeout = url, headers, timeout
        self._version: dict[str, str] = {}

    def fetch(self) -> JsonDocument | None:
        """Return the decoded document, or None if it is the one that was fetched last.

        WebError, at the latest after the timeout (and what the name's look-up takes).
        """
        end = time.monotonic() + self._timeout
        url = self._url
        for _ in range(REDIRECTS + 1):
            parts = urlsplit(url)
            if parts.scheme not in ("http", "https") or not parts.hostname:
                raise WebError(f"it sends us to a {parts.scheme or 'nameless'}: address, which is not followed")
            try:
                answer = self._ask(parts, end)
            except (OSError, HTTPException, ValueError) as error:
                raise error if isinstance(error, WebError) else WebError(self._reason(error, parts)) from None
            if not isinstance(answer, _Moved):
                return answer
            url = urljoin(url, answer.url)
        raise WebError(f"it sends us on more than {REDIRECTS} times")

    def _ask(self, parts: SplitResult, end: float) -> JsonDocument | _Moved | None:
        """Make one request: the document, None, or the URL to ask instead."""
        kind = HTTPConnection if parts.scheme == "http" else functools.partial(HTTPSConnection, context=_trust())
        own = parts[:2] == urlsplit(self._url)[:2]
        headers = {"User-Agent": "constellation", "Accept": "application/json", "Connection": "close"}
        headers |= {**self._headers, **self._version} if own else {}
        with closing(kind(parts.hostname or "", parts.port, timeout=_left(end))) as connection:
            where = parts._replace(scheme="", netloc="", fragment="").geturl() or "/"
            try:
                connection.request("GET", where, headers=headers)
            except (ValueError, InvalidURL):  # whose text shows the header, and so a secret
                raise WebError(f"{parts.hostname} cannot be asked: {UNSENDABLE}") from None
            # closed before its connection is, or Python 3.13 flushes what is closed when it forgets it
            with HTTPResponse(_Clocked(connection.sock, end), method="GET") as response:  # type: ignore[arg-type]
                response.begin()
                return self._answer(response)

    def _answer(self, response: HTTPResponse) -> JsonDocument | _Moved | None:
        """Read what was answered: the document, None, or the URL to ask instead."""
        if response.status in MOVED:
            return _Moved(response.headers.get("Location", ""))
        if response.status == NOT_MODIFIED and self._version:
            return None
        if response.status != OK:
            # its own words may be an echo of ours, with our secret
            sentence = f"it answers {response.status} {responses.get(response.status, '')}".strip()
            raise WebError(sentence, _seconds(response.headers.get("Retry-After")))
        document = JsonDocument(_document(response))
        self._version = {ask: response.headers[name] for name, ask in VALIDATORS.items() if name in response.headers}
        return document

    def _reason(self, error: Exception, parts: SplitResult) -> str:
        match error:
            case TimeoutError():
                return f"{parts.hostname} did not answer completely within {self._timeout:g} s"
            case ssl.SSLCertVerificationError():
                return f"the certificate of {parts.hostname} is not trusted ({error.verify_message})"
            case socket.gaierror():
                return f"the name {parts.hostname} is not known: is it right, and is there a network?"
            case RemoteDisconnected():
                return f"{parts.hostname} ended the connection without an answer"
            case IncompleteRead():
                return "its answer was cut off"
            case HTTPException():
                return f"{parts.hostname} does not speak HTTP ({type(error).__name__})"
            case OSError():
                return f"{parts.hostname} cannot be reached: {error.strerror or error}"
            case _:
                return f"{parts.hostname} cannot be asked: {error}"


class WebQuestion:
    """A page that is asked beside the loop: neither a slow service nor a look-up of its name holds anything up.

    The thread is a daemon: one that hangs must not keep the process. Its end of the pair is its own, whoever waits at the other.
    """

    def __init__(self, page: Page) -> None:
        """Ask; `fileno` can be read once there is an answer."""
        self._answers: SimpleQueue[JsonDocument | Exception | None] = SimpleQueue()
        self._here, there = socket.socketpair()
        threading.Thread(target=self._ask, args=(page, there), name="web", daemon=True).start()

    def __enter__(self) -> Self:
        """Return itself."""
        return self

    def __exit__(self, *_: object) -> None:
        """Wait no more."""
        self._here.close()

    def fileno(self) -> int:
        """Return the descriptor that can be read once there is an answer."""
        return self._here.fileno()

    @property
    def answered(self) -> bool:
        """Whether there is an answer."""
        return not self._answers.empty()

    def answer(self) -> JsonDocument | None:
        """Give the answer, once, as `Page.fetch` does."""
        found = self._answers.get()
        if isinstance(found, Exception):
            raise found
        return found

    def _ask(self, page: Page, there: socket.socket) -> None:
        with there:  # whose end wakes the loop
            try:
                self._answers.put(page.fetch())
            except Exception as error:  # noqa: BLE001 - it is raised where the answer is taken
                self._answers.put(error)


class _Clocked(io.RawIOBase):
    """A socket as HTTPResponse reads it, each byte of which must come before a moment in time."""

    def __init__(self, sock: socket.socket, end: float) -> None:
        self._socket, self._end = sock, end

    def makefile(self, _mode: str) -> io.BufferedReader:
        """Give what HTTPResponse reads from."""
        return io.BufferedReader(self)

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        self._socket.settimeout(_left(self._end))
        return self._socket.recv_into(buffer)


def _left(end: float) -> float:
    left = end - time.monotonic()
    if left <= 0:
        raise TimeoutError
    return left


@functools.cache
def _trust() -> ssl.SSLContext:
    return ssl.create_default_context()


def _document(response: HTTPResponse) -> Any:
    if response.length is not None and response.length > LONGEST:
        raise WebError(f"its answer has {response.length / 1e6:.0f} MB, and {LONGEST / 1e6:.0f} MB are read at most")
    body = response.read(LONGEST + 1)
    if len(body) > LONGEST:
        raise WebError(f"its answer does not end: more than {LONGEST / 1e6:.0f} MB came")
    if response.length:
        raise WebError(f"its answer was cut off, {response.length} bytes are missing")
    try:
        return msgspec.json.decode(_text(body, response.headers.get_content_charset()))
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise WebError(f"its answer is no JSON: {error}") from None


def _text(body: bytes, charset: str | None) -> bytes | str:
    """Take off the mark that some put before UTF-8, and read other charsets as the mark or the header says."""
    for mark, name in MARKS.items():
        if body.startswith(mark):
            return body[len(mark) :].decode(name)
    if charset in (None, "utf-8", "us-ascii"):
        return body
    try:
        return body.decode(charset)
    except LookupError:
        raise WebError(f"its charset {charset} is not known") from None


def _seconds(text: str | None) -> float:
    """Read Retry-After: seconds, or a date (RFC 9110, section 10.2.3)."""
    if not text or text.isdecimal():
        return float(text or 0)
    try:
        then = parsedate_to_datetime(text)
    except ValueError:
        return 0.0
    return max(0.0, then.timestamp() - time.time())
