"""A server that takes line protocol over InfluxDB's HTTP interface: InfluxDB 2 and 3, VictoriaMetrics."""

import re
from pathlib import Path
from typing import Final, NamedTuple

from influxdb_client.client.influxdb_client import InfluxDBClient
from influxdb_client.client.write_api import SYNCHRONOUS
from influxdb_client.domain.write_precision import WritePrecision
from influxdb_client.rest import ApiException
from urllib3.exceptions import HTTPError

from bootstrap_lib import Away, reason
from services.stores.line_protocol import RefusedLines
from services.stores.series import StoredSeries, span

NEVER: Final = (400, 413, 422)
"""Status of a request with a line that the server will never take, or with too many of them."""

REASONS: Final = {
    401: "it does not know our token: check `token`",
    403: "our token may not write there: check `bucket` and `token`",
    404: "it has no such bucket: check `url`, `org` and `bucket`",
}


class Life(NamedTuple):
    """Which life of the server this is (its start, None where it does not tell), and what is wrong with its settings."""

    started: str | None
    complaint: str | None


class InfluxServer:
    """One server and one bucket of it."""

    def __init__(
        self, url: str, bucket: str, org: str, token: str, timeout: float, *, measurement: str, folder: Path
    ) -> None:
        """Connect later; `timeout` in seconds, `folder` is the state folder. What goes through a network is compressed."""
        self.url, self._bucket, self._timeout = url.rstrip("/"), bucket, timeout
        near = re.match(r"https?://(localhost|127\.|\[::1\])", url)
        self._client = InfluxDBClient(url, token, org=org, timeout=round(timeout * 1000), enable_gzip=not near)
        self._write_api = self._client.write_api(write_options=SYNCHRONOUS)
        self._org = org
        pool = self._client.api_client.rest_client.pool_manager
        self._series = StoredSeries(pool, self.url, measurement, folder / "taken_out.jsonl")

    def write(self, lines: list[str]) -> None:
        """Write lines with times in milliseconds: they are taken when this returns. Away, or RefusedLines."""
        try:
            self._write_api.write(self._bucket, record="\n".join(lines), write_precision=WritePrecision.MS)  # type: ignore[arg-type]
        except ApiException as error:
            if error.status in NEVER:
                raise RefusedLines(" ".join(str(error.body or error.reason).split())[:200]) from None
            raise self._away(REASONS.get(error.status or 0, f"{error.status} {error.reason}")) from None
        except (HTTPError, OSError) as error:
            raise self._away(reason(error)) from None

    def _away(self, said: str) -> Away:
        return Away(f"{self.url} does not take readings: {said}")

    def take_out(self, topics: list[str], since: int, until: int) -> None:
        """Take out what lies from a time (ms) to before another. Away."""
        if self._is_victoria():
            self._series.begin_again()
            self._series.resume()
            self._series.take_out(topics, since, until)
            return
        begin, end = span(since, until)
        try:
            for predicate in self._series.predicates(topics):
                self._client.delete_api().delete(begin, end, predicate, self._bucket, self._org)
        except ApiException as error:
            raise self._away(REASONS.get(error.status or 0, f"{error.status} {error.reason}")) from None
        except (HTTPError, OSError) as error:
            raise self._away(reason(error)) from None

    def takes_out_topics(self) -> bool:
        """Whether it deletes a topic by itself: VictoriaMetrics does, InfluxDB only all that a thing measured. Away."""
        return self._is_victoria()

    def resume(self, patience: float) -> bool:
        """Write again what a run before took out, for so many seconds; returns whether nothing is left to do. Away."""
        return not self._series.owing or not self._is_victoria() or self._series.resume(patience)

    def begin_again(self) -> None:
        """The server was started anew."""
        self._series.begin_again()

    def _is_victoria(self) -> bool:
        http = self._client.api_client.rest_client.pool_manager
        try:
            answer = http.request("GET", f"{self.url}/metrics", timeout=self._timeout, retries=False)
        except (HTTPError, OSError) as error:
            raise self._away(reason(error)) from None
        return b"vm_app_version" in answer.data

    def look(self) -> Life | None:
        """Ask the server's own metrics who it is; None where it does not answer."""
        http = self._client.api_client.rest_client.pool_manager
        try:
            answer = http.request("GET", f"{self.url}/metrics", timeout=self._timeout, retries=False)
        except (HTTPError, OSError):
            return None
        metrics = answer.data.decode("utf-8", "replace")
        started = re.search(r"^process_start_time_seconds (\S+)", metrics, re.MULTILINE)
        return Life(started[1] if started else None, _deduplication(metrics))

    def close(self) -> None:
        """Close the connections."""
        self._client.close()  # type: ignore[no-untyped-call]


def _deduplication(metrics: str) -> str | None:
    """Say what is wrong with VictoriaMetrics' de-duplication; repeats are normal here, two readings in 1 ms are not."""
    found = re.search(r'^flag\{name="dedup.minScrapeInterval", value="([^"]*)"', metrics, re.MULTILINE)
    if not found or found[1] == "1ms":
        return None
    if found[1] == "0s":
        return "VictoriaMetrics keeps a repeated reading twice: start it with -dedup.minScrapeInterval=1ms"
    return f"VictoriaMetrics keeps one reading in {found[1]} and drops the rest: start it with -dedup.minScrapeInterval=1ms"
