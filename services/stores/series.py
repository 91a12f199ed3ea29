"""Takes a span out of a database's series: InfluxDB deletes it; VictoriaMetrics deletes whole series, so the rest is written again.

What is to be written again lies in a file until it is, and the database has it on disk: a kill in the middle, of us or of it, loses
nothing.
"""

import json
import math
import time
import urllib.parse
from collections.abc import Iterable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any, Final

from urllib3.exceptions import HTTPError

from bootstrap_lib import Away, format_time, notify, reason, state

ROWS: Final = 10_000
"""Samples in a line of VictoriaMetrics' export: as many are in memory at once."""

PIECE: Final = 1 << 20
"""Bytes of whole lines that are written again at once: years of a topic are more than a service may have in memory."""

LONG: Final = 600.0
"""Seconds that the server may take for what a person asked for."""

SOON: Final = 60.0
"""Seconds for what the loop does by itself: less than the watchdog waits."""


class StoredSeries:
    """The series of topics at one server; all methods may raise Away."""

    def __init__(self, pool: Any, url: str, measurement: str, aside: Path) -> None:
        """`pool` is an urllib3 pool manager, `aside` the file for what is to be written again."""
        self._pool, self._url, self._measurement, self._aside = pool, url, measurement, aside
        self._written = 0  # bytes of it

    @property
    def owing(self) -> bool:
        """Whether something that was taken out is to be written again."""
        return self._aside.exists()

    def begin_again(self) -> None:
        """The database was started anew: what it had not yet on disk is gone."""
        self._written = 0

    def resume(self, patience: float = math.inf) -> bool:
        """Write again what was taken out, also by a run before, for so many seconds; returns whether all is there."""
        if not self.owing:
            return True
        deadline, begin = time.monotonic() + patience, self._written
        self._written = 0  # whatever goes wrong, all of it is written once more
        with self._aside.open("rb") as file:
            file.seek(begin)
            while piece := b"".join(file.readlines(PIECE)):
                self._call("POST", "/api/v1/import", timeout=SOON, body=piece)
                notify(WATCHDOG=1)
                if time.monotonic() >= deadline:
                    self._written = file.tell()
                    return False
        self._make_last()
        self._aside.unlink()
        return True

    def _make_last(self) -> None:
        """Have VictoriaMetrics put on disk what it took: a snapshot does, which is not kept."""
        with suppress(Away, ValueError, LookupError, TypeError):  # one that makes none has it there in some seconds
            made = json.loads(self._call("GET", "/snapshot/create", timeout=SOON).data)
            self._call("GET", "/snapshot/delete", {"snapshot": str(made["snapshot"])})

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
                    notify(WATCHDOG=1)
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

    def _call(
        self, method: str, path: str, query: dict[str, str] | None = None, timeout: float = LONG, **more: Any
    ) -> Any:
        url = f"{self._url}{path}" + (f"?{urllib.parse.urlencode(query)}" if query else "")
        try:
            answer = self._pool.request(method, url, retries=False, timeout=timeout, **more)
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
