"""The time-series store against a real VictoriaMetrics: every reading once, whoever is killed."""

import http.server
import json
import shutil
import sqlite3
import subprocess
import threading
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from harness import Ear, House, free_port, wait_for
from voices import Voice, now

from bootstrap_lib import Reading, format_time
from bootstrap_lib.registry import Registry
from services.stores.line_protocol import Writer, escape
from services.stores.lost_tail import Lapse
from services.stores.series import StoredSeries

WATER, PUMP, PHASE = "boiler/water/temperature", "boiler/pump/active", "boiler/burner/phase"
MARK = "home/service/archive/stored/onewire"


def topics(port: int, archive: bool = True, influx: str = "") -> str:
    return f"""
sources:
  onewire: {{}}
subscribers:
  {"archive: {commit: 50ms, every: 200ms}" if archive else ""}
  influx: {{url: "http://127.0.0.1:{port}", flush: 50ms, every: 200ms, heartbeat: 500ms{influx}}}
topics:
  {WATER}: {{from: onewire}}
  {PUMP}: {{from: onewire}}
  {PHASE}: {{from: onewire, states: ["off", "full load"]}}
  boiler/return/temperature: {{from: onewire, store: [archive]}}
"""


class Metrics:
    """A victoria-metrics of our own."""

    def __init__(self, folder: Path, *flags: str) -> None:
        self.port, self.folder = free_port(), folder
        self.flags = flags or ("-dedup.minScrapeInterval=1ms",)
        self.process: subprocess.Popen[bytes] | None = None

    def start(self) -> "Metrics":
        command = [
            "victoria-metrics",
            f"-storageDataPath={self.folder}",
            f"-httpListenAddr=127.0.0.1:{self.port}",
            "-retentionPeriod=10y",
            "-search.latencyOffset=0s",
            *self.flags,
        ]
        self.process = subprocess.Popen(command, stderr=subprocess.DEVNULL)
        self.started = time.time()
        wait_for(self._answers, what="victoria-metrics")
        return self

    def _answers(self) -> bool:
        try:
            return self._get("/health", {}) == b"OK"
        except OSError:
            return False

    def _get(self, path: str, query: dict[str, str]) -> bytes:
        url = f"http://127.0.0.1:{self.port}{path}?{urllib.parse.urlencode(query)}"
        with urllib.request.urlopen(url, timeout=5) as answer:
            content: bytes = answer.read()
            return content

    def kill(self) -> None:
        assert self.process is not None
        self.process.kill()
        self.process.wait(10)

    def samples(self, name: str, **labels: str) -> list[tuple[int, float]]:
        """Time (ms) and value of all samples of a series."""
        if self.process is None or self.process.poll() is not None:
            return []
        matcher = ",".join(f'{key}="{value}"' for key, value in labels.items())
        self._get("/internal/force_flush", {})
        found: list[tuple[int, float]] = []
        for line in self._get("/api/v1/export", {"match[]": f"{name}{{{matcher}}}"}).splitlines():
            series = json.loads(line)
            found += zip(series["timestamps"], series["values"], strict=True)
        return sorted(found)


@pytest.fixture
def metrics(tmp_path: Path) -> Iterator[Metrics]:
    assert shutil.which("victoria-metrics"), "victoria-metrics is missing: run scripts/test, which installs it"
    metrics = Metrics(tmp_path / "metrics").start()
    yield metrics
    if metrics.process and metrics.process.poll() is None:
        metrics.process.kill()
        metrics.process.wait()


@pytest.fixture
def stores(house: House, metrics: Metrics, ear: Ear) -> House:
    house.write(topics(metrics.port))
    for name in ("archive", "influx"):
        house.start(name)
        ear.wait(f"home/service/{name}/status", lambda status: status == "online")
    return house


def water(metrics: Metrics) -> list[tuple[int, float]]:
    return metrics.samples("home_temperature", place="boiler", thing="water")


