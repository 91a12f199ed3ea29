"""The shipped broker configuration, in a real mosquitto: TLS, passwords, rights, queues."""

import os
import re
import socket
import ssl
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import paho.mqtt.client as mqtt
import pytest
from harness import free_port, wait_for
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties

from bootstrap_lib import broker as brokers
from bootstrap_lib import certificates
from bootstrap_lib.installation import InstallError
from bootstrap_lib.registry import Registry

TOPICS = """
sources: {onewire: {}, onewire_shed: {service: onewire}}
subscribers: {archive: {}, alerts: {}, pushover: {}, rrd: {}, discovery: {}}
topics: {}
"""


class Shipped:
    """A mosquitto on the shipped configuration, with a user `tester` of its administrator's own who may do anything."""

    def __init__(self, folder: Path, topics: str = TOPICS) -> None:
        self.folder, self.port = folder, free_port()
        self.topics = folder / "topics.yaml"
        self.write(topics)
        rights = folder / str(brokers.LOCAL_RIGHTS).lstrip("/")
        rights.parent.mkdir(parents=True)
        rights.write_text("user tester\ntopic readwrite #\n")
        self.prepare()
        passwords = folder / str(certificates.FOLDER / "passwords").lstrip("/")
        subprocess.run(["mosquitto_passwd", "-b", passwords, "tester", "by hand"], check=True, capture_output=True)
        self.prepare()
        self.process: subprocess.Popen[str] | None = None

    def write(self, topics: str) -> None:
        self.topics.write_text(topics)

    def prepare(self) -> None:
        self.files = brokers.prepare_broker(self.folder, Registry(self.topics), self.port)

    def start(self) -> None:
        command = ["mosquitto", "-c", self.files.config]
        self.process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
        wait_for(lambda: self.log().endswith("running\n") or self.process.poll() is not None, what="mosquitto")
        assert self.process.poll() is None, self.process.stderr.read()

    def stop(self) -> str:
        self.process.terminate()
        return self.process.communicate(timeout=10)[1]

    def log(self) -> str:
        return self.files.log.read_text() if self.files.log.exists() else ""

    def password(self, user: str) -> str:
        return "by hand" if user == "tester" else (self.files.credentials / f"mqtt.{user}").read_text().strip()

    def client(self, user: str, password: str | None = None, ca: Path | None = None, receive: int = 100) -> mqtt.Client:
        client = mqtt.Client(mqtt.CallbackAPIVersion.VERSION2, protocol=mqtt.MQTTv5, manual_ack=True)
        client.username_pw_set(user, password or self.password(user))
        client.tls_set_context(ssl.create_default_context(cafile=ca or self.files.settings["ca"]))
        answered = threading.Event()
        client.on_connect = lambda _c, _d, _f, code, _p: (setattr(client, "code", str(code)), answered.set())
        properties = Properties(PacketTypes.CONNECT)
        properties.ReceiveMaximum = receive
        client.connect("localhost", self.port, properties=properties)
        client.loop_start()
        assert answered.wait(5)
        return client


def close(*clients: mqtt.Client) -> None:
    for client in clients:
        client.disconnect()
        client.loop_stop()


@pytest.fixture(scope="module")
def broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shipped]:
    broker = Shipped(tmp_path_factory.mktemp("the broker's"))
    broker.start()
    yield broker
    said = broker.stop() + broker.log()
    assert "Warning: ACL" not in said
    assert "Error:" not in re.sub("OpenSSL Error.*", "", said)


@pytest.mark.parametrize(
    ("user", "password"), [("onewire", "wrong"), ("nobody", "x"), ("", ""), ("onewire_shed", "by hand")]
)
def test_without_the_right_password_nobody_enters(broker: Shipped, user: str, password: str) -> None:
    client = broker.client(user, password or "x")
    assert client.code == "Not authorized"
    close(client)


def test_only_tls_is_spoken_and_only_our_certificate_is_believed(broker: Shipped, tmp_path: Path) -> None:
    plain = mqtt.Client(mqtt.CallbackAPIVersion.VERSION2, protocol=mqtt.MQTTv5)
    done = []
    plain.on_connect = lambda *_: done.append("entered")
    plain.on_disconnect = lambda *_: done.append("thrown out")
    plain.connect("127.0.0.1", broker.port)
    plain.loop_start()
    wait_for(lambda: done, what="an end")
    close(plain)
    assert done[0] == "thrown out"
    other = tmp_path / "other"
    other.mkdir()
    stranger = ssl.create_default_context(cafile=Shipped(other).files.settings["ca"])
    with pytest.raises(ssl.SSLCertVerificationError), handshake(broker, stranger):
        pass


