"""The doors of a real service, between a real broker and a real archive: bad input gets an answer, and only people change things."""

import contextlib
import gzip
import itertools
import json
import re
import socket
import sqlite3
import subprocess
import sys
import time
import urllib.parse
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from harness import PROJECT, Broker, Ear, House, busy, free_port, wait_for
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as some
from served import METER, PASSWORD, PHASE, TOPICS, WATER, Page, fill_archive
from voices import Voice, now

from bootstrap_lib import format_time
from services.page.doors import DOORS
from services.page.serving import FILES
from services.stores import last_backup

pytestmark = pytest.mark.long

DAY = 86_400_000


@pytest.fixture
def archived(house: House) -> int:
    """An archive of forty days that ends an hour ago; returns its last minute."""
    end = (now() - 3_600_000) // 60_000 * 60_000
    fill_archive(
        house.state("archive") / "archive.sqlite",
        end - 40 * DAY,
        end,
        end - 20 * DAY,
        (end - 3 * DAY, end - 3 * DAY + 3_600_000),
    )
    return end


# -- looking ----------------------------------------------------------------------------------------------------------


def test_everything_that_is_said_is_on_the_page_and_what_is_cleared_is_not(page: Page) -> None:
    page.say(WATER, 61.4)
    wait_for(lambda: page.get(f"topics/{WATER}").get("value") == 61.4, what="the value")
    page.voice.raw(WATER, b"")
    found = wait_for(lambda: (one := page.get(f"topics/{WATER}")).get("cleared") and one, what="the clearing")
    assert found["value"] is None
    page.say(WATER, 62.0)
    wait_for(lambda: page.get(f"topics/{WATER}").get("value") == 62.0, what="the next value")


def test_a_retained_value_of_before_is_there_after_a_kill(page: Page) -> None:
    page.say(WATER, 61.4)
    wait_for(lambda: page.get(f"topics/{WATER}").get("value") == 61.4, what="the value")
    page.restart()
    wait_for(lambda: page.get(f"topics/{WATER}").get("value") == 61.4, what="the value, again")


def test_topics_that_a_reload_brings_are_asked_of_the_broker_and_answered(page: Page) -> None:
    attic, cellar = "house/attic/temperature", "house/cellar/temperature"
    page.say(attic, 14.5)
    page.say(WATER, 61.4)
    wait_for(lambda: page.get(f"topics/{WATER}").get("value") == 61.4, what="what was said after it")
    lines = "".join(f"  {name}: {{from: onewire, id: 28-00000000009{n}}}\n" for n, name in enumerate((attic, cellar)))
    text = page.house.config.read_text().partition("\n")[2]
    page.house.write(text.replace("phases:\n", f"{lines}phases:\n"))
    wait_for(lambda: page.get("house")["values"].get(attic, {}).get("value") == 14.5, what="what stood at the broker")
    wait_for(lambda: page.get("house")["values"][cellar] == {}, what="that nothing is known of the other")
    assert not page.get("house").get("gone")


def test_bad_input_gets_an_answer_with_its_place(page: Page) -> None:
    for path, status, where in (
        ("topics/no/such/topic", 404, "name"),
        ("history?topics=no/such/topic&from=2026-01-01", 404, "topics"),
        (f"history?topics={WATER}", 422, "from"),
        (f"history?topics={WATER}&from=yesterday", 422, "from"),
        (f"history?topics={WATER}&from=2026-02-01&to=2026-01-01", 422, "to"),
        (f"history?topics={WATER}&from=2150-01-01", 422, "from"),
        (f"history?topics={WATER}&from=2026-01-01&to=2150-01-01", 422, "to"),
        (f"history?topics={WATER}&from=1971-01-01", 422, "from"),
        (f"history?topics={WATER}&from=99999999999999", 422, "from"),
        (f"history?topics={WATER}&from=2026-01-01&buckets=1e9", 422, "buckets"),
        (f"history?topics={WATER}&from=2026-01-01&format=xml", 422, "format"),
        (f"history?topics={WATER}&from=2026-01-01&other=1", 422, "other"),
        (f"history?topics={WATER}&from=2026-01-01&from=2026-01-02", 422, "from"),
        ("house?at=2150-01-01", 422, "at"),
        ("topics?foo=1", 422, "foo"),
        (f"topics/{WATER}?x=1&x=2", 422, "x"),
        ("log?limit=5", 422, "limit"),
        ("me?x=1", 422, "x"),
        ("house?at=-1", 422, "at"),
        ("what-if?rule=nonsense&from=2026-11-01", 422, "rule"),
        (f"what-if?rule={WATER}&from=2026-01-01", 422, "from"),
        ("nothing", 404, None),
    ):
        found, _, body = page.knock(f"/api/1/{path}")
        answer = json.loads(body)
        assert (found, answer.get("where")) == (status, where), (path, answer)
        assert answer["error"]