def test_lines_have_tags_a_field_that_is_always_a_float_and_milliseconds(tmp_path: Path) -> None:
    path = tmp_path / "topics.yaml"
    path.write_text(topics(1))
    registry, writer = Registry(path), Writer("home")

    def line(topic: str, value: Any) -> list[str]:
        return writer.line(Reading(topic, value, "", 1795186913120), registry.topics[topic]).split("\n")

    assert line(WATER, 61) == ["home,place=boiler,thing=water temperature=61.0 1795186913120"]
    assert line(PUMP, True) == ["home,place=boiler,thing=pump active=1.0 1795186913120"]
    assert line(PHASE, "full load") == [
        "home,place=boiler,thing=burner phase=1.0 1795186913120",
        "home,place=boiler,thing=burner,state=off phase_is=0.0 1795186913120",
        "home,place=boiler,thing=burner,state=full\\ load phase_is=1.0 1795186913120",
    ]


@pytest.mark.parametrize(
    ("text", "written"), [("a b", "a\\ b"), ("a,b=c", "a\\,b\\=c"), ("a\nb\\", "a\\ b"), ("\\", "_")]
)
def test_no_word_of_a_state_can_break_a_line(text: str, written: str) -> None:
    assert escape(text) == written


def test_what_may_be_lost_is_known_over_every_end(tmp_path: Path) -> None:
    path = tmp_path / "lapse.json"
    lapse = Lapse(path, 1000)
    assert lapse.missing == 0  # a new store has nothing
    lapse.filled()
    assert lapse.alive("10", 1000)
    lapse.wrote(900)
    lapse.close()
    lapse = Lapse(path, 2000)
    assert lapse.missing is None  # a clean end
    lapse.wrote(1500)
    assert lapse.alive("10", 2500)
    lapse = Lapse(path, 3000)
    assert lapse.missing is not None  # an unclean one
    assert lapse.missing <= 900
    lapse.filled()
    lapse.wrote(100)  # a backlog
    lapse = Lapse(path, 4000)
    assert lapse.missing == 100
    lapse.filled()
    lapse.close()
    lapse = Lapse(path, 5000)
    assert not lapse.alive("20", 5000)  # the database had an end of its own meanwhile
    assert lapse.missing is not None


def test_readings_of_all_kinds_arrive_and_those_for_other_stores_do_not(
    stores: House, voice: Voice, metrics: Metrics, ear: Ear
) -> None:
    start = now() - 5000
    voice.say(WATER, 61.4, start, 1)
    voice.say(PUMP, True, start, 2, unit="")
    voice.say(PHASE, "full load", start, 3, unit="")
    voice.say("boiler/return/temperature", 50.0, start, 4)
    wait_for(lambda: water(metrics) == [(start, 61.4)], what="the sample")
    assert metrics.samples("home_active", place="boiler", thing="pump") == [(start, 1.0)]
    assert metrics.samples("home_phase", thing="burner") == [(start, 1.0)]
    assert metrics.samples("home_phase_is", thing="burner", state="full load") == [(start, 1.0)]
    assert metrics.samples("home_phase_is", thing="burner", state="off") == [(start, 0.0)]
    assert metrics.samples("home_temperature", thing="return") == []
    assert "minScrapeInterval" not in stores.log("influx")


def test_kill_9_of_the_store_in_mid_batch_loses_nothing_and_doubles_nothing(
    stores: House, voice: Voice, metrics: Metrics, ear: Ear
) -> None:
    start, total = now() - 600_000, 4000
    for number in range(1, total + 1):
        voice.say(WATER, float(number), start + number, number)
        if number % 1500 == 0:
            stores.kill("influx")
            stores.start("influx", wait=False)
    expected = [(start + number, float(number)) for number in range(1, total + 1)]
    wait_for(lambda: water(metrics) == expected, 20, "all samples, each once")


