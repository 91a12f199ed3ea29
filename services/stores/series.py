"""Takes a span out of a database's series: InfluxDB deletes it; VictoriaMetrics deletes whole series, so the rest is written again.

What is to be written again lies in a file until it is: a kill in the middle loses nothing.
"""

import json
import urllib.parse
from collections.abc import Iterable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any, Final

from urllib3.exceptions import HTTPError

from bootstrap_lib import Away, format_time, reason, state

ROWS: Final = 10_000
"""Samples in a line of VictoriaMetrics' export: as many are in memory at once."""


class StoredSeries:
    """The series of topics at one server; all methods may raise Away."""

    def __init__(self, pool: Any, url: str, measurement: str, aside: Path) -> None:
        """`pool` is an urllib3 pool manager, `aside` the file for what is to be written again."""
        self._pool, self._url, self._measurement, self._aside = pool, url, measurement, aside

    def resume(self) -> None:
        """Write again what a run before had taken out."""
        if self._aside.exists():
            self._call("POST", "/api/v1/import", body=self._aside.read_bytes())
            self._aside.unlink()

    def take_out(self, topics: Iterable[str], since: int, until: int) -> None:
        """Take out what lies from a time (ms) to before another, of VictoriaMetrics."""
        for topic in topics:
            matcher = {"match[]": self._matcher(topic)}
            with state.replacing(self._aside) as file:
                for line in self._export(matcher):
                    series = json.loads(line)
                    kept = [
                        pair
                        for pair in zip(series["timestamps"], series["values"], strict=True)
                        if not since <= pair[0] < until
                    ]
                    if kept:
                        series["timestamps"], series["values"] = zip(*kept, strict=True)
                        file.write(json.dumps(series).encode() + b"\n")
            self._call("POST", "/api/v1/admin/tsdb/delete_series", matcher)
            self.resume()

    def predicates(self, topics: Iterable[str]) -> Iterator[str]:
        """What InfluxDB calls predicates, one for each thing: it deletes no single field."""
        for place, thing in sorted({tuple(topic.split("/")[:2]) for topic in topics}):
            yield f'_measurement="{self._measurement}" AND place="{place}" AND thing="{thing}"'

    def _matcher(self, topic: str) -> str:
        place, thing, name = topic.split("/")
        return f'{{__name__=~"{self._measurement}_{name}(_is)?",place="{place}",thing="{thing}"}}'

    def _export(self, matcher: dict[str, str]) -> Iterator[bytes]:
        query = matcher | {"max_rows_per_line": str(ROWS), "reduce_mem_usage": "1"}
        self._call("GET", "/internal/force_flush", {})
        answer = self._call("GET", "/api/v1/export", query, preload_content=False)
        left = b""
        for piece in answer.stream(1 << 16):
            *lines, left = (left + piece).split(b"\n")
            yield from filter(None, lines)
        if left:
            yield left

    def _call(self, method: str, path: str, query: dict[str, str] | None = None, **more: Any) -> Any:
        url = f"{self._url}{path}" + (f"?{urllib.parse.urlencode(query)}" if query else "")
        try:
            answer = self._pool.request(method, url, retries=False, timeout=600, **more)
        except (HTTPError, OSError) as error:
            raise Away(f"{self._url} does not answer: {reason(error)}") from None
        if answer.status >= 300:  # noqa: PLR2004 (HTTP)
            said = ""
            with suppress(Exception):
                said = answer.data[:200].decode("utf-8", "replace")
            raise Away(f"{self._url} refuses {path}: {answer.status} {said}")
        return answer


def span(since: int, until: int) -> tuple[str, str]:
    """Both ends as InfluxDB takes them."""
    return format_time(since), format_time(until)