def test_the_certificate_is_good_by_the_strictest_rules(broker: Shipped) -> None:
    context = ssl.create_default_context(cafile=broker.files.settings["ca"])
    context.verify_flags |= ssl.VERIFY_X509_STRICT
    with handshake(broker, context) as secured:
        assert secured.version() in ("TLSv1.2", "TLSv1.3")


@contextmanager
def handshake(broker: Shipped, context: ssl.SSLContext) -> Iterator[ssl.SSLSocket]:
    with (
        socket.create_connection(("127.0.0.1", broker.port)) as raw,
        context.wrap_socket(raw, server_hostname="localhost") as secured,
    ):
        yield secured


WRITES = [
    ("onewire", "home/data/boiler/water/temperature", True),
    ("onewire", "home/service/onewire/health", True),
    ("onewire", "home/service/onewire_shed/status", False),
    ("onewire", "home/service/onewire_shed/request/stop", False),
    ("onewire", "home/service/all/request/stop", False),
    ("onewire", "home/alert/fire", False),
    ("onewire", "home/notify/1", False),
    ("archive", "home/service/archive/stored/onewire", True),
    ("archive", "home/service/onewire/request/resend", True),
    ("archive", "home/service/nobody/request/resend", False),
    ("onewire", "home/data/boiler/water/temperature/deeper", False),
    ("onewire", "home/service/onewire/response/ping/deeper", False),
    ("phone", "home/service/nobody/request/acknowledge", False),
    ("archive", "home/service/onewire/request/stop", False),
    ("archive", "home/data/boiler/water/temperature", False),
    ("alerts", "home/alert/fire", True),
    ("alerts", "home/notify/1", True),
    ("pushover", "home/service/alerts/request/acknowledge", True),
    ("pushover", "home/data/boiler/water/temperature", False),
    ("rrd", "home/service/archive/request/replay", True),
    ("phone", "home/service/alerts/request/acknowledge", True),
    ("phone", "home/service/alerts/request/snooze", True),
    ("phone", "home/service/alerts/request/stop", False),
    ("phone", "home/service/onewire/request/pause", False),
    ("phone", "home/data/boiler/water/temperature", False),
    ("operator", "home/service/onewire/request/pause", True),
    ("operator", "home/service/all/request/reload", True),
    ("operator", "home/data/old/topic/temperature", True),
    ("homeassistant", "homeassistant/status", True),
    ("homeassistant", "home/service/onewire/request/pause", False),
    ("homeassistant", "home/service/discovery/request/command", True),
    ("homeassistant", "home/service/discovery/request/stop", False),
    ("homeassistant", "homeassistant/device/home_boiler_water/config", False),
    ("discovery", "homeassistant/device/home_boiler_water/config", True),
    ("discovery", "homeassistant/status", False),
    ("discovery", "home/service/onewire/request/pause", True),
    ("discovery", "home/service/alerts/request/acknowledge", True),
    ("discovery", "home/service/onewire/request/stop", False),
    ("discovery", "home/data/boiler/water/temperature", False),
    ("failure", "home/notify/unit_failed_x", True),
    ("failure", "home/data/boiler/water/temperature", False),
]


@pytest.mark.parametrize(("user", "topic", "allowed"), WRITES)
def test_a_user_writes_what_is_its_own_and_nothing_else(broker: Shipped, user: str, topic: str, allowed: bool) -> None:
    client = broker.client(user)
    answers: list[str] = []
    client.on_publish = lambda _c, _d, _m, code, _p: answers.append(str(code))
    client.publish(topic, b"x", 1)
    wait_for(lambda: answers, what="PUBACK")
    close(client)
    assert answers[0] in (("Success", "No matching subscribers") if allowed else ("Not authorized",))


