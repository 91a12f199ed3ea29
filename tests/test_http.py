"""The web service's reader against a server with every bad day: each is a sentence in health, none stops the process."""

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from email.utils import formatdate
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import msgspec
import pytest
from harness import Ear, House, busy, free_port, wait_for
from hypothesis import given, settings
from hypothesis import strategies as st

from bootstrap_lib.commands.check import problems_of
from bootstrap_lib.document import from_text
from bootstrap_lib.registry import Registry
from services.http import DocumentField, Http, Options, value_of
from services.links.web import LONGEST, Page, WebError
from services.protocols import path
from services.simulators.web import STANDS, Web

BIKES, OPEN = "home/data/street/champeaux/bikes_count", "home/data/street/champeaux/open_active"
HEALTH = "home/service/http/health"
TOPICS = """
sources:
  http: {{every: 200ms, stale: 1s, heartbeat: 200ms, timeout: 500ms, url: "{url}/stands.json"}}
topics:
  street/champeaux/bikes_count: {{from: http, path: "stands[id=31705].bikes", store: false}}
  street/champeaux/name_text: {{from: http, path: "stands[id=31705].name"}}
  street/champeaux/open_active: {{from: http, path: "stands[0].open"}}
"""


@pytest.fixture
def web() -> Iterator[Web]:
    with Web() as web:
        web.document = STANDS
        yield web


@pytest.fixture
def street(house: House, web: Web) -> House:
    house.write(TOPICS.format(url=web.url))
    return house


def stands(bikes: object) -> dict[str, Any]:
    first, *rest = STANDS["stands"]
    return {"stands": [first | {"bikes": bikes}, *rest]}


def test_values_are_found_by_their_paths_and_an_unchanged_answer_keeps_them_alive(
    street: House, ear: Ear, web: Web
) -> None:
    street.start("http")
    first = ear.wait(BIKES)
    assert (first["value"], first.get("unit", "")) == (7, "")
    assert ear.wait("home/data/street/champeaux/name_text")["value"] == "Champeaux"
    assert ear.wait(OPEN)["value"] is True
    ear.wait(BIKES, lambda reading: reading["time"] > first["time"])
    assert web.not_modified > 0
    web.document = stands(5)
    ear.wait(BIKES, lambda reading: reading["value"] == 5)
    assert ear.wait(HEALTH)["state"] == "running"


@pytest.mark.parametrize(
    ("fault", "sentence"),
    [
        ("endless", "does not end: more than 4 MB came"),
        ("huge", "its answer has 537 MB, and 4 MB are read at most"),
        ("drip", "127.0.0.1 did not answer completely within 0.5 s"),
        ("hang", "127.0.0.1 did not answer completely within 0.5 s"),
        ("redirect_to_file", "it sends us to a file: address, which is not followed"),
        ("malformed", "its answer is no JSON"),
        ("latin_1", "its answer is no JSON"),
        ("error", "it answers 503 Service Unavailable"),
        ("missing", "it answers 404 Not Found"),
        ("gone", "127.0.0.1 ended the connection without an answer"),
    ],
)
def test_each_fault_of_the_server_is_a_sentence_and_heals(web: Web, fault: str, sentence: str) -> None:
    page = Page(f"{web.url}/stands.json", {}, 0.5)
    web.fail(fault)
    started = time.monotonic()
    with pytest.raises(WebError) as caught:
        page.fetch()
    assert sentence in str(caught.value)
    assert time.monotonic() - started < busy(2)
    web.fail("")
    assert page.fetch() == (STANDS,), "an ETag of a bad answer is never asked for"
    assert page.fetch() is None


class Sends(BaseHTTPRequestHandler):
    """Answers with a status and headers that its server names, and counts."""

    def do_GET(self) -> None:
        self.server.asked += 1
        self.send_response(self.server.status)
        for name, value in self.server.said.items():
            self.send_header(name, value)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *_: Any) -> None:
        pass


@pytest.fixture
def sends() -> Iterator[Any]:
    with ThreadingHTTPServer(("127.0.0.1", 0), Sends) as server:
        server.asked, server.status, server.said = 0, 302, {}
        server.url = f"http://127.0.0.1:{server.server_address[1]}/"
        Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
        yield server
        server.shutdown()


def test_it_is_sent_on_five_times_at_most_and_only_over_http(sends: Any) -> None:
    sends.said = {"Location": "/again"}
    with pytest.raises(WebError, match="it sends us on more than 5 times"):
        Page(sends.url, {}, 5).fetch()
    assert sends.asked == 6
    sends.said = {"Location": sends.url.replace("http:", "ftp:")}
    with pytest.raises(WebError, match="it sends us to a ftp: address, which is not followed"):
        Page(sends.url, {}, 5).fetch()
    assert sends.asked == 7


