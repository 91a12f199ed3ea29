"""Passkeys at the page's doors, with an authenticator of our own: who is let in by what, for how long, and what it may cost."""

import base64
import hashlib
import http.client
import json
import logging
import stat
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import cbor2
import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA256
from harness import free_port

from bootstrap_lib import cli
from bootstrap_lib.registry import Registry
from services.page import passkey_verifier, people
from services.page.diary import Diary
from services.page.gate import FREE, Gate
from services.page.house import PageHouse
from services.page.live import Live
from services.page.passkey_verifier import PasskeyQuestion, Unverified, answered, ask
from services.page.passkeys import LASTS, MOST, OPEN, OPEN_EACH, Challenges, Passkey, Passkeys
from services.page.past import Past
from services.page.permits import Permits
from services.page.server import PageServer
from services.page.serving import listen_on
from services.web import Options

T0 = 1_790_000_000_000
PASSWORD = "a long enough word"
HASH = people.hashed(PASSWORD)
PRESENT, VERIFIED, MADE = 0x01, 0x04, 0x40


def text(content: bytes) -> str:
    return base64.urlsafe_b64encode(content).rstrip(b"=").decode()


class SoftKey:
    """An authenticator with one key, and the browser around it (W3C Web Authentication, 6.1, 6.5 and 5.8.1)."""

    def __init__(self) -> None:
        self.private, self.id, self.count, self.handle = ec.generate_private_key(ec.SECP256R1()), b"k" * 16, 0, ""
        self.flags = PRESENT | VERIFIED

    def _said(self, kind: str, challenge: str, origin: str) -> bytes:
        return json.dumps({"type": f"webauthn.{kind}", "challenge": challenge, "origin": origin}).encode()

    def _data(self, host: str, flags: int) -> bytes:
        return hashlib.sha256(host.encode()).digest() + bytes([flags]) + self.count.to_bytes(4, "big")

    def make(self, wanted: dict[str, Any], origin: str) -> dict[str, Any]:
        public = self.private.public_key().public_numbers()
        key = cbor2.dumps({1: 2, 3: -7, -1: 1, -2: public.x.to_bytes(32, "big"), -3: public.y.to_bytes(32, "big")})
        data = self._data(wanted["rp"]["id"], self.flags | MADE) + bytes(16) + len(self.id).to_bytes(2, "big")
        made = cbor2.dumps({"fmt": "none", "attStmt": {}, "authData": data + self.id + key})
        said = self._said("create", wanted["challenge"], origin)
        self.handle = wanted["user"]["id"]
        return {"id": text(self.id), "response": {"clientDataJSON": text(said), "attestationObject": text(made)}}

    def use(self, wanted: dict[str, Any], origin: str) -> dict[str, Any]:
        self.count += 1
        said, data = self._said("get", wanted["challenge"], origin), self._data(wanted["rpId"], self.flags)
        signature = self.private.sign(data + hashlib.sha256(said).digest(), ec.ECDSA(SHA256()))
        response = {"clientDataJSON": text(said), "authenticatorData": text(data), "signature": text(signature)}
        return {"id": text(self.id), "response": response | {"userHandle": self.handle}}