HEARD = {
    "home/data/boiler/water/temperature": {
        "archive",
        "alerts",
        "rrd",
        "operator",
        "phone",
        "homeassistant",
        "pushover",
        "discovery",
    },
    "home/service/onewire/request/pause": {"onewire"},
    "home/service/all/request/reload": {"onewire", "archive", "alerts", "rrd", "pushover", "discovery"},
    "home/service/archive/stored/onewire": {"archive", "onewire", "operator"},
    "home/service/onewire/status": {
        "onewire",
        "archive",
        "alerts",
        "rrd",
        "operator",
        "phone",
        "homeassistant",
        "pushover",
        "discovery",
    },
    "home/service/onewire/health": {
        "onewire",
        "archive",
        "alerts",
        "rrd",
        "operator",
        "phone",
        "homeassistant",
        "pushover",
        "discovery",
    },
    "home/service/discovery/request/command": {"discovery"},
    "homeassistant/status": {"discovery", "homeassistant", "operator"},
    "homeassistant/device/home_boiler_water/config": {"homeassistant", "operator"},
    "home/service/onewire/response/ping": {"onewire", "operator"},
    "home/service/archive/response/replay": {"archive", "rrd", "operator"},
    "home/service/archive/replay/rrd": {"archive", "rrd"},
    "home/service/onewire/log": {"onewire", "operator"},
    "home/alert/fire": {"alerts", "pushover", "operator", "phone", "homeassistant", "discovery"},
    "home/notify/1": {"alerts", "pushover", "operator", "homeassistant"},
}


def test_everyone_hears_what_is_theirs_and_requests_reach_their_service_alone(broker: Shipped) -> None:
    heard: dict[str, set[str]] = {topic: set() for topic in HEARD}
    listeners = {}
    users = (
        "onewire",
        "archive",
        "alerts",
        "rrd",
        "pushover",
        "discovery",
        "operator",
        "phone",
        "homeassistant",
        "failure",
    )
    for user in users:
        client = listeners[user] = broker.client(user)
        client.on_message = lambda _c, _d, message, user=user: (
            message.topic == "end" or heard.setdefault(message.topic, set()).add(user)
        )
        ready = threading.Event()
        client.on_subscribe = lambda *_, ready=ready: ready.set()
        client.subscribe("#", 0)
        assert ready.wait(5)
    tester = broker.client("tester")
    for topic in HEARD:
        tester.publish(topic, b"x", 1).wait_for_publish(5)
    wait_for(lambda: all(heard[topic] >= users for topic, users in HEARD.items()), what=f"everything ({heard})")
    close(tester, *listeners.values())
    assert heard == HEARD


def test_a_batch_that_is_not_acknowledged_yet_does_not_hold_up_the_next(broker: Shipped) -> None:
    store = broker.client("archive", receive=2000)
    got = []
    store.on_message = lambda _c, _d, message: got.append(message.mid)  # never acknowledged
    ready = threading.Event()
    store.on_subscribe = lambda *_: ready.set()
    store.subscribe("home/data/#", 1)
    assert ready.wait(5)
    source = broker.client("onewire")
    for number in range(2100):
        source.publish("home/data/boiler/water/temperature", str(number), 1)
    wait_for(lambda: len(got) >= 2000, what=f"two batches (there are {len(got)})")
    close(source, store)
    assert len(got) == 2000


def test_what_exists_is_kept_and_what_is_gone_loses_its_password(tmp_path: Path) -> None:
    broker = Shipped(tmp_path)
    before = {file: (file.read_bytes(), file.stat().st_mtime_ns) for file in tmp_path.rglob("*") if file.is_file()}
    broker.prepare()
    after = {file: (file.read_bytes(), file.stat().st_mtime_ns) for file in tmp_path.rglob("*") if file.is_file()}
    assert after == before
    kept = broker.password("onewire")
    broker.write(TOPICS.replace(", rrd: {}", ", influx: {}"))
    broker.prepare()
    passwords = (tmp_path / "etc/mosquitto/constellation/passwords").read_text()
    rights = (tmp_path / "etc/mosquitto/constellation/acl").read_text()
    assert "\ninflux:" in passwords
    assert "\nrrd:" not in passwords
    assert "\ntester:" in passwords
    assert "user influx" in rights
    assert "user rrd" not in rights
    assert "user tester" in rights
    assert broker.password("onewire") == kept
    assert (broker.files.credentials / "mqtt.rrd").exists()