def test_a_large_body_and_a_body_that_is_no_json_are_refused(page: Page) -> None:
    assert page.knock("/api/1/login", b"x" * 70_000)[0] == 413
    assert page.knock("/api/1/login", b"x" * 70_000, Transfer_Encoding="chunked")[0] in (400, 413)
    assert page.knock("/api/1/login", b"{nonsense")[0] == 422
    assert page.knock("/api/1/login", b"[" * 50_000)[0] == 422
    assert page.knock("/api/1/login", b'{"name": 1, "password": "x"}')[0] == 422
    assert page.knock("/api/1/login", b"a=b", Content_Type="application/x-www-form-urlencoded")[0] == 415


def test_an_archive_that_is_away_is_said_and_the_living_page_goes_on(page: Page, archived: int) -> None:
    query = f"history?topics={WATER}&from={archived - DAY}&to={archived}"
    assert page.get(query)["series"][0]["mean"]
    path = page.house.state("archive") / "archive.sqlite"
    with contextlib.closing(sqlite3.connect(path, isolation_level=None)) as db:
        db.execute("PRAGMA locking_mode=EXCLUSIVE")
        db.execute("BEGIN EXCLUSIVE")
        db.execute("CREATE TABLE held (x)")
        status, _, body = page.knock(f"/api/1/{query}")
        assert (status, json.loads(body)["where"]) == (503, "archive"), body
        page.say(WATER, 77.0)
        wait_for(lambda: page.get(f"topics/{WATER}").get("value") == 77.0, what="a live value")
        db.execute("ROLLBACK")
    for ending in ("", "-wal", "-shm"):
        path.with_name(path.name + ending).unlink(missing_ok=True)
    assert page.knock(f"/api/1/{query}")[0] == 503
    path.write_bytes(b"damaged" * 5000)
    assert page.knock(f"/api/1/{query}")[0] == 503
    assert page.knock("/api/1/proof")[0] == 200


def test_a_year_s_spike_survives_and_an_hour_s_hole_is_one(page: Page, archived: int) -> None:
    answer = page.get(f"history?topics={WATER}&from={archived - 40 * DAY}&to={archived}&buckets=200")
    series = answer["series"][0]
    assert series["step"] >= 3 * 3_600_000
    assert max(high for high in series["high"] if high is not None) == 121.9
    hole = archived - 3 * DAY
    near = page.get(f"history?topics={WATER}&from={hole - 3_600_000}&to={hole + 7_200_000}&buckets=2000")["series"][0]
    assert near["holes"] == [[hole, hole + 3_600_000]]
    assert near["mean"][near["t"].index(archived - 3 * DAY)] is None