def test_a_service_that_wants_to_be_left_alone_is(street: House, ear: Ear, web: Web, sends: Any) -> None:
    street.config.write_text(street.config.read_text().replace(f"{web.url}/stands.json", sends.url))
    sends.status, sends.said = 429, {"Retry-After": "3600"}
    street.start("http")
    ear.wait(HEALTH, lambda health: health["counters"].get("errors", 0) > 3 * 12)  # twelve rounds have passed
    assert sends.asked == 1


def test_a_bad_day_is_in_health_clears_the_topics_and_passes_with_bounded_memory(
    street: House, ear: Ear, web: Web
) -> None:
    process = street.start("http")
    ear.wait(BIKES)
    before = private(process.pid)
    for fault, sentence in (("endless", "does not end"), ("hang", "within 0.5 s"), ("list", "a list of 0")):
        web.fail(fault)
        ear.wait(HEALTH, lambda health, s=sentence: health["last_error"] and s in health["last_error"]["text"])
    ear.wait(BIKES, lambda reading: reading == b"")
    web.fail("")
    ear.wait(BIKES, lambda reading: reading != b"", timeout=15)
    assert private(process.pid) - before < 4 * LONGEST
    assert process.poll() is None


def private(pid: int) -> int:
    """Private memory of a process in bytes."""
    lines = (line.split() for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines())
    return 1024 * sum(int(line[1]) for line in lines if line[0].startswith("Private_"))


def test_the_loop_lives_while_a_service_hangs_and_stops_at_once(street: House, ear: Ear, web: Web) -> None:
    street.write(street.config.read_text().partition("\n")[2].replace("timeout: 500ms", "timeout: 60s"))
    web.fail("hang")
    process = street.start("http")
    wait_for(lambda: web.requests, what="a request")
    beats = len(ear.all(HEALTH))
    wait_for(lambda: len(ear.all(HEALTH)) > beats + 4, timeout=20, what="beats")
    started = time.monotonic()
    process.terminate()
    assert process.wait(20) == 0
    assert time.monotonic() - started < busy(3)