def test_secrets_are_readable_by_their_owner_alone(tmp_path: Path) -> None:
    files = Shipped(tmp_path).files
    modes = {
        file.name: file.stat().st_mode & 0o777 for file in [*files.credentials.iterdir(), *files.operator.iterdir()]
    }
    assert set(modes.values()) == {0o600}
    assert not (tmp_path / "etc/mosquitto/constellation/server.key").stat().st_mode & 0o007


def test_a_broker_with_a_new_name_gets_a_new_certificate_of_the_same_authority(tmp_path: Path) -> None:
    broker = Shipped(tmp_path)
    authority = Path(broker.files.settings["ca"]).read_bytes()
    server = tmp_path / "etc/mosquitto/constellation/server.crt"
    before = server.read_bytes()
    broker.write(TOPICS + "broker: {host: hub.example}\n")
    broker.prepare()
    assert server.read_bytes() != before
    assert Path(broker.files.settings["ca"]).read_bytes() == authority
    said = subprocess.run(
        ["openssl", "x509", "-noout", "-checkhost", "hub.example", "-in", server], capture_output=True, text=True
    )
    assert "does match" in said.stdout
    assert (
        f"\nlistener {broker.port}\n" in broker.files.config.read_text()
    )  # topics.yaml says that others come over the network


def test_the_authority_signs_for_a_house_and_no_other_authority(tmp_path: Path) -> None:
    ca = Path(Shipped(tmp_path).files.settings["ca"])
    key = tmp_path / "etc/constellation/credentials/ca.key"
    said = subprocess.run(["openssl", "x509", "-noout", "-text", "-in", ca], capture_output=True, text=True).stdout
    assert "CA:TRUE, pathlen:0" in said
    assert 363 < certificates.days_left(tmp_path / "etc/mosquitto/constellation/server.crt") <= 365

    def verdict(*extensions: str) -> str:
        new = [
            "openssl",
            "req",
            "-x509",
            "-newkey",
            "ec",
            "-pkeyopt",
            "ec_paramgen_curve:prime256v1",
            "-nodes",
            "-days",
            "9",
        ]
        new += [
            "-subj",
            "/CN=x",
            "-CA",
            str(ca),
            "-CAkey",
            str(key),
            "-keyout",
            str(tmp_path / "k"),
            "-out",
            str(tmp_path / "c"),
        ]
        subprocess.run(
            [*new, *(word for one in extensions for word in ("-addext", one))], check=True, capture_output=True
        )
        done = subprocess.run(["openssl", "verify", "-CAfile", ca, tmp_path / "c"], capture_output=True, text=True)
        return done.stderr if done.returncode else "good"

    assert verdict("subjectAltName=DNS:barn.local,IP:192.168.7.7") == "good"
    assert "permitted subtree violation" in verdict("subjectAltName=DNS:bank.com")
    assert "permitted subtree violation" in verdict("subjectAltName=IP:8.8.8.8")
    with pytest.raises(InstallError, match="may not sign for bank"):
        brokers.prepare_broker(tmp_path, Registry(_topics(tmp_path, "broker: {host: bank.com}\n")), 1)


def _topics(folder: Path, more: str) -> Path:
    (folder / "topics.yaml").write_text(TOPICS + more)
    return folder / "topics.yaml"