class Served:
    """A page without a broker, whose clock is ours; requests come by a name as from a browser, which keeps its cookies."""

    def __init__(self, folder: Path) -> None:
        config = folder / "topics.yaml"
        config.write_text("subscribers: {web: {}}\ntopics: {}\n")
        registry, self.folder, self.clock, self.port = Registry(config), folder, T0, free_port()
        self.gate = Gate(folder, {"ada": HASH, "bob": HASH}, anyone=True, trust=["127.0.0.1"])
        self.diary = Diary(folder / "diary.sqlite", T0)
        options = registry.options_of("web", Options)
        permits = Permits(folder, "")
        self.house = PageHouse(
            Live(registry), Past(None), self.diary, self.gate, permits, options, lambda: self.clock, lambda *_: None
        )
        self.house.passkeys = self.kept = Passkeys(folder, self.gate)
        self.server = PageServer(self.house, ["house.example"])
        self.server.start(listen_on("127.0.0.1", self.port))
        self.origin = f"http://localhost:{self.port}"
        self.cookies: dict[str, str] = {}
        self.address = "192.0.2.1"

    def post(self, path: str, body: Any, **headers: str) -> tuple[int, Any]:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=30)
        scheme, _, host = self.origin.partition("://")
        given = {"Host": host, "Origin": self.origin, "Content-Type": "application/json", "X-Forwarded-Proto": scheme}
        given |= {"X-Forwarded-For": self.address, "Cookie": "; ".join(f"{n}={v}" for n, v in self.cookies.items())}
        content = None if body is None else json.dumps(body)
        connection.request("GET" if body is None else "POST", f"/api/1/{path}", content, given | headers)
        answer = connection.getresponse()
        for one in answer.headers.get_all("set-cookie", []):
            name, _, value = one.partition(";")[0].partition("=")
            self.cookies[name] = value
        found = answer.status, json.loads(answer.read())
        connection.close()
        return found

    def log_in(self, name: str = "ada") -> None:
        assert self.post("login", {"name": name, "password": PASSWORD})[0] == 200

    def register(self, key: SoftKey, name: str = "phone") -> tuple[int, Any]:
        status, wanted = self.post("passkeys/begin", {})
        assert status == 200, wanted
        return self.post("passkeys", {"name": name, "credential": key.make(wanted, self.origin)})

    def enter(self, key: SoftKey) -> tuple[int, Any]:
        self.cookies = {}
        status, wanted = self.post("passkeys/login/begin", {})
        return self.post("passkeys/login", key.use(wanted, self.origin)) if status == 200 else (status, wanted)

    def who(self) -> str | None:
        return self.post("me", None)[1]["name"]


@pytest.fixture
def served(tmp_path: Path) -> Iterator[Served]:
    page = Served(tmp_path)
    yield page
    page.server.stop()
    page.diary.close()


@pytest.fixture
def without_a_process(monkeypatch: pytest.MonkeyPatch) -> None:
    """Verify in this process, with the same library: tests/page/test_passkey_login.py does it in one of its own."""
    monkeypatch.setattr("services.page.passkey_doors.ask", answered)


# -- who is let in ----------------------------------------------------------------------------------------------------


