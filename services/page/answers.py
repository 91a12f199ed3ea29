"""How a door answers: JSON or CSV, compressed where it is worth it, with an ETag; what was wrong is said with its place."""

import csv
import gzip
import hashlib
import io
import re
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any, Final, TypeVar
from zoneinfo import ZoneInfo

import msgspec
from starlette.requests import Request as HttpRequest
from starlette.responses import Response

from bootstrap_lib import Duration

T = TypeVar("T")

LARGEST: Final = 65_536
"""Bytes of a request's body."""
WORTH: Final = 1000
"""Bytes from which an answer is compressed."""
LONGEST: Final = 15 * 366 * 86_400_000
"""Milliseconds of the longest span that is answered."""
AHEAD: Final = 60_000
"""Milliseconds by which the end of a span may lie ahead of our clock: a browser asks for now."""


class Refusal(Exception):
    """An answer that says what is wrong: an HTTP status (RFC 9110), a sentence, and where."""

    def __init__(self, status: int, sentence: str, where: str | None = None, **headers: str) -> None:
        super().__init__(sentence)
        self.status, self.sentence, self.where, self.headers = status, sentence, where, headers

    def response(self) -> Response:
        """The refusal as JSON."""
        body = {"error": self.sentence} | ({"where": self.where} if self.where else {})
        headers = {name.replace("_", "-"): value for name, value in self.headers.items()}
        return Response(msgspec.json.encode(body), self.status, headers, "application/json")


def packed(request: HttpRequest, body: bytes, kind: str, headers: Mapping[str, str] | None = None) -> Response:
    """An answer with its ETag, compressed where the browser takes it; 304 where the browser has it."""
    tag = f'"{hashlib.sha256(body).hexdigest()[:20]}"'
    given = {"etag": tag, "cache-control": "no-cache", "vary": "Accept-Encoding, Cookie"} | dict(headers or {})
    if tag in re.split(r",\s*", request.headers.get("if-none-match", "").replace("W/", "")):
        return Response(status_code=304, headers=given)
    if len(body) >= WORTH and "gzip" in request.headers.get("accept-encoding", ""):
        body, given["content-encoding"] = gzip.compress(body, 6, mtime=0), "gzip"
    return Response(body, headers=given, media_type=kind)


def as_answer(request: HttpRequest, content: Any) -> Response:
    """JSON of anything that msgspec knows."""
    return packed(request, msgspec.json.encode(content), "application/json")


def as_csv(request: HttpRequest, head: Sequence[str], rows: Iterable[Sequence[Any]], name: str) -> Response:
    """Rows with a head (RFC 4180); a text that a spreadsheet would take for a formula is quoted."""
    text = io.StringIO()
    writer = csv.writer(text)
    writer.writerow(head)
    writer.writerows([harmless(cell) for cell in row] for row in rows)
    headers = {"content-disposition": f'attachment; filename="{name}"'}
    return packed(request, text.getvalue().encode(), "text/csv; charset=utf-8", headers)


def harmless(cell: Any) -> Any:
    """A cell that no spreadsheet takes for a formula."""
    return f"'{cell}" if isinstance(cell, str) and cell[:1] in ("=", "+", "-", "@", "\t") else cell


def query_of(request: HttpRequest, kind: type[T]) -> T:
    """The typed query of a request; Refusal 422 names the parameter that is wrong."""
    given = request.query_params
    for name in given:
        if len(given.getlist(name)) > 1:
            raise Refusal(422, "it stands there twice", name)
    try:
        return msgspec.convert(dict(given), kind, strict=False, dec_hook=_from_text)
    except msgspec.ValidationError as error:
        raise _refused(error) from None


async def body_of(request: HttpRequest, kind: type[T]) -> T:
    """The typed body of a request; Refusal 413, 415 or 422."""
    if request.headers.get("content-type", "").partition(";")[0].strip() not in ("application/json", ""):
        raise Refusal(415, "send JSON, as application/json")
    body = bytearray()
    async for part in request.stream():
        body += part
        if len(body) > LARGEST:
            raise Refusal(413, f"a body has at most {LARGEST} bytes")
    try:
        return msgspec.json.decode(bytes(body) or b"{}", type=kind, dec_hook=_from_text)
    except msgspec.ValidationError as error:
        raise _refused(error) from None
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise Refusal(422, f"this is no JSON: {error}", "body") from None
    except RecursionError:
        raise Refusal(422, "this is nested too deeply", "body") from None


def _from_text(kind: type, text: object) -> object:
    if kind is Duration:
        return Duration.parse(text)
    raise NotImplementedError(kind)


def _refused(error: msgspec.ValidationError) -> Refusal:
    sentence, _, place = str(error).partition(" - at `$")
    found = re.search(r"`([\w]+)`$", sentence)
    return Refusal(422, sentence, place.strip(".`[]") or (found[1] if found else "body"))


def moment_of(text: str, where: str, zone: ZoneInfo) -> int:
    """Milliseconds of a time: RFC 3339, milliseconds since 1970, or a local time without offset; Refusal 422."""
    try:
        if re.fullmatch(r"\d{10,14}", text):
            return int(text) if len(text) > 11 else int(text) * 1000  # noqa: PLR2004
        when = datetime.fromisoformat(text.replace(" ", "+") if "T" in text else text)
        found = round((when if when.tzinfo else when.replace(tzinfo=zone)).timestamp() * 1000)
    except (ValueError, OverflowError):
        raise Refusal(
            422, "this is no time: write one such as 2026-12-09T06:40 or 2026-12-09T05:40:00Z", where
        ) from None
    if not 0 <= found < 253_402_300_800_000:  # noqa: PLR2004 (the year 10000)
        raise Refusal(422, "no house was measured then", where)
    return found


def span_of(since: str, until: str | None, zone: ZoneInfo, now: int) -> tuple[int, int]:
    """A span (ms) that is asked for; Refusal 422 says which end is wrong."""
    first = moment_of(since, "from", zone)
    last = moment_of(until, "to", zone) if until else now
    if first > now:
        raise Refusal(422, "it lies ahead of us", "from")
    if last > now + AHEAD:
        raise Refusal(422, "it lies ahead of us", "to")
    if last <= first:
        raise Refusal(422, "it ends before it begins", "to")
    if last - first > LONGEST:
        raise Refusal(422, "it is longer than fifteen years", "from")
    return first, last