def test_words_meters_and_a_past_moment_come_from_the_archive(page: Page, archived: int) -> None:
    runs = page.get(f"phases?topic={PHASE}&from={archived - DAY}&to={archived}")
    assert {word for word, _, _ in runs} == {"combustion", "off"}
    assert all(one[2] == other[1] for one, other in itertools.pairwise(runs))
    before = page.get(f"phases?topic={PHASE}&from={archived - 60 * DAY}&to={archived}")
    assert before[0] == ["unknown", archived - 60 * DAY, archived - 40 * DAY], "nobody can say what it did then"
    (meter,) = page.get(f"meters?by=day&at={archived}")["meters"]
    whole = [period for period in meter["periods"] if period[1] - period[0] == DAY]
    hole = archived - 3 * DAY  # an hour, which may reach over midnight
    usual = [period for period in whole if not (period[0] < hole + 3_600_000 and hole < period[1])]
    assert {round(period[2], 2) for period in usual} == {14.4}
    assert {period[3] for period in usual} == {3.6}, "at 0.25 a kWh"
    then = page.get(f"house?at={archived - DAY}")
    assert then["values"][WATER]["time"] <= archived - DAY
    assert 60 <= then["values"][WATER]["value"] <= 70
    in_hole = page.get(f"house?at={archived - 3 * DAY + 1_800_000}")["values"]
    assert WATER not in in_hole or in_hole[WATER]["cleared"]


def test_csv_has_what_is_seen(page: Page, archived: int) -> None:
    path = f"/api/1/history?topics={WATER},{METER}&from={archived - DAY}&to={archived}&format=csv"
    status, headers, body = page.knock(path)
    lines = body.decode().splitlines()
    assert (status, headers["content-type"].partition(";")[0]) == (200, "text/csv")
    assert lines[0] == f"time,{WATER} mean,low,high,{METER} mean,low,high"
    assert len(lines) > 200
    assert re.fullmatch(r"2[\d-]+T[\d:.]+Z,\d+\.\d+,\d+\.\d+,\d+\.\d+,\d+\.\d+,,", lines[2])


def test_an_answer_is_compressed_and_not_sent_twice(page: Page, archived: int) -> None:
    path = f"/api/1/history?topics={WATER}&from={archived - DAY}&to={archived}"
    _, headers, body = page.knock(path, Accept_Encoding="gzip")
    assert json.loads(gzip.decompress(body))["series"]
    status, _, body = page.knock(path, If_None_Match=headers["etag"])
    assert (status, body) == (304, b"")


def test_what_if_is_answered_by_the_alerts_own_machine(page: Page, archived: int) -> None:
    rule = urllib.parse.quote(f"{WATER} > 69 for 10m")
    midnight = archived // DAY * DAY  # where a wave ends, whatever time it is
    found = page.get(f"what-if?rule={rule}&from={midnight - 2 * DAY}&to={midnight}")
    assert len(found["fired"]) == 4, "each wave of twelve hours once"
    status, _, body = page.knock(
        f"/api/1/what-if?rule={urllib.parse.quote('boiler/water > 3')}&from={archived - DAY}&to={archived}"
    )
    assert status == 422
    assert "not known" in json.loads(body)["error"]


def test_what_if_sees_a_silence_while_others_spoke(page: Page, archived: int) -> None:
    with contextlib.closing(sqlite3.connect(page.house.state("archive") / "archive.sqlite")) as db, db:
        numbers = dict(db.execute("SELECT name, id FROM topics"))
        begin = archived - archived % 3_600_000 - 12 * 3_600_000
        db.execute("DELETE FROM readings WHERE topic = ? AND time >= ?", (numbers[WATER], begin + 3_600_000))
        db.execute("DELETE FROM minutes WHERE topic = ? AND time >= ?", (numbers[WATER], begin + 3_600_000))
    rule = urllib.parse.quote(f"{WATER} is stale for 5m")
    assert len(page.get(f"what-if?rule={rule}&from={begin}&to={archived}")["fired"]) == 1


# -- what the page is made of -----------------------------------------------------------------------------------------


def test_the_whole_page_is_small_and_speaks_to_nobody_else(page: Page) -> None:
    total = 0
    for path in FILES.rglob("*"):
        if path.suffix in (".html", ".css", ".js", ".svg", ".webmanifest") or path.name == "en.json":
            status, headers, body = page.knock(f"/{path.relative_to(FILES)}", Accept_Encoding="gzip")
            assert (status, "etag" in headers) == (200, True), path
            total += len(body)
            if path.name != "uPlot.iife.min.js":
                text = path.read_text()
                assert not re.search(r"(?:src|href|url|import|fetch)[^\n]{0,9}https?://", text), path
                assert " style=" not in text, f"{path}: the policy forbids it"
    assert total < 120_000
    _, headers, _ = page.knock("/")
    assert headers["content-security-policy"].startswith("default-src 'self';")