def test_a_server_that_is_away_holds_back_acknowledgements_and_gets_everything_when_it_is_back(
    stores: House, voice: Voice, metrics: Metrics, ear: Ear
) -> None:
    start = now() - 600_000
    voice.say(WATER, 1.0, start + 1, 1)
    wait_for(lambda: len(water(metrics)) == 1, what="the first sample")
    metrics.kill()
    for number in range(2, 501):
        voice.say(WATER, float(number), start + number, number)
    ear.wait("home/service/influx/health", lambda health: health["state"] == "degraded")
    stores.kill("influx")
    stores.start("influx")
    metrics.start()
    expected = [(start + number, float(number)) for number in range(1, 501)]
    wait_for(lambda: water(metrics) == expected, 20, "all samples, each once")
    assert "nothing is lost, trying on" in stores.log("influx")


def test_what_a_killed_server_forgot_is_filled_from_the_archive(
    stores: House, voice: Voice, metrics: Metrics, ear: Ear
) -> None:
    ear.wait("home/service/influx/health", lambda health: health.get("filling") is False)
    start, total = now() - 600_000, 3000
    for number in range(1, total + 1):
        voice.say(WATER, float(number), start + number, number)
    ear.wait(MARK, lambda mark: mark["after"] == total)
    ear.wait("home/service/influx/health", lambda health: health["counters"].get("stored", 0) >= total)
    metrics.kill()  # without a flush: it forgets its last seconds
    voice.say(WATER, float(total + 1), start + total + 1, total + 1)
    wait_for(lambda: "does not take readings" in stores.log("influx"), what="the complaint")
    wait_for(lambda: time.time() > metrics.started + 1, what="a start that differs, for it is told in whole seconds")
    metrics.start()
    forgotten = total - len(water(metrics))
    expected = [(start + number, float(number)) for number in range(1, total + 2)]
    wait_for(lambda: water(metrics) == expected, 20, "all samples, each once")
    assert forgotten > 0, "the server forgot nothing: this proves nothing"
    ear.wait("home/service/influx/health", lambda health: health["counters"].get("filled", 0) >= forgotten)
    ear.wait("home/service/influx/health", lambda health: health.get("filling") is False)


def test_what_a_kill_left_taken_out_is_written_again_at_the_next_start(
    stores: House, voice: Voice, metrics: Metrics, ear: Ear, monkeypatch: pytest.MonkeyPatch
) -> None:
    from services.stores.server import InfluxServer

    assert stores.stop("influx") == 0
    folder, url = stores.state("influx"), f"http://127.0.0.1:{metrics.port}"
    server = InfluxServer(url, "home", "home", "", 10.0, measurement="home", folder=folder)
    start, total = now() - 700_000_000, 70_000
    lines = [f"home,place=boiler,thing=water temperature={n + 0.125} {start + 10_000 * n}" for n in range(total)]
    server.write(lines)
    expected = [(start + 10_000 * n, n + 0.125) for n in range(1000, total)]
    wait_for(lambda: len(water(metrics)) == total, what="all samples")

    def killed(series: StoredSeries, patience: float = 0.0) -> bool:
        if series.owing:
            raise KeyboardInterrupt
        return True

    with monkeypatch.context() as patch:
        patch.setattr(StoredSeries, "resume", killed)
        with pytest.raises(KeyboardInterrupt):
            server.take_out([WATER], start, start + 10_000 * 1000)
    assert water(metrics) == []
    assert not server.resume(0.0)
    assert 0 < len(water(metrics)) < len(expected), "in pieces, for years of a topic are more than a service may hold"
    server.close()
    stores.start("influx")
    wait_for(lambda: not (folder / "taken_out.jsonl").exists(), what="all of it written again")
    metrics.kill()  # without a flush: what it took is on its disk, all the same
    metrics.start()
    assert water(metrics) == expected

    ear.wait("home/service/influx/health", lambda health: health.get("filling") is False, timeout=60)
    metrics.kill()
    order = {"do": "drop", "from": format_time(start), "to": format_time(start + 5000)}
    assert ear.ask("influx", "times", order)["status"] == "error"
    lapse = json.loads((folder / "lapse.json").read_bytes())
    assert lapse["missing"] <= start, "what the server did although it was killed is filled"