def test_a_service_in_trouble_is_asked_less_and_less_often(street: House, ear: Ear, web: Web) -> None:
    web.fail("error")
    street.start("http")
    wait_for(lambda: web.requests >= 2, what="the second try")
    topics = len(street.config.read_text().partition("topics:")[2].strip().splitlines())
    health = "home/service/http/health"
    rounds = ear.wait(health)["counters"].get("errors", 0) // topics
    ear.wait(health, lambda health: health["counters"]["errors"] // topics > rounds + 12)
    assert web.requests <= 6, "twelve more rounds have passed"
    assert street.log("http").count("503") <= 6, "once for each topic, and when it is cleared"


def test_what_is_no_number_is_no_value_and_a_number_in_quotes_is_one(street: House, ear: Ear, web: Web) -> None:
    web.document = stands(None)
    street.start("http")
    ear.wait(OPEN)
    for bikes, sentence in (
        (None, "is null"), ("many", "is no number"), ("1_000", "is no number"), ("1 234,5", "is no number"), ([1], "is no plain value"), (True, "True is no number"),
        (10**400, "more than 64 bits"),
    ):  # fmt: skip
        web.document = stands(bikes)
        ear.wait(HEALTH, lambda health, s=sentence: health["last_error"] and s in health["last_error"]["text"])
    assert not [payload for payload in ear.all(BIKES) if payload]
    web.document = stands("7.0")
    assert ear.wait(BIKES, lambda reading: reading != b"")["value"] == 7


class Redirecting(BaseHTTPRequestHandler):
    """Sends everyone on to another server, and remembers the headers of those who come."""

    target = ""
    seen: list[dict[str, str]] = []  # noqa: RUF012

    def do_GET(self) -> None:
        self.seen.append({name.lower(): value for name, value in self.headers.items()} | {"path": self.path})
        self.send_response(302)
        self.send_header("Location", self.target)
        self.send_header("Retry-After", "120")
        self.end_headers()

    def log_message(self, format: str, *args: Any) -> None: ...  # noqa: A002


def test_a_secret_header_and_key_reach_the_service_and_never_the_one_it_redirects_to(
    web: Web, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("token", "key"):
        (tmp_path / name).write_text(f"the {name}")
        (tmp_path / name).chmod(0o600)
    monkeypatch.setenv("CONSTELLATION_CREDENTIALS", str(tmp_path))
    seen: list[dict[str, str]] = []
    first = ThreadingHTTPServer(("127.0.0.1", 0), type("First", (Redirecting,), {"seen": seen}))
    last = ThreadingHTTPServer(("127.0.0.1", 0), type("Last", (Redirecting,), {"seen": seen, "target": web.url}))
    first.RequestHandlerClass.target = f"http://127.0.0.1:{last.server_port}/"  # type: ignore[attr-defined]
    for server in (first, last):
        Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
    raw = {
        "url": f"http://127.0.0.1:{first.server_port}/a",
        "headers": {"Authorization": "secret:token"},
        "parameters": {"key": "secret:key"},
    }
    lines = list(Http.scan(msgspec.convert(raw, Options, dec_hook=from_text)))
    assert "stands[0].bikes 7" in lines
    assert (seen[0]["authorization"], seen[0]["path"]) == ("the token", "/a?key=the+key")
    assert "authorization" not in seen[1]
    first.RequestHandlerClass.target = "/a"  # type: ignore[attr-defined]
    with pytest.raises(WebError, match="sends us on more than 5 times"):
        Page(raw["url"], {}, 2).fetch()  # type: ignore[arg-type]
    for server in (first, last):
        server.shutdown()
        server.server_close()


@pytest.mark.parametrize(
    ("url", "sentence"),
    [
        ("http://127.0.0.1:{port}/", "127.0.0.1 cannot be reached: Connection refused"),
        ("http://nowhere.invalid/", "the name nowhere.invalid is not known"),
        ("https://127.0.0.1:{web}/", "127.0.0.1 cannot be reached"),
        ("http://127.0.0.1:99999/", "127.0.0.1 cannot be asked: Port out of range"),
        ("http://127.0.0.1/\u00e9", "127.0.0.1 cannot be asked"),
    ],
)
def test_a_server_that_cannot_be_reached_is_a_sentence(web: Web, url: str, sentence: str) -> None:
    with pytest.raises(WebError) as caught:
        Page(url.format(port=free_port(), web=web.server_port), {}, 2).fetch()
    assert sentence in str(caught.value)


@pytest.mark.parametrize(
    ("before", "after", "sentence"),
    [
        ("stands[0].open", "stands[].open", "is not understood at '[].open'"),
        ("timeout: 500ms", "timeout: 5m", "longer than a minute"),
        ('url: "http', 'url: "file', "url"),
        ('path: "stands[0].open"', "", "path"),
    ],
)
def test_a_wrong_line_is_found_by_check(tmp_path: Path, before: str, after: str, sentence: str) -> None:
    (tmp_path / "topics.yaml").write_text(TOPICS.format(url="https://example.org").replace(before, after, 1))
    problems = [str(problem) for problem in problems_of(Registry(tmp_path / "topics.yaml"))]
    assert any(sentence in problem for problem in problems), problems


def test_requests_is_not_loaded_for_it() -> None:
    program = "import services.http, services.links.web, sys; print('requests' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, env=dict(os.environ))
    assert done.stdout.strip() == "False", done.stderr


def served(body: bytes, headers: dict[str, str], status: int = 200) -> Iterator[str]:
    answers = type("Answers", (Answering,), {"body": body, "more": headers, "status": status})
    with ThreadingHTTPServer(("127.0.0.1", 0), answers) as server:
        Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}/"
        server.shutdown()


class Answering(BaseHTTPRequestHandler):
    body, more, status = b"", dict[str, str](), 200

    def do_GET(self) -> None:
        echo = f"Bad {self.headers['Authorization']} {self.path}" if self.status in (401, 499) else None
        self.send_response(self.status, echo)
        for name, value in self.more.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(self.body)))
        self.end_headers()
        self.wfile.write(self.body)

    def log_message(self, *_: Any) -> None:
        pass


@pytest.mark.parametrize(
    ("body", "kind", "content"),
    [
        (b'"http://127.0.0.1:9/elsewhere"', "application/json", "http://127.0.0.1:9/elsewhere"),
        (b'"21.5"', "application/json", "21.5"),
        (b"21.5", "application/json", 21.5),
        (b"null", "application/json", None),
        (b'\xef\xbb\xbf{"a":1}', "application/json", {"a": 1}),
        ('{"a":"é"}'.encode("latin-1"), "application/json; charset=ISO-8859-1", {"a": "é"}),
        ('{"a":"é"}'.encode("utf-16"), "application/json", {"a": "é"}),
        ('{"a":"é"}'.encode(), 'text/plain; charset="utf-8"', {"a": "é"}),
    ],
)
def test_whatever_an_answer_says_is_a_value_in_the_charset_that_it_names(
    body: bytes, kind: str, content: object
) -> None:
    for url in served(body, {"Content-Type": kind}):
        assert Page(url, {}, 2).fetch() == (content,)