def test_nothing_but_the_page_s_own_files_is_served(page: Page) -> None:
    for path in ("/../web.py", "/%2e%2e/web.py", "/..%2fweb.py", "//etc/passwd", "/words/../../live.py"):
        assert page.knock(path)[0] == 404, path


def test_another_name_is_refused(page: Page) -> None:
    assert page.knock("/api/1/house", Host="evil.example")[0] == 421
    assert page.knock("/api/1/house", Host=f"localhost:{page.port}")[0] == 200
    assert page.knock("/api/1/house", Host=f"[::1]:{page.port}")[0] == 200


# -- changing ---------------------------------------------------------------------------------------------------------


def test_nobody_changes_anything_without_a_login_and_from_elsewhere(page: Page) -> None:
    for door in DOORS:
        if door.changes:
            path = "/api/1" + door.path.format(rule="hot", instance="alerts", verb="reload")
            assert page.knock(path, {})[0] == 401, path
    page.log_in()
    reload = "/api/1/services/alerts/reload"
    assert page.knock(reload, {}, Origin="http://evil.example")[0] == 403
    assert page.knock(reload, {}, Origin="")[0] == 403
    assert page.knock(reload, method="GET")[0] == 404 or page.knock(reload, method="GET")[0] == 405


def test_a_wrong_password_is_counted_and_the_cookie_is_closed(page: Page) -> None:
    _, headers, _ = page.knock("/api/1/login", {"name": "ada", "password": PASSWORD})
    assert "HttpOnly" in headers["set-cookie"]
    assert "SameSite=Strict" in headers["set-cookie"]
    found = [page.knock("/api/1/login", {"name": "ada", "password": "wrong"})[0] for _ in range(6)]
    assert found[:5] == [401] * 5
    assert found[5] == 429


@pytest.mark.parametrize("page", [", listen: 0.0.0.0"], indirect=True)
def test_looking_from_elsewhere_takes_a_login(page: Page) -> None:
    address = _own_address()
    for path in ("house", "stream", f"history?topics={WATER}&from=2026-11-01", "proof", "log"):
        assert _knock_from(address, page, path) == 401, path
    assert _knock_from(address, page, "me") == 200
    page.log_in()
    assert _knock_from(address, page, "house", page.cookie) == 200


def test_an_alert_is_acknowledged_by_two_tabs_at_once_and_the_diary_says_who(page: Page, ear: Ear) -> None:
    page.house.start("alerts")
    ear.wait("home/alert/hot", lambda one: one["state"] == "ok")
    wait_for(lambda: page.get("house")["services"]["alerts"].get("status") == "online", what="alerts")
    page.say(WATER, 90.0)
    wait_for(lambda: page.get("house")["alerts"].get("hot", {}).get("state") == "firing", what="the alert")
    page.log_in()
    with ThreadPoolExecutor(2) as tabs:
        answers = list(tabs.map(lambda _: page.knock("/api/1/alerts/hot/acknowledge", {}), range(2)))
    assert [status for status, _, _ in answers] == [200, 200], answers
    ear.wait("home/alert/hot", lambda one: one["acknowledged"])
    why = page.get("alerts/hot/why")
    assert (why["alert"], why["state"]) == ("hot", "firing")
    assert "boiler/water/temperature > 85" in why["rule"]
    assert "ada asks alerts to acknowledge" in page.house.log("web")
    (one,) = page.get(f"alerts?from={now() - DAY}")["fired"]
    assert ("acknowledge", "ada") in [(step["kind"], step["text"]) for step in one["steps"]]
    page.say(WATER, 60.0)
    wait_for(lambda: page.get(f"alerts?from={now() - DAY}")["fired"][0]["until"], what="its end")
    assert page.knock("/api/1/alerts/none/acknowledge", {})[0] == 404