def test_an_archive_that_is_away_is_asked_until_it_answers(
    house: House, voice: Voice, metrics: Metrics, ear: Ear
) -> None:
    house.write(topics(metrics.port))
    house.start("archive")
    ear.wait("home/service/archive/status")
    start = now() - 60_000
    for number in range(1, 101):
        voice.say(WATER, float(number), start + number, number)
    ear.wait(MARK, lambda mark: mark["after"] == 100)
    house.stop("archive")
    house.start("influx")  # a new one
    ear.wait("home/service/influx/health", lambda health: health.get("filling") is True)
    ear.wait("home/service/archive/request/replay")  # into the void
    house.start("archive")
    ear.wait("home/service/influx/health", lambda health: health.get("filling") is False, timeout=20)
    assert len(water(metrics)) == 100


def test_a_long_filling_ends_although_the_broker_goes_on_dropping(
    house: House, voice: Voice, metrics: Metrics, ear: Ear
) -> None:
    house.write(topics(metrics.port))
    house.start("archive")
    house.stop("archive")
    total, start = 80_000, now() - 80_000 * 3000 - 60_000
    with closing(sqlite3.connect(house.state("archive") / "archive.sqlite")) as archive, archive:
        ((water_id,),) = archive.execute("SELECT id FROM topics WHERE name = ?", (WATER,))
        rows = ((start + 3000 * number, water_id, float(number), None) for number in range(total))
        archive.executemany("INSERT INTO readings VALUES (?, ?, ?, ?)", rows)
    for name in ("archive", "influx"):
        house.start(name)
        ear.wait(f"home/service/{name}/status", lambda status: status == "online")
    number, filling, recent = 1, "home/service/influx/health", now() - 10_000
    voice.say(WATER, 1.0, recent, number)
    ear.wait(filling, lambda health: health.get("filling") is True)
    deadline = time.monotonic() + 60
    while "filled from the archive" not in house.log("influx"):
        assert time.monotonic() < deadline, "it begins again and again"
        for late in (number + 2, number + 1):
            voice.say(WATER, float(late), recent + 10 * late, late)
        number += 2
        time.sleep(0.5)
    ear.wait(filling, lambda health: health["counters"].get("gaps", 0) > 1)
    wait_for(lambda: len(water(metrics)) >= total + number, what="all samples")


class Strict(http.server.ThreadingHTTPServer):
    """What InfluxDB does and VictoriaMetrics does not: a line of a wrong type makes the request an error."""

    def __init__(self, behind: int, poison: bytes) -> None:
        super().__init__(("127.0.0.1", 0), Gate)
        self.behind, self.poison = behind, poison
        self.answer = 422
        self.tokens: set[str | None] = set()
        self.requests = 0


class Gate(http.server.BaseHTTPRequestHandler):
    server: Strict

    def do_GET(self) -> None:
        self._answer(200, b"")

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self.server.tokens.add(self.headers["Authorization"])
        self.server.requests += 1
        if self.server.answer != 422:
            self._answer(self.server.answer, b'{"message":"no"}')
        elif self.server.poison in body:
            self._answer(422, b'{"code":"unprocessable entity","message":"field type conflict"}')
        else:
            url = f"http://127.0.0.1:{self.server.behind}{self.path}"
            urllib.request.urlopen(urllib.request.Request(url, body), timeout=5).close()
            self._answer(204, b"")

    def _answer(self, status: int, body: bytes) -> None:
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def strict(metrics: Metrics) -> Iterator[Strict]:
    strict = Strict(metrics.port, b"temperature=66.6 ")
    thread = threading.Thread(target=strict.serve_forever)
    thread.start()
    yield strict
    strict.shutdown()
    thread.join()
    strict.server_close()


