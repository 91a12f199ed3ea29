"""How houses come into a fleet and go: tokens, certificates, rights, bridges; on real brokers with the configuration that the commands write."""

import contextlib
import os
import socket
import ssl
import subprocess
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from http.server import BaseHTTPRequestHandler
from pathlib import Path

import paho.mqtt.client as mqtt
import pytest
from harness import free_port, wait_for

from bootstrap_lib import Registry, StartError, broker
from bootstrap_lib.bridges import faults
from bootstrap_lib.cli import main
from services.commands import fleet
from services.fleet import authority, bridges, enrolment, joining, quorum, roster
from services.fleet.authority import Authority
from services.fleet.dialect import Access
from services.fleet.enrolment import MOST, EnrolmentServer, Invitations
from services.fleet.joining import FleetTokenError
from services.fleet.quorum import NodeState


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    made = Authority(tmp_path_factory.mktemp("authority") / "fleet", "127.0.0.1")
    made.make()
    return made


@pytest.fixture
def server(made: Authority, tmp_path: Path) -> Iterator[EnrolmentServer]:
    revoked = {"h0666"}
    server = EnrolmentServer(("127.0.0.1", 0), made, tmp_path, 8884, revoked.__contains__)
    threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
    yield server
    server.shutdown()
    server.server_close()


def url(server: EnrolmentServer) -> str:
    return f"https://127.0.0.1:{server.server_port}"


def enter(server: EnrolmentServer, name: str, folder: Path) -> Path:
    secret = server.invitations.invite(name)
    joining.enrol(url(server), f"{secret}.{server.authority.fingerprint}", folder)
    return folder


def test_a_house_joins_by_a_token_once_and_its_key_stays_with_it(server: EnrolmentServer, tmp_path: Path) -> None:
    secret = server.invitations.invite("h0001")
    token = f"{secret}.{server.authority.fingerprint}"
    given = joining.enrol(url(server), token, tmp_path / "h0001")
    assert (given.name, given.port) == ("h0001", 8884)
    assert (tmp_path / "h0001/h0001.key").stat().st_mode & 0o777 == 0o600
    assert (tmp_path / "h0001").stat().st_mode & 0o777 == 0o755  # the broker, which is not root, comes in
    subject = authority.openssl(
        "x509", "-in", tmp_path / "h0001/h0001.crt", "-noout", "-subject", "-ext", "extendedKeyUsage"
    )
    assert "CN=h0001" in subject.replace(" ", "")
    assert "Client" in subject
    assert "Server" not in subject
    with pytest.raises(FleetTokenError, match="good once"):
        joining.enrol(url(server), token, tmp_path / "thief")
    assert "PRIVATE" not in (tmp_path / "tokens.json").read_text()
    assert secret not in (tmp_path / "tokens.json").read_text()


def test_an_answer_that_was_lost_is_given_again_to_the_same_request_only(made: Authority, tmp_path: Path) -> None:
    invitations, signed = Invitations(tmp_path / "tokens.json"), []

    def sign(name: str, request: str) -> str:
        signed.append((name, request))
        return f"certificate {len(signed)}"

    secret = invitations.invite("h1")
    assert invitations.redeem(secret, "a", sign) == invitations.redeem(secret, "a", sign) == ("h1", "certificate 1")
    assert invitations.redeem(secret, "b", sign) is None
    newer = invitations.invite("h1")
    assert invitations.redeem(secret, "a", sign) is None
    invitations.withdraw("h1")
    assert invitations.redeem(newer, "a", sign) is None
    assert signed == [("h1", "a")]