def test_what_nobody_says_any_more_is_over_and_what_was_not_done_stands_in_no_history(page: Page, ear: Ear) -> None:
    firing = json.dumps({"state": "firing", "since": format_time(now() - 5000), "text": "Boiler at 90", "rule": "hot"})

    def fired(name: str) -> dict[str, Any]:
        found = [one for one in page.get(f"alerts?from={now() - DAY}")["fired"] if one["name"] == name]
        return found[0] if found else {}

    for name in ("hot", "cold"):
        ear.say(f"home/alert/{name}", firing, retain=True)
        wait_for(lambda name=name: fired(name), what=name)
    page.log_in()
    assert page.knock("/api/1/alerts/hot/acknowledge", {})[0] == 503
    assert [step["kind"] for step in fired("hot")["steps"]] == ["fires"], "nobody acknowledged it"
    ear.say("home/alert/hot", "", retain=True)
    wait_for(lambda: fired("hot")["until"], what="the end of an alert whose rule is gone")
    ear.say("home/service/alerts/status", "online", retain=True)  # it could say what fires
    page.house.kill("web")
    ear.say("home/alert/cold", "", retain=True)
    page.house.start("web")
    wait_for(lambda: fired("cold")["until"], what="the end of one that was cleared while nobody looked")


def test_a_service_that_does_not_run_is_said(page: Page) -> None:
    page.log_in()
    assert page.knock("/api/1/services/onewire/read", {})[0] == 503
    assert page.knock("/api/1/services/onewire/stop", {})[0] == 404, "the page does not ask for that"
    assert page.knock("/api/1/services/none/read", {})[0] == 404
    status, _, body = page.knock("/api/1/services/web/reload", {})
    assert (status, json.loads(body).keys()) == (200, {"registry"})


# -- streams ----------------------------------------------------------------------------------------------------------


def _stream(page: Page, room: int | None = None) -> socket.socket:
    """A stream of events, with so many bytes of room before what is sent has to wait."""
    link = socket.socket()
    if room is not None:
        link.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, room)
    link.settimeout(30)
    link.connect(("127.0.0.1", page.port))
    link.sendall(b"GET /api/1/stream HTTP/1.1\r\nHost: localhost\r\n\r\n")
    return link


@pytest.mark.whole
def test_dead_streams_are_dropped_and_the_others_go_on(page: Page, ear: Ear) -> None:
    dead = [_stream(page, 1024) for _ in range(200)]
    alive = _stream(page)
    heard = bytearray()

    def hears(word: bytes) -> bool:
        heard.extend(alive.recv(1 << 20))
        return word in heard

    def looking() -> dict[str, int]:
        return (page.get("house")["services"]["web"].get("health") or {}).get("viewers") or {"now": 0, "dropped": 0}

    wait_for(lambda: hears(b"event: tick"), what="a tick")
    wait_for(lambda: looking()["now"] == 201, what="all viewers")
    number = 0

    def dropped() -> bool:
        nonlocal number
        number += 1
        ear.say("home/service/onewire/log", json.dumps({"level": "info", "text": f"{number:05} " + "x" * 900}))
        wait_for(lambda: hears(b"%05d x" % number), what="a line, by the one who listens")
        heard.clear()
        return number % 20 == 0 and looking()["dropped"] >= 200

    wait_for(dropped, 60, "the dead ones' end")
    assert looking() == {"now": 1, "dropped": 200}
    for link in (*dead, alive):
        link.close()
    wait_for(lambda: looking()["now"] == 0, what="the other's end")


