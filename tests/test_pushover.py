"""The pushover service as a process, against a server that answers as Pushover does and counts on its own side."""

import base64
import gzip
import json
import socketserver
import threading
import time
import tracemalloc
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from email import message_from_bytes
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from harness import Broker, Ear, House, stand_in, wait_for

from bootstrap_lib.events import Message
from bootstrap_lib.health import Health
from bootstrap_lib.registry import Registry
from bootstrap_lib.secrets import Secret
from services.notices import accounts, notifier
from services.notices import calls as courier
from services.notices.accounts import Account
from services.notices.calls import Courier
from services.notices.deadman import Switch
from services.notices.emergencies import Emergencies, Emergency
from services.notices.notice import Notice
from services.notices.notifier import Notifier
from services.notices.queued import Delivered, Queued, Refused, Unanswered
from services.simulators.pushover import PushoverServer

TOKEN, USER = "a" * 30, "u" * 30
PNG = base64.b64encode(b"\x89PNG\r\n\x1a\n" + bytes(500)).decode()


@pytest.fixture
def phone() -> Iterator[PushoverServer]:
    with PushoverServer() as server:
        yield server


@pytest.fixture
def secrets(house: House, tmp_path: Path) -> Path:
    folder = tmp_path / "credentials"
    folder.mkdir()
    for name, text in (("pushover.token", TOKEN), ("pushover.user", USER)):
        (folder / name).write_text(text)
        (folder / name).chmod(0o600)
    house.environment["CONSTELLATION_CREDENTIALS"] = str(folder)
    return folder


def subscribers(**instances: str) -> str:
    return "subscribers:\n" + "".join(f"  {name}: {{{options}}}\n" for name, options in instances.items())


def options(server: PushoverServer, more: str = "") -> str:
    return f'service: pushover, api_url: "{server.url}/1/", timeout: 2s, every: 100ms' + (f", {more}" if more else "")


def notify(ear: Ear, identity: str, to: str = "pushover", **more: Any) -> None:
    ear.say(f"home/notify/{identity}", json.dumps({"text": f"text of {identity}", "notify": to} | more))


def answer(ear: Ear, identity: str, timeout: float = 30.0) -> dict[str, Any]:
    return ear.wait(f"home/notify/{identity}/answer", timeout=timeout)


def until(server: PushoverServer, count: int, timeout: float = 30.0) -> None:
    wait_for(lambda: len(server.taken) >= count, timeout, f"message {count} (has {server.taken})")


def no_secret(house: House, name: str = "pushover") -> None:
    assert TOKEN not in house.log(name)
    assert USER not in house.log(name)


def test_a_message_arrives_once_with_all_that_it_says(
    house: House, ear: Ear, phone: PushoverServer, secrets: Path
) -> None:
    house.write(subscribers(pushover=options(phone), rrd="") + "sources: {}\n")
    house.start("pushover")
    ear.wait("home/service/pushover/health")
    more = {
        "title": "Boiler",
        "priority": 1,
        "sound": "siren",
        "url": "http://house/",
        "time": "2026-11-20T15:01:53.120Z",
    }
    for _ in range(3):
        notify(ear, "m1", **more)
    notify(ear, "m2", to="apprise")
    assert answer(ear, "m1") == {"notifier": "pushover", "state": "delivered", "text": ""}
    taken = phone.taken[0]
    assert {
        key: taken[key] for key in ("token", "user", "message", "title", "priority", "sound", "url", "timestamp")
    } == {
        "token": TOKEN,
        "user": USER,
        "message": "text of m1",
        "title": "Boiler",
        "priority": "1",
        "sound": "siren",
        "url": "http://house/",
        "timestamp": "1795186913",
    }
    # a repeat after the answer is answered again, never sent again; also after a restart
    house.stop("pushover")
    house.start("pushover")
    ear.wait("home/service/pushover/status", lambda said: said == "online")
    before = len(ear.all("home/notify/m1/answer"))
    notify(ear, "m1", **more)
    wait_for(lambda: len(ear.all("home/notify/m1/answer")) > before)
    notify(ear, "long", text="ä" * 3000, title="t" * 300)
    assert answer(ear, "long")["state"] == "delivered"
    assert [len(fields["message"]) for fields in phone.taken] == [10, 1024]
    assert phone.most_connections <= 2
    phone.remaining = 400
    notify(ear, "scarce")
    assert answer(ear, "scarce")["state"] == "delivered"
    assert house.log("pushover").count("only 399 of 10000 messages are left this month") == 1
    no_secret(house)