def test_a_house_whose_answer_was_lost_asks_again_with_the_same_token(
    server: EnrolmentServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    token, folder = f"{server.invitations.invite('h0004')}.{server.authority.fingerprint}", tmp_path / "h0004"
    with monkeypatch.context() as cut:
        cut.setattr(EnrolmentServer, "handle_error", lambda *_: None)
        cut.setattr("services.fleet.enrolment._Handler._answer", _cut_off)
        with pytest.raises(StartError, match="does not answer"):
            joining.enrol(url(server), token, folder)
    assert joining.enrol(url(server), token, folder).name == "h0004"
    assert sorted(file.name for file in folder.iterdir()) == ["ca.crt", "centre.json", "h0004.crt", "h0004.key"]
    assert server.authority.revoke("h0004") == 1, "one certificate was made"


def _cut_off(handler: BaseHTTPRequestHandler, code: int, body: bytes) -> None:
    """Answer who asks for the authority, and cut the line for who asks for a certificate."""
    if handler.command == "POST":
        handler.connection.close()
        raise ConnectionResetError
    handler.send_response(code)
    handler.send_header("Content-Length", str(len(body)))
    handler.end_headers()
    handler.wfile.write(body)


def test_houses_that_come_in_at_once_have_serial_numbers_of_their_own(made: Authority, tmp_path: Path) -> None:
    names = [f"h{number:04}" for number in range(2001, 2006)]
    requests = {name: joining_request(tmp_path / name, name) for name in names}
    with ThreadPoolExecutor(len(names)) as pool:
        signed = list(pool.map(lambda name: made.sign(name, requests[name]), names))
    serials = set()
    for name, certificate in zip(names, signed, strict=True):
        (file := tmp_path / f"{name}.crt").write_text(certificate)
        serials.add(authority.openssl("x509", "-in", file, "-noout", "-serial"))
    assert len(serials) == len(names)
    assert [made.revoke(name) for name in names] == [1] * len(names), "each can be revoked by itself"


def joining_request(folder: Path, name: str) -> str:
    return authority.new_request(folder, name)


def test_one_token_for_two_requests_at_once_makes_one_certificate(tmp_path: Path) -> None:
    invitations, signed = Invitations(tmp_path / "tokens.json"), []

    def sign(name: str, request: str) -> str:
        signed.append(request)
        time.sleep(0.1)
        return f"certificate of {name}"

    secret = invitations.invite("h1")
    with ThreadPoolExecutor(2) as pool:
        given = list(pool.map(lambda request: invitations.redeem(secret, request, sign), ("a", "b")))
    assert len(signed) == 1
    assert sorted(given, key=str) == [("h1", "certificate of h1"), None]


def test_a_house_sends_its_token_to_no_other_centre(server: EnrolmentServer, tmp_path: Path) -> None:
    secret = server.invitations.invite("h0001")
    with pytest.raises(FleetTokenError, match="not the centre"):
        joining.enrol(url(server), f"{secret}.{'0' * 64}", tmp_path / "h")
    with pytest.raises(FleetTokenError, match="no token"):
        joining.enrol(url(server), "word", tmp_path / "h")
    with pytest.raises(StartError, match="does not answer"):
        joining.enrol(f"https://127.0.0.1:{free_port()}", f"{secret}.{'0' * 64}", tmp_path / "h")


def test_strangers_who_say_nothing_keep_no_house_out(server: EnrolmentServer, tmp_path: Path) -> None:
    with contextlib.ExitStack() as stack:
        strangers = [
            stack.enter_context(socket.create_connection(server.server_address[:2], 5)) for _ in range(MOST + 5)
        ]
        assert [stranger.recv(1) for stranger in strangers[:5]] == [b""] * 5, "those who came first made room"
        enter(server, "h0010", tmp_path / "h0010")


@pytest.mark.parametrize("spoken", [False, True], ids=["before TLS", "within TLS"])
def test_who_says_a_byte_now_and_then_is_heard_no_longer_than_anybody(
    server: EnrolmentServer, monkeypatch: pytest.MonkeyPatch, *, spoken: bool
) -> None:
    monkeypatch.setattr(enrolment, "PATIENCE", 0.5)
    line: socket.socket = socket.create_connection(server.server_address[:2], 5)
    first, more = b"\x16\x03\x01\x40\x00", b"\x00"  # a handshake of 16 KB
    if spoken:
        context = ssl.create_default_context()
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        line, first, more = context.wrap_socket(line), b"GET /", b"a"
    with line:
        line.sendall(first)
        with pytest.raises(OSError):  # noqa: PT011, PT012 (however, and whenever, the end shows)
            for _ in range(200):
                time.sleep(0.05)
                line.sendall(more)


@pytest.mark.parametrize(
    "typed",
    [
        "https://centre:88x5",
        "https://exa mple:8885",
        "https://[::1",
        "https://127.0.0.1:99999",
        "http://centre:8885",
        "x",
    ],
)
def test_an_address_that_was_mistyped_is_told_in_a_sentence(
    typed: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "etc/constellation").mkdir(parents=True)
    (tmp_path / "etc/constellation/topics.yaml").write_text("{}\n")
    assert main(["fleet", "--root", str(tmp_path), "join", typed, f"a.{'0' * 64}"]) == os.EX_UNAVAILABLE
    assert "as the centre does" in (told := capsys.readouterr().err) or "no address of a centre" in told


@pytest.mark.parametrize(
    ("answered", "told"),
    [((413, b""), "413"), ((404, b""), "404"), ((200, b"cut"), "does not answer|nothing of it is kept")],
)
def test_what_is_no_refusal_of_a_token_is_told_as_none(
    server: EnrolmentServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, answered: tuple[int, bytes], told: str
) -> None:
    folder, (code, body) = enter(server, "h0009", tmp_path / "h0009"), answered

    def answer(handler: BaseHTTPRequestHandler) -> None:
        handler.rfile.read(int(handler.headers["Content-Length"]))  # closed with something unread, the answer is lost
        handler.send_response(code)
        handler.send_header("Content-Length", str(2 * len(body)))  # what is cut off is no answer either
        handler.end_headers()
        handler.wfile.write(body)
        handler.close_connection = True

    monkeypatch.setattr("services.fleet.enrolment._Handler.do_POST", answer)
    with pytest.raises(StartError, match=told) as error:
        joining.renew(folder, now=True)
    assert not isinstance(error.value, FleetTokenError)


@pytest.mark.parametrize(
    "wrong",
    [
        {"name": "../../cron.d/x"},
        {"name": "h0005\n"},
        {"address": "c\nlistener 1883 0.0.0.0"},
        {"address": "centre.example\n"},
        {"port": 0},
        {"port": 65536},
        {"certificate": "* * * * * root sh"},
        {"authority": ""},
        {},
    ],
)
def test_of_a_centre_that_was_broken_into_root_writes_no_file_and_no_line_of_its_own(
    server: EnrolmentServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, wrong: dict[str, object]
) -> None:
    good = server.authority.certificate.read_text()
    said = {"name": "h0005", "certificate": good, "authority": good, "address": "c", "port": 1} | wrong
    said = said if wrong else {"name": "h0005"}  # or no answer at all
    folder = tmp_path / "etc/mosquitto/fleet"
    token = f"{server.invitations.invite('h0005')}.{server.authority.fingerprint}"
    with monkeypatch.context() as broken_into:
        broken_into.setattr("services.fleet.enrolment.Enrolment", lambda *_: said)
        with pytest.raises(StartError, match="nothing of it is kept"):
            joining.enrol(url(server), token, folder)
    assert sorted(file.name for file in folder.iterdir()) == ["house.csr", "house.key"]
    assert not (tmp_path / "etc/cron.d").exists()
    assert joining.enrol(url(server), token, folder).name == "h0005", "the same token, once the centre is mended"


def test_a_renewal_brings_no_certificate_of_another_house(
    server: EnrolmentServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = enter(server, "h0007", tmp_path / "h0007")
    before = {file.name: file.read_bytes() for file in folder.iterdir()}
    other = server.authority.certificate.read_text()
    monkeypatch.setattr("services.fleet.enrolment._Handler._found", lambda *_: ("h0008", other))
    with pytest.raises(StartError, match="another house"):
        joining.renew(folder, now=True)
    assert {file.name: file.read_bytes() for file in folder.iterdir()} == before


def test_a_request_for_another_name_is_signed_for_the_one_of_the_token(made: Authority, tmp_path: Path) -> None:
    request = authority.new_request(tmp_path, "h0001")  # it says h0001
    (tmp_path / "x.crt").write_text(made.sign("h0300", request))
    subject = authority.openssl("x509", "-in", tmp_path / "x.crt", "-noout", "-subject")
    assert "CN=h0300" in subject.replace(" ", "")
    with pytest.raises(StartError, match="failed"):
        made.sign("h0300", "no request")


def test_a_certificate_is_renewed_with_itself_and_that_of_a_house_that_is_out_is_not(
    server: EnrolmentServer, tmp_path: Path
) -> None:
    folder = enter(server, "h0002", tmp_path / "h0002")
    before = (folder / "h0002.crt").read_text()
    assert joining.renew(folder) is None  # it is new
    assert joining.renew(folder, now=True) == "h0002"
    assert (folder / "h0002.crt").read_text() != before
    out = enter(server, "h0666", tmp_path / "h0666")
    with pytest.raises(FleetTokenError, match="does not renew this certificate"):
        joining.renew(out, now=True)


def test_a_certificate_that_was_revoked_renews_itself_never_also_once_its_house_has_a_new_one(
    server: EnrolmentServer, tmp_path: Path
) -> None:
    stolen = enter(server, "h0003", tmp_path / "stolen")
    assert joining.renew(stolen, now=True) == "h0003"
    assert server.authority.revoke("h0003") == 2
    anew = enter(server, "h0003", tmp_path / "anew")
    with pytest.raises(FleetTokenError):
        joining.renew(stolen, now=True)
    assert joining.renew(anew, now=True) == "h0003"


class Guest:
    """Who connects with a certificate."""

    def __init__(self, port: int, folder: Path, name: str, client_id: str = "") -> None:
        self.heard: list[str] = []
        self.codes: list[str] = []
        self.gone = threading.Event()
        self.client = mqtt.Client(mqtt.CallbackAPIVersion.VERSION2, client_id=client_id or name, protocol=mqtt.MQTTv5)
        self.client.tls_set(str(folder / "ca.crt"), str(folder / f"{name}.crt"), str(folder / f"{name}.key"))
        self.client.on_connect = lambda client, *_: client.subscribe("#", 1)
        self.client.on_message = lambda _c, _d, message: self.heard.append(message.topic)
        self.client.on_publish = lambda _c, _d, _m, code, _p: self.codes.append(str(code))
        self.client.on_disconnect = lambda *_: self.gone.set()
        self.client.connect("127.0.0.1", port)
        self.client.loop_start()
        wait_for(self.client.is_connected, what="the connection")

    def say(self, topic: str) -> str:
        self.client.publish(topic, b"1", 1)
        known = len(self.codes)
        wait_for(lambda: len(self.codes) > known, what="the broker's word")
        return self.codes[-1]

    def close(self) -> None:
        self.client.disconnect()
        self.client.loop_stop()


def test_a_house_reaches_its_own_branch_and_nothing_else_whatever_it_calls_itself(
    server: EnrolmentServer, tmp_path: Path
) -> None:
    folders = {name: enter(server, name, tmp_path / name) for name in ("h0001", "h0012")}
    for name in ("ca.crt", "centre.crt", "centre.key", "crl.pem"):
        (tmp_path / name).write_bytes((server.authority.folder / name).read_bytes())
    port, config = free_port(), tmp_path / "m.conf"
    (tmp_path / "acl").write_text(bridges.RIGHTS)
    config.write_text(
        bridges.listener(port, tmp_path, "127.0.0.1") + f"allow_anonymous false\nacl_file {tmp_path}/acl\nuser root\n"
    )
    broker = subprocess.Popen(["mosquitto", "-c", config], stderr=subprocess.DEVNULL)
    try:
        wait_for(lambda: _answers(port), what="mosquitto")
        one, two = Guest(port, folders["h0001"], "h0001"), Guest(port, folders["h0012"], "h0012", client_id="h0001")
        assert one.say("h0001/home/data/a/b/c") == "Success"
        assert "Not authorized" in two.say("h0001/home/data/a/b/c")
        assert two.say("h0012/home/data/a/b/c") == "Success"
        wait_for(lambda: two.heard, what="its own")
        assert set(one.heard) == {"h0001/home/data/a/b/c"}
        assert set(two.heard) == {"h0012/home/data/a/b/c"}
        assert not one.gone.is_set()  # who calls himself h0001 with another's certificate throws nobody out
        assert server.authority.revoke("h0012") == 1
        (tmp_path / "crl.pem").write_bytes(server.authority.revocations.read_bytes())
        broker.send_signal(1)
        two.close()
        with pytest.raises((OSError, mqtt.WebsocketConnectionError)):  # noqa: PT012 (the handshake or the first word fails)
            for _ in range(50):
                again = mqtt.Client(mqtt.CallbackAPIVersion.VERSION2, protocol=mqtt.MQTTv5)
                folder = folders["h0012"]
                again.tls_set(str(folder / "ca.crt"), str(folder / "h0012.crt"), str(folder / "h0012.key"))
                again.connect("127.0.0.1", port)
                for _ in range(10):
                    if again.loop(0.1):
                        raise OSError("thrown out")
                again.disconnect()
                time.sleep(0.1)
        assert one.say("h0001/home/data/a/b/c") == "Success"
        one.close()
    finally:
        broker.terminate()
        broker.wait(10)


def _answers(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def test_a_list_of_revocations_says_how_long_it_lasts(made: Authority) -> None:
    assert authority.LIST_DAYS - 1 < authority.lasts(made.revocations, revocations=True) <= authority.LIST_DAYS


def test_what_ends_is_renewed_daily_by_itself_and_said_where_it_cannot_be(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    root, folder = ["fleet", "--root", str(tmp_path)], tmp_path / "etc/mosquitto/fleet"
    assert main([*root, "renew"]) == 0  # neither house nor centre
    with monkeypatch.context() as old:
        old.setattr(authority, "LIST_DAYS", 50)
        old.setattr(authority, "HOUSE_DAYS", 20)
        assert main([*root, "centre", "127.0.0.1"]) == 0
    kept = Authority(tmp_path / "etc/constellation/fleet", "127.0.0.1")
    old_list = (folder / "crl.pem").read_bytes()
    assert main([*root, "renew"]) == 0
    assert (folder / "crl.pem").read_bytes() == kept.revocations.read_bytes() != old_list
    kept.make()  # its lists last longer now
    assert main([*root, "renew"]) == 0
    new_list = (folder / "crl.pem").read_bytes()
    kept.renew_list()
    assert main([*root, "renew"]) == 0
    assert (folder / "crl.pem").read_bytes() == new_list, "one that is new is left alone"

    (tmp_path / "etc/constellation/fleet").rename(tmp_path / "centre")  # from here on it is a house of that centre
    kept.folder = tmp_path / "centre"
    kept.make()
    server = EnrolmentServer(("127.0.0.1", 0), kept, tmp_path, 8884, lambda name: False)
    serving = threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True)
    serving.start()
    enter(server, "h1", folder)
    first = (folder / "h1.crt").read_text()
    assert main([*root, "renew"]) == 0
    assert (folder / "h1.crt").read_text() == first
    monkeypatch.setattr(joining, "DUE", 0.0)
    assert main([*root, "renew"]) == 0
    assert (folder / "h1.crt").read_text() != first
    server.shutdown()
    server.server_close()
    assert main([*root, "renew"]) == 0, "there is time"
    monkeypatch.setattr(authority, "NEAR", authority.HOUSE_DAYS + 1)
    capsys.readouterr()
    assert main([*root, "renew"]) == os.EX_UNAVAILABLE, "people are told: the unit failed"
    assert "the certificate of h1 lasts" in capsys.readouterr().err


def test_the_commands_make_a_centre_and_add_a_house(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    root = ["fleet", "--root", str(tmp_path)]
    assert main([*root, "house", "h1"]) == os.EX_UNAVAILABLE
    assert main([*root, "centre", "centre.example"]) == 0
    kept = {file: file.read_bytes() for file in tmp_path.rglob("*") if file.is_file()}
    assert main([*root, "centre", "centre.new.example"]) == os.EX_UNAVAILABLE
    assert "this authority is for centre.example" in capsys.readouterr().err
    assert {file: file.read_bytes() for file in tmp_path.rglob("*") if file.is_file()} == kept
    assert main([*root, "centre", "centre.example"]) == 0, "the same one again is nothing new"
    assert "pattern readwrite %u/#" in (tmp_path / "etc/mosquitto/constellation/acl.local").read_text()
    capsys.readouterr()
    assert main([*root, "house", "h1", "--shard", "north"]) == 0
    assert "fleet join https://centre.example:8885 " in capsys.readouterr().out
    assert roster.read(tmp_path / "etc/constellation/fleet.json").of("north") == {"h1"}
    config = tmp_path / "etc/constellation/topics.yaml"
    config.write_text("subscribers: {central: {nodes: [a]}, second: {service: central, nodes: [a], shard: north}}\n")
    assert main([*root, "house", "h1", "--shard", "north"]) == 0
    assert "no store" not in capsys.readouterr().out
    assert main([*root, "move", "h1", "south"]) == 0
    assert "no store of shard south stands in" in capsys.readouterr().out
    assert roster.read(tmp_path / "etc/constellation/fleet.json").of("south") == {"h1"}
    capsys.readouterr()
    assert main([*root, "house", "h1"]) == 0
    assert "h1 belongs to shard south" in capsys.readouterr().out, "a new token is no move"
    assert main([*root, "move", "h1", "Süd"]) == os.EX_UNAVAILABLE
    assert main([*root, "move", "h2", "south"]) == os.EX_UNAVAILABLE
    assert main([*root, "move", "h1", "north"]) == 0
    for name in ("operator", "home", "a+b", "h/1", "h1\n", "central"):
        assert main([*root, "house", name]) == os.EX_UNAVAILABLE
    assert main([*root, "revoke", "h1"]) == 0
    assert roster.read(tmp_path / "etc/constellation/fleet.json").of("north") == set()
    names = "10.0.0.1,10.0.0.2,10.0.0.3"
    assert main([*root, "engine", "init", "--nodes", names, "--node", "2"]) == 0
    written = (tmp_path / "etc/mysql/mariadb.conf.d/90-constellation-fleet.cnf").read_text()
    assert "wsrep_cluster_address=gcomm://10.0.0.1:4567,10.0.0.2:4567,10.0.0.3:4567" in written
    assert "wsrep_node_address=10.0.0.2:4567" in written


def test_a_machine_without_a_broker_becomes_no_centre(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(fleet, "GROUP", "nobody-s-group")
    monkeypatch.setattr(fleet, "_below", lambda *_: pytest.fail("it touched something"))
    assert main(["fleet", "centre", "centre.example"]) == os.EX_UNAVAILABLE
    assert "sudo constellation units --install, and then this again" in capsys.readouterr().err


def test_a_store_may_ask_every_service_of_a_house_and_nobody_else_may(tmp_path: Path) -> None:
    config = tmp_path / "topics.yaml"
    config.write_text("subscribers: {central: {nodes: [a]}, fleet_page: {nodes: [a]}, alerts: {}}\n")
    users = broker.rights(Registry(config)).split("\nuser ")
    asking = [text.split()[0] for text in users if "topic write +/home/service/+/remote/+" in text]
    assert asking == ["central"]
    page = next(text for text in users if text.startswith("fleet_page\n"))
    assert "topic write home/service/central/request/ask" in page
    assert "write +/" not in page


def test_a_centre_of_another_root_may_read_what_the_bridges_of_its_houses_bring(tmp_path: Path) -> None:
    config = tmp_path / "topics.yaml"
    config.write_text("root: cellar\nsubscribers: {central: {nodes: [a]}, fleet_page: {nodes: [a]}, alerts: {}}\n")
    users = broker.rights(Registry(config)).split("\nuser ")
    for name in ("central", "fleet_page", "alerts"):
        (given,) = [text for text in users if text.startswith(f"{name}\n")]
        assert "+/home/service/" in given
        assert "+/cellar" not in given
    lines = bridges.bridge("h1", "centre.example", 8884, tmp_path, root="flat").splitlines()
    assert {line.split()[5] for line in lines if line.startswith("topic ")} == {"h1/home/", "h1/home/service/archive/"}


def test_a_bridge_that_drops_what_a_centre_needs_is_refused(tmp_path: Path) -> None:
    good = tmp_path / "good.conf"
    good.write_text(bridges.bridge("h1", "centre.example", 8884, Path("/etc/mosquitto/fleet")))
    assert list(faults([good])) == []
    text = good.read_text()
    for wrong, line in (
        (text.replace("bridge_protocol_version mqttv50\n", ""), "bridge_protocol_version mqttv50"),
        (text.replace("mqttv50", "mqttv311"), "bridge_protocol_version mqttv50"),
        (text.replace("cleansession false", "cleansession true"), "cleansession false"),
        (text.replace("topic data/# out 1", "topic data/# out 0"), "topic data/# out 1 home/ h1/home/"),
        ("connection x\naddress a\ntopic # both 1\n", "bridge_protocol_version mqttv50"),
    ):
        good.write_text(wrong)
        assert [fault.mend for fault in faults([good])] == [line]
    good.write_text("connection x\naddress a\ntopic weather/# in 0\n")  # it brings nobody's readings
    assert list(faults([good])) == []


ON = NodeState("a", True, True, "Synced", 3, True, 10)
OFF = NodeState("b", False)
DENIED = NodeState("b", False, denied=True)
LOST = NodeState("c", True, False, "Initialized", 1, False, 12)


@pytest.mark.parametrize(
    ("states", "words"),
    [
        ([ON, ON, ON], None),
        ([ON._replace(size=2), ON._replace(size=2), OFF], "restart mariadb there"),
        ([LOST, OFF, OFF], "no majority"),
        ([OFF, OFF, OFF], "safe_to_bootstrap: 1"),
        ([ON, DENIED, OFF], "b has another password for the stores"),
        ([DENIED, DENIED, DENIED], "carry /etc/constellation/credentials/fleet.engine"),
    ],
)
def test_each_state_of_the_quorum_has_its_word(states: list[NodeState], words: str | None) -> None:
    told = quorum.advice(states)
    assert told is None if words is None else told is not None and words in told


def test_a_cluster_is_not_begun_twice(tmp_path: Path) -> None:
    access, file = Access("fleet", "store", "x"), tmp_path / "grastate.dat"
    with pytest.raises(StartError, match="takes writes"):
        quorum.bootstrap([LOST, ON], access, file, alone=True)
    for alone in (False, True):
        with pytest.raises(StartError, match="another password"):
            quorum.bootstrap([DENIED, DENIED, OFF], access, file, alone=alone)
    file.write_text("safe_to_bootstrap: 0\n")
    with pytest.raises(StartError, match="not the last to leave"):
        quorum.bootstrap([OFF, OFF, OFF], access, file, alone=False)