def test_a_certificate_is_renewed_in_time_also_with_a_key_that_is_kept_elsewhere(tmp_path: Path) -> None:
    from bootstrap_lib.cli import main

    house, stick = tmp_path / "house", tmp_path / "stick"
    for folder in (house, stick):
        folder.mkdir()
    Shipped(house)
    server = house / "etc/mosquitto/constellation/server.crt"
    command = ["--config", str(house / "topics.yaml"), "ca"]
    assert main([*command, "renew", "--root", str(house)]) == 0
    before = server.read_bytes()
    kept = tmp_path / "kept"
    kept.symlink_to(house / "etc/constellation/credentials")
    assert main([*command, "offline", str(kept), "--root", str(house)]) != 0
    assert (kept / "ca.key").exists(), "nobody loses the key by naming where it lies"
    assert main([*command, "offline", str(stick), "--root", str(house)]) == 0
    assert not (house / "etc/constellation/credentials/ca.key").exists()
    assert (stick / "ca.key").stat().st_mode & 0o777 == 0o600
    brokers.prepare_broker(house, Registry(house / "topics.yaml"), 1)
    assert server.read_bytes() == before  # sixty days are left and more: no key is asked for
    short = [
        "openssl",
        "req",
        "-x509",
        "-newkey",
        "ec",
        "-pkeyopt",
        "ec_paramgen_curve:prime256v1",
        "-nodes",
        "-days",
        "50",
    ]
    short += ["-subj", "/CN=x", "-CA", str(house / "etc/constellation/ca.crt"), "-CAkey", str(stick / "ca.key")]
    names = subprocess.run(
        ["openssl", "x509", "-noout", "-ext", "subjectAltName", "-in", server], capture_output=True, text=True
    )
    alternative = names.stdout.splitlines()[1].strip().replace("IP Address", "IP").replace(" ", "")
    short += [
        "-keyout",
        str(server.with_suffix(".key")),
        "-out",
        str(server),
        "-addext",
        f"subjectAltName={alternative}",
    ]
    subprocess.run(short, check=True, capture_output=True)
    assert main([*command, "renew", "--root", str(house)]) == 1  # the key is away: people are told
    assert certificates.days_left(server) == 50
    assert main([*command, "renew", "--key", str(stick / "ca.key"), "--root", str(house)]) == 0
    assert certificates.days_left(server) == 365


def test_who_does_not_know_a_password_cannot_take_a_connection_over(broker: Shipped) -> None:
    from bootstrap_lib.bus import Bus
    from bootstrap_lib.entries import Broker
    from bootstrap_lib.events import Connected, Disconnected

    os.environ["CONSTELLATION_CREDENTIALS"] = str(broker.files.credentials)
    events: list[object] = []
    given = broker.files.settings
    settings = Broker(host="localhost", port=broker.port, ca=Path(given["ca"]), password=given["password"])
    bus = Bus(settings, "onewire", events.append)
    bus.start()
    try:
        wait_for(lambda: any(isinstance(one, Connected) for one in events), what="the service")
        thief = mqtt.Client(mqtt.CallbackAPIVersion.VERSION2, client_id="onewire", protocol=mqtt.MQTTv5)
        thief.username_pw_set("phone", broker.password("phone"))
        thief.tls_set_context(ssl.create_default_context(cafile=broker.files.settings["ca"]))
        inside = threading.Event()
        thief.on_connect = lambda *_: inside.set()
        thief.connect("localhost", broker.port)
        thief.loop_start()
        assert inside.wait(5)
        close(thief)
        again = Bus(settings, "onewire", lambda _: None)  # who knows it takes it over: the case that the first must see
        again.start()
        wait_for(lambda: any(isinstance(one, Disconnected) for one in events), what="the end of the first")
        assert "onewire-" in broker.log()
        again.stop(1)
    finally:
        bus.stop(1)
        del os.environ["CONSTELLATION_CREDENTIALS"]


@pytest.mark.parametrize("host", ["192.168.1.5", "fd00::15", "hub.example"])
def test_a_certificate_that_is_right_is_not_made_again(tmp_path: Path, host: str) -> None:
    broker = Shipped(tmp_path, TOPICS + f"broker: {{host: '{host}'}}\n")
    server = tmp_path / "etc/mosquitto/constellation/server.crt"
    before = server.read_bytes()
    broker.prepare()
    assert server.read_bytes() == before


def test_an_instance_cannot_take_the_name_of_a_person(tmp_path: Path) -> None:
    with pytest.raises(InstallError, match="no instance may be called phone"):
        Shipped(tmp_path, "sources: {phone: {service: onewire}}\n")


def test_the_line_for_mosquitto_sub_shows_what_is_there(broker: Shipped) -> None:
    tester = broker.client("tester")
    tester.publish("home/data/a/b/temperature", b"shown", 1, retain=True).wait_for_publish(5)
    line = broker.files.subscribe_line("home/data/#") + " -C 1 -W 5"
    said = subprocess.run(["sh", "-c", line], capture_output=True, text=True, timeout=10)
    tester.publish("home/data/a/b/temperature", b"", 1, retain=True).wait_for_publish(5)
    close(tester)
    assert said.stdout == "home/data/a/b/temperature shown\n", said.stderr