@pytest.mark.parametrize(
    ("status", "token", "sentence"),
    [
        (401, "TOPSECRET", "it answers 401 Unauthorized"),
        (499, "TOPSECRET", "it answers 499"),
        (200, "TOPSECRET\nsecond", "127.0.0.1 cannot be asked: a header or the address has a character that may not"),
        (200, "TOPSECRET\u20ac", "127.0.0.1 cannot be asked: a header or the address has a character that may not"),
    ],
)
def test_a_secret_is_in_no_sentence_of_a_question_that_went_wrong(status: int, token: str, sentence: str) -> None:
    """Neither where the server sends it back nor where it cannot be sent."""
    for url in served(b"", {}, status):
        with pytest.raises(WebError) as caught:
            Page(f"{url}?k=TOPSECRET", {"Authorization": token}, 2).fetch()
        assert str(caught.value).startswith(sentence)
        assert "TOPSECRET" not in str(caught.value)
        assert "\u20ac" not in str(caught.value)


def test_an_address_that_cannot_be_sent_is_told_as_that() -> None:
    for url in served(b"", {}, 200):
        with pytest.raises(WebError, match="cannot be asked: a header or the address has a character") as caught:
            Page(f"{url}?k=TOP SECRET", {}, 2).fetch()
        assert "SECRET" not in str(caught.value)


@pytest.mark.parametrize(("said", "least", "most"), [("90", 90, 90), ("date", 80, 121), ("soon", 0, 0), ("past", 0, 0)])
def test_the_time_that_a_service_wants_is_seconds_or_a_date(said: str, least: float, most: float) -> None:
    dates = {"date": formatdate(time.time() + 120, usegmt=True), "past": formatdate(time.time() - 120, usegmt=True)}
    for url in served(b"", {"Retry-After": dates.get(said, said)}, 503):
        with pytest.raises(WebError) as caught:
            Page(url, {}, 2).fetch()
        assert least <= caught.value.wait <= most


@pytest.mark.parametrize(
    ("bikes", "value"), [(7, 7), ("7", 7), (7.0, 7), (7.5, "7.5: no count"), ("7.5", "no count"), ("many", "no number")]
)
def test_a_count_that_is_none_is_said(tmp_path: Path, bikes: object, value: object) -> None:
    (tmp_path / "topics.yaml").write_text(TOPICS.format(url="http://x"))
    (topic, *_) = Registry(tmp_path / "topics.yaml").topics_of("http", DocumentField)
    found = value_of(topic, stands(bikes))
    assert found == value if isinstance(value, int) else value in found.reason  # type: ignore[union-attr]


class TestPath:
    @pytest.mark.parametrize(
        ("text", "value"),
        [("a.b[1].c", 3), ("[0]", None), ("a.d[id=7].e", "x"), ("a.d[id=8].e", "y"), ("a", ...), ("a.1h", 4)],
    )
    def test_paths_lead_where_they_say(self, text: str, value: object) -> None:
        document = {"a": {"b": [0, {"c": 3}], "d": [{"id": 7, "e": "x"}, {"id": "8", "e": "y"}], "1h": 4}}
        if value is None:
            with pytest.raises(path.PathError, match=r"the answer has no \[0\] \(an object of 1\)"):
                path.follow(document, path.parse(text))
        else:
            found = path.follow(document, path.parse(text))
            assert found == (document["a"] if value is ... else value)

    @pytest.mark.parametrize(
        ("text", "sentence"),
        [
            ("a.z", "a has no z"),
            ("a.b[9]", r"a\.b has no \[9\]"),
            ("a.d[id=1].e", "has no elements with id=1"),
            ("a.d[id=3].e", "has 2 elements with id=3"),
        ],
    )
    def test_a_path_that_leads_nowhere_says_where_it_ends(self, text: str, sentence: str) -> None:
        with pytest.raises(path.PathError, match=sentence):
            path.follow({"a": {"b": [], "d": [{"id": 2}, {"id": 3, "e": 1}, {"id": 3, "e": 2}]}}, path.parse(text))

    @pytest.mark.parametrize("text", ["a..b", ".a", "a[", "a[x]", "a[-1]", "a]b", "a.", "[=1]"])
    def test_other_words_are_refused(self, text: str) -> None:
        with pytest.raises(ValueError, match="is not understood at"):
            path.parse(text)

    @settings(max_examples=40, deadline=None)
    @given(
        st.recursive(
            st.none() | st.integers(),
            lambda inner: st.lists(inner) | st.dictionaries(st.from_regex(r"\A[a-z]{1,3}\Z"), inner),
        )
    )
    def test_every_leaf_is_found_by_the_path_that_is_shown(self, document: Any) -> None:
        for where, value in path.leaves(json.loads(json.dumps(document))):
            assert path.follow(document, path.parse(where)) == value