def test_a_broker_that_is_gone_is_said_within_five_seconds_and_comes_back(page: Page, broker: Broker) -> None:
    page.say(WATER, 61.4)
    wait_for(lambda: page.get(f"topics/{WATER}").get("value") == 61.4, what="the value")
    broker.kill()
    began = time.monotonic()
    wait_for(lambda: page.get("house").get("gone"), what="that it is gone")
    assert time.monotonic() - began < busy(5)
    broker.start()
    wait_for(lambda: not page.get("house").get("gone"), 40, what="that it is back")
    found = wait_for(lambda: (one := page.get(f"topics/{WATER}")).get("cleared") and one, what="what it forgot")
    assert found["value"] is None, "a broker that lost its memory knows no value"


@pytest.mark.whole
def test_a_broker_that_hangs_is_gone_too(page: Page, broker: Broker) -> None:
    import signal

    broker.process.send_signal(signal.SIGSTOP)
    began = time.monotonic()
    try:
        wait_for(lambda: page.get("house").get("gone"), what="that it is gone")
        assert time.monotonic() - began < busy(6)
    finally:
        broker.process.send_signal(signal.SIGCONT)
    wait_for(lambda: not page.get("house").get("gone"), 40, what="that it is back")


# -- the description --------------------------------------------------------------------------------------------------


def test_every_door_is_described_and_what_it_answers_fits_no_error(page: Page) -> None:
    found = page.get("openapi.json")
    assert found["openapi"] == "3.1.0"
    assert len(found["paths"]) == len({door.path for door in DOORS})
    for name in re.findall(r'"#/components/schemas/([^"]+)"', json.dumps(found)):
        assert name in found["components"]["schemas"]


text = some.text(max_size=30)


def test_whatever_is_asked_no_door_fails(page: Page, archived: int) -> None:
    """Like schemathesis, from our own description: any parameters and bodies, on all doors, and no 5xx but 'away'."""
    page.log_in()
    operations = [
        (path, method, one)
        for path, methods in page.get("openapi.json")["paths"].items()
        for method, one in methods.items()
    ]

    @settings(max_examples=80, deadline=None, suppress_health_check=list(HealthCheck))
    @given(data=some.data())
    def knock(data: some.DataObject) -> None:
        path, method, one = data.draw(some.sampled_from(operations))
        query = {}
        for parameter in one["parameters"]:
            likely = some.sampled_from(
                [WATER, METER, PHASE, "hot", "web", str(archived), "2026-11-01", "0", "day", "reload", "1h"]
            )
            value = data.draw(text | likely)
            if parameter["in"] == "path":
                path = path.replace("{" + parameter["name"] + "}", urllib.parse.quote(value, safe="/") or "x")
            elif data.draw(some.booleans()):
                query[parameter["name"]] = value
        path += "?" + urllib.parse.urlencode(query, errors="replace") if query else ""
        body = (
            data.draw(some.none() | some.dictionaries(text, text) | some.just({"for": "1h"}))
            if method == "post"
            else None
        )
        if "/login" in path or "/logout" in path:
            return
        status, _, answer = page.knock(path.encode("ascii", "replace").decode(), body, method.upper())
        assert status < 500 or status == 503, (path, status, answer)

    knock()
    assert page.house.processes["web"].poll() is None


@settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
@given(payload=some.binary(max_size=200))
def test_no_payload_ends_the_page(page: Page, payload: bytes) -> None:
    for topic in (
        f"home/data/{WATER}",
        "home/alert/hot",
        "home/service/alerts/health",
        "home/service/x/log",
        "home/notify/1",
    ):
        page.voice._client.publish(topic, payload, 0)
    assert page.get("house")["now"]


def _own_address() -> str:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect(("192.0.2.1", 9))
            return str(probe.getsockname()[0])
        except OSError:
            return "127.0.0.1"


def _knock_from(address: str, page: Page, path: str, cookie: str = "") -> int:
    """A request that comes over a proxy on this machine where it has no address of its own."""
    import http.client

    if address.startswith("127."):
        return page.knock(f"/api/1/{path}", X_Forwarded_For="203.0.113.9", **({"Cookie": cookie} if cookie else {}))[0]
    link = http.client.HTTPConnection(address, page.port, timeout=10)
    link.request("GET", f"/api/1/{path}", headers={"Cookie": cookie} if cookie else {})
    with link.getresponse() as answer, contextlib.closing(link):
        return answer.status