def test_a_poisonous_line_is_put_aside_and_all_others_are_stored(
    house: House, strict: Strict, voice: Voice, metrics: Metrics, *, ear: Ear, tmp_path: Path
) -> None:
    (tmp_path / "secrets").mkdir()
    token = tmp_path / "secrets" / "influx"
    token.touch(0o600)
    token.write_text("t0ken")
    house.write(topics(strict.server_address[1], archive=False, influx=", token: secret:influx"))
    house.start("influx", CONSTELLATION_CREDENTIALS=str(tmp_path / "secrets"))
    ear.wait("home/service/influx/status")
    start = now() - 60_000
    for number in range(1, 401):
        voice.say(WATER, 66.6 if number in (77, 300) else float(number), start + number)
    wait_for(lambda: len(water(metrics)) == 398, what="the others")
    letters = (house.state("influx") / "dead_letters.jsonl").read_text().splitlines()
    assert len(letters) == 2
    assert json.loads(letters[0])["topic"] == f"home/data/{WATER}"
    assert "field type conflict" in json.loads(letters[0])["reason"]
    assert '"value":66.6' in json.loads(letters[0])["payload"]
    assert house.log("influx").count("is put aside") == 1
    assert strict.tokens == {"Token t0ken"}
    assert "t0ken" not in house.log("influx")


def test_a_refused_token_is_said_with_what_to_do_and_nothing_is_put_aside(
    house: House, strict: Strict, voice: Voice, metrics: Metrics, ear: Ear
) -> None:
    house.write(topics(strict.server_address[1], archive=False))
    strict.answer = 401
    house.start("influx")
    ear.wait("home/service/influx/status")
    voice.say(WATER, 20.0, now())
    wait_for(lambda: "it does not know our token: check `token`" in house.log("influx"), what="the advice")
    strict.answer = 422
    wait_for(lambda: len(water(metrics)) == 1, what="the sample")
    assert not (house.state("influx") / "dead_letters.jsonl").exists()


def test_a_server_that_refuses_is_left_alone_for_longer_and_longer_however_much_waits(
    house: House, strict: Strict, voice: Voice, metrics: Metrics, ear: Ear
) -> None:
    house.write(topics(strict.server_address[1], archive=False))
    strict.answer = 503
    house.start("influx")
    ear.wait("home/service/influx/status")
    start = now() - 100_000
    for number in range(1, 1801):  # a full batch, and most of another
        voice.say(WATER, 20.0, start + number, number)
    waits = "home/service/influx/health"
    ear.wait(waits, lambda health: health["last_error"] is not None)
    time.sleep(3.0)
    assert 1 <= strict.requests <= 12
    strict.answer = 422
    wait_for(lambda: len(water(metrics)) == 1800, what="all samples")


@pytest.mark.parametrize(
    ("flag", "sentence"),
    [
        ("-dedup.minScrapeInterval=0s", "keeps a repeated reading twice: start it with -dedup.minScrapeInterval=1ms"),
        ("-dedup.minScrapeInterval=1m", "keeps one reading in 1m0s and drops the rest"),
    ],
)
def test_wrong_de_duplication_of_the_server_is_said(
    house: House, tmp_path: Path, ear: Ear, flag: str, sentence: str
) -> None:
    metrics = Metrics(tmp_path / "metrics", flag).start()
    try:
        house.write(topics(metrics.port, archive=False))
        house.start("influx")
        wait_for(lambda: sentence in house.log("influx"), what="the sentence")
        ear.wait("home/service/influx/health", lambda health: sentence in str(health["last_error"]))
    finally:
        metrics.kill()


def test_the_store_waits_for_a_server_that_comes_later(house: House, tmp_path: Path, voice: Voice, ear: Ear) -> None:
    metrics = Metrics(tmp_path / "metrics")
    house.write(topics(metrics.port, archive=False))
    house.start("influx")
    ear.wait("home/service/influx/status")
    start = now()
    voice.say(WATER, 20.0, start)
    wait_for(lambda: "does not take readings" in house.log("influx"), what="the complaint")
    metrics.start()
    try:
        wait_for(lambda: water(metrics) == [(start, 20.0)], what="the sample")
        wait_for(lambda: "takes readings again" in house.log("influx"), what="the all-clear")
    finally:
        metrics.kill()