def test_a_graph_is_attached_and_a_missing_one_is_not_waited_for_long(
    house: House, ear: Ear, phone: PushoverServer, secrets: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    house.write(subscribers(pushover=options(phone), rrd="") + "sources: {}\n")
    house.start("pushover")
    ear.wait("home/service/pushover/health")
    notify(ear, "p1", picture="boiler/water/temperature")
    asked = ear.wait("home/service/rrd/request/graph")
    assert asked == {"id": "p1", "topics": ["boiler/water/temperature"], "from": "6h", "inline": True}
    assert not phone.taken
    ear.say("home/service/rrd/response/graph", json.dumps({"id": "p1", "status": "ok", "data": {"base64": PNG}}))
    until(phone, 1)
    assert phone.taken[0]["attachment_bytes"] == "508"
    notify(ear, "p2", picture="boiler/water/temperature")
    ear.wait("home/service/rrd/request/graph", lambda said: said["id"] == "p2")
    ear.say("home/service/rrd/response/graph", json.dumps({"id": "p2", "status": "error", "error": "no file yet"}))
    until(phone, 2)
    assert "attachment_bytes" not in phone.taken[1]


@pytest.mark.parametrize(
    "data", [{"base64": "no base64"}, {"base64": 5}, {"base64": ["x"]}, {"base64": None}, [], "x", None]
)
def test_a_graph_that_is_none_never_holds_its_message_back(
    house: House, ear: Ear, phone: PushoverServer, secrets: Path, data: object
) -> None:
    house.write(subscribers(pushover=options(phone), rrd="") + "sources: {}\n")
    house.start("pushover")
    ear.wait("home/service/pushover/health")
    notify(ear, "p1", picture="boiler/water/temperature")
    ear.wait("home/service/rrd/request/graph")
    for said in ([], {}, {"id": ["p1"]}, {"id": "p1", "status": "ok", "data": data}):
        ear.say("home/service/rrd/response/graph", json.dumps(said))
    until(phone, 1)
    assert "attachment_bytes" not in phone.taken[0]
    assert len(ear.all("home/service/rrd/request/graph")) == 1


def test_nothing_that_stands_on_an_alerts_topic_ends_it(
    house: House, ear: Ear, phone: PushoverServer, secrets: Path
) -> None:
    house.write(subscribers(pushover=options(phone)) + "sources: {}\n")
    for n, payload in enumerate((b'{"state":"\xff"}', b"\xff", b"[]", b"5", b"", b'{"state":[1]}', b"[" * 100_000)):
        ear.say(f"home/alert/a{n}", payload, retain=True)
    house.start("pushover")
    ear.wait("home/service/pushover/health")
    notify(ear, "m1")
    assert answer(ear, "m1")["state"] == "delivered"


def test_each_kind_of_failure_loses_nothing_and_repeats_only_where_it_may(
    house: House, ear: Ear, secrets: Path
) -> None:
    faults = ("400", "429", "500", "502", "silence", "lost", "malformed", "gone", "slow")
    with ExitStack() as stack:
        servers = {fault: stack.enter_context(PushoverServer()) for fault in faults}
        house.write(
            subscribers(**{f"p{fault}": options(server) for fault, server in servers.items()}) + "sources: {}\n"
        )
        servers["429"].remaining = 0
        for fault, server in servers.items():
            server.fail(fault, count=1, delay=4.0)
            house.start(f"p{fault}", wait=False)
        for fault in faults:
            ear.wait(f"home/service/p{fault}/health")
        for fault in faults:
            notify(ear, f"m{fault}", to=f"p{fault}")
        answers = {fault: answer(ear, f"m{fault}") for fault in faults}
        for fault in ("400", "429"):
            assert answers[fault]["state"] == "failed"
            assert servers[fault].requests == 1 + (fault == "429"), "a 4xx is never repeated, a limit is asked about"
        assert "quota" in answers["429"]["text"]
        assert "user identifier is invalid" in answers["400"]["text"]
        for fault in set(faults) - {"400", "429"}:
            server = servers[fault]
            assert answers[fault]["state"] == "delivered", fault
            assert server.requests == 2, fault
            assert server.times[1] - server.times[0] >= 5.0, fault
            assert server.most_connections <= 2
            texts = [fields["message"] for fields in server.taken]
            taken_before = fault in ("lost", "malformed", "slow")
            assert len(texts) == 1 + taken_before, fault
            # where the answer was lost the repeat says so; where it was a clear no it does not
            maybe = taken_before or fault in ("silence", "gone")
            assert ("Sent again" in texts[-1]) is maybe, fault
            assert not taken_before or "Sent again" not in texts[0]
        # once the quota is used up, it is asked about once a minute
        notify(ear, "next", to="p429")
        assert answer(ear, "next")["state"] == "failed"
        assert servers["429"].requests == 2
        for fault in faults:
            no_secret(house, f"p{fault}")


def test_killed_between_request_and_answer_it_tells_again_and_says_so(
    house: House, ear: Ear, phone: PushoverServer, secrets: Path
) -> None:
    house.write(subscribers(pushover=options(phone, "keep: 1h")) + "sources: {}\n")
    house.start("pushover")
    ear.wait("home/service/pushover/health")
    phone.fail("slow", count=1, delay=5)
    notify(ear, "m1")
    until(phone, 1)
    house.kill("pushover")
    assert not ear.all("home/notify/m1/answer")
    house.start("pushover")
    assert answer(ear, "m1")["state"] == "delivered"
    assert [("Sent again" in fields["message"]) for fields in phone.taken] == [False, True]


def test_a_message_that_waits_behind_trouble_survives_a_kill(
    house: House, ear: Ear, phone: PushoverServer, secrets: Path
) -> None:
    house.write(subscribers(pushover=options(phone)) + "sources: {}\n")
    house.start("pushover")
    ear.wait("home/service/pushover/health")
    phone.fail("500", count=1)
    notify(ear, "m1")
    wait_for(lambda: "trying on, nothing is lost" in house.log("pushover"), what="the pause of five seconds")
    notify(ear, "m2")
    file = house.state("pushover") / "messages.json"
    wait_for(lambda: "text of m2" in file.read_text(), 4, "the second message on disk, before it is tried")
    house.kill("pushover")
    house.start("pushover")
    for identity in ("m1", "m2"):
        assert answer(ear, identity)["state"] == "delivered"


def test_a_message_that_came_while_it_was_dead_is_delivered(
    house: House, ear: Ear, phone: PushoverServer, secrets: Path
) -> None:
    house.write(subscribers(pushover=options(phone)) + "sources: {}\n")
    house.start("pushover")
    ear.wait("home/service/pushover/health")
    house.kill("pushover")
    notify(ear, "m1")
    house.start("pushover")
    assert answer(ear, "m1")["state"] == "delivered"
    assert len(phone.taken) == 1


def test_an_emergency_acknowledged_on_the_phone_is_acknowledged_at_the_alerts_and_one_that_is_over_stops_ringing(
    house: House, ear: Ear, phone: PushoverServer, secrets: Path
) -> None:
    house.write(subscribers(pushover=options(phone), alerts="") + "sources: {}\n")
    house.start("pushover")
    ear.wait("home/service/pushover/health")
    for name in ("hot", "cold"):
        ear.say(f"home/alert/{name}", json.dumps({"state": "firing"}), retain=True)
        notify(ear, f"m_{name}", priority=2, rules=[name])
    until(phone, 2)
    assert phone.taken[0]["retry"] == "60"
    assert phone.taken[0]["expire"] == "3600"
    by_rule = dict(zip(("hot", "cold"), phone.receipts, strict=True))
    phone.acknowledge(by_rule["hot"])
    ear.say("home/alert/cold", json.dumps({"state": "ok"}), retain=True)
    asked = ear.wait("home/service/alerts/request/acknowledge")
    assert asked["rule"] == "hot"
    wait_for(lambda: phone.receipts[by_rule["cold"]].cancelled, what="the end of the ringing")
    assert not phone.receipts[by_rule["hot"]].cancelled
    polls = [b - a for a, b in zip(phone.times[2:], phone.times[3:], strict=False)]
    assert len(polls) < 6


def test_it_speaks_by_itself_when_the_broker_is_gone_and_the_switch_is_asked_only_while_all_is_well(
    house: House, ear: Ear, broker: Broker, phone: PushoverServer, secrets: Path
) -> None:
    (secrets / "ping").write_text(f"{phone.url}/ping/secret-path")
    (secrets / "ping").chmod(0o600)
    more = "broker_gone: 2s, ping: secret:ping, ping_every: 500ms"
    house.write(subscribers(pushover=options(phone, more), alerts="") + "sources: {}\n")
    house.start("pushover")
    ear.wait("home/service/pushover/health")
    notify(ear, "first")
    answer(ear, "first")
    assert phone.requests == 1, "it was idle before, and asked nobody: of the alerts service nothing is known"
    phone.taken.clear()
    ear.say("home/service/alerts/status", "online", retain=True)
    wait_for(lambda: phone.requests >= 3, what="pings")
    assert not phone.taken
    broker.stop()
    until(phone, 1)
    assert phone.taken[0]["message"].startswith("The broker is gone for 2s: no alert can be heard.")
    assert phone.taken[0]["priority"] == "1"
    messages = house.state("pushover") / "messages.json"
    wait_for(lambda: json.loads(messages.read_bytes())["queue"] == [], what="the answer on disk")
    asked = phone.requests
    house.kill("pushover")  # told is told: a restart does not tell it again
    house.start("pushover")
    time.sleep(3)  # longer than broker_gone, and than six pings
    assert phone.requests == asked
    broker.start()
    until(phone, 2)
    assert phone.taken[1]["message"].startswith("The broker is back after ")
    assert "secret-path" not in house.log("pushover")


def test_nonsense_on_the_topic_is_put_aside_and_missing_secrets_are_said(
    house: House, ear: Ear, phone: PushoverServer, secrets: Path
) -> None:
    house.write(subscribers(pushover=options(phone), other='service: pushover, token: "secret:none"') + "sources: {}\n")
    house.start("pushover")
    ear.wait("home/service/pushover/health")
    for n, payload in enumerate(
        (
            b"",
            b"{",
            b"[]",
            b'{"title":"no text"}',
            b"\xff",
            b'{"text":"x","time":"yesterday"}',
            b'{"text":"%s"}' % (b"x" * 70_000),
        )
    ):
        ear.say(f"home/notify/bad{n}", payload)
    notify(ear, "good")
    assert answer(ear, "good")["state"] == "delivered"
    assert len(phone.taken) == 1
    process = house.start("other", wait=False)
    assert process.wait(10) != 0
    assert "secret 'none' is not there" in house.log("other")
    house.processes.pop("other")


def test_a_delivery_that_hangs_is_given_up_and_no_more_than_two_hang(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(courier, "DEADLINE", 0.05)
    renewed: list[int] = []
    results: list[str | None] = []
    runner: Courier[str] = Courier(lambda: renewed.append(1))
    end = threading.Event()

    def hang() -> str:
        end.wait()
        return "late"

    for _ in range(2):
        assert runner.free
        runner.run(hang, results.append)
        assert not runner.free
        time.sleep(0.06)
        runner.poll()
    assert (results, len(renewed), runner.free) == ([None, None], 2, False)
    end.set()
    wait_for(lambda: runner.free)
    runner.run(lambda: "good", results.append)
    wait_for(lambda: runner.poll() or results[2:])
    assert results == [None, None, "good"]


def test_a_dead_mans_switch_whose_page_never_ends_holds_no_message_up() -> None:
    class Endless(socketserver.StreamRequestHandler):
        def handle(self) -> None:
            self.rfile.readline()
            self.wfile.write(b"HTTP/1.0 200 OK\r\n\r\n")
            with suppress(OSError):
                while not ended.wait(0.02):
                    self.wfile.write(b"x")

    ended = threading.Event()
    with socketserver.ThreadingTCPServer(("127.0.0.1", 0), Endless) as server:
        server.daemon_threads = True
        threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
        runner: Courier[str] = Courier(lambda: None)
        answers: list[str | None] = []
        switch = Switch(f"http://127.0.0.1:{server.server_address[1]}/", 300, 5)
        assert switch.due()
        assert not switch.due()
        runner.run(switch.ask, answers.append)
        wait_for(lambda: runner.poll() or answers, what="the answer of the switch")
        assert answers == [""]
        wait_for(lambda: runner.free, what="the thread's end")
        ended.set()
        server.shutdown()


@pytest.mark.parametrize("head", [b"HTTP/1.1 200 OK\r\nContent-Length: 60000\r\n\r\n", b"HTTP/1.1 200 OK\r\nX-Long: "])
@pytest.mark.parametrize("what", ["a message", "the switch"])
def test_an_answer_that_comes_a_byte_at_a_time_holds_no_connection(
    monkeypatch: pytest.MonkeyPatch, what: str, head: bytes
) -> None:
    class Drip(socketserver.StreamRequestHandler):
        def handle(self) -> None:
            self.rfile.readline()
            self.wfile.write(head)
            with suppress(OSError):
                while not ended.wait(0.02):
                    self.wfile.write(b" ")

    monkeypatch.setattr(courier, "DEADLINE", 0.3)
    ended = threading.Event()
    with socketserver.ThreadingTCPServer(("127.0.0.1", 0), Drip) as server:
        server.daemon_threads = True
        threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
        address = f"http://127.0.0.1:{server.server_address[1]}"
        way, switch = account(address), Switch(address, 300, 5)
        call, renew = (lambda: send(way), way.renew) if what == "a message" else (switch.ask, switch.renew)
        runner: Courier[Any] = Courier(renew)
        answers: list[Any] = []
        for _ in range(3):
            runner.run(call, answers.append)
            begun = len(answers)
            wait_for(lambda begun=begun: runner.poll() or len(answers) > begun, what="that it is given up, or answered")
            wait_for(lambda: runner.free, 5, "the end of its thread")
        ended.set()
        server.shutdown()
    assert answers == ([None] * 3 if what == "a message" or b"Length" not in head else [""] * 3)


class Silent(Notifier):
    """A notifier that is not started: what it thinks of its queue, by clocks that are set."""


@pytest.fixture
def silent(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Silent:
    monkeypatch.setenv("STATE_DIRECTORY", str(tmp_path))
    (tmp_path / "topics.yaml").write_text("sources: {}\nsubscribers: {pushover: {}}\n")
    registry = Registry(tmp_path / "topics.yaml")
    service = Silent(registry, "pushover")
    clock = SimpleNamespace(trusted=False, wall=1_795_000_000_000)
    clock.now = lambda: clock.wall
    published: list[Any] = []
    bus = SimpleNamespace(online=True, published=published, publish=lambda *said, **_: published.append(said))
    return stand_in(service, clock=clock, health=Health(0, 1, 10), bus=bus)


def test_a_clock_that_is_set_by_days_gives_no_message_up(silent: Silent) -> None:
    silent.begin()
    silent.enqueue("m1", Notice(text="hot"))
    silent.flush()
    silent.clock.wall, silent.clock.trusted = silent.clock.wall + 3 * 86_400_000, True
    assert silent._next() is silent.kept.queue[0]
    silent.clock.trusted = False  # a start before the clock is right
    silent.begin()
    assert silent._next() is silent.kept.queue[0]
    silent.clock.trusted = True
    assert silent._next() is None
    assert silent.kept.answers["m1"].text == "given up after 1d"


def test_a_flood_of_messages_is_refused_so_that_another_notifier_is_asked(silent: Silent) -> None:
    silent.begin()
    for n in range(notifier.MOST_WAITING):
        silent.enqueue(f"m{n}", Notice(text="x"))
    silent.on_other(Message("home/notify/more", b'{"text":"x"}', False, 1, 1))
    assert len(silent.kept.queue) == notifier.MOST_WAITING
    topic, payload = silent.bus.published[-1]
    assert topic == "home/notify/more/answer"
    assert json.loads(payload)["state"] == "failed"


def test_what_is_urgent_goes_first_and_else_the_oldest(silent: Silent) -> None:
    silent.begin()
    for identity, priority in (("m1", 0), ("m2", -1), ("m3", 1), ("m4", 1)):
        silent.enqueue(identity, Notice(text="x", priority=priority))
        silent.clock.wall += 1000
    told = []
    while silent.kept.queue:
        entry = silent._next()
        told.append(entry.id)
        silent.kept.queue.remove(entry)
    assert told == ["m3", "m4", "m1", "m2"]


def test_the_text_of_a_repeat_says_that_it_is_one() -> None:
    entry = Queued("x", Notice(text="hot"), 0)
    assert entry.text == "hot"
    entry.again = True
    assert entry.text == "hot\n(Sent again: it is not known whether this has arrived.)"


class Mail(socketserver.StreamRequestHandler):
    """As much of SMTP (RFC 5321) as takes a message."""

    def handle(self) -> None:
        self.wfile.write(b"220 mail\r\n")
        for line in self.rfile:
            if line[:4].upper() == b"DATA":
                self.wfile.write(b"354 go on\r\n")
                letter = b"".join(iter(self.rfile.readline, b".\r\n"))
                self.server.letters.append(message_from_bytes(letter))
            self.wfile.write(b"221 bye\r\n" if line[:4].upper() == b"QUIT" else b"250 ok\r\n")


@pytest.fixture
def mail() -> Iterator[Any]:
    with socketserver.ThreadingTCPServer(("127.0.0.1", 0), Mail) as server:
        server.letters = []
        server.daemon_threads = True
        threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
        yield server
        server.shutdown()


def test_apprise_sends_an_e_mail_with_the_graph_and_answers(house: House, ear: Ear, secrets: Path, mail: Any) -> None:
    port = mail.server_address[1]
    (secrets / "mail").write_text(f"mailto://localhost:{port}?from=house@example.org&to=me@example.org&mode=insecure")
    (secrets / "mail").chmod(0o600)
    (secrets / "key").write_text("k" * 40)
    (secrets / "key").chmod(0o600)
    (secrets / "bad").write_text("nonsense://")
    (secrets / "bad").chmod(0o600)
    house.write(
        subscribers(
            mail="service: apprise, urls: [secret:mail], every: 100ms, links: secret:key",
            web="address: 'https://house.example'",
            bad="service: apprise, urls: [secret:bad], every: 100ms",
            rrd="",
        )
        + "sources: {}\n"
    )
    for name in ("mail", "bad"):
        house.start(name)
        ear.wait(f"home/service/{name}/health")
    fires = {"rules": ["hot"], "begun": [1_790_000_000_000], "time": "2026-09-21T14:13:20.000Z"}
    notify(ear, "m1", to="mail", title="Boiler", url="http://house/", picture="boiler/water/temperature", **fires)
    ear.wait("home/service/rrd/request/graph")
    ear.say("home/service/rrd/response/graph", json.dumps({"id": "m1", "status": "ok", "data": {"base64": PNG}}))
    assert answer(ear, "m1")["state"] == "delivered", house.log("mail")
    (letter,) = mail.letters
    assert letter["Subject"] == "Boiler"
    parts = {part.get_content_type(): part.get_payload(decode=True) for part in letter.walk()}
    assert "text of m1" in str(parts["text/html"])
    assert "http://house/" in str(parts["text/html"])
    assert "Acknowledge or snooze: https://house.example/link.html#" in str(parts["text/html"])
    assert any(base64.b64encode(content or b"").decode() == PNG for content in parts.values())
    notify(ear, "m2", to="bad")
    assert answer(ear, "m2")["text"] == "secret:bad holds no address that Apprise knows"
    assert "nonsense" not in house.log("bad")


def say(silent: Silent, identity: str, **notice: Any) -> None:
    silent.on_other(Message(f"home/notify/{identity}", json.dumps({"text": "x"} | notice).encode(), False, 1, 1))


def reports(silent: Silent) -> list[tuple[str, str, str]]:
    return [
        (topic.split("/")[-2], answer["state"], answer["text"])
        for topic, answer in ((topic, json.loads(payload)) for topic, payload in silent.bus.published)
    ]


def test_a_message_that_is_taken_back_is_never_delivered_whichever_comes_first(silent: Silent) -> None:
    silent.begin()
    say(silent, "m1", text="hot")
    say(silent, "m1", text="hotter")
    assert [entry.notice.text for entry in silent.kept.queue] == ["hotter"]
    say(silent, "m1", text="", withdraw=True)
    say(silent, "m2", text="", withdraw=True)
    say(silent, "m2", text="late")
    assert not silent.kept.queue
    assert reports(silent) == [(m, "failed", "taken back") for m in ("m1", "m2", "m2")]


def test_a_message_that_is_taken_back_while_it_is_tried_is_not_tried_again(silent: Silent) -> None:
    silent.begin()
    for identity, outcome in (("m1", Unanswered("no", lost=False)), ("m2", Delivered())):
        say(silent, identity)
        (entry,) = silent.kept.queue
        entry.trying = True
        say(silent, identity, text="", withdraw=True)
        assert silent.kept.queue == [entry]
        silent._settle_entry(entry, outcome)
        assert not silent.kept.queue
    assert [(m, state) for m, state, _ in reports(silent)] == [("m1", "failed"), ("m2", "delivered")]


def test_a_message_that_comes_too_late_is_left_to_the_next_notifier(silent: Silent) -> None:
    silent.begin()
    silent.clock.trusted = True
    say(silent, "m1", until="2026-01-01T00:00:00.000Z")
    assert silent._next() is None
    assert reports(silent) == [("m1", "failed", "too late: another notifier is asked by now")]


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"[]",
        b'{"queue":5}',
        b'{"queue":[{"id":"m","notice":{"text":5},"since":0}]}',
        b'{"answers":{"m":{"notifier":"p","state":"perhaps"}}}',
        b"\xff",
        b"[" * 100_000,
    ],
)
def test_a_queue_that_is_none_is_set_aside(silent: Silent, content: bytes) -> None:
    file = silent.state_folder / "messages.json"
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_bytes(content)
    silent.begin()
    assert silent.kept.queue == []
    assert file.with_name("messages.json.damaged").read_bytes() == content


def test_a_queue_with_a_time_that_is_none_is_told_all_the_same(silent: Silent) -> None:
    file = silent.state_folder / "messages.json"
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_bytes(b'{"queue":[{"id":"m","notice":{"text":"x","time":"never","until":"soon"},"since":5}]}')
    silent.begin()
    (entry,) = silent.kept.queue
    assert (entry.time, entry.until) == (5, None)


class TestEmergencies:
    def emergencies(self) -> Emergencies:
        found = Emergencies({"r": Emergency(["hot"], 10_000_000, message="m1")})
        found.follow("hot", b'{"state":"firing"}')
        return found

    def test_what_is_over_is_cancelled_until_that_is_confirmed(self) -> None:
        found = self.emergencies()
        assert found.due(100.0, online=True) == ("look", "r")
        found.follow("hot", b'{"state":"ok"}')
        assert found.due(105.0, online=True) is None
        assert [found.due(now, online=False) for now in (110.0, 120.0, 130.0)] == [("cancel", "r")] * 3
        found.forget("r")
        assert found.due(140.0, online=True) is None

    def test_an_acknowledgement_is_passed_on_until_the_alert_shows_it(self) -> None:
        found = self.emergencies()
        assert found.learn("r", {"acknowledged": 1}, 0)
        assert found.due(100.0, online=False) is None
        assert [found.due(now, online=True) for now in (100.0, 105.0, 110.0)] == [
            ("pass_on", "r"),
            None,
            ("pass_on", "r"),
        ]
        assert not found.is_over(found.ringing["r"])
        found.follow("hot", b'{"state":"firing","acknowledged":true}')
        assert found.is_over(found.ringing["r"])

    def test_one_that_is_snoozed_rings_no_more_and_is_not_taken_for_acknowledged(self) -> None:
        found = self.emergencies()
        found.follow("hot", b'{"state":"firing","snoozed_until":"2026-11-20T15:01:53.120Z"}')
        assert found.due(100.0, online=True) == ("cancel", "r")
        assert found.learn("r", {"acknowledged": 1}, 0)
        assert found.due(110.0, online=True) == ("pass_on", "r")
        assert not found.is_over(found.ringing["r"])
        found = self.emergencies()
        found.follow("hot", b'{"state":"firing","snoozed_until":"2026-11-20T15:01:53.120Z"}')
        found.follow("hot", b'{"state":"firing"}')
        assert found.due(100.0, online=True) == ("look", "r")

    def test_what_expires_has_rung_in_vain(self) -> None:
        found = self.emergencies()
        assert not found.learn("r", None, 10_000_000)
        assert found.learn("r", {"expired": 1, "acknowledged": 0}, 0)
        assert found.due(100.0, online=True) == ("rang_in_vain", "r")


def account(url: str) -> Account:
    return Account(f"{url}/1/", 5.0, Secret(TOKEN), Secret(USER), None)


def send(to: Account) -> Any:
    return to.send(Queued("m", Notice(text="hot"), 0), None, retry=60, expire=3600)


def test_a_months_limit_is_asked_about(phone: PushoverServer, monkeypatch: pytest.MonkeyPatch) -> None:
    way = account(phone.url)
    phone.remaining = 0
    assert isinstance(send(way), Refused)
    phone.remaining = 5
    assert isinstance(send(way), Refused), "asked less than a minute ago"
    requests = phone.requests
    monkeypatch.setattr(accounts, "ASKED_AGAIN", 0.0)
    assert isinstance(send(way), Delivered)
    assert phone.requests == requests + 2
    phone.fail("429", count=1)
    assert isinstance(send(way), Unanswered), "a 429 while there is something left is no month's limit"
    assert isinstance(send(way), Delivered)


@pytest.mark.parametrize("packed", [False, True])
def test_an_answer_without_end_is_not_read_to_its_end(packed: bool) -> None:
    body = gzip.compress(bytes(200_000_000), 1) if packed else b'{"status":1,"x":"' + b"x" * 50_000_000
    encoding = b"Content-Encoding: gzip\r\n" if packed else b""

    class Flood(socketserver.StreamRequestHandler):
        def handle(self) -> None:
            while self.rfile.readline().strip():
                pass
            with suppress(OSError):
                self.wfile.write(b"HTTP/1.1 200 OK\r\n" + encoding + b"Content-Length: %d\r\n\r\n" % len(body))
                self.wfile.write(body)

    with socketserver.ThreadingTCPServer(("127.0.0.1", 0), Flood) as server:
        server.daemon_threads = True
        threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
        way = account(f"http://127.0.0.1:{server.server_address[1]}")
        tracemalloc.start()
        outcome = send(way)
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        server.shutdown()
    assert isinstance(outcome, Unanswered)
    assert peak < 5_000_000