def test_a_port_that_is_taken_is_a_sentence(house: House, broker: Broker) -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", port := free_port()))
        other.listen()
        house.write(TOPICS.format(port=port, web=""))
        process = house.start("web", wait=False)
        assert process.wait(30) != 0
    assert f"cannot listen on 127.0.0.1:{port}" in house.log("web")


def _verb(page: Page, *words: str, said: str = "") -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "bootstrap_lib.cli", "--config", page.house.config, *words]
    return subprocess.run(command, input=said, capture_output=True, text=True, env=page.house.environment, cwd=PROJECT)


def test_a_password_is_given_on_the_command_line_and_taken_away(page: Page) -> None:
    assert _verb(page, "password", "web", "eve", said="short\n").returncode != 0
    done = _verb(page, "password", "web", "eve", said="another long one\n")
    assert done.returncode == 0, done.stderr
    assert "another" not in (page.house.folder / "credentials/web.people").read_text()
    page.restart()
    wrong = {"name": "eve", "password": "another long One"}
    assert page.knock("/api/1/login", wrong)[0] == 401
    assert page.knock("/api/1/login", {"name": "eve", "password": "another long one"})[0] == 200
    assert page.knock("/api/1/login", {"name": "ada", "password": PASSWORD})[0] == 200, "who was there stays"
    assert _verb(page, "password", "web", "eve", "--remove").returncode == 0
    assert "eve" not in (page.house.folder / "credentials/web.people").read_text()


def test_the_proof_ends_with_one_while_a_line_is_not_shown(page: Page) -> None:
    done = _verb(page, "proof")
    assert done.returncode == 1, done.stderr
    assert "There is a fresh backup" in done.stdout
    assert "before that not kept" in done.stdout
    assert json.loads(_verb(page, "proof", "--json").stdout)["shown"] is False

    def backup() -> dict[str, Any]:
        return next(claim for claim in page.get("proof")["claims"] if claim["key"] == "backup")

    copy = page.house.state("archive") / "backup.sqlite"
    copy.parent.mkdir(exist_ok=True)
    copy.touch()
    assert backup()["facts"]["bytes"] is None, "an empty file is no backup"
    with contextlib.closing(sqlite3.connect(copy)) as db:
        db.execute("CREATE TABLE t (x)")
    assert backup()["facts"]["bytes"] == copy.stat().st_size
    assert backup()["state"] == "open", "the archive's own copy of itself was never put back on trial"
    last_backup.note(page.house.state("web").parent, taken=now() - 5000, bytes=5, tried=now())
    assert backup()["state"] == "yes"
    assert backup()["facts"]["bytes"] == 5
    assert backup()["facts"]["tried"] >= backup()["facts"]["taken"]


def test_the_proof_is_asked_where_the_page_listens(house: House, broker: Broker, voice: Voice) -> None:
    address = _own_address().replace("127.0.0.1", "127.0.0.2")
    page = Page(house, free_port(), voice)
    house.write(TOPICS.format(port=page.port, web=f", listen: {address}"))
    house.start("web")
    assert "claims" in json.loads(_verb(page, "proof", "--json").stdout)


def test_gaps_that_the_archive_found_and_ends_that_nobody_said_are_in_the_proof(page: Page, ear: Ear) -> None:
    def heard() -> tuple[int, bool]:
        one = next(one for one in page.get("proof")["sources"] if one["source"] == "onewire")
        return one["gaps"], bool(one["unclean"])

    page.say(WATER, 61.4)
    wait_for(lambda: page.get(f"topics/{WATER}").get("value") == 61.4, what="the value")
    assert heard() == (0, False)
    ear.say("home/service/onewire/response/resend", json.dumps({"status": "ok", "data": {"waiting": 1}}))
    for start in (7, 8):
        ear.say("home/service/onewire/health", json.dumps({"state": "running", "start": start}), retain=True)
    wait_for(lambda: heard() == (1, True), what="both")