@pytest.mark.usefixtures("without_a_process")
def test_who_registered_a_passkey_is_let_in_by_it_also_after_a_restart(
    served: Served, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    key = SoftKey()
    assert served.post("passkeys/begin", {})[0] == 401, "a login comes first"
    served.log_in()
    status, shown = served.register(key, " phone ")
    assert (status, [one["name"] for one in shown]) == (200, ["phone"])
    assert stat.S_IMODE((served.folder / "passkeys.json").stat().st_mode) == 0o600
    assert served.post("logout", {})[0] == 200
    assert served.who() is None
    served.house.passkeys = served.kept = Passkeys(served.folder, served.gate)
    assert served.enter(key) == (200, {"name": "ada", "may_look": True, "people": True, "passkeys": True})
    assert served.who() == "ada"
    assert served.cookies["constellation-passkey"] == "", "what it was asked with is over"
    assert [one["used"] for one in served.post("passkeys", None)[1]] == [T0]
    said = caplog.text
    assert "ada logs in by password" in said
    assert "ada registers the passkey 'phone'" in said
    assert "ada logs in by the passkey 'phone'" in said
    assert (served.kept.of("ada")[text(key.id)].count, key.count) == (1, 1)


@pytest.mark.usefixtures("without_a_process")
def test_an_answer_is_good_once_for_five_minutes_and_for_who_asked(served: Served) -> None:
    key = SoftKey()
    served.log_in()
    assert served.register(key)[0] == 200

    def answer(after: int = 0, cookie: str | None = None) -> tuple[int, Any]:
        status, wanted = served.post("passkeys/login/begin", {})
        assert status == 200
        served.clock += after
        given = key.use(wanted, served.origin)
        if cookie is not None:
            served.cookies["constellation-passkey"] = cookie
        return served.post("passkeys/login", given)

    assert answer(LASTS - 1)[0] == 200
    assert answer(LASTS)[0] == 410
    assert answer(cookie="another")[0] == 410
    _, wanted = served.post("passkeys/login/begin", {})
    ticket, given = served.cookies["constellation-passkey"], key.use(wanted, served.origin)
    assert served.post("passkeys/login", given)[0] == 200
    served.cookies["constellation-passkey"] = ticket
    status, said = served.post("passkeys/login", given)
    assert (status, said["where"]) == (410, "challenge"), "a second time"


@pytest.mark.usefixtures("without_a_process")
def test_a_registration_belongs_to_its_session_and_is_good_once(served: Served) -> None:
    key = SoftKey()
    served.log_in()
    _, wanted = served.post("passkeys/begin", {})
    given = {"name": "phone", "credential": key.make(wanted, served.origin)}
    first = served.cookies
    served.cookies = {}
    served.log_in("bob")
    assert served.post("passkeys", given)[0] == 410, "it is not bob's"
    served.cookies = first
    assert served.post("passkeys", given)[0] == 200
    assert served.post("passkeys", given)[0] == 410
    status, said = served.register(key)
    assert (status, said["where"]) == (409, "credential"), "it is kept already"
    _, wanted = served.post("passkeys/begin", {})
    assert [one["id"] for one in wanted["excludeCredentials"]] == [text(key.id)]
    served.clock += LASTS
    assert served.post("passkeys", {"name": "x", "credential": key.make(wanted, served.origin)})[0] == 410


@pytest.mark.usefixtures("without_a_process")
def test_a_removed_passkey_is_refused_and_its_sessions_end(served: Served) -> None:
    key, other = SoftKey(), SoftKey()
    other.id = b"o" * 16
    served.log_in()
    served.register(key)
    served.register(other, "laptop")
    by_password = dict(served.cookies)
    assert served.enter(key)[0] == 200
    status, said = served.post("passkeys/begin", {})
    assert (status, said["where"]) == (401, "password"), "who came by a passkey makes no further ones"
    by_key = dict(served.cookies)
    assert served.enter(other)[0] == 200
    by_other = dict(served.cookies)
    served.cookies = {}
    served.log_in("bob")
    assert served.post("passkeys/remove", {"id": text(key.id)})[0] == 404, "it is not bob's"
    served.cookies = dict(by_password)
    status, shown = served.post("passkeys/remove", {"id": text(key.id)})
    assert (status, [one["name"] for one in shown]) == (200, ["laptop"])
    for cookies, name in ((by_password, "ada"), (by_key, None), (by_other, "ada")):
        served.cookies = dict(cookies)
        assert served.who() == name
    status, said = served.enter(key)
    assert (status, said["where"]) == (401, "passkey")


@pytest.mark.usefixtures("without_a_process")
def test_a_disk_that_takes_nothing_lets_nobody_in_and_loses_no_removal(
    served: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    key = SoftKey()
    served.log_in()
    served.register(key)
    by_password = dict(served.cookies)
    assert served.enter(key)[0] == 200
    by_key, count = dict(served.cookies), key.count
    served.cookies = dict(by_password)

    def full(*_: Any) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as disk:
        disk.setattr("bootstrap_lib.state.write", full)
        assert served.post("passkeys/remove", {"id": text(key.id)})[0] == 503
        assert served.enter(key)[0] == 503
        assert served.who() is None
    served.cookies = dict(by_password)
    assert served.kept.of("ada")[text(key.id)].count == count
    assert served.post("passkeys/remove", {"id": text(key.id)}) == (200, [])
    again = Gate(served.folder, served.gate.people, anyone=False, trust=[])
    assert again.session(by_key["constellation"], T0) is None, "also after a restart"


@pytest.mark.usefixtures("without_a_process")
def test_another_password_ends_passkeys_and_their_sessions(served: Served) -> None:
    key = SoftKey()
    served.log_in()
    served.register(key)
    assert served.enter(key)[0] == 200
    served.gate.people["ada"] = people.hashed(PASSWORD)
    assert served.who() is None
    assert served.enter(key)[0] == 401
    served.log_in()
    assert served.post("passkeys", None) == (200, [])
    assert served.register(key)[0] == 200, "it may be registered anew"
    del served.gate.people["ada"]
    assert served.enter(key)[0] == 401


@pytest.mark.usefixtures("without_a_process")
def test_a_passkey_that_has_signed_less_often_is_refused_and_said(
    served: Served, caplog: pytest.LogCaptureFixture
) -> None:
    key = SoftKey()
    served.log_in()
    served.register(key)
    key.count = 7
    assert served.enter(key)[0] == 200
    for count in (3, 7, -1):  # as often, less often, not counted any more; each use counts one first
        key.count = count
        status, said = served.enter(key)
        assert (status, said["where"]) == (401, "count"), count
        assert served.who() is None
    assert "the passkey 'phone' of ada has signed less often than before" in caplog.text
    key.count = 8
    served.clock += 60_000
    assert served.enter(key)[0] == 200, "the other one goes on"


@pytest.mark.usefixtures("without_a_process")
def test_an_authenticator_that_never_counts_is_let_in_again_and_again(served: Served) -> None:
    key = SoftKey()
    served.log_in()
    served.register(key)
    for _ in range(2):
        key.count = -1
        assert served.enter(key)[0] == 200


@pytest.mark.usefixtures("without_a_process")
def test_wrong_passkeys_wait_as_wrong_passwords_do(served: Served) -> None:
    key, stranger = SoftKey(), SoftKey()
    served.log_in()
    served.register(key)
    stranger.handle = key.handle
    for _ in range(FREE):  # the same id, signed by another key
        assert served.enter(stranger)[0] == 401
    assert served.enter(key)[0] == 429
    served.address = "192.0.2.2"
    assert served.enter(key)[0] == 429, "for the name as well"
    assert served.post("login", {"name": "ada", "password": PASSWORD})[0] == 429
    served.clock += 1001
    assert served.enter(key)[0] == 200
    unknown = SoftKey()
    unknown.id = b"u" * 16
    served.address = "192.0.2.3"
    assert [served.enter(unknown)[0] for _ in range(FREE + 1)] == [401] * FREE + [429]


@pytest.mark.usefixtures("without_a_process")
def test_a_key_answers_for_its_owner_alone(served: Served) -> None:
    key = SoftKey()
    served.log_in()
    served.register(key)
    key.handle = text(b"somebody else")
    assert served.enter(key)[0] == 401


# -- where ------------------------------------------------------------------------------------------------------------


@pytest.mark.usefixtures("without_a_process")
def test_passkeys_are_offered_by_tls_or_localhost_under_names_that_are_served(served: Served) -> None:
    key, port = SoftKey(), served.port
    for origin, status in (
        ("https://house.example", 200),
        (f"http://localhost:{port}", 200),
        ("http://house.example", 403),
        ("https://192.0.2.7", 403),
        (f"http://127.0.0.1:{port}", 403),
        ("https://[2001:db8::1]", 403),
        ("https://evil.example", 421),
    ):
        served.origin = origin
        assert served.post("passkeys/login/begin", {})[0] == status, origin
    served.origin = "https://house.example"
    assert served.post("passkeys/login/begin", {}, Origin="https://localhost")[0] == 403, "not the page's own"
    served.log_in()
    _, wanted = served.post("passkeys/begin", {})
    assert wanted["rp"]["id"] == "house.example"
    assert wanted["authenticatorSelection"]["userVerification"] == "required"
    assert served.post("passkeys", {"name": "x", "credential": key.make(wanted, served.origin)})[0] == 200
    assert served.enter(key)[0] == 200
    served.origin = f"http://localhost:{port}"
    assert served.enter(key)[0] == 401, "it was made for the other name"


def test_without_the_library_nothing_is_offered_and_it_is_said(served: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(passkey_verifier.importlib.util, "find_spec", lambda _: None)
    assert served.post("me", None)[1]["passkeys"] is False
    status, said = served.post("passkeys/login/begin", {})
    assert status == 404
    assert "pip install 'constellation[passkeys]'" in said["error"]


def test_check_says_where_passkeys_are_offered(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    config = tmp_path / "topics.yaml"

    def said(options: str) -> str:
        config.write_text(f"subscribers: {{web: {{{options}}}}}\ntopics: {{}}\n")
        assert cli.main(["check", str(config)]) == 0
        return next(line for line in capsys.readouterr().out.splitlines() if "passkeys:" in line)

    assert "elsewhere at https://house.example" in said('address: "https://house.example/page"')
    for address in ("http://house.example", "https://192.0.2.7"):
        assert "elsewhere by TLS and a name" in said(f'address: "{address}"')
    monkeypatch.setattr(passkey_verifier.importlib.util, "find_spec", lambda _: None)
    assert "pip install 'constellation[passkeys]'" in said("")


# -- bounds -----------------------------------------------------------------------------------------------------------


def test_open_questions_are_bounded_and_an_address_pushes_out_its_own() -> None:
    asked = Challenges()
    asked.ask("mine", "192.0.2.1", T0)
    for number in range(OPEN_EACH * 3):
        asked.ask(f"flood {number}", "192.0.2.9", T0)
    assert asked.take("mine", T0)
    assert asked.take("flood 0", T0) is None
    for number in range(OPEN + 50):
        asked.ask(f"many {number}", f"address {number}", T0)
    assert sum(asked.take(f"many {number}", T0) is not None for number in range(OPEN + 50)) == OPEN


def test_a_person_has_so_many_passkeys_at_most(tmp_path: Path) -> None:
    gate: Any = SimpleNamespace(digest=lambda _: "d")
    kept = Passkeys(tmp_path, gate)
    one = Passkey(person="ada", name="x", host="h", key="k", count=0, made=T0, handle="a", password="d")
    with ThreadPoolExecutor(4) as tabs:
        added = list(tabs.map(lambda number: kept.add(str(number), one), range(MOST + 5)))
    assert sum(added) == MOST
    assert len(Passkeys(tmp_path, gate).of("ada")) == MOST


def test_state_of_a_version_without_passkeys_is_read(tmp_path: Path) -> None:
    gate = Gate(tmp_path, {"ada": HASH}, anyone=False, trust=[])
    cookie = gate.log_in("ada", PASSWORD, "192.0.2.1", T0)
    file = tmp_path / "sessions.json"
    old = {key: {k: v for k, v in one.items() if k != "passkey"} for key, one in json.loads(file.read_text()).items()}
    file.write_text(json.dumps(old))
    again = Gate(tmp_path, {"ada": HASH}, anyone=False, trust=[])
    assert again.caller("192.0.2.1", {}, cookie, T0, tls=False).name == "ada"
    assert Passkeys(tmp_path, again).of("ada") == {}


QUESTION = PasskeyQuestion(act="log_in", credential={}, challenge="", host="localhost", origin="http://localhost")


def test_what_verifies_is_bounded_in_time_and_bytes_and_gets_no_secrets(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CREDENTIALS_DIRECTORY", "/run/credentials")
    monkeypatch.setenv("NOTIFY_SOCKET", "/run/systemd/notify")
    told = ask(QUESTION, ("-c", "import json, os; print(json.dumps({'error': ' '.join(os.environ)}))")).error.split()
    assert set(told) <= {*passkey_verifier.HANDED, "LC_CTYPE"}
    with pytest.raises(Unverified, match="too much"):
        ask(PasskeyQuestion(act="log_in", credential={"x": "y" * 70_000}, challenge="", host="", origin=""))
    for program in (
        "print('{\"error\": \"' + 'x' * 5000 + '\"}')",
        "while True: print('x' * 9000)",
        "raise SystemExit",
    ):
        with pytest.raises(Unverified, match="no answer"):
            ask(QUESTION, ("-c", program))
    monkeypatch.setattr(passkey_verifier, "PATIENCE", 0.5)
    with pytest.raises(Unverified, match="no answer"):
        ask(QUESTION, ("-c", "import time; time.sleep(9); print('{}')"))
    with passkey_verifier._turn, pytest.raises(Unverified, match="others"):
        ask(QUESTION)


def test_what_was_made_elsewhere_or_by_nobody_is_not_believed() -> None:
    origin, wanted = "https://house.example", {"challenge": text(b"c" * 32), "rpId": "house.example"}
    key = SoftKey()
    creation = {"challenge": wanted["challenge"], "rp": {"id": "house.example"}, "user": {"id": ""}}

    def question(given: dict[str, Any], act: Any = "log_in", **more: str) -> PasskeyQuestion:
        said = {"act": act, "challenge": wanted["challenge"], "host": "house.example", "origin": origin} | more
        return PasskeyQuestion(credential=given | {"rawId": given["id"], "type": "public-key"}, **said)

    made = answered(question(key.make(creation, origin), "register"))
    assert made.id == text(key.id)
    assert answered(question(key.use(wanted, origin), key=made.key)).error == ""
    stranger = SoftKey()
    for wrong, reason in (
        (question(key.use(wanted, "https://evil.example"), key=made.key), "origin"),
        (question(key.use(wanted | {"rpId": "evil.example"}, origin), key=made.key), "RP ID"),
        (question(key.use(wanted | {"challenge": text(b"d" * 32)}, origin), key=made.key), "challenge"),
        (question(stranger.use(wanted, origin), key=made.key), "signature"),
        (question(key.make(creation, origin), key=made.key), ""),
        (question(key.make(creation, "https://evil.example"), "register"), "origin"),
        (question(key.make(creation | {"rp": {"id": "evil.example"}}, origin), "register"), "RP ID"),
    ):
        assert reason in answered(wrong).error, reason
        assert answered(wrong).error
    key.flags = PRESENT
    for unseen in (
        question(key.use(wanted, origin), key=made.key),
        question(key.make(creation, origin), "register"),
    ):
        assert "not verified" in answered(unseen).error, "somebody is there, and nobody knows who"
